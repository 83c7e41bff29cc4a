//! The outbox: what happened, in the order in which it happened, for whoever wants to hear of it.
//!
//! Whoever changes something writes its event in the same transaction; changes of records are written by a trigger, and only those
//! that somebody wants ([`want`]). A consumer takes the next batch and moves on in one transaction with what it makes of it ([`take`],
//! [`Batch::finish`]), so it misses nothing and, as far as the database goes, does nothing twice. One server at a time reads for a consumer.
//! Must not know any consumer. How it fails: as the database does; then nothing has moved.

mod store;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use weft_model::{AppId, TenantId};

pub use store::{Event, Operation};

/// Events per batch at most, and bytes of them together.
const BATCH: i64 = 500;
const BYTES: i64 = 16 * 1024 * 1024;
/// The kind of events that changes of apps' records are.
pub const RECORD: &str = "record";
/// The kind of events that triggers of integrations tell of, each with `integration/trigger` as its subject.
pub const TRIGGER: &str = "trigger";
/// Where it is said that there are new ones.
pub const CHANNEL: &str = "weft_events";

/// The next events for a consumer. Nobody else reads for it until the transaction ends.
#[derive(Debug)]
pub struct Batch {
    consumer: &'static str,
    pub events: Vec<Event>,
    /// Whether there may be more.
    pub has_more: bool,
}

impl Batch {
    /// Moves the consumer behind this batch.
    pub async fn finish(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        match self.events.last() {
            Some(last) if self.has_more => store::update_place(connection, self.consumer, last.id).await,
            _ => store::close_window(connection, self.consumer).await,
        }
    }
}

/// The next events for a consumer, in the order in which each record was changed. `None` when there is nothing, or when another server
/// is reading for this consumer. It has to be the first thing that its transaction does.
pub async fn take(connection: &mut PgConnection, consumer: &'static str) -> sqlx::Result<Option<Batch>> {
    // In this order: the last number, the number of this transaction (which locking gives it), the snapshot. See `store::list`.
    let last = store::last_number(connection).await?;
    if !store::lock_place(connection, consumer).await? {
        return Ok(None);
    }
    let place = store::find_place(connection, consumer).await?;
    if place.is_elsewhere {
        store::begin_again(connection, consumer).await?;
    }
    if !place.is_open || place.is_elsewhere {
        if !store::has_news(connection, consumer).await? {
            return Ok(None);
        }
        store::open_window(connection, consumer, last).await?;
    }
    let (events, has_more) = store::list(connection, consumer, (BATCH, BYTES)).await?;
    Ok(Some(Batch { consumer, events, has_more }))
}

/// Makes these the changes of an app's records that a consumer wants to hear of.
pub async fn want(
    connection: &mut PgConnection,
    consumer: &str,
    (tenant, app): (&TenantId, &AppId),
    changes: &[(String, Operation)],
) -> sqlx::Result<()> {
    store::replace_interests(connection, consumer, (tenant, app), changes).await
}

/// Writes events of one kind about one subject, in the order of their bodies, which are JSON.
pub async fn tell(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (kind, subject): (&str, &str),
    bodies: &[String],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    store::insert(connection, tenant, (kind, subject), bodies, now).await
}

/// The number of the last event so far.
pub async fn last_number(connection: &mut PgConnection) -> sqlx::Result<i64> {
    store::last_number(connection).await
}

/// Removes what every consumer has had. Run now and then.
pub async fn tidy(pool: &PgPool) -> sqlx::Result<()> {
    let (mut connection, mut after) = (pool.acquire().await?, 0);
    while let Some(last) = store::delete_consumed(&mut connection, after).await? {
        after = last;
    }
    Ok(())
}
