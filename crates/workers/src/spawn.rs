//! One operating system process: how it is started without a jail, and how its group is killed.

use crate::{HostSettings, StartError, WorkerSpec};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{io, process::Stdio};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use weft_jail::Broker;

/// Enough for a backend that runs a common program; nothing of the server's own path.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A started process and its three pipes.
pub(crate) struct Spawned {
    pub(crate) child: Child,
    /// Makes its connections; there is one where it is in a jail.
    pub(crate) broker: Option<Broker>,
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

pub(crate) fn spawn(settings: &HostSettings, spec: &WorkerSpec) -> Result<Spawned, StartError> {
    let failed = |source| StartError::Spawn { program: settings.bun.clone(), source };
    let mut command = command(settings, spec);
    command.process_group(0);
    if let Some(account) = spec.account {
        command.uid(account.uid).gid(account.gid);
    }
    Spawned::new(command.spawn().map_err(failed)?, None).map_err(failed)
}

impl Spawned {
    pub(crate) fn new(mut child: Child, broker: Option<Broker>) -> io::Result<Self> {
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok(Self { child, broker, stdin, stdout, stderr }),
            _ => Err(io::Error::other("the process has no pipes")),
        }
    }
}

/// What is executed, with nothing said yet of account and group.
pub(crate) fn command(settings: &HostSettings, spec: &WorkerSpec) -> Command {
    let mut command = Command::new(&settings.bun);
    command
        // A module that is missing is an error of the deployment, not a reason to download something at start.
        .arg("--no-install")
        .arg(&settings.prelude)
        .arg(&spec.entry_point)
        .current_dir(&spec.directory)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Backends written for RootCX read its names of the same two values.
    for prefix in ["WEFT", "ROOTCX"] {
        command.env(format!("{prefix}_APP_ID"), &*spec.app_id);
        command.env(format!("{prefix}_RUNTIME_URL"), &settings.runtime_url);
    }
    if let Some(scratch) = &spec.scratch {
        command.env("HOME", scratch).env("TMPDIR", scratch);
    }
    command.envs(spec.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Kills a process and everything it started.
pub(crate) fn kill_group(leader: Option<u32>) {
    let Some(leader) = leader.and_then(|id| i32::try_from(id).ok()) else { return };
    // Fails only when nothing is left of the group.
    let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
}
