//! Where everything of one cluster lies, and with which owners.
//!
//! ```text
//! <data_dir>/postgres           the cluster, owned by the account
//! <data_dir>/postgres.password  readable for the server only
//! <data_dir>/postgres.log       written through a file that the server opened
//! <data_dir>/run                the socket, unless its path would be too long
//! <data_dir>/runtime            copies of programs that the account could not reach
//! ```

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::account::{self, Account};
use crate::error::{Context, Error};
use crate::log::Log;
use crate::reach;

/// Part of the socket's file name. Each cluster has a socket folder of its own, so all may share it.
pub(crate) const PORT: u16 = 5432;
/// What both Linux (107) and macOS (103) accept.
const SOCKET_PATH_LIMIT: usize = 103;

#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) account: Option<Account>,
    pub(crate) data_dir: PathBuf,
    pub(crate) cluster: PathBuf,
    pub(crate) socket_dir: PathBuf,
    pub(crate) password_file: PathBuf,
    pub(crate) log: Log,
}

impl Layout {
    /// Creates the folders around the cluster, but not the cluster, and checks who may reach them.
    pub(crate) fn prepare(data_dir: &Path, account: Option<Account>) -> Result<Self, Error> {
        let account = account::check(account)?;
        let data_dir = prepare_data_dir(data_dir, account)?;
        let cluster = data_dir.join("postgres");
        check_owner(&cluster, account)?;
        let socket_dir = choose_socket_dir(&data_dir)?;
        check_passage(socket_dir.parent().unwrap_or(&data_dir), account)?;
        create_private_dir(&socket_dir, account)?;
        Ok(Self {
            password_file: data_dir.join("postgres.password"),
            log: Log::new(data_dir.join("postgres.log")),
            account,
            data_dir,
            cluster,
            socket_dir,
        })
    }

    /// Whether initdb ever ran to its end here.
    pub(crate) fn is_initialised(&self) -> bool {
        self.cluster.join("PG_VERSION").exists()
    }

    /// Removes a dead server's socket and lock. Only to be called while no PostgreSQL runs on this cluster.
    pub(crate) fn clear_sockets(&self) -> Result<(), Error> {
        let socket = self.socket_dir.join(socket_name());
        for path in [socket.with_added_extension("lock"), socket] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context("remove", &path),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes a folder that only the account can use. An existing one has to be the account's or the server's already.
pub(crate) fn create_private_dir(path: &Path, account: Option<Account>) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error).context("create", path),
        _ => {}
    }
    let metadata = fs::symlink_metadata(path).context("examine", path)?;
    let expected = account::owner_uid(account);
    if metadata.uid() != expected && metadata.uid() != geteuid().as_raw() {
        return Err(Error::ForeignOwner { path: path.to_owned(), found: metadata.uid(), expected });
    }
    if !metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory)).context("use", path);
    }
    give_to(path, account)?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).context("set the mode of", path)
}

/// Makes the account, if there is one, the owner of a file.
pub(crate) fn give_to(path: &Path, account: Option<Account>) -> Result<(), Error> {
    let Some(account) = account else {
        return Ok(());
    };
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid)).context("change the owner of", path)
}

fn prepare_data_dir(data_dir: &Path, account: Option<Account>) -> Result<PathBuf, Error> {
    // Another account has to pass through, but not to list.
    let mode = if account.is_some() { 0o711 } else { 0o700 };
    if !data_dir.exists() {
        DirBuilder::new().recursive(true).mode(mode).create(data_dir).context("create", data_dir)?;
    }
    let data_dir = fs::canonicalize(data_dir).context("examine", data_dir)?;
    check_passage(&data_dir, account)?;
    Ok(data_dir)
}

fn check_passage(dir: &Path, account: Option<Account>) -> Result<(), Error> {
    let Some(account) = account else {
        return Ok(());
    };
    let dir = fs::canonicalize(dir).context("examine", dir)?;
    match reach::blocked_ancestor(&dir, account).context("examine", &dir)? {
        Some(folder) => Err(Error::Unreachable { uid: account.uid, folder }),
        None => Ok(()),
    }
}

fn check_owner(cluster: &Path, account: Option<Account>) -> Result<(), Error> {
    let expected = account::owner_uid(account);
    match fs::metadata(cluster) {
        Ok(metadata) if metadata.uid() != expected => {
            Err(Error::ForeignOwner { path: cluster.to_owned(), found: metadata.uid(), expected })
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("examine", cluster),
        _ => Ok(()),
    }
}

fn choose_socket_dir(data_dir: &Path) -> Result<PathBuf, Error> {
    let preferred = data_dir.join("run");
    let name = format!("weft-{:016x}", fingerprint(data_dir.as_os_str().as_bytes()));
    let choices = [preferred.clone(), std::env::temp_dir().join(&name), Path::new("/tmp").join(&name)];
    choices.into_iter().find(|dir| fits(dir)).ok_or(Error::SocketPathTooLong { tried: preferred, limit: SOCKET_PATH_LIMIT })
}

fn fits(dir: &Path) -> bool {
    dir.join(socket_name()).as_os_str().len() <= SOCKET_PATH_LIMIT
}

fn socket_name() -> String {
    format!(".s.PGSQL.{PORT}")
}

/// FNV-1a: the name has to stay the same across builds, which the standard hasher does not promise.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_data_dirs_keep_the_socket_to_themselves() {
        let dir = choose_socket_dir(Path::new("/srv/weft")).expect("a socket folder");
        assert_eq!(dir, Path::new("/srv/weft/run"));
    }

    #[test]
    fn long_data_dirs_get_a_short_name_that_stays_theirs() {
        let long = |last: &str| PathBuf::from(format!("/{}/{last}", "x".repeat(100)));
        let dir = choose_socket_dir(&long("a")).expect("a socket folder");
        assert!(fits(&dir), "{}", dir.display());
        assert_eq!(dir, choose_socket_dir(&long("a")).expect("a socket folder"));
        assert_ne!(dir, choose_socket_dir(&long("b")).expect("a socket folder"));
    }
}
