//! Reading the log, signing checkpoints, and noticing what comes in floods.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::task::JoinHandle;
use weft_attest::export::{CHECKPOINT, Checkpoint};
use weft_model::TenantId;

use super::{
    event::Event,
    notice,
    store::{self, Filter, StoredEvent},
};
use crate::{
    authority::{self, Authority},
    clock::Clock,
    db::group::{Groups, Pace},
};

/// How long what comes in floods is counted before it is written, and how much of it may wait.
const PACE: Pace = Pace { capacity: 10_000, gather: Duration::from_secs(1) };
/// A checkpoint is due after so many events,
const CHECKPOINT_EVENTS: i64 = 100;
/// or so long after the last one, if there were any.
const CHECKPOINT_TIME: chrono::Duration = chrono::Duration::minutes(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("from must be 1 to {0}, the number of the next event")]
    WrongStart(i64),
    #[error(transparent)]
    Authority(#[from] authority::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The audit log.
pub struct Audit {
    pub(super) pool: PgPool,
    pub(super) clock: Clock,
    pub(super) authority: Arc<Authority>,
    /// The name of this server in what it signs.
    pub(super) issuer: String,
    noticed: Groups<Event, ()>,
}

impl Audit {
    /// Starts the writer of what is noticed. It ends, everything written, when this is dropped.
    pub fn start((pool, clock): (PgPool, Clock), authority: Arc<Authority>, issuer: String) -> (Self, JoinHandle<()>) {
        let (source, time) = (pool.clone(), clock.clone());
        let (noticed, writing) = Groups::start(PACE, move |group: Vec<Event>| notice::write(source.clone(), group, time.now()));
        (Self { pool, clock, authority, issuer, noticed }, writing)
    }

    /// Writes an event soon, together with others, and counted with those that are like it. For what changes nothing.
    pub async fn notice(&self, event: Event) {
        self.noticed.write_later(event).await;
    }

    pub async fn list(&self, tenant: &TenantId, filter: &Filter) -> Result<Vec<StoredEvent>, Error> {
        Ok(store::list(&mut *self.pool.acquire().await?, tenant, filter).await?)
    }

    /// Signs checkpoints over the chains that have grown. Run now and then.
    pub async fn tidy(&self) -> Result<(), Error> {
        let mut connection = self.pool.acquire().await?;
        let now = self.clock.now();
        for due in store::list_due(&mut connection, CHECKPOINT_EVENTS, now - CHECKPOINT_TIME).await? {
            let claims = Checkpoint {
                iss: self.issuer.clone(),
                chain: due.tenant.to_string(),
                seq: due.head.seq.unsigned_abs(),
                hash: due.head.hash,
                iat: now.timestamp(),
            };
            let signature = self.authority.sign(CHECKPOINT, &claims)?;
            store::insert_checkpoint(&mut connection, &due.tenant, (due.head.seq, &signature), now).await?;
            // Whoever keeps the server's log has an anchor that nobody with the database can reach.
            tracing::info!(tenant.id = %due.tenant, seq = due.head.seq, hash = %due.head.hash, "audit.checkpoint");
        }
        Ok(())
    }
}
