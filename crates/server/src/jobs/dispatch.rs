//! The loop that takes what is ready and has it worked on.
//!
//! It is woken by notifications and by jobs that end; the clock wakes it for what waited, for leases to be kept, and, seldom,
//! for what nobody told it of. What it holds when it dies becomes ready again when its lease runs out.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use weft_queue::{Cursors, Lease, Leased, Settlement, Want};

use super::{
    attempt,
    shares::{AtWork, Shares, sharing},
    store,
    turns::{Limits, Turns},
};
use crate::node::Node;

/// How long a job is held without a sign of life.
const LEASE: TimeDelta = TimeDelta::seconds(120);
/// Leases are kept when less than this is left of them.
const KEEP: TimeDelta = TimeDelta::seconds(80);
/// How often what waits for its time is looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// How often all is looked through, because a notification may have been lost.
const LOOK_AROUND: Duration = Duration::from_secs(15);
/// How far back a sweep looks behind the one before: transactions take their time, and clocks differ.
const BEHIND: TimeDelta = TimeDelta::seconds(30);
/// How long a job that could not be taken keeps its place.
const REFUSED: Duration = Duration::from_secs(1);
/// How often is looked what other nodes have at work, while they have more than their share.
const SETTLING: Duration = Duration::from_millis(500);
/// Messages that one statement makes ready.
const SWEPT: i64 = 1000;

/// Works on jobs until the node stops.
pub async fn run(node: Arc<Node>) {
    let mut desk = Desk::new(node.settings.jobs, Shares::none(node.jobs.node));
    while !node.stopping.is_cancelled() {
        let news = tokio::select! {
            () = node.stopping.cancelled() => return,
            news = node.jobs.inbox.take(SWEEP) => news,
        };
        for lane in &news.ended {
            desk.turns.ended(lane);
        }
        for ready in &news.ready {
            desk.cursors.go_back(ready);
            desk.turns.ready(&ready.stream);
        }
        desk.look_around |= news.look_around;
        desk.agree |= news.nodes;
        if let Err(error) = desk.round(&node).await {
            tracing::warn!(%error, "cannot look after jobs");
            desk.look_around = true;
            let _ = tokio::time::timeout(SWEEP, node.stopping.cancelled()).await;
        }
    }
}

struct Desk {
    turns: Turns,
    cursors: Cursors,
    look_around: bool,
    looked_around: Instant,
    /// Whether the nodes have to be looked at.
    agree: bool,
    agreed: Instant,
    swept: Instant,
    /// Up to when all that waited was made ready.
    swept_until: DateTime<Utc>,
    kept_until: DateTime<Utc>,
}

impl Desk {
    fn new(limits: Limits, shares: Shares) -> Self {
        let (now, never) = (Instant::now(), DateTime::UNIX_EPOCH);
        let (turns, cursors) = (Turns::new(limits, shares), Cursors::default());
        let (look_around, agree) = (true, true);
        Self {
            turns,
            cursors,
            look_around,
            looked_around: now,
            agree,
            agreed: now,
            swept: now,
            swept_until: never,
            kept_until: never,
        }
    }

    async fn round(&mut self, node: &Arc<Node>) -> sqlx::Result<()> {
        self.keep(node).await?;
        self.sweep(node).await?;
        self.agree(node).await?;
        self.look_around(node).await?;
        while self.take(node).await? {}
        Ok(())
    }

    /// Shows signs of life for what is at work.
    async fn keep(&mut self, node: &Node) -> sqlx::Result<()> {
        let now = node.clock.now();
        if self.kept_until - now > KEEP && self.kept_until - now <= LEASE {
            return Ok(());
        }
        let held: Vec<Lease> = node.jobs.held.iter().map(|held| held.value().clone()).collect();
        if !held.is_empty() {
            let kept = weft_queue::extend(&mut *node.pool.acquire().await?, &held, now + LEASE).await?;
            for lost in held.iter().filter(|lease| !kept.contains(&lease.id) && node.jobs.held.contains_key(&lease.token)) {
                tracing::warn!(job.id = lost.id, "a job that is at work is no longer held: it may be done twice");
            }
        }
        self.kept_until = now + LEASE;
        Ok(())
    }

    /// Makes ready what waited until now, and what somebody held for too long.
    async fn sweep(&mut self, node: &Node) -> sqlx::Result<()> {
        if self.swept.elapsed() < SWEEP {
            return Ok(());
        }
        let now = node.clock.now();
        // After a jump of the clock, and now and then, everything.
        let near = self.swept_until <= now && !self.look_around && self.looked_around.elapsed() < LOOK_AROUND;
        let since = if near { self.swept_until - BEHIND } else { DateTime::UNIX_EPOCH };
        let mut connection = node.pool.acquire().await?;
        while weft_queue::sweep(&mut connection, since, now, SWEPT).await? >= usize::try_from(SWEPT).unwrap_or(usize::MAX) {}
        self.swept = Instant::now();
        self.swept_until = now;
        Ok(())
    }

