//! How a lease ends: completed, dead, returned for another attempt. And what is done to messages by hand.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{NewMessage, order, stream::CHANNEL};

/// Proof of holding a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    pub lane: Arc<str>,
    pub id: i64,
    pub token: i64,
    /// What waits for its end: see [`crate::NewMessage`].
    pub order: Option<String>,
}

/// What whoever leased a message decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It is done; the result is kept in the archive.
    Complete { result: Option<String>, note: Option<String> },
    /// Another attempt at that time.
    Retry { at: DateTime<Utc>, note: String },
    /// As if it had not been leased: ready at that time, and the attempt does not count.
    Release { at: DateTime<Utc>, note: Option<String> },
    /// No further attempt. It goes to the dead letters and says why.
    Bury { note: String },
}

/// Ends leases. Says of each whether it still held: if not, nothing was done.
pub async fn settle(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
    settlements: &[(Lease, Settlement)],
) -> sqlx::Result<Vec<bool>> {
    let (mut ended, mut returned) = (Ended::default(), Returned::default());
    for (lease, settlement) in settlements {
        match settlement {
            Settlement::Complete { result, note } => ended.push(lease, "completed", note.clone(), result.clone()),
            Settlement::Bury { note } => ended.push(lease, "dead", Some(note.clone()), None),
            Settlement::Retry { at, note } => returned.push(lease, (*at, now), 0, Some(note.clone())),
            Settlement::Release { at, note } => returned.push(lease, (*at, now), 1, note.clone()),
        }
    }
    let orders = ended.orders.clone();
    order::lock(connection, &orders).await?;
    let mut held: HashSet<i64> = ended.write(connection, now).await?.into_iter().collect();
    order::go_on(connection, now, &orders).await?;
    held.extend(returned.write(connection).await?);
    Ok(settlements.iter().map(|(lease, _)| held.contains(&lease.id)).collect())
}

#[derive(Default)]
struct Held {
    lanes: Vec<String>,
    ids: Vec<i64>,
    tokens: Vec<i64>,
}

impl Held {
    fn push(&mut self, lease: &Lease) {
        self.lanes.push(lease.lane.to_string());
        self.ids.push(lease.id);
        self.tokens.push(lease.token);
    }
}

#[derive(Default)]
struct Ended {
    held: Held,
    outcomes: Vec<String>,
    notes: Vec<Option<String>>,
    results: Vec<Option<String>>,
    orders: order::Keys,
}

impl Ended {
    fn push(&mut self, lease: &Lease, outcome: &str, note: Option<String>, result: Option<String>) {
        self.held.push(lease);
        self.outcomes.push(outcome.to_owned());
        self.notes.push(note);
        self.results.push(result);
        self.orders.push(&lease.lane, lease.order.as_deref());
    }

    async fn write(self, connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<Vec<i64>> {
        let Self { held: Held { lanes, ids, tokens }, outcomes, notes, results, orders: _ } = self;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        sqlx::query_scalar!(
            "with given as (
                 select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])
                     as given (lane, id, token, outcome, note, result)),
             removed as (
                 delete from queue_messages as message using given
                 where message.lane = given.lane and message.id = given.id and message.position = given.token
                   and message.state = 2
                 returning message.lane, message.id, given.outcome, message.priority, message.read_count, message.enqueued_at,
                     message.tag, message.body, given.note, given.result)
             insert into queue_archive (lane, id, outcome, priority, read_count, enqueued_at, ended_at, tag, body, note, result)
             select lane, id, outcome, priority, read_count, enqueued_at, $7, tag, body, note, result from removed
             returning id",
            &lanes,
            &ids,
            &tokens,
            &outcomes,
            notes as _,
            results as _,
            now,
        )
        .fetch_all(connection)
        .await
    }
}

#[derive(Default)]
struct Returned {
    held: Held,
    states: Vec<i16>,
    times: Vec<DateTime<Utc>>,
    uncounted: Vec<i32>,
    notes: Vec<Option<String>>,
}

impl Returned {
    fn push(&mut self, lease: &Lease, (at, now): (DateTime<Utc>, DateTime<Utc>), uncounted: i32, note: Option<String>) {
        self.held.push(lease);
        self.states.push(i16::from(at > now));
        self.times.push(at);
        self.uncounted.push(uncounted);
        self.notes.push(note);
    }

    async fn write(self, connection: &mut PgConnection) -> sqlx::Result<Vec<i64>> {
        let Self { held: Held { lanes, ids, tokens }, states, times, uncounted, notes } = self;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query!(
            "update queue_messages as message
             set state = given.state, position = nextval('queue_positions'), visible_at = given.at,
                 read_count = read_count - given.uncounted, note = coalesce(given.note, message.note)
             from unnest($1::text[], $2::bigint[], $3::bigint[], $4::smallint[], $5::timestamptz[], $6::int[], $7::text[])
                 as given (lane, id, token, state, at, uncounted, note)
             where message.lane = given.lane and message.id = given.id and message.position = given.token and message.state = 2
             returning message.lane, message.priority, message.id, message.state, message.position",
            &lanes,
            &ids,
            &tokens,
            &states,
            &times,
            &uncounted,
            notes as _,
        )
        .fetch_all(&mut *connection)
        .await?;
        let ready = rows.iter().filter(|row| row.state == 0).map(|row| (row.lane.clone(), row.priority, row.position));
        announce(connection, ready).await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }
}

