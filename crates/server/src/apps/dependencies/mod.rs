//! Installing an app's dependencies: Bun's package manager with install scripts off, under an account of its own.
//!
//! What a package.json does not ask for is not installed, and what the deployment before already has is linked instead of
//! installed again: that, not the backend's start, is most of the time of a deployment.

use std::{
    io,
    os::unix::fs::lchown,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, task::spawn_blocking};

use super::packages;
use crate::host::Account;

/// How long an installation may take.
const TIME_LIMIT: Duration = Duration::from_mins(5);
/// How much of the package manager's output an error repeats, in bytes.
const SHOWN_OUTPUT: usize = 2000;
/// The registry and its certificates are the operator's choice, not the app's.
const PASSED_ON: [&str; 7] = [
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the dependencies could not be installed:\n{0}")]
    Failed(String),
    #[error("the dependencies could not be installed within {} minutes", TIME_LIMIT.as_secs() / 60)]
    TimedOut,
    #[error("cannot run the package manager: {0}")]
    Run(#[from] io::Error),
}

/// What installing needs of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Installer<'a> {
    pub bun: &'a Path,
    pub cache: &'a Path,
    pub account: Option<Account>,
}

impl Installer<'_> {
    /// Installs what `package.json` in `folder` asks for. A lockfile is kept to; with the same one as in the folder `previous`, the
    /// packages are taken from there.
    pub async fn install(self, folder: &Path, previous: Option<PathBuf>) -> Result<(), Error> {
        let target = folder.to_owned();
        let done = spawn_blocking(move || packages::settle(&target, previous.as_deref())).await.map_err(io::Error::other)?;
        if done {
            return Ok(());
        }
        own(folder, self.account).await?;
        self.run_package_manager(folder).await?;
        own(folder, self.account.map(|_| Account { uid: 0, gid: 0 })).await?;
        Ok(())
    }

    async fn run_package_manager(self, folder: &Path) -> Result<(), Error> {
        let output = tokio::time::timeout(TIME_LIMIT, self.command(folder).output()).await.map_err(|_| Error::TimedOut)??;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stderr, output.stdout].concat();
        let start = text.len().saturating_sub(SHOWN_OUTPUT);
        Err(Error::Failed(String::from_utf8_lossy(text.get(start..).unwrap_or_default()).trim().to_owned()))
    }

    fn command(self, folder: &Path) -> Command {
        let mut command = Command::new(self.bun);
        command.args(["install", "--production", "--ignore-scripts", "--no-progress", "--no-summary"]);
        if folder.join("bun.lock").is_file() {
            command.arg("--frozen-lockfile");
        }
        command.current_dir(folder).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.cache);
        command.env("TMPDIR", self.cache).env("BUN_INSTALL_CACHE_DIR", self.cache.join("packages"));
        command.envs(PASSED_ON.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
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
        for entry in std::fs::read_dir(path)? {
            own_now(&entry?.path(), account)?;
        }
    }
    Ok(())
}
