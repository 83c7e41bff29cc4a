//! Everything that can go wrong, in words for the person who operates the server.

use std::io;
use std::path::{Path, PathBuf};

/// Why the cluster could not be started, taken over or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable PostgreSQL programs. `looked` has one line per place, each with the reason it was passed over.
    #[error(
        "PostgreSQL {oldest} or newer was not found. Looked in:\n{looked}\n\
         Run `npm ci --ignore-scripts && npm run prepare-runtime` in the folder `runtime`, \
         or install PostgreSQL with the system's package manager."
    )]
    NotFound { oldest: u32, looked: String },

    #[error("PostgreSQL refuses to run as root: name an unprivileged account for it (such as nobody, 65534:65534)")]
    Root,

    #[error("only root may run PostgreSQL as another account (uid {uid}): start the server as root or as that account")]
    CannotSwitch { uid: u32 },

    #[error(
        "PostgreSQL needs uid {uid} to have an entry in /etc/passwd, and it has none: \
         add the user, or run the server as one that exists"
    )]
    UnknownUser { uid: u32 },

    #[error(
        "PostgreSQL runs as uid {uid}, which cannot pass through {}: \
         choose another --data-dir, or run `chmod o+x {}`", folder.display(), folder.display()
    )]
    Unreachable { uid: u32, folder: PathBuf },

    #[error(
        "PostgreSQL runs as uid {uid}, which cannot read {}: \
         make it readable for everyone, or use PostgreSQL from another folder", path.display()
    )]
    UnreachableBinaries { uid: u32, path: PathBuf },

    #[error(
        "{} belongs to uid {found}, but PostgreSQL would run as uid {expected}: \
         start the server as before, or give the folder and all it holds to uid {expected}", path.display()
    )]
    ForeignOwner { path: PathBuf, found: u32, expected: u32 },

    #[error(
        "no folder for the PostgreSQL socket has a path of at most {limit} bytes (tried {}): \
         choose a shorter --data-dir or a shorter TMPDIR", tried.display()
    )]
    SocketPathTooLong { tried: PathBuf, limit: usize },

    #[error(
        "{} was written by PostgreSQL {found}, but the programs in {} are {}: \
         use PostgreSQL {found}, or dump the data there and load it into a new --data-dir",
        cluster.display(), bin_dir.display(), version
    )]
    OtherVersion { cluster: PathBuf, found: String, bin_dir: PathBuf, version: String },

    /// A program ended with an error. `output` holds the last lines that it wrote to the log.
    #[error("{program} failed ({status}). The end of {}:\n{output}", log.display())]
    Failed { program: &'static str, status: std::process::ExitStatus, log: PathBuf, output: String },

    #[error("PostgreSQL was not ready after {seconds} seconds. The end of {}:\n{output}", log.display())]
    NotReady { seconds: u64, log: PathBuf, output: String },

    #[error("PostgreSQL (process {pid}) ignores all requests to stop: end it by hand, then start again")]
    StillRunning { pid: i32 },

    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// Adds what was attempted, and on which path, to an [`io::Error`].
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}
