//! One round: traffic, a fault in the middle of it, recovery, and the check.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use crate::{
    apps::Installed,
    check,
    client::Client,
    evidence::{self, Effects},
    fault::Fault,
    history::{Attempt, History},
    later::{Later, Seen},
    site::{Site, pause},
    traffic::{Caller, Door},
};

/// How long runs and deliveries may take to come to their end once everything runs again.
const SETTLE: Duration = Duration::from_secs(75);
const POLL: Duration = Duration::from_millis(50);
/// Access tokens live for 15 minutes.
const TOKENS: Duration = Duration::from_mins(5);

/// A site with its callers and all that was seen of it.
pub struct Experiment {
    pub site: Site,
    pub history: History,
    client: Client,
    installed: Installed,
    effects: Effects,
    refreshed: Instant,
    later: Later,
    pub attempts: usize,
    pub repeated_webhooks: usize,
    pub seen: Seen,
}

impl Experiment {
    pub fn new(site: Site, client: Client, installed: Installed) -> Self {
        let history = History::begin();
        Self {
            site,
            later: Later::new(history.begun()),
            history,
            client,
            installed,
            effects: Effects::default(),
            refreshed: Instant::now(),
            attempts: 0,
            repeated_webhooks: 0,
            seen: Seen::default(),
        }
    }

    /// Runs a round; what it found broken.
    pub async fn round(&mut self, round: u64, seed: u64) -> anyhow::Result<Vec<String>> {
        self.refresh_tokens().await?;
        let mut rng = StdRng::seed_from_u64(seed);
        let fault = Fault::choose(&mut rng, self.site.kind);
        self.history.event(round, format!("seed {seed}: {fault:?}"));
        let (halt, stop) = watch::channel(false);
        let door = self.door();
        let callers: Vec<_> =
            self.callers().into_iter().map(|caller| door.clone().traffic(caller, (round, seed), stop.clone())).collect();
        let callers: Vec<_> = callers.into_iter().map(tokio::spawn).collect();
        pause(Duration::from_millis(rng.random_range(30..250))).await;
        let struck_at = Instant::now();
        let struck = fault.strike(&mut self.site).await;
        self.history.event(round, "everything was started again");
        pause(Duration::from_millis(rng.random_range(50..250))).await;
        let _ = halt.send(true);
        let mut attempts = Vec::new();
        for caller in callers {
            attempts.extend(caller.await?);
        }
        let mut broken = match struck {
            Ok(()) => self.recover(round, &mut attempts).await?,
            Err(error) => vec![format!("{fault:?}: {error:#}")],
        };
        if fault.stops_the_clock(self.site.kind) {
            self.later.outage(struck_at);
        }
        attempts.sort_by_key(|attempt| attempt.invoked);
        self.later.record(&attempts);
        self.history.record(&attempts);
        self.attempts += attempts.len();
        if broken.is_empty() {
            broken = self.check(&attempts, fault.takes_a_server()).await?;
        }
        for violation in &broken {
            self.history.event(round, format!("broken: {violation}"));
        }
        Ok(broken)
    }

    /// Waits until all that was to be done later is done; what was broken since the beginning.
    pub async fn check_later(&mut self, round: u64) -> anyhow::Result<Vec<String>> {
        self.history.event(round, "looking at what was done later");
        let (seen, broken) = self.later.check(&self.site).await?;
        self.seen = seen;
        for violation in &broken {
            self.history.event(round, format!("broken: {violation}"));
        }
        Ok(broken)
    }

    /// Waits until everything works again; what does not.
    async fn recover(&mut self, round: u64, attempts: &mut Vec<Attempt>) -> anyhow::Result<Vec<String>> {
        let mut broken = Vec::new();
        for (number, node) in self.site.nodes.iter_mut().enumerate() {
            if !node.is_up() {
                broken.push(format!("node {number} ended by itself"));
                node.bring_up().await?;
            }
            if let Err(error) = node.orphans_end().await {
                broken.push(format!("{error:#}"));
            }
        }
        if let Some(caller) = self.callers().first() {
            let (probes, silent) = self.door().probe(caller, round).await;
            attempts.extend(probes);
            broken.extend(silent);
        }
        self.history.event(round, "everything answers again");
        Ok(broken)
    }

    async fn check(&mut self, attempts: &[Attempt], lost_a_server: bool) -> anyhow::Result<Vec<String>> {
        let mut connection = self.site.connect().await?;
        let patience = Instant::now() + SETTLE;
        while evidence::unsettled(&mut connection).await? != (0, 0) && Instant::now() < patience {
            pause(POLL).await;
        }
        // What is written later than answered is there 50 ms after it; a run that is recorded twice would be seen as one.
        pause(POLL * 4).await;
        let effects = self.effects.read(&self.site)?;
        let evidence = evidence::gather(&mut connection, attempts, effects).await?;
        let users: Vec<String> = self.installed.callers.iter().map(|login| login.user.clone()).collect();
        let round = check::Round { attempts, evidence: &evidence, users: &users, lost_a_server };
        self.repeated_webhooks += round.repeated_webhooks();
        Ok(round.violations())
    }

    fn door(&self) -> Door {
        Door {
            client: self.client.clone(),
            nodes: self.site.nodes.iter().map(|node| Arc::clone(&node.address())).collect(),
            webhooks: self.installed.webhooks.clone(),
            begun: self.history.begun(),
        }
    }

    fn callers(&self) -> Vec<Caller> {
        let caller = |(number, login): (usize, &crate::client::Login)| Caller { number, token: login.access.clone() };
        self.installed.callers.iter().enumerate().map(caller).collect()
    }

    async fn refresh_tokens(&mut self) -> anyhow::Result<()> {
        if self.refreshed.elapsed() < TOKENS {
            return Ok(());
        }
        let address = self.site.nodes.first().map(crate::node::Node::address);
        let Some(url) = address.and_then(|address| address.lock().ok()?.clone()) else { return Ok(()) };
        for login in &mut self.installed.callers {
            login.access = self.client.refresh(&url, login).await?;
        }
        self.refreshed = Instant::now();
        Ok(())
    }
}
