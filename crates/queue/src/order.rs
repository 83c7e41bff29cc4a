//! Messages that are worked on one after the other: those of a lane that have the same key.
//!
//! All but the first are held back. Whoever sends one and whoever ends one take the same lock for the key first, so neither misses what
//! the other does: without it a message could be held back behind one that has just ended, for good.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{NewMessage, ends::announce};

/// The state of a message that waits for those before it.
pub(crate) const HELD_BACK: i16 = 3;

/// A time that is never looked for.
pub(crate) fn never() -> DateTime<Utc> {
    DateTime::from_timestamp(253_370_764_800, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Keys with their lanes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    lanes: Vec<String>,
    keys: Vec<String>,
}

impl Keys {
    pub(crate) fn push(&mut self, lane: &str, key: Option<&str>) {
        if let Some(key) = key {
            self.lanes.push(lane.to_owned());
            self.keys.push(key.to_owned());
        }
    }
}

/// Lets nobody else send or end messages with these keys until the transaction ends. All in one order, so nobody waits in a circle. Keys
/// share 256 locks: a database has only so many.
pub(crate) async fn lock(connection: &mut PgConnection, keys: &Keys) -> sqlx::Result<()> {
    if keys.keys.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "select count(pg_advisory_xact_lock(60, number)) from (
             select distinct (hashtextextended(lane || ' ' || key, 60) & 255)::int as number
             from unnest($1::text[], $2::text[]) as given (lane, key) order by number) as sorted",
        &keys.lanes,
        &keys.keys,
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// Which keys of these messages have something that is not over.
pub(crate) async fn taken(connection: &mut PgConnection, messages: &[NewMessage]) -> sqlx::Result<HashSet<(String, String)>> {
    let mut keys = Keys::default();
    for message in messages {
        keys.push(&message.lane, message.order.as_deref());
    }
    if keys.keys.is_empty() {
        return Ok(HashSet::new());
    }
    lock(connection, &keys).await?;
    let rows = sqlx::query!(
        "select distinct given.lane as \"lane!\", given.key as \"key!\" from unnest($1::text[], $2::text[]) as given (lane, key)
         cross join lateral (select from queue_messages as message
             where message.lane = given.lane and message.order_key = given.key and message.order_key is not null limit 1) as found",
        &keys.lanes,
        &keys.keys,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.key)).collect())
}

/// Makes the first message of each key ready, if it was held back.
pub(crate) async fn go_on(connection: &mut PgConnection, now: DateTime<Utc>, keys: &Keys) -> sqlx::Result<()> {
    if keys.keys.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query!(
        "with next as materialized (
             select distinct found.lane, found.id from unnest($1::text[], $2::text[]) as given (lane, key)
             cross join lateral (select lane, id from queue_messages as message
                 where message.lane = given.lane and message.order_key = given.key and message.order_key is not null
                 order by message.id limit 1) as found)
         update queue_messages as message set state = 0, position = nextval('queue_positions'), visible_at = $3
         from next where message.lane = next.lane and message.id = next.id and message.state = 3
         returning message.lane, message.priority, message.position",
        &keys.lanes,
        &keys.keys,
        now,
    )
    .fetch_all(&mut *connection)
    .await?;
    announce(connection, rows.into_iter().map(|row| (row.lane, row.priority, row.position))).await
}
