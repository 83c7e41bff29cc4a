//! What is done to a site: killing, stopping for a while, and bringing it back.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use crate::{
    processes,
    site::{Kind, Site, pause},
};

/// One fault, with everything about it that is left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    KillWorker {
        node: usize,
        worker: usize,
    },
    KillAllWorkers,
    StopWorker {
        node: usize,
        worker: usize,
        time: Duration,
    },
    KillServer {
        node: usize,
        away: Duration,
    },
    /// Killed again while it starts.
    KillServerTwice {
        node: usize,
        time: Duration,
    },
    StopServer {
        node: usize,
        time: Duration,
    },
    /// The orderly way, in mid-traffic.
    TerminateServer {
        node: usize,
    },
    KillDatabase {
        away: Duration,
    },
    /// One session of the database, after which it recovers by itself.
    KillSession {
        session: usize,
    },
    StopDatabase {
        time: Duration,
    },
    /// Every server at the same moment.
    KillServers {
        away: Duration,
    },
    /// Server and database at the same moment, as when the machine loses power.
    KillEverything,
}

impl Fault {
    pub fn choose(rng: &mut StdRng, kind: Kind) -> Self {
        let node = match kind {
            Kind::Embedded => 0,
            Kind::Pair => rng.random_range(0..2),
        };
        let (worker, session) = (rng.random_range(0..8), rng.random_range(0..32));
        let mut millis = |least: u64, most: u64| Duration::from_millis(rng.random_range(least..most));
        let all = [
            Self::KillWorker { node, worker },
            Self::KillAllWorkers,
            Self::StopWorker { node, worker, time: millis(50, 800) },
            Self::KillServer { node, away: millis(0, 300) },
            Self::KillServer { node, away: Duration::ZERO },
            Self::KillServerTwice { node, time: millis(1, 700) },
            Self::StopServer { node, time: millis(50, 800) },
            Self::TerminateServer { node },
            Self::KillDatabase { away: millis(0, 300) },
            Self::KillDatabase { away: Duration::ZERO },
            Self::KillSession { session },
            Self::StopDatabase { time: millis(50, 1500) },
            Self::KillEverything,
            Self::KillServers { away: millis(0, 300) },
        ];
        *all.choose(rng).unwrap_or(&Self::KillAllWorkers)
    }

    /// Whether a server may forget what it was about to write.
    pub fn takes_a_server(self) -> bool {
        matches!(self, Self::KillServer { .. } | Self::KillServerTwice { .. } | Self::KillServers { .. } | Self::KillEverything)
    }

    /// Whether nobody fires ticks meanwhile: the database is away, or the only server.
    pub fn stops_the_clock(self, kind: Kind) -> bool {
        match self {
            Self::KillDatabase { .. }
            | Self::KillSession { .. }
            | Self::StopDatabase { .. }
            | Self::KillServers { .. }
            | Self::KillEverything => true,
            Self::KillServer { .. } | Self::KillServerTwice { .. } | Self::StopServer { .. } | Self::TerminateServer { .. } => {
                kind == Kind::Embedded
            }
            Self::KillWorker { .. } | Self::KillAllWorkers | Self::StopWorker { .. } => false,
        }
    }

    /// Does it, and brings back what does not come back by itself.
    pub async fn strike(self, site: &mut Site) -> anyhow::Result<()> {
        match self {
            Self::KillWorker { node, worker } => {
                if let Some(process) = pick(&workers(site, node), worker) {
                    processes::signal(process, Signal::SIGKILL);
                }
            }
            Self::KillAllWorkers => {
                let all: Vec<u32> = site.nodes.iter().flat_map(crate::node::Node::workers).collect();
                for process in all {
                    processes::signal(process, Signal::SIGKILL);
                }
            }
            Self::StopWorker { node, worker, time } => {
                stop_for(time, &pick(&workers(site, node), worker).into_iter().collect::<Vec<_>>()).await;
            }
            Self::StopServer { node, time } => {
                let server = site.nodes.get(node).and_then(crate::node::Node::id);
                stop_for(time, &server.into_iter().collect::<Vec<_>>()).await;
            }
            Self::StopDatabase { time } => stop_for(time, &site.database_processes()).await,
            Self::KillSession { session } => {
                let sessions: Vec<u32> = site.database_processes().into_iter().skip(1).collect();
                if let Some(process) = pick(&sessions, session) {
                    processes::signal(process, Signal::SIGKILL);
                }
            }
            Self::TerminateServer { node } => {
                if let Some(node) = site.nodes.get_mut(node) {
                    node.terminate().await?;
                }
            }
            Self::KillServer { node, away } => {
                if let Some(node) = site.nodes.get_mut(node) {
                    node.kill().await?;
                }
                pause(away).await;
            }
            Self::KillServerTwice { node, time } => {
                if let Some(node) = site.nodes.get_mut(node) {
                    node.kill().await?;
                    node.start_half(time).await?;
                }
            }
            Self::KillDatabase { away } => {
                site.signal_postmaster(Signal::SIGKILL);
                pause(away).await;
                site.start_database().await?;
            }
            Self::KillServers { away } => {
                for node in &mut site.nodes {
                    node.kill().await?;
                }
                pause(away).await;
            }
            Self::KillEverything => {
                site.signal_postmaster(Signal::SIGKILL);
                for node in &mut site.nodes {
                    node.kill().await?;
                }
                site.start_database().await?;
            }
        }
        for node in &mut site.nodes {
            node.bring_up().await?;
        }
        Ok(())
    }
}

fn workers(site: &Site, node: usize) -> Vec<u32> {
    site.nodes.get(node).map(crate::node::Node::workers).unwrap_or_default()
}

/// One of them, whichever number was drawn.
fn pick(processes: &[u32], number: usize) -> Option<u32> {
    processes.get(number.checked_rem(processes.len())?).copied()
}

async fn stop_for(time: Duration, processes: &[u32]) {
    for process in processes {
        processes::signal(*process, Signal::SIGSTOP);
    }
    pause(time).await;
    for process in processes {
        processes::signal(*process, Signal::SIGCONT);
    }
}
