//! How nodes share budgets: a row in the database for each, from which they take some calls at a time.
//!
//! A node that is alone counts in memory and asks nobody. Before it says that it knows of another one it writes down what it has
//! counted; until it has said so, the other one takes nothing. When it is alone again it reads what was written. See ADR 82.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sqlx::{Connection, PgConnection, PgPool};
use tokio::task::JoinHandle;

use super::{
    Place,
    budget::{Desks, locked},
    pace::{Pace, between},
    store,
};
use crate::{
    clock::Clock,
    db::group::{Groups, NotWritten, Pace as Writing},
};

/// How long the database may take to give something of a budget. Afterwards nobody waits for it any more, and nothing is given.
pub const ANSWER: Duration = Duration::from_secs(1);
/// How many questions may wait for the database.
const BACKLOG: usize = 10_000;

/// Whether budgets are this node's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Another node may think that it is alone.
    Unsettled,
    Alone,
    /// One of so many, all of which know that there are others.
    Among(u32),
}

/// A wish for some calls of a budget.
#[derive(Debug, Clone)]
pub struct Take {
    pub place: Place,
    pub pace: Pace,
    pub now: i64,
    pub wanted: u32,
    /// Calls that went out without being taken.
    pub owed: u32,
}

/// What was given, and until when the budget is spoken for after it.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub granted: u32,
    pub arrival: i64,
}

pub struct Shared {
    pool: PgPool,
    clock: Clock,
    desks: Desks,
    sharing: AtomicU32,
    takes: Groups<Take, Taken>,
}

impl Shared {
    /// Starts the writer; it ends when this is dropped.
    pub fn start(pool: PgPool, clock: Clock, desks: Desks) -> (Self, JoinHandle<()>) {
        let pace = Writing { capacity: BACKLOG, gather: Duration::ZERO };
        let source = (pool.clone(), clock.clone());
        let (takes, taking) = Groups::start(pace, move |takes: Vec<Take>| grant(source.clone(), takes));
        (Self { pool, clock, desks, sharing: AtomicU32::new(0), takes }, taking)
    }

    pub fn sharing(&self) -> Sharing {
        match self.sharing.load(Ordering::SeqCst) {
            0 => Sharing::Unsettled,
            1 => Sharing::Alone,
            nodes => Sharing::Among(nodes),
        }
    }

    pub(super) fn set(&self, sharing: Sharing) {
        let nodes = match sharing {
            Sharing::Unsettled => 0,
            Sharing::Alone => 1,
            Sharing::Among(nodes) => nodes.max(2),
        };
        self.sharing.store(nodes, Ordering::SeqCst);
    }

    pub async fn take(&self, take: Take) -> Result<Taken, NotWritten> {
        self.takes.write(take).await
    }

    /// Takes in which nodes there are. To be called before this node says that it knows.
    pub async fn follow(&self, connection: &mut PgConnection, sharing: Sharing) -> sqlx::Result<()> {
        let before = self.sharing();
        // What could not be written is written before anything else is said.
        if before == sharing && sharing != Sharing::Unsettled {
            return Ok(());
        }
        if !matches!((before, sharing), (Sharing::Among(_), Sharing::Among(_))) {
            // Whoever counts after this sees it, and whoever counted before is seen by what follows.
            self.set(Sharing::Unsettled);
            match sharing {
                Sharing::Alone => self.read(connection).await?,
                Sharing::Unsettled | Sharing::Among(_) => self.write(connection).await?,
            }
        }
        self.set(sharing);
        tracing::debug!(?sharing, "budget.follow");
        Ok(())
    }

    /// Learns what all nodes have spent.
    async fn read(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        for row in store::list_spent(connection, self.now()).await? {
            let arrival = row.arrival;
            if let Some(place) = row.place() {
                locked(&self.desks.entry(place).or_default()).account.raise(arrival);
            }
        }
        Ok(())
    }

    /// Tells what this node has spent.
    async fn write(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let now = self.now();
        let spent = self.desks.iter().filter_map(|desk| Some((desk.key().clone(), locked(desk.value()).account.spent(now)?)));
        let spent: Vec<(Place, i64)> = spent.collect();
        if spent.is_empty() {
            return Ok(());
        }
        let mut transaction = connection.begin().await?;
        let known = lock(&mut transaction, spent.iter().map(|(place, _)| place)).await?;
        let known = |place: &Place| known.get(place).copied().unwrap_or_default();
        let later: Vec<_> = spent.iter().map(|(place, arrival)| (place, known(place).max(*arrival))).collect();
        store::update(&mut transaction, &later).await?;
        transaction.commit().await
    }

    /// Forgets rows that say nothing any more.
    pub async fn tidy(&self) -> sqlx::Result<()> {
        match self.sharing() {
            Sharing::Among(_) => store::delete_whole(&mut *self.pool.acquire().await?, self.now()).await,
            Sharing::Unsettled | Sharing::Alone => Ok(()),
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }
}

async fn lock(connection: &mut PgConnection, places: impl Iterator<Item = &Place>) -> sqlx::Result<HashMap<Place, i64>> {
    let rows = store::lock(connection, places).await?.into_iter();
    let named = |row: store::Row| {
        let arrival = row.arrival;
        Some((row.place()?, arrival))
    };
    Ok(rows.filter_map(named).collect())
}

/// Gives each what there is of its budget.
async fn grant((pool, clock): (PgPool, Clock), takes: Vec<Take>) -> sqlx::Result<Vec<Taken>> {
    let mut transaction = pool.begin().await?;
    let now = clock.now().timestamp_micros();
    // Somebody who gave up waiting may have asked again meanwhile.
    let places: HashSet<_> = takes.iter().map(|take| &take.place).collect();
    let mut arrivals = lock(&mut transaction, places.into_iter()).await?;
    let mut answers = Vec::with_capacity(takes.len());
    for take in &takes {
        let arrival = arrivals.entry(take.place.clone()).or_default();
        if between(take.now, now) > ANSWER {
            answers.push(Taken { granted: 0, arrival: *arrival });
            continue;
        }
        let owing = take.pace.from(*arrival, take.now) + take.pace.cost(take.owed);
        let (granted, after) = take.pace.take(owing, take.now, take.wanted);
        *arrival = after;
        answers.push(Taken { granted, arrival: after });
    }
    let spent: Vec<_> = arrivals.iter().map(|(place, arrival)| (place, *arrival)).collect();
    store::update(&mut transaction, &spent).await?;
    transaction.commit().await?;
    Ok(answers)
}
