//! Installing an app's dependencies: Bun's package manager with install scripts off, confined to what it works on.
//!
//! What a package.json does not ask for is not installed, and what the version before already has is linked instead of
//! installed again: that, not the backend's start, is most of the time of a deployment. Everything else goes three steps: pin
//! all versions in a `bun.lock`, see that none is too young, install exactly those.

mod ages;
mod egress;
mod lockfile;
mod reuse;
mod tool;

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown, lchown},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::task::spawn_blocking;
use weft_model::AppId;

use self::{
    ages::{Rule, TooYoung},
    reuse::Settled,
    tool::{Environment, Tool},
};
use crate::{
    clock::Clock,
    config::{Jail, Packages, Settings},
    host::Account,
};

/// How long an installation may take.
const TIME_LIMIT: Duration = Duration::from_mins(5);
const LOCKFILE: &str = "bun.lock";
const NPM_LOCKFILE: &str = "package-lock.json";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the dependencies could not be installed:\n{0}")]
    Failed(String),
    #[error("the dependencies could not be installed: {0}")]
    TooYoung(#[from] TooYoung),
    #[error("the dependencies could not be installed: {0}")]
    Lockfile(#[from] lockfile::Unreadable),
    #[error("the dependencies could not be installed within {} minutes", TIME_LIMIT.as_secs() / 60)]
    TimedOut,
    #[error("installing the dependencies needs more than {} MiB of memory (setting packages.memory_mib)", .limit / 1024 / 1024)]
    OutOfMemory { limit: u64 },
    #[error("cannot run the package manager: {0}")]
    Run(#[from] io::Error),
    #[error("cannot run the package manager: {0}")]
    Jail(#[from] weft_jail::Error),
    #[error("packages are installed in a jail only (setting workers.jail), and this machine lacks a part of it: {0}")]
    NoJail(String),
}

/// Installs packages on this machine.
#[derive(Debug, Clone)]
pub struct Installer {
    bun: PathBuf,
    /// A folder per app: packages of one app are never taken for those of another.
    caches: PathBuf,
    account: Option<Account>,
    settings: Packages,
    jail: Jail,
    clock: Clock,
    environment: Environment,
}

/// What is known about the packages of a version before they are installed.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The folder of the version before, whose packages may be taken.
    pub previous: Option<PathBuf>,
    /// The lockfile that was made when the version was deployed.
    pub lockfile: Option<String>,
    /// Whether its packages were found old enough before.
    pub accepted: bool,
}

/// Whether this machine keeps an installation to its own files and to the package registry.
pub fn is_confined() -> bool {
    let support = weft_jail::support();
    support.landlock.is_some() && support.seccomp && support.connect_broker
}

impl Installer {
    pub fn new((bun, caches): (PathBuf, PathBuf), account: Option<Account>, settings: &Settings, clock: Clock) -> Self {
        let (packages, jail) = (settings.packages.clone(), settings.workers.jail);
        Self { bun, caches, account, settings: packages, jail, clock, environment: Environment::read() }
    }

    /// Installs what `package.json` in `folder` asks for. A lockfile is kept to; with the same one as the version before, the
    /// packages are taken from there. Returns the lockfile that had to be made for an archive without one.
    pub async fn install(&self, app: &AppId, folder: &Path, known: Known) -> Result<Option<String>, Error> {
        let (target, previous) = (folder.to_owned(), known.previous.clone());
        let settled = spawn_blocking(move || reuse::settle(&target, previous.as_deref())).await.map_err(io::Error::other)?;
        match settled {
            Settled::NothingAsked => return Ok(None),
            Settled::Linked { lockfile } => return Ok(lockfile),
            Settled::Open => {}
        }
        let cache = self.cache(app).await?;
        let made = !folder.join(LOCKFILE).is_file();
        own(folder, self.account).await?;
        let tool = Tool::new(self, folder, &cache);
        tokio::time::timeout(TIME_LIMIT, self.steps(&tool, folder, known)).await.map_err(|_| Error::TimedOut)??;
        own(folder, self.account.map(|_| Account { uid: 0, gid: 0 })).await?;
        Ok(if made { fs::read_to_string(folder.join(LOCKFILE)).ok() } else { None })
    }

    /// Removes an app's downloaded packages.
    pub async fn forget(&self, app: &AppId) {
        let _ = tokio::fs::remove_dir_all(self.caches.join(app.as_str())).await;
    }

    async fn steps(&self, tool: &Tool<'_>, folder: &Path, known: Known) -> Result<(), Error> {
        self.pin(tool, folder, known.lockfile).await?;
        if !known.accepted {
            self.check_ages(tool, folder, known.previous.as_deref()).await?;
        }
        tool.run(&["install", "--production", "--frozen-lockfile", "--ignore-scripts", "--no-progress", "--no-summary"]).await?;
        Ok(())
    }

    /// Sees to it that there is a `bun.lock`: the archive's own, the one of an earlier installation, one made from npm's, or a new one.
    async fn pin(&self, tool: &Tool<'_>, folder: &Path, earlier: Option<String>) -> Result<(), Error> {
        if folder.join(LOCKFILE).is_file() {
            return Ok(());
        }
        if let Some(text) = earlier {
            return Ok(tokio::fs::write(folder.join(LOCKFILE), text).await?);
        }
        let mut resolve = vec!["install", "--lockfile-only", "--ignore-scripts", "--no-progress", "--no-summary"];
        if folder.join(NPM_LOCKFILE).is_file() {
            // Says what does not fit instead of changing it, but writes nothing.
            tool.run(&[resolve.as_slice(), &["--frozen-lockfile"]].concat()).await?;
        }
        let (seconds, excludes) =
            (self.settings.minimum_age.map(|age| age.as_secs().to_string()), self.settings.minimum_age_excludes.join(","));
        if let Some(seconds) = &seconds {
            // Chooses among versions that are old enough.
            resolve.extend(["--minimum-release-age", seconds.as_str()]);
        }
        if !excludes.is_empty() {
            resolve.extend(["--minimum-release-age-excludes", excludes.as_str()]);
        }
        tool.run(&resolve).await?;
        Ok(())
    }

    async fn check_ages(&self, tool: &Tool<'_>, folder: &Path, previous: Option<&Path>) -> Result<(), Error> {
        let Some(minimum) = self.settings.minimum_age else { return Ok(()) };
        let (lockfile, before) = (folder.join(LOCKFILE), previous.map(|previous| previous.join(LOCKFILE)));
        let reading = spawn_blocking(move || {
            // What was installed before was accepted before.
            let known = before.and_then(|before| lockfile::read_file(&before).ok()).unwrap_or_default().releases;
            Ok::<_, Error>((lockfile::read_file(&lockfile)?, known))
        });
        let (pinned, known) = reading.await.map_err(io::Error::other)??;
        let rule = Rule { minimum, excludes: &self.settings.minimum_age_excludes, known, now: self.clock.now() };
        rule.check(&pinned, tool).await
    }

    /// The folder of what an app has downloaded, and its package manager's home.
    async fn cache(&self, app: &AppId) -> io::Result<PathBuf> {
        let (folder, account) = (self.caches.join(app.as_str()), self.account);
        let make = move || {
            fs::create_dir_all(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
            if let Some(account) = account {
                chown(&folder, Some(account.uid), Some(account.gid))?;
            }
            Ok(folder)
        };
        spawn_blocking(make).await.map_err(io::Error::other)?
    }
}

/// Hands a folder and everything in it to an account. Backends may read their code, never change it.
async fn own(folder: &Path, account: Option<Account>) -> io::Result<()> {
    let Some(account) = account else { return Ok(()) };
    let folder = folder.to_owned();
    spawn_blocking(move || own_now(&folder, account)).await.map_err(io::Error::other)?
}

fn own_now(path: &Path, account: Account) -> io::Result<()> {
    lchown(path, Some(account.uid), Some(account.gid))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path)? {
            own_now(&entry?.path(), account)?;
        }
    }
    Ok(())
}
