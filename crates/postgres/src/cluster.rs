//! The life of the cluster: from a data directory to a server that accepts connections, and back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::account::Account;
use crate::binaries::Binaries;
use crate::connection::Connection;
use crate::error::{Context, Error};
use crate::initialise;
use crate::layout::{Layout, PORT};
use crate::{postmaster, process};

/// Recovery after a crash reads the write-ahead log, which the size limit below keeps to a few minutes' work.
const START_LIMIT: Duration = Duration::from_mins(5);
/// How long orphaned backends of a killed PostgreSQL may take to notice and leave.
const ORPHAN_LIMIT: Duration = Duration::from_secs(30);
const ORPHANS_REMAIN: &str = "is still in use";

/// What callers may override: a small footprint, and behaviour that does not depend on the host.
const DEFAULTS: [(&str, &str); 10] = [
    ("shared_buffers", "64MB"),
    ("max_connections", "64"),
    ("max_wal_size", "512MB"),
    // Compiling queries costs more than it saves on short ones, and not every build has the compiler.
    ("jit", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] "),
    ("log_checkpoints", "off"),
    ("cluster_name", "weft"),
    ("wal_level", "replica"),
];

/// What to run, where and as whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's data directory; the cluster lives in `postgres` below it. Created when absent.
    pub data_dir: PathBuf,
    /// The account for PostgreSQL when the server is root, otherwise none. See [`Account::if_root`].
    pub account: Option<Account>,
    pub binaries: Binaries,
    /// PostgreSQL settings that replace this crate's defaults. How the cluster is reached cannot be changed.
    pub options: BTreeMap<String, String>,
}

impl Settings {
    /// The usual settings: `nobody` as the account when the server is root, and no further options.
    #[must_use]
    pub fn new(data_dir: PathBuf, binaries: Binaries) -> Self {
        Self { data_dir, account: Account::if_root(), binaries, options: BTreeMap::new() }
    }
}

/// A running PostgreSQL. Dropping it asks for a shutdown without waiting; [`Cluster::stop`] waits.
#[derive(Debug)]
pub struct Cluster {
    child: Child,
    connection: Connection,
}

impl Cluster {
    /// Starts the cluster, creating it on first use and ending a PostgreSQL that a killed server left behind.
    ///
    /// Returns once connections are accepted. The database, its user and the password exist by then.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let Settings { data_dir, account, binaries, options } = settings;
        let (layout, binaries) = tokio::task::spawn_blocking(move || {
            let layout = Layout::prepare(&data_dir, account)?;
            let binaries = binaries.reachable(layout.account, &layout.data_dir.join("runtime"))?;
            Ok::<_, Error>((layout, binaries))
        })
        .await
        .map_err(std::io::Error::other)
        .context("prepare", Path::new("PostgreSQL"))??;

        postmaster::retire(&layout.cluster).await?;
        layout.clear_sockets()?;
        layout.log.rotate()?;
        let password = if layout.is_initialised() {
            check_version(&layout, &binaries)?;
            initialise::password(&layout, &binaries).await?
        } else {
            initialise::initialise(&layout, &binaries).await?
        };
        let connection = connection(&layout, password);
        launch(&layout, &binaries, &options, connection).await
    }

    /// How to reach the database.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Waits until PostgreSQL ends by itself, which it never should. Safe to cancel.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends all sessions, writes a checkpoint and waits for PostgreSQL to leave.
    pub async fn stop(mut self) -> Result<(), Error> {
        stop_child(&mut self.child).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(pid) = child_pid(&self.child) {
            // Nobody is left to tell; the next start deals with a PostgreSQL that stayed.
            let _ = postmaster::signal(pid, Signal::SIGINT);
        }
    }
}

fn connection(layout: &Layout, password: String) -> Connection {
    Connection {
        socket_dir: layout.socket_dir.clone(),
        port: PORT,
        user: initialise::NAME.to_owned(),
        password,
        database: initialise::NAME.to_owned(),
    }
}

