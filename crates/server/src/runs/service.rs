//! Keeping and reading the history.

use std::time::Duration;

use ahash::RandomState;
use dashmap::DashMap;
use metrics::{Counter, Histogram};
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinHandle;
use uuid::Uuid;
use weft_model::{
    Principal, RunId,
    run::{RunKind, RunStatus},
};

use super::{
    idempotency::{self, Answered, Claim, Claimed},
    record::Record,
    store::{self, Filter, Row},
};
use crate::{
    clock::Clock,
    db::{
        group::{Groups, NotWritten, Pace},
        notify,
    },
    jobs,
};

/// How long the records of finished runs are collected before they are written.
const GATHER: Duration = Duration::from_millis(20);
/// How many records may wait while the database is away.
const BACKLOG: usize = 65_536;
/// How long an idempotency key keeps its answer.
const KEY_LIFETIME: chrono::Duration = chrono::Duration::hours(24);
/// How often a webhook is handed to its backend when servers die over it.
const WEBHOOK_ATTEMPTS: i32 = 3;

/// The permission to see everybody's runs.
const READ_ALL: &str = "admin:runs.read";

/// Whether other nodes may be on the same database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    Alone,
    Others,
}

/// The history of runs.
pub struct Runs {
    pool: PgPool,
    clock: Clock,
    node: Uuid,
    company: Company,
    /// The series of each kind and status: looking them up by their labels costs more than counting.
    figures: DashMap<(RunKind, RunStatus), (Counter, Histogram), RandomState>,
    records: Groups<Record, ()>,
    pub(super) claims: Groups<Claim, Claimed>,
    pub(super) answers: Groups<Answered, ()>,
}

impl Runs {
    /// Starts the writers. They end, everything written, when this is dropped; wait for the handles.
    pub fn start((pool, clock): (PgPool, Clock), node: Uuid, company: Company) -> (Self, Vec<JoinHandle<()>>) {
        let pace = Pace { capacity: BACKLOG, gather: GATHER };
        let source = pool.clone();
        let (records, recording) = Groups::start(pace, move |group: Vec<Record>| {
            let pool = source.clone();
            async move {
                store::write(&mut *pool.acquire().await?, node, &group).await?;
                Ok(vec![(); group.len()])
            }
        });
        let source = pool.clone();
        let (claims, claiming) = Groups::start(pace, move |group: Vec<Claim>| idempotency::claim(source.clone(), node, group));
        let source = pool.clone();
        let (answers, answering) = Groups::start(pace, move |group: Vec<Answered>| {
            let pool = source.clone();
            async move {
                idempotency::answer(&mut *pool.acquire().await?, &group).await?;
                Ok(vec![(); group.len()])
            }
        });
        let figures = DashMap::default();
        (Self { pool, clock, node, company, figures, records, claims, answers }, vec![recording, claiming, answering])
    }

    /// Whether what has to be on disk before it begins cannot be written.
    pub fn writes_fail(&self) -> bool {
        self.records.fails() || self.claims.fails()
    }

    /// Puts the start of a run on disk.
    pub async fn record_start(&self, record: Record) -> Result<(), NotWritten> {
        self.records.write(record).await
    }

    /// Records a run soon, like [`Groups::write_later`].
    pub fn record(&self, record: Record) -> impl Future<Output = ()> + Send {
        self.count(&record);
        self.records.write_later(record)
    }

    fn count(&self, record: &Record) {
        let (kind, status) = (record.kind, record.status());
        let series = self.figures.entry((kind, status)).or_insert_with(|| {
            let labels = [("kind", kind.as_str()), ("status", status.as_str())];
            (metrics::counter!("weft_runs_total", &labels), metrics::histogram!("weft_run_seconds", &labels))
        });
        let (counter, times) = &*series;
        counter.increment(1);
        if let Some(end) = &record.end {
            times.record(end.took);
        }
    }

    /// Whether `caller` sees only its own runs.
    pub fn sees_own_only(caller: &Principal) -> bool {
        !caller.permissions.allows(READ_ALL)
    }

