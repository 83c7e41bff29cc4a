//! Installing an app's dependencies: Bun's package manager with install scripts off, under an account of its own.

use std::{io, os::unix::fs::lchown, path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::host::Account;

/// How long an installation may take.
const TIME_LIMIT: Duration = Duration::from_mins(5);
/// How much of the package manager's output an error repeats, in bytes.
const SHOWN_OUTPUT: usize = 2000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the dependencies could not be installed:\n{0}")]
    Failed(String),
    #[error("the dependencies could not be installed within {} minutes", TIME_LIMIT.as_secs() / 60)]
    TimedOut,
    #[error("cannot run the package manager: {0}")]
    Run(#[from] io::Error),
}

/// Installs what `package.json` in `folder` asks for, if there is one. A lockfile is kept to.
pub async fn install(bun: &Path, folder: &Path, cache: &Path, account: Option<Account>) -> Result<(), Error> {
    if !folder.join("package.json").is_file() {
        return Ok(());
    }
    own(folder, account).await?;
    let mut command = Command::new(bun);
    command.args(["install", "--production", "--ignore-scripts", "--no-progress", "--no-summary"]);
    if folder.join("bun.lock").is_file() {
        command.arg("--frozen-lockfile");
    }
    command.current_dir(folder).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", cache);
    command.env("TMPDIR", cache).env("BUN_INSTALL_CACHE_DIR", cache.join("packages"));
    // The registry and its certificates are the operator's choice, not the app's.
    for name in [
        "NPM_CONFIG_REGISTRY",
        "npm_config_registry",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_FILE",
    ] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    let output = tokio::time::timeout(TIME_LIMIT, command.output()).await.map_err(|_| Error::TimedOut)??;
    own(folder, account.map(|_| Account { uid: 0, gid: 0 })).await?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stderr, output.stdout].concat();
    let start = text.len().saturating_sub(SHOWN_OUTPUT);
    Err(Error::Failed(String::from_utf8_lossy(text.get(start..).unwrap_or_default()).trim().to_owned()))
}

/// Hands a folder and everything in it to an account. Backends may read their code, never change it.
async fn own(folder: &Path, account: Option<Account>) -> io::Result<()> {
    let Some(account) = account else { return Ok(()) };
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || own_now(&folder, account)).await.map_err(io::Error::other)?
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
