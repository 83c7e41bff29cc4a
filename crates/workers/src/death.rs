//! Why a process is gone: a kind for programs and a reason for people.

use std::{fmt, io, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc};

use nix::sys::signal::Signal;

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub kind: DeathKind,
    /// Half a sentence, such as `it exited with code 3`.
    pub reason: Arc<str>,
}

/// What ended a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeathKind {
    /// It used more memory than it may and was killed for it.
    OutOfMemory,
    /// A signal that the host did not send.
    Signal,
    /// It exited by itself.
    Exit,
    /// It did not read what it was sent, or could not be talked to any more, and was killed for it.
    Unresponsive,
    /// The host stopped it: a stop, a newer version, the end of the server.
    Stopped,
    /// It never became ready.
    StartFailed,
    /// It died too often and is not started again by itself.
    CrashLoop,
    /// The system does not tell.
    Unknown,
}

impl DeathKind {
    /// The error code of a call that was lost this way.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::OutOfMemory => "out_of_memory",
            Self::StartFailed => "start_failed",
            Self::CrashLoop => "crash_loop",
            Self::Signal | Self::Exit | Self::Unresponsive | Self::Stopped | Self::Unknown => "worker_died",
        }
    }
}

impl fmt::Display for DeathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => "out_of_memory",
            Self::Signal => "signal",
            Self::Exit => "exit",
            Self::Unresponsive => "unresponsive",
            Self::Stopped => "stopped",
            Self::StartFailed => "start_failed",
            Self::CrashLoop => "crash_loop",
            Self::Unknown => "unknown",
        })
    }
}

impl Death {
    pub(crate) fn new(kind: DeathKind, reason: impl Into<Arc<str>>) -> Self {
        Self { kind, reason: reason.into() }
    }

    pub(crate) fn out_of_memory(used: u64, limit: u64) -> Self {
        let (used, limit) = (mebibytes(used), mebibytes(limit));
        Self::new(DeathKind::OutOfMemory, format!("out of memory: it used {used} MiB of the {limit} MiB it may use"))
    }

    pub(crate) fn of(status: &io::Result<ExitStatus>) -> Self {
        match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => Self::new(DeathKind::Exit, format!("it exited with code {code}")),
                (None, Some(signal)) => Self::new(DeathKind::Signal, format!("it was killed by {}", signal_name(signal))),
                (None, None) => Self::new(DeathKind::Unknown, "it ended for an unknown reason"),
            },
            Err(error) => Self::new(DeathKind::Unknown, format!("the system lost track of it: {error}")),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Rounded up, so that what exceeds a limit also looks like it.
fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
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
    fn ends_are_told_apart_and_put_in_words() {
        // A wait status holds the exit code in its second byte and the signal in its first.
        let cases = [
            (Death::of(&Ok(ExitStatus::from_raw(3 << 8))), "worker_died", "it exited with code 3"),
            (Death::of(&Ok(ExitStatus::from_raw(9))), "worker_died", "it was killed by signal 9 (SIGKILL)"),
            (
                Death::out_of_memory((300 << 20) + 1, 256 << 20),
                "out_of_memory",
                "out of memory: it used 301 MiB of the 256 MiB it may use",
            ),
        ];
        for (death, code, reason) in cases {
            assert_eq!((death.kind.code(), &*death.reason), (code, reason));
        }
    }
}
