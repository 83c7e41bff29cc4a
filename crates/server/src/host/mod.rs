//! What the node needs of the machine: the data directory, its lock, its key files, the programs it runs.

mod keys;
mod runtime;
mod signals;
mod threads;

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use sha2::{Digest, Sha256};
use weft_model::AppId;

pub use keys::{Keys, MasterFile};
pub use runtime::{Runtime, find_bun};
pub use signals::Signals;
pub use threads::{precedence, runtime};

/// An unprivileged account for a server that is root. No entry in the password file is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// The accounts of what the server starts; none of them when the server is not root itself.
#[derive(Debug, Clone, Copy)]
pub struct Accounts {
    /// The first of those that run backends.
    workers: u32,
    /// Installs dependencies: apart from the workers, so that no backend can change what others will install.
    pub installer: Account,
}

/// How many accounts backends share. Two apps that fall on the same one are kept apart by the jail alone.
const WORKER_ACCOUNTS: u32 = 800;

impl Accounts {
    pub fn if_root() -> Option<Self> {
        let installer = Account { uid: 64_002, gid: 64_002 };
        nix::unistd::Uid::effective().is_root().then_some(Self { workers: 64_100, installer })
    }

    /// The account of an app's backend, the same every time, so that its files stay its own.
    pub fn worker(&self, app: &AppId) -> Account {
        let digest = Sha256::digest(app.as_str());
        let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let id = self.workers + number % WORKER_ACCOUNTS;
        Account { uid: id, gid: id }
    }

    /// One of the workers' accounts, to find out what all of them can reach.
    pub fn any_worker(&self) -> Account {
        Account { uid: self.workers, gid: self.workers }
    }
}

/// The data directory, held by this process alone.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

impl Drop for DataDir {
    /// A child that is being started may hold a copy of the file for a moment, and with it the lock.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl DataDir {
    /// Creates the directory if need be and takes its lock, which the kernel gives back when the process ends in any way.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        let root = nix::unistd::Uid::effective().is_root();
        // Other accounts have to pass through for a server that is root; they cannot list it.
        let mode = if root { 0o711 } else { 0o700 };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .with_context(|| format!("cannot create the data directory {}: choose another with --data-dir", path.display()))?;
        let path = fs::canonicalize(path).with_context(|| format!("cannot open the data directory {}", path.display()))?;
        let lock_path = path.join("lock");
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("cannot write to the data directory {}", path.display()))?;
        own(&lock, &path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                bail!(
                    "another server (process {}) uses the data directory {}: stop it, or give this one its own with --data-dir",
                    holder.trim(),
                    path.display()
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the data directory"),
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path, lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder below the data directory, created with `mode`.
    pub fn folder(&self, name: &str, mode: u32) -> std::io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path)
    }
}

/// Refuses a directory in which a server of another account has worked: files of two owners serve neither.
fn own(lock: &File, path: &Path) -> anyhow::Result<()> {
    // Some volumes give what root makes to others, so what counts is whose a new file is.
    let probe = tempfile::tempfile_in(path).with_context(|| format!("cannot write to the data directory {}", path.display()))?;
    let (owner, own) = (lock.metadata()?.uid(), probe.metadata()?.uid());
    if owner == own {
        return Ok(());
    }
    let name = |id| nix::unistd::User::from_uid(id).ok().flatten().map_or_else(|| format!("account {id}"), |user| user.name);
    let (owner, own) = (name(owner.into()), name(own.into()));
    bail!(
        "a server of {owner} has used the data directory {}, and this one runs as {own}: run it as {owner}, or choose another with --data-dir",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_on_the_same_directory_is_refused_and_told_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = DataDir::take(folder.path()).expect("free");
        let message = DataDir::take(folder.path()).expect_err("taken").to_string();
        assert!(message.contains(&std::process::id().to_string()) && message.contains("--data-dir"), "{message}");
        drop(first);
        DataDir::take(folder.path()).expect("free again");
    }

    #[test]
    fn a_directory_of_another_account_is_refused_by_name() {
        if !nix::unistd::Uid::effective().is_root() {
            // Only root can give a file away.
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        drop(DataDir::take(folder.path()).expect("free"));
        std::os::unix::fs::chown(folder.path().join("lock"), Some(64_099), None).expect("given away");
        let message = DataDir::take(folder.path()).expect_err("another's").to_string();
        assert!(message.contains("account 64099") && message.contains("root") && message.contains("--data-dir"), "{message}");
    }
}
