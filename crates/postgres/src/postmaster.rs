//! The running PostgreSQL as seen through its file `postmaster.pid`: whether it is ready, and how to end one that a
//! killed server left behind.
//!
//! The file's first line is the process, its eighth the state. It is never deleted here: PostgreSQL also uses it to
//! make sure that no orphaned backend is still attached to the cluster's shared memory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::error::{Context, Error};

pub(crate) const POLL: Duration = Duration::from_millis(10);
/// A fast shutdown writes a checkpoint, which can take long on a slow disk.
pub(crate) const FAST_SHUTDOWN: Duration = Duration::from_mins(1);
pub(crate) const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(10);

/// Whether the process has said that it accepts connections.
pub(crate) fn is_ready(cluster: &Path, pid: u32) -> bool {
    fs::read_to_string(pid_file(cluster)).is_ok_and(|text| says_ready(&text, pid))
}

/// Ends the PostgreSQL that still runs on this cluster, if any, and makes sure that a new one can start.
pub(crate) async fn retire(cluster: &Path) -> Result<(), Error> {
    let path = pid_file(cluster);
    let Some(pid) = fs::read_to_string(&path).ok().as_deref().and_then(named_process) else {
        return Ok(());
    };
    if serves(pid, cluster) {
        tracing::warn!(pid = pid.as_raw(), "stopping the PostgreSQL that an earlier server left behind");
        end(pid, cluster).await?;
    }
    disown(&path)
}

/// Asks a process to stop. One that is gone already has done so.
pub(crate) fn signal(pid: Pid, signal: Signal) -> Result<(), Error> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(io::Error::from(errno)).context("stop the process of", Path::new("postgres")),
    }
}

async fn end(pid: Pid, cluster: &Path) -> Result<(), Error> {
    for (request, patience) in [(Signal::SIGINT, FAST_SHUTDOWN), (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN)] {
        signal(pid, request)?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !serves(pid, cluster) {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }
    Err(Error::StillRunning { pid: pid.as_raw() })
}

/// Keeps PostgreSQL from mistaking another program, which now has the dead server's process id, for a running server.
///
/// PostgreSQL takes a file that names its own parent for stale, and goes on to check the shared memory it describes.
fn disown(path: &Path) -> Result<(), Error> {
    let Ok(text) = fs::read_to_string(path) else {
        return Ok(());
    };
    let stranger = named_process(&text).is_some_and(|pid| kill(pid, None).is_ok());
    match text.split_once('\n') {
        Some((_, rest)) if stranger => overwrite(path, &format!("{}\n{rest}", std::process::id())).context("write", path),
        _ => Ok(()),
    }
}

/// Root must not follow a link that PostgreSQL's account may have put into its own folder.
fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
    file.write_all(text.as_bytes())
}

fn pid_file(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

/// The process in a pid file. Single-user mode writes its id as a negative number.
fn named_process(text: &str) -> Option<Pid> {
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    // Zero and minus one would address whole groups of processes.
    pid.checked_abs().filter(|&pid| pid > 1).map(Pid::from_raw)
}

fn says_ready(text: &str, pid: u32) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
}

/// Whether the process is a PostgreSQL server of this very cluster, not a program that was given the same id later.
fn serves(pid: Pid, cluster: &Path) -> bool {
    let working_dir = fs::read_link(format!("/proc/{pid}/cwd"));
    command_line(pid).is_some_and(|line| {
        names_postgres(&line) && (names_cluster(&line, cluster) || working_dir.is_ok_and(|dir| dir == cluster))
    })
}

/// The arguments separated by spaces. Empty for a process that ended but was not collected by its parent.
fn command_line(pid: Pid) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&line).replace('\0', " "));
    }
    let output = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn names_postgres(line: &str) -> bool {
    line.contains("postgres")
}

fn names_cluster(line: &str, cluster: &Path) -> bool {
    let argument = format!("-D {} ", cluster.display());
    format!("{} ", line.trim_end()).contains(&argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "4711\n/d/postgres\n1760000000\n5432\n/d/run\n\n  1234  5\nready   \n";

    #[test]
    fn readiness_needs_the_state_and_the_process() {
        assert!(says_ready(READY, 4711));
        assert!(!says_ready(READY, 4712), "another process wrote the file");
        assert!(!says_ready(&READY.replace("ready   ", "starting"), 4711));
        assert!(!says_ready("4711\n/d/postgres\n", 4711), "half written");
        assert!(!says_ready("", 4711));
    }

    #[test]
    fn pid_files_never_name_groups_of_processes() {
        for text in ["0\n", "1\n", "-1\n", "", "x\n", "99999999999\n"] {
            assert_eq!(named_process(text), None, "{text:?}");
        }
        assert_eq!(named_process("-4711\n"), Some(Pid::from_raw(4711)), "single-user mode");
    }

    #[test]
    fn servers_of_other_clusters_are_left_alone() {
        let line = "/opt/postgres -D /d/postgres -c port=5432 ";
        assert!(names_cluster(line, Path::new("/d/postgres")));
        assert!(names_cluster("/opt/postgres -D /d/postgres", Path::new("/d/postgres")));
        assert!(!names_cluster(line, Path::new("/d/postgres2")));
        assert!(!names_cluster("/opt/postgres -D /d/postgres2 ", Path::new("/d/postgres")));
    }
}
