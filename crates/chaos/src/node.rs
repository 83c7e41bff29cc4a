//! One server process, and what it started.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{WEFT, processes};

/// How long a server may take to come back, a recovery of its database included.
const START: Duration = Duration::from_mins(1);
/// How long what it started may live on after it was killed.
const ORPHANS: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// How to start a server.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program under test; absent: this one under its other name.
    pub program: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub log: PathBuf,
    pub runtime_dir: PathBuf,
    /// Absent: the embedded database.
    pub database_url: Option<String>,
}

/// A server that can be killed and started again.
pub struct Node {
    launch: Launch,
    child: Option<Child>,
    /// Where it listens, while it does.
    address: Arc<Mutex<Option<String>>>,
    /// The workers of servers that were killed: nothing may outlive its server.
    orphans: Vec<u32>,
}

impl Node {
    pub async fn start(launch: Launch) -> anyhow::Result<Self> {
        let mut node = Self { launch, child: None, address: Arc::default(), orphans: Vec::new() };
        node.bring_up().await?;
        Ok(node)
    }

    /// Where callers find out its address, which changes with every start.
    pub fn address(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.address)
    }

    /// Starts it unless it runs.
    pub async fn bring_up(&mut self) -> anyhow::Result<()> {
        if self.is_up() {
            return Ok(());
        }
        let address = timeout(START, self.spawn()).await.context("the server does not come back")??;
        self.set_address(Some(address));
        Ok(())
    }

    /// Begins a start and kills the server in the middle of it.
    pub async fn start_half(&mut self, time: Duration) -> anyhow::Result<()> {
        let started = timeout(time, self.spawn()).await;
        self.kill().await?;
        match started {
            Ok(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    async fn spawn(&mut self) -> anyhow::Result<String> {
        let mut child = self.command()?.spawn().context("the server's program")?;
        let stdout = child.stdout.take().context("piped")?;
        self.child = Some(child);
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some(url) = line.strip_prefix("Weft is ready at ") {
                let url = url.trim_end_matches('/').to_owned();
                // What it still prints has to go somewhere.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok(url);
            }
        }
        bail!("the server ended before it was ready; its log is {}", self.launch.log.display())
    }

    fn command(&self) -> anyhow::Result<Command> {
        let launch = &self.launch;
        let log = std::fs::File::options().create(true).append(true).open(&launch.log)?;
        let mut command = if let Some(program) = &launch.program {
            Command::new(program)
        } else {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg0(WEFT);
            command
        };
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&launch.data_dir);
        command.arg("--runtime-dir").arg(&launch.runtime_dir);
        command.env_remove("DATABASE_URL").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        if let Some(url) = &launch.database_url {
            command.env("DATABASE_URL", url);
        }
        Ok(command)
    }

    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Whether the process is there; one that ended by itself is noticed here.
    pub fn is_up(&mut self) -> bool {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => true,
            Some(_) => {
                self.forget();
                false
            }
            None => false,
        }
    }

    /// SIGKILL to the server alone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.orphans.extend(self.workers());
        if let Some(child) = &mut self.child {
            child.kill().await?;
        }
        self.forget();
        Ok(())
    }

    /// SIGTERM, and waits for an orderly end.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        self.orphans.extend(self.workers());
        if let (Some(id), Some(child)) = (self.id(), &mut self.child) {
            processes::signal(id, Signal::SIGTERM);
            let status = timeout(START, child.wait()).await.context("the server does not stop")??;
            ensure!(status.success(), "the server stopped with {status}");
        }
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.child = None;
        self.set_address(None);
    }

    fn set_address(&self, address: Option<String>) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// The processes of backends.
    pub fn workers(&self) -> Vec<u32> {
        let children = self.id().map(processes::children).unwrap_or_default();
        children.into_iter().filter(|id| processes::command_line(*id).contains("prelude")).collect()
    }

    /// Waits until the workers of killed servers are gone too.
    pub async fn orphans_end(&mut self) -> anyhow::Result<()> {
        let orphans = std::mem::take(&mut self.orphans);
        let ended = async {
            while orphans.iter().any(|id| processes::is_alive(*id) && processes::command_line(*id).contains("prelude")) {
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(ORPHANS, ended).await.with_context(|| format!("workers outlived their server: {orphans:?}"))
    }

    /// What a worker of this node keeps between its lives.
    pub fn scratch(&self, app: &str) -> PathBuf {
        self.launch.data_dir.join("scratch").join(format!("default-{app}"))
    }

    pub fn log(&self) -> &Path {
        &self.launch.log
    }

    pub fn data_dir(&self) -> &Path {
        &self.launch.data_dir
    }
}