fn check_version(layout: &Layout, binaries: &Binaries) -> Result<(), Error> {
    let path = layout.cluster.join("PG_VERSION");
    let found = fs::read_to_string(&path).context("read", &path)?.trim().to_owned();
    if found == binaries.version.major.to_string() {
        return Ok(());
    }
    Err(Error::OtherVersion {
        cluster: layout.cluster.clone(),
        found,
        bin_dir: binaries.bin_dir.clone(),
        version: binaries.version.text.clone(),
    })
}

/// Starts PostgreSQL, again while orphans of a killed one are still leaving.
async fn launch(
    layout: &Layout,
    binaries: &Binaries,
    options: &BTreeMap<String, String>,
    connection: Connection,
) -> Result<Cluster, Error> {
    let patience = Instant::now() + ORPHAN_LIMIT;
    loop {
        let log_start = layout.log.length();
        let child = server_command(layout, binaries, options)?.spawn().context("start PostgreSQL in", &layout.cluster)?;
        // From here on an early return, or a caller who gives up, also ends the process.
        let mut cluster = Cluster { child, connection: connection.clone() };
        match wait_until_ready(&mut cluster.child, layout, log_start).await {
            Ok(()) => return Ok(cluster),
            Err(Error::Failed { output, .. }) if output.contains(ORPHANS_REMAIN) && Instant::now() < patience => {
                sleep(postmaster::POLL * 10).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn wait_until_ready(child: &mut Child, layout: &Layout, log_start: u64) -> Result<(), Error> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().context("watch PostgreSQL in", &layout.cluster)? {
            return Err(Error::Failed {
                program: "postgres",
                status,
                log: layout.log.path().to_owned(),
                output: layout.log.since(log_start),
            });
        }
        if child.id().is_some_and(|pid| postmaster::is_ready(&layout.cluster, pid)) {
            return Ok(());
        }
        sleep(postmaster::POLL).await;
    }
    stop_child(child).await?;
    Err(Error::NotReady {
        seconds: START_LIMIT.as_secs(),
        log: layout.log.path().to_owned(),
        output: layout.log.since(log_start),
    })
}

fn server_command(layout: &Layout, binaries: &Binaries, options: &BTreeMap<String, String>) -> Result<Command, Error> {
    let mut command = process::command(&binaries.program("postgres"), layout.account, &layout.log)?;
    command.arg("-D").arg(&layout.cluster);
    let chosen = options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    // Of several settings with one name the last counts.
    for (name, value) in DEFAULTS.into_iter().chain(chosen) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    let mut socket_dir = OsString::from("unix_socket_directories=");
    socket_dir.push(quoted(&layout.socket_dir));
    command
        .args(["-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"])
        .args(["-c", "logging_collector=off", "-c", "log_destination=stderr"])
        .args(["-c", &format!("port={PORT}"), "-c"])
        .arg(socket_dir);
    Ok(command)
}

/// PostgreSQL reads a list of folders here, in which commas and spaces at the ends mean something.
fn quoted(dir: &Path) -> OsString {
    let doubled = dir.as_os_str().as_bytes().split(|&byte| byte == b'"').collect::<Vec<_>>().join(&b"\"\""[..]);
    OsString::from_vec([&b"\""[..], &doubled, &b"\""[..]].concat())
}

async fn stop_child(child: &mut Child) -> Result<(), Error> {
    let requests = [(Signal::SIGINT, postmaster::FAST_SHUTDOWN), (Signal::SIGQUIT, postmaster::IMMEDIATE_SHUTDOWN)];
    for (request, patience) in requests {
        let Some(pid) = child_pid(child) else {
            return Ok(());
        };
        postmaster::signal(pid, request)?;
        if timeout(patience, child.wait()).await.is_ok() {
            return Ok(());
        }
    }
    match child_pid(child) {
        Some(pid) => Err(Error::StillRunning { pid: pid.as_raw() }),
        None => Ok(()),
    }
}

/// The process, unless it has ended and been collected: its id may belong to another program by then.
fn child_pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
}
