//! Running Bun's package manager: in a jail where the machine has one, under an account of its own where the server is root, and
//! with bounds on its time, memory and output everywhere.
//!
//! It parses what strangers wrote, so it may read and write only the folder that is being made and the app's package cache, and
//! reach only the registry. Code of the project never runs: install scripts are off, and neither `bunfig.toml`, which can name
//! programs, nor `.env` of the project is read.

#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    future, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        statvfs::statvfs,
    },
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::{MissedTickBehavior, interval},
};
use url::Url;
use weft_jail::{Jailed, Limits, Policy};

use super::{Error, Installer, egress::Registry};
use crate::config::Jail;

/// How much of the output is kept, in bytes: the end of it.
const KEPT_OUTPUT: usize = 4 * 1024 * 1024;
/// How much of it an error repeats.
const SHOWN_OUTPUT: usize = 2000;
/// How often memory is looked at.
const PERIOD: Duration = Duration::from_millis(250);
const LARGEST_FILE: u64 = 1024 * 1024 * 1024;
const OPEN_FILES: u64 = 8192;
/// Threads and processes of the installer account.
const TASKS: u64 = 1024;

/// How Bun tells that a disk is full, in most places.
const OUT_OF_ROOM: [&str; 4] = ["ENOSPC", "NoSpaceLeft", "EDQUOT", "No space left"];
/// Where it does not tell, although that is the usual reason.
const NO_REASON: &str = "Fail extracting tarball";
/// Bytes that larger packages need when they are unpacked.
const SHORT_OF_ROOM: u64 = 64 * 1024 * 1024;

/// What the operator's own programs find the registry with. None of it is the app's choice.
const PROXIES: [&str; 2] = ["HTTPS_PROXY", "HTTP_PROXY"];
const NO_PROXY: &str = "NO_PROXY";
const CERTIFICATES: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"];

/// The part of the server's environment that the package manager gets.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    variables: Vec<(&'static str, OsString)>,
    pub(super) proxies: Vec<Url>,
    certificates: Vec<PathBuf>,
}

impl Environment {
    pub(super) fn read() -> Self {
        let names = PROXIES.into_iter().chain([NO_PROXY]).chain(CERTIFICATES);
        let variables: Vec<_> = names.filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
        let of =
            |wanted: [&'static str; 2]| variables.iter().filter(move |(name, _)| wanted.contains(name)).map(|(_, value)| value);
        let proxies: Vec<Url> = of(PROXIES).filter_map(|value| Url::parse(value.to_str()?).ok()).collect();
        let certificates: Vec<PathBuf> = of(CERTIFICATES).map(PathBuf::from).filter(|path| path.is_file()).collect();
        Self { variables, proxies, certificates }
    }
}

/// The package manager at work on one folder.
pub(super) struct Tool<'a> {
    installer: &'a Installer,
    folder: &'a Path,
    cache: &'a Path,
    registry: Arc<Registry>,
}

impl<'a> Tool<'a> {
    pub(super) fn new(installer: &'a Installer, folder: &'a Path, cache: &'a Path) -> Self {
        let registry = Arc::new(Registry::new(&installer.settings, &installer.environment.proxies));
        Self { installer, folder, cache, registry }
    }

    /// Runs it to its end and returns what it printed. Giving up on this future kills it and all that it started.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, Error> {
        let Jailed { mut child, broker: _serves_connections } = self.spawn(arguments).await?;
        let mut group = Group::of(&child);
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let outgrown = outgrown(child.id(), self.installer.settings.memory);
        let finished = async { tokio::try_join!(tail(output), tail(errors), child.wait()) };
        let (output, errors, status) = tokio::select! {
            finished = finished => finished?,
            () = outgrown => return Err(Error::OutOfMemory { limit: self.installer.settings.memory }),
        };
        group.ended();
        if status.success() { Ok(output) } else { Err(self.failed(&[errors, output].concat())) }
    }

    fn failed(&self, text: &[u8]) -> Error {
        let shown = text.get(text.len().saturating_sub(SHOWN_OUTPUT)..).unwrap_or_default();
        let shown = String::from_utf8_lossy(shown).trim().to_owned();
        if OUT_OF_ROOM.iter().any(|word| shown.contains(word)) || (shown.contains(NO_REASON) && self.is_short_of_room()) {
            return Error::Run(io::Error::from(io::ErrorKind::StorageFull));
        }
        Error::Failed(format!("{shown}{}", self.registry.complaint()))
    }

    /// Whether a package could well have had no room. What was written in vain is removed by now.
    fn is_short_of_room(&self) -> bool {
        [self.folder, self.cache].iter().any(|folder| {
            statvfs(*folder).is_ok_and(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()) < SHORT_OF_ROOM)
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.installer.bun);
        command.args(arguments).args(["--config=/dev/null", "--no-env-file"]).current_dir(self.folder).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.cache).env("TMPDIR", self.cache);
        command.env("BUN_INSTALL_CACHE_DIR", self.cache.join("packages"));
        // A variable rather than an argument, which others on the machine could read: it may hold a password.
        command.env("NPM_CONFIG_REGISTRY", self.installer.settings.registry.as_str());
        command.envs(self.installer.environment.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn spawn(&self, arguments: &[&str]) -> Result<Jailed, Error> {
        let (mut command, support) = (self.command(arguments), weft_jail::support());
        if self.installer.jail == Jail::Require && !support.is_complete() {
            let reasons: Vec<_> = support.missing.iter().map(|missing| missing.reason.as_str()).collect();
            return Err(Error::NoJail(reasons.join("; ")));
        }
        if self.installer.jail != Jail::Off && cfg!(target_os = "linux") {
            return Ok(weft_jail::spawn(command, self.policy()).await?);
        }
        command.process_group(0);
        if let Some(account) = self.installer.account {
            command.uid(account.uid).gid(account.gid);
        }
        Ok(Jailed { child: command.spawn()?, broker: None })
    }

    fn policy(&self) -> Policy {
        let system = weft_jail::system_files();
        let own = |path: &Path| path.to_owned();
        let account = self.installer.account.map(|account| weft_jail::Account { uid: account.uid, gid: account.gid });
        Policy {
            account,
            readable: [system.readable, self.installer.environment.certificates.clone()].concat(),
            writable: [system.writable, vec![own(self.folder), own(self.cache)]].concat(),
            executable: [system.executable, vec![self.installer.bun.clone()]].concat(),
            limits: Limits {
                data: None,
                tasks: Some(TASKS),
                open_files: Some(OPEN_FILES),
                file_size: Some(LARGEST_FILE),
                processes: false,
                // Somebody waits for it, and it is soon over.
                niceness: 0,
            },
            network: self.registry.network(),
        }
    }
}

/// A process group that is killed unless it ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: &Child) -> Self {
        Self(leader.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Fails only when nothing is left of it.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

/// The end of what comes out of a pipe, which is read to its own end.
async fn tail(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let Some(mut pipe) = pipe else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    while pipe.read_buf(&mut kept).await? > 0 {
        if kept.len() > 2 * KEPT_OUTPUT {
            kept.drain(..kept.len() - KEPT_OUTPUT);
        }
    }
    kept.drain(..kept.len().saturating_sub(KEPT_OUTPUT));
    Ok(kept)
}

/// Ends when a process holds more than `limit` bytes.
async fn outgrown(process: Option<u32>, limit: u64) {
    let Some(process) = process else { return future::pending().await };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if weft_jail::resident_memory(process).is_some_and(|bytes| bytes > limit) {
            return;
        }
    }
}
