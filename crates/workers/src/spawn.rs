//! One operating system process: how it is started, how its group is killed, how its end is put in words.

use crate::{HostSettings, StartError, WorkerSpec};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{os::unix::process::ExitStatusExt, process::ExitStatus, process::Stdio};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// Enough for a backend that runs a common program; nothing of the server's own path.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A started process and its three pipes.
pub(crate) struct Spawned {
    pub(crate) child: Child,
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

pub(crate) fn spawn(settings: &HostSettings, spec: &WorkerSpec) -> Result<Spawned, StartError> {
    let failed = |source| StartError::Spawn { program: settings.bun.clone(), source };
    let mut child = command(settings, spec).spawn().map_err(failed)?;
    match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Ok(Spawned { child, stdin, stdout, stderr }),
        _ => Err(failed(std::io::Error::other("the process has no pipes"))),
    }
}

fn command(settings: &HostSettings, spec: &WorkerSpec) -> Command {
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
        .process_group(0)
        .kill_on_drop(true);
    // Backends written for RootCX read its names of the same two values.
    for prefix in ["WEFT", "ROOTCX"] {
        command.env(format!("{prefix}_APP_ID"), &*spec.app_id);
        command.env(format!("{prefix}_RUNTIME_URL"), &settings.runtime_url);
    }
    if let Some(scratch) = &spec.scratch {
        command.env("HOME", scratch).env("TMPDIR", scratch);
    }
    if let Some(account) = settings.account {
        command.uid(account.uid).gid(account.gid);
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

/// The end of a process as half a sentence.
pub(crate) fn describe(status: &std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("it exited with code {code}"),
            (None, Some(signal)) => format!("it was killed by {}", signal_name(signal)),
            (None, None) => "it ended for an unknown reason".to_owned(),
        },
        Err(error) => format!("the system lost track of it: {error}"),
    }
}

fn signal_name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => format!("signal {number} ({signal})"),
        Err(_) => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_put_in_words() {
        // A wait status holds the exit code in its second byte and the signal in its first.
        assert_eq!(describe(&Ok(ExitStatus::from_raw(3 << 8))), "it exited with code 3");
        assert_eq!(describe(&Ok(ExitStatus::from_raw(9))), "it was killed by signal 9 (SIGKILL)");
    }
}
