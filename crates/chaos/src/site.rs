//! What is under test as a whole: one server with its embedded database, or two on a PostgreSQL of their own.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::sys::signal::Signal;
use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tempfile::TempDir;
use weft_postgres::{Binaries, Cluster, Settings};

use crate::{
    node::{Launch, Node},
    processes,
};

/// What the database says when it has no room for a session, and how long it may say so.
const TOO_MANY: &str = "53300";
const ROOM: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// The kinds of sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// One server that runs its database itself.
    Embedded,
    /// Two servers on one PostgreSQL.
    Pair,
}

/// A running site.
pub struct Site {
    pub kind: Kind,
    pub nodes: Vec<Node>,
    folder: TempDir,
    /// The PostgreSQL of a pair.
    cluster: Option<Cluster>,
    binaries: Binaries,
}

impl Site {
    pub async fn start(kind: Kind, program: Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("weft-chaos-").tempdir()?;
        // The accounts of databases and workers have to pass through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
        let runtime_dir = runtime_dir();
        let binaries = Binaries::find(std::slice::from_ref(&runtime_dir)).context("PostgreSQL is missing: run `make runtime`")?;
        let mut site = Self { kind, nodes: Vec::new(), folder, cluster: None, binaries };
        if kind == Kind::Pair {
            site.start_database().await?;
        }
        let database_url = site.cluster.as_ref().map(|cluster| cluster.connection().url());
        for name in site.names() {
            let data_dir = site.folder.path().join(name);
            if let Some(first) = site.nodes.first() {
                copy_keys(first.data_dir(), &data_dir)?;
            }
            let log = site.folder.path().join(format!("{name}.log"));
            let (program, runtime_dir, database_url) = (program.clone(), runtime_dir.clone(), database_url.clone());
            site.nodes.push(Node::start(Launch { program, data_dir, log, runtime_dir, database_url }).await?);
        }
        Ok(site)
    }

    fn names(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Embedded => &["a"],
            Kind::Pair => &["a", "b"],
        }
    }

    /// Starts the PostgreSQL of a pair, unless the servers run their own.
    pub async fn start_database(&mut self) -> anyhow::Result<()> {
        if self.kind == Kind::Pair {
            // The handle of one that was killed would send its signal to whoever has the number now.
            if let Some(mut killed) = self.cluster.take() {
                killed.ended().await?;
            }
            let folder = self.folder.path().join("pg");
            self.cluster = Some(Cluster::start(Settings::new(folder, self.binaries.clone())).await?);
        }
        Ok(())
    }

    /// The folder that holds the cluster.
    fn database_dir(&self) -> PathBuf {
        let name = if self.kind == Kind::Pair { "pg" } else { "a" };
        self.folder.path().join(name)
    }

    /// The process that all other processes of the database descend from.
    fn postmaster(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.database_dir().join("postgres/postmaster.pid")).ok()?;
        let process = text.lines().next()?.trim().parse().ok()?;
        processes::command_line(process).contains("postgres").then_some(process)
    }

    /// Sends a signal to the first process of the database; whether there was one.
    pub fn signal_postmaster(&self, signal: Signal) -> bool {
        let postmaster = self.postmaster();
        postmaster.inspect(|process| processes::signal(*process, signal)).is_some()
    }

    /// All processes of the database, the first one first.
    pub fn database_processes(&self) -> Vec<u32> {
        let postmaster = self.postmaster();
        postmaster.into_iter().chain(postmaster.map(processes::children).unwrap_or_default()).collect()
    }

    /// Reads the database as its owner, past the servers.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        let folder = self.database_dir();
        let password = std::fs::read_to_string(folder.join("postgres.password"))?;
        let options = PgConnectOptions::new_without_pgpass()
            .socket(folder.join("run"))
            .port(5432)
            .username("weft")
            .password(password.trim())
            .database("weft")
            .ssl_mode(PgSslMode::Disable);
        // The sessions of servers that were killed may still be there, so that there is no room for a further one.
        let begun = Instant::now();
        loop {
            match PgConnection::connect_with(&options).await {
                Err(sqlx::Error::Database(full)) if full.code().as_deref() == Some(TOO_MANY) && begun.elapsed() < ROOM => {
                    pause(POLL).await;
                }
                connected => return Ok(connected?),
            }
        }
    }

    /// Stops everything in order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            node.terminate().await?;
        }
        match self.cluster {
            Some(cluster) => Ok(cluster.stop().await?),
            None => Ok(()),
        }
    }

    /// Copies what helps to understand a failure.
    pub fn save_logs(&self, into: &Path) -> anyhow::Result<()> {
        for (name, node) in self.names().iter().zip(&self.nodes) {
            std::fs::copy(node.log(), into.join(format!("{name}.log")))?;
        }
        std::fs::copy(self.database_dir().join("postgres.log"), into.join("postgres.log"))?;
        Ok(())
    }
}

/// Servers on one database share the keys too.
fn copy_keys(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(to)?;
    for key in ["master.key", "jwt.key"] {
        std::fs::copy(from.join(key), to.join(key))?;
    }
    Ok(())
}

fn runtime_dir() -> PathBuf {
    let configured = std::env::var_os("WEFT_RUNTIME_DIR").map(PathBuf::from);
    configured.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime"))
}

/// A pause that a round needs to have its faults at different moments.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