    /// Divides the limits with the nodes that there are.
    async fn agree(&mut self, node: &Node) -> sqlx::Result<()> {
        let is_due =
            self.looked_around.elapsed() >= LOOK_AROUND || (self.turns.shares.is_settling() && self.agreed.elapsed() >= SETTLING);
        if !(self.agree || self.look_around || is_due) {
            return Ok(());
        }
        let mut connection = node.pool.acquire().await?;
        let peers = store::list_peers(&mut connection).await?;
        // Before anything is said: what nodes count for themselves is handed over first.
        node.admission.follow(&mut connection, sharing(&peers, node.jobs.node)).await?;
        if let Some(roll) = self.turns.shares.see(&peers) {
            store::update_roll(&mut connection, node.jobs.node, &roll.name()).await?;
        }
        if self.turns.shares.wants_counts() {
            let held = weft_queue::held(&mut connection).await?.into_iter();
            let held: Vec<_> = held.map(|(lane, node, count)| AtWork { lane, node, count }).collect();
            self.turns.count(&held);
        }
        (self.agree, self.agreed) = (false, Instant::now());
        Ok(())
    }

    async fn look_around(&mut self, node: &Node) -> sqlx::Result<()> {
        if !self.look_around && self.looked_around.elapsed() < LOOK_AROUND {
            return Ok(());
        }
        let streams = weft_queue::ready_streams(&mut *node.pool.acquire().await?).await?;
        self.cursors.forget();
        for stream in &streams {
            self.turns.ready(stream);
        }
        self.look_around = false;
        self.looked_around = Instant::now();
        Ok(())
    }

    /// Leases jobs for the places that are free. Whether there was anything to lease.
    async fn take(&mut self, node: &Arc<Node>) -> sqlx::Result<bool> {
        let (mut wants, mut now) = (Vec::new(), Instant::now());
        for (stream, count) in self.turns.take() {
            // What is not served is looked at again when its app changes.
            if attempt::is_served(node, &stream.lane).await {
                let after = self.cursors.after(&stream, now);
                wants.push(Want { stream, after, most: i32::try_from(count).unwrap_or(i32::MAX) });
            }
        }
        if wants.is_empty() {
            return Ok(false);
        }
        let until = node.clock.now() + LEASE;
        let leased = weft_queue::lease(&mut *node.pool.acquire().await?, node.jobs.node, &wants, until).await?;
        now = Instant::now();
        self.cursors.advance(&leased, now);
        let mut counts: HashMap<_, i32> = HashMap::new();
        for message in leased {
            *counts.entry(message.stream.clone()).or_default() += 1;
            self.turns.began(&message.stream.lane);
            begin(node, message);
        }
        for want in &wants {
            if counts.get(&want.stream).is_some_and(|count| *count >= want.most) {
                self.turns.ready(&want.stream);
            }
        }
        Ok(true)
    }
}

/// Works on a job beside everything else.
fn begin(node: &Arc<Node>, leased: Leased) {
    let shared = Arc::clone(node);
    let lease = leased.lease();
    node.jobs.held.insert(lease.token, lease);
    node.background.spawn(async move {
        let (lease, lane) = (leased.lease(), leased.stream.lane.clone());
        let node = Arc::clone(&shared);
        // A task of its own, so that whatever becomes of it, the place is given back and the job is settled.
        let made = tokio::spawn(async move { attempt::make(&node, &leased).await }).await;
        let settlement = made.unwrap_or_else(|_| Settlement::Retry {
            at: shared.clock.now() + TimeDelta::seconds(60),
            note: "internal: the server failed in the middle".to_owned(),
        });
        let refused = matches!(settlement, Settlement::Release { .. });
        let ended = |lane| shared.jobs.inbox.put(|news| news.ended.push(lane));
        if !refused {
            // The place is for work; being written down is not work.
            ended(Arc::clone(&lane));
        }
        let token = lease.token;
        shared.jobs.settle(lease, settlement).await;
        shared.jobs.held.remove(&token);
        if refused {
            // Who cannot take this one cannot take the next: the backlog is not to be walked through meanwhile.
            let _ = tokio::time::timeout(REFUSED, shared.stopping.cancelled()).await;
            ended(lane);
        }
    });
}