    pub async fn list(&self, filter: &Filter) -> sqlx::Result<Vec<Row>> {
        store::list(&mut *self.pool.acquire().await?, filter).await
    }

    /// A run that `caller` may see.
    pub async fn find(&self, caller: &Principal, id: RunId) -> sqlx::Result<Option<Row>> {
        let row = store::find(&mut *self.pool.acquire().await?, &caller.tenant, id).await?;
        let own = |row: &Row| row.principal_id == Some(caller.id.as_uuid());
        Ok(row.filter(|row| own(row) || !Self::sees_own_only(caller)))
    }

    /// Looks after what dead nodes left, forgets old idempotency keys and runs older than `kept`. Run at start and now and then.
    /// Returns the runs of webhooks that this node took over and has to hand over again.
    pub async fn tidy(&self, kept: chrono::Duration) -> sqlx::Result<Vec<RunId>> {
        let mut adopted = Vec::new();
        for (other, lock_key) in self.gone_nodes().await? {
            adopted.extend(self.bury(other, lock_key).await?);
        }
        let mut connection = self.pool.acquire().await?;
        let now = self.clock.now();
        idempotency::delete_older(&mut connection, now - KEY_LIFETIME).await?;
        while store::delete_older(&mut connection, RunId::floor(now - kept)).await? > 0 {}
        Ok(adopted)
    }

    /// Nodes that were not heard of for longer than one needs that only lost its connection, each with its last lock.
    async fn gone_nodes(&self) -> sqlx::Result<Vec<(Uuid, i64)>> {
        let silent = self.silent_nodes().await?;
        if silent.is_empty() || self.company == Company::Alone {
            return Ok(silent);
        }
        tokio::time::sleep(notify::RECONNECT * 4).await;
        let still_silent = self.silent_nodes().await?;
        Ok(silent.into_iter().filter(|node| still_silent.contains(node)).collect())
    }

    /// Nodes whose lock nobody holds.
    async fn silent_nodes(&self) -> sqlx::Result<Vec<(Uuid, i64)>> {
        let mut connection = self.pool.acquire().await?;
        let mut silent = Vec::new();
        for (node, lock_key) in store::list_other_nodes(&mut connection, self.node).await? {
            if store::try_node_lock(&mut connection, lock_key).await? {
                store::release_node_lock(&mut connection, lock_key).await?;
                silent.push((node, lock_key));
            }
        }
        Ok(silent)
    }

    /// Forgets a dead node, ends what it was at and takes over its webhooks.
    async fn bury(&self, other: Uuid, lock_key: i64) -> sqlx::Result<Vec<RunId>> {
        let mut transaction = self.pool.begin().await?;
        if !store::delete_node(&mut transaction, other, lock_key).await? {
            return Ok(Vec::new());
        }
        let adopted = store::adopt_webhooks(&mut transaction, other, self.node, WEBHOOK_ATTEMPTS).await?;
        let ended = store::end_runs_of(&mut transaction, other, self.clock.now()).await?;
        let jobs = jobs::forsake(&mut transaction, other).await?;
        transaction.commit().await?;
        tracing::info!(node.id = %other, ended, webhooks = adopted.len(), jobs, "run.take_over");
        Ok(adopted)
    }

    /// Ends a run that was taken over and cannot be carried on.
    pub async fn interrupt(&self, run: RunId) -> sqlx::Result<()> {
        store::interrupt(&mut *self.pool.acquire().await?, (self.node, run), self.clock.now()).await
    }

    /// Says goodbye, once everything is written. A node that left something half done stays known, for another one to look after it.
    pub async fn leave(pool: &PgPool, node: Uuid) -> sqlx::Result<()> {
        if !store::delete_idle_node(&mut *pool.acquire().await?, node).await? {
            tracing::warn!("some runs did not end in time: the next start looks after them");
        }
        Ok(())
    }
}

/// Puts the starts of runs on disk together with what they belong to.
pub async fn insert_starts(connection: &mut PgConnection, node: Uuid, starts: &[Record]) -> sqlx::Result<()> {
    store::write(connection, node, starts).await
}
