//! Owns a process until its end: waits for it, kills what has to be killed and with it everything it started, reads its pipes to
//! their end, and says why it is gone.

use crate::{Death, DeathKind, Limits, Platform, in_flight::InFlight, logs::Journal, spawn, vitals::Vitals};
use std::{io, process::ExitStatus, sync::Arc, time::Duration};
use tokio::{
    process::Child,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How long a process may live on after closing its stdout, and how long the pipes may be read after its end.
const GRACE: Duration = Duration::from_millis(500);

pub(crate) struct Keeper<P: Platform> {
    pub(crate) child: Child,
    /// Makes the process's connections for as long as it lives.
    pub(crate) broker: Option<weft_jail::Broker>,
    pub(crate) stdin: JoinHandle<io::Result<()>>,
    pub(crate) stdout: JoinHandle<()>,
    pub(crate) stderr: JoinHandle<()>,
    pub(crate) killed: watch::Receiver<Option<Death>>,
    pub(crate) limits: Limits,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) calls: Arc<InFlight<P::Context>>,
    pub(crate) journal: Arc<Journal<P>>,
}

/// What ends a process.
enum End {
    ByItself(io::Result<ExitStatus>),
    /// Somebody asked for it or let go of it.
    Asked(Death),
    /// A pipe of it is closed, so it cannot be talked to any more.
    Mute,
    /// It uses this many bytes.
    Outgrown(u64),
}

impl<P: Platform> Keeper<P> {
    /// Waits for the end and cleans up after it.
    pub(crate) async fn run(mut self) -> Death {
        let group = self.child.id();
        give_way(group);
        let end = tokio::select! {
            biased;
            status = self.child.wait() => End::ByItself(status),
            bytes = self.vitals.outgrown(group, &self.limits, (&self.calls, &self.journal)) => End::Outgrown(bytes),
            end = must_end(&mut self.stdin, &mut self.stdout, &mut self.killed) => end,
        };
        // Whatever it started must not outlive it, nor keep its pipes open.
        spawn::kill_group(group);
        let death = match end {
            End::ByItself(status) => Death::of(&status),
            End::Asked(death) => death,
            End::Mute => Death::new(DeathKind::Unresponsive, "it closed its stdin or stdout, so it could not be called any more"),
            End::Outgrown(bytes) => Death::out_of_memory(bytes, self.limits.memory),
        };
        // Its own status says only that it was killed, or is known already.
        let _ = self.child.wait().await;
        drop(self.broker.take());
        self.close_pipes().await;
        self.journal.settle_dropped();
        death
    }

    async fn close_pipes(&mut self) {
        let _ = timeout(GRACE, async {
            // A finished handle may have been polled already, which must not happen twice.
            if !self.stdout.is_finished() {
                let _ = (&mut self.stdout).await;
            }
            let _ = (&mut self.stderr).await;
        })
        .await;
        self.stdin.abort();
        self.stdout.abort();
        self.stderr.abort();
    }
}

/// Where the machine itself is out of memory, backends go before the server and its database. Refused is as good as not said.
fn give_way(process: Option<u32>) {
    if let Some(process) = process {
        let _ = std::fs::write(format!("/proc/{process}/oom_score_adj"), "500");
    }
}

/// Returns when the process has to be killed.
async fn must_end(
    stdin: &mut JoinHandle<io::Result<()>>,
    stdout: &mut JoinHandle<()>,
    killed: &mut watch::Receiver<Option<Death>>,
) -> End {
    let broken = async {
        tokio::select! {
            _ = stdout => {}
            Ok(Err(_)) = stdin => {}
        }
        // It may just be exiting by itself; its own reason says more than a signal.
        sleep(GRACE).await;
    };
    tokio::select! {
        asked = killed.wait_for(Option::is_some) => {
            let death = asked.ok().and_then(|death| death.clone());
            End::Asked(death.unwrap_or_else(|| Death::new(DeathKind::Stopped, "it was stopped")))
        }
        () = broken => End::Mute,
    }
}
