//! Keeping and reading the history.

use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinHandle;
use uuid::Uuid;
use weft_model::{Principal, RunId};

use super::{
    idempotency::{self, Answered, Claim, Claimed},
    record::Record,
    store::{self, Filter, Row},
};
use crate::{
    clock::Clock,
    db::group::{Groups, NotWritten, Pace},
};

/// How long the records of finished runs are collected before they are written.
const GATHER: Duration = Duration::from_millis(20);
/// How many records may wait while the database is away.
const BACKLOG: usize = 65_536;
/// How long an idempotency key keeps its answer.
const KEY_LIFETIME: chrono::Duration = chrono::Duration::hours(24);

/// The permission to see everybody's runs.
const READ_ALL: &str = "admin:runs.read";

/// The history of runs.
pub struct Runs {
    pool: PgPool,
    clock: Clock,
    node: Uuid,
    records: Groups<Record, ()>,
    pub(super) claims: Groups<Claim, Claimed>,
    pub(super) answers: Groups<Answered, ()>,
}

impl Runs {
    /// Starts the writers. They end, everything written, when this is dropped; wait for the handles.
    pub fn start(pool: PgPool, clock: Clock, node: Uuid) -> (Self, Vec<JoinHandle<()>>) {
        let pace = Pace { capacity: BACKLOG, gather: GATHER };
        let source = pool.clone();
        let (records, recording) = Groups::start(pace, move |group: Vec<Record>| {
            let pool = source.clone();
            async move {
                store::upsert(&mut *pool.acquire().await?, node, &group).await?;
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
        (Self { pool, clock, node, records, claims, answers }, vec![recording, claiming, answering])
    }

    /// Puts the start of a run on disk.
    pub async fn record_start(&self, record: Record) -> Result<(), NotWritten> {
        self.records.write(record).await
    }

    /// Records a run soon.
    pub async fn record(&self, record: Record) {
        let labels = [("kind", record.kind.as_str()), ("status", record.status().as_str())];
        metrics::counter!("weft_runs_total", &labels).increment(1);
        if let Some(end) = &record.end {
            metrics::histogram!("weft_run_seconds", &labels).record((end.at - record.started_at).as_seconds_f64());
        }
        self.records.write_later(record).await;
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

    /// Ends runs whose node has gone, forgets old idempotency keys and runs older than `kept`. Run at start and now and then.
    pub async fn tidy(&self, kept: chrono::Duration) -> sqlx::Result<()> {
        let mut connection = self.pool.acquire().await?;
        let now = self.clock.now();
        for (node, lock_key) in store::list_other_nodes(&mut connection, self.node).await? {
            if store::try_node_lock(&mut connection, lock_key).await? {
                let ended = store::end_runs_of(&mut connection, node, now).await?;
                store::delete_node(&mut connection, node, lock_key).await?;
                store::release_node_lock(&mut connection, lock_key).await?;
                tracing::info!(node.id = %node, runs = ended, "run.end_interrupted");
            }
        }
        idempotency::delete_older(&mut connection, now - KEY_LIFETIME).await?;
        while store::delete_older(&mut connection, RunId::floor(now - kept)).await? > 0 {}
        Ok(())
    }

    /// Says goodbye: no other node needs to look after this one's runs.
    pub async fn leave(&self) -> sqlx::Result<()> {
        store::delete_own_node(&mut *self.pool.acquire().await?, self.node).await
    }
}