/// Says that messages became ready, once for each stream.
pub(crate) async fn announce(connection: &mut PgConnection, ready: impl Iterator<Item = (String, i16, i64)>) -> sqlx::Result<()> {
    let mut first: HashMap<(String, i16), i64> = HashMap::new();
    for (lane, priority, position) in ready {
        let known = first.entry((lane, priority)).or_insert(position);
        *known = position.min(*known);
    }
    if first.is_empty() {
        return Ok(());
    }
    let payloads: Vec<String> =
        first.into_iter().map(|((lane, priority), position)| format!("{priority} {position} {lane}")).collect();
    sqlx::query!("select pg_notify(weft_channel($1), payload) from unnest($2::text[]) as payload", CHANNEL, &payloads)
        .fetch_all(connection)
        .await?;
    Ok(())
}

/// Takes a message that nobody holds out of the queue. Whether there was one.
pub async fn cancel(connection: &mut PgConnection, lane: &str, id: i64, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let key = sqlx::query_scalar!("select order_key from queue_messages where lane = $1 and id = $2", lane, id)
        .fetch_optional(&mut *connection)
        .await?;
    let mut orders = order::Keys::default();
    orders.push(lane, key.flatten().as_deref());
    order::lock(connection, &orders).await?;
    let row = sqlx::query!(
        "with removed as (
             delete from queue_messages where lane = $1 and id = $2 and state <> 2
             returning lane, id, priority, read_count, enqueued_at, tag, body, note)
         insert into queue_archive (lane, id, outcome, priority, read_count, enqueued_at, ended_at, tag, body, note)
         select lane, id, 'cancelled', priority, read_count, enqueued_at, $3, tag, body, note from removed",
        lane,
        id,
        now,
    )
    .execute(&mut *connection)
    .await?;
    order::go_on(connection, now, &orders).await?;
    Ok(row.rows_affected() > 0)
}

/// Puts messages, each with the reason, straight among the dead letters: nobody is to work on them.
pub async fn bury(connection: &mut PgConnection, now: DateTime<Utc>, messages: &[(NewMessage, String)]) -> sqlx::Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let lanes: Vec<String> = messages.iter().map(|(message, _)| message.lane.to_string()).collect();
    let priorities: Vec<i16> = messages.iter().map(|(message, _)| message.priority).collect();
    let tags: Vec<Option<String>> = messages.iter().map(|(message, _)| message.tag.clone()).collect();
    let bodies: Vec<String> = messages.iter().map(|(message, _)| message.body.clone()).collect();
    let notes: Vec<String> = messages.iter().map(|(_, note)| note.clone()).collect();
    sqlx::query!(
        "insert into queue_archive (lane, id, outcome, priority, read_count, enqueued_at, ended_at, tag, body, note)
         select lane, nextval('queue_ids'), 'dead', priority, 0, $6, $6, tag, body, note
         from unnest($1::text[], $2::smallint[], $3::text[], $4::text[], $5::text[]) as given (lane, priority, tag, body, note)",
        &lanes,
        &priorities,
        tags as _,
        &bodies,
        &notes,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a waiting message ready. Whether there was one.
pub async fn wake(connection: &mut PgConnection, lane: &str, id: i64, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let row = sqlx::query!(
        "update queue_messages set state = 0, position = nextval('queue_positions'), visible_at = $3
         where lane = $1 and id = $2 and state = 1 returning priority, position",
        lane,
        id,
        now,
    )
    .fetch_optional(&mut *connection)
    .await?;
    announce(connection, row.iter().map(|row| (lane.to_owned(), row.priority, row.position))).await?;
    Ok(row.is_some())
}

/// Puts a dead letter back into the queue under its own identifier, with all attempts before it. Whether there was one.
pub async fn replay(connection: &mut PgConnection, lane: &str, id: i64, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let row = sqlx::query!(
        "with raised as (
             delete from queue_archive where lane = $1 and id = $2 and outcome = 'dead'
             returning lane, id, priority, enqueued_at, tag, body, note)
         insert into queue_messages (lane, id, priority, state, position, visible_at, read_count, enqueued_at, tag, body, note)
         select lane, id, priority, 0, nextval('queue_positions'), $3, 0, enqueued_at, tag, body, note from raised
         returning priority, position",
        lane,
        id,
        now,
    )
    .fetch_optional(&mut *connection)
    .await?;
    announce(connection, row.iter().map(|row| (lane.to_owned(), row.priority, row.position))).await?;
    Ok(row.is_some())
}
