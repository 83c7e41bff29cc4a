//! Sending: many messages in a few statements, those with a key once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{order, stream::CHANNEL};

/// A message on its way into the queue.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub lane: Arc<str>,
    /// Higher ones are leased first, by whoever asks for streams in that order.
    pub priority: i16,
    /// When it becomes ready; at once when that is not in the future.
    pub visible_at: DateTime<Utc>,
    pub tag: Option<String>,
    pub key: Option<Key>,
    /// What has the same key in its lane is worked on one after the other, in the order in which it was sent. Such a message is
    /// ready at once, or as soon as those before it are over; it has no time of its own.
    pub order: Option<String>,
    pub body: String,
}

/// What makes a message one that is sent once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    /// Of what was sent.
    pub digest: Vec<u8>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    New(i64),
    /// Its key was used before, for the same thing: nothing was sent.
    Again(i64),
    /// Its key was used before, for something else: nothing was sent.
    Mismatch(i64),
}

impl Sent {
    pub fn id(self) -> i64 {
        match self {
            Self::New(id) | Self::Again(id) | Self::Mismatch(id) => id,
        }
    }
}

/// Sends messages and says what became of each, in order. They are there, and announced, when the transaction is committed.
pub async fn send(connection: &mut PgConnection, now: DateTime<Utc>, messages: &[NewMessage]) -> sqlx::Result<Vec<Sent>> {
    let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
    let ids = sqlx::query_scalar!("select nextval('queue_ids') as \"id!\" from generate_series(1, $1::bigint)", count)
        .fetch_all(&mut *connection)
        .await?;
    let earlier = claim_keys(connection, now, messages, &ids).await?;
    let mut behind = order::taken(connection, messages).await?;
    let mut columns = Columns::default();
    let mut sent = Vec::with_capacity(messages.len());
    for (message, id) in messages.iter().zip(ids) {
        if let Some(other) = earlier.get(&id) {
            sent.push(*other);
        } else {
            let held_back = message.order.as_ref().is_some_and(|order| !behind.insert((message.lane.to_string(), order.clone())));
            columns.push(message, id, (now, held_back));
            sent.push(Sent::New(id));
        }
    }
    columns.insert(connection, now).await?;
    Ok(sent)
}

/// Takes the keys that are free; what became of the others, by the identifier that their message would have had.
async fn claim_keys(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
    messages: &[NewMessage],
    ids: &[i64],
) -> sqlx::Result<HashMap<i64, Sent>> {
    let keyed: Vec<_> =
        messages.iter().zip(ids).filter_map(|(message, id)| message.key.as_ref().map(|key| (message, key, *id))).collect();
    if keyed.is_empty() {
        return Ok(HashMap::new());
    }
    let lanes: Vec<String> = keyed.iter().map(|(message, _, _)| message.lane.to_string()).collect();
    let names: Vec<String> = keyed.iter().map(|(_, key, _)| key.name.clone()).collect();
    let digests: Vec<Vec<u8>> = keyed.iter().map(|(_, key, _)| key.digest.clone()).collect();
    let wanted: Vec<i64> = keyed.iter().map(|(_, _, id)| *id).collect();
    let won = sqlx::query_scalar!(
        "insert into queue_keys (lane, key, digest, id, created_at)
         select lane, key, digest, id, $5 from unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[])
             with ordinality as given (lane, key, digest, id, number)
         order by lane, key, number
         on conflict do nothing returning id",
        &lanes,
        &names,
        &digests,
        &wanted,
        now,
    )
    .fetch_all(&mut *connection)
    .await?;
    let won: HashSet<i64> = won.into_iter().collect();
    if won.len() == keyed.len() {
        return Ok(HashMap::new());
    }
    // A key that is forgotten between the two statements was a day old: whoever uses it meets nothing.
    let known = sqlx::query!(
        "select given.id as \"wanted!\", known.id, known.digest = given.digest as \"same!\"
         from unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[]) as given (lane, key, digest, id)
         join queue_keys as known on known.lane = given.lane and known.key = given.key where known.id <> given.id",
        &lanes,
        &names,
        &digests,
        &wanted,
    )
    .fetch_all(connection)
    .await?;
    let earlier = |id, same| if same { Sent::Again(id) } else { Sent::Mismatch(id) };
    Ok(known.into_iter().map(|row| (row.wanted, earlier(row.id, row.same))).collect())
}

#[derive(Default)]
struct Columns {
    lanes: Vec<String>,
    ids: Vec<i64>,
    priorities: Vec<i16>,
    states: Vec<i16>,
    times: Vec<DateTime<Utc>>,
    tags: Vec<Option<String>>,
    orders: Vec<Option<String>>,
    bodies: Vec<String>,
}

impl Columns {
    fn push(&mut self, message: &NewMessage, id: i64, (now, held_back): (DateTime<Utc>, bool)) {
        let at = if message.order.is_some() { now } else { message.visible_at };
        self.lanes.push(message.lane.to_string());
        self.ids.push(id);
        self.priorities.push(message.priority);
        self.states.push(if held_back { order::HELD_BACK } else { i16::from(at > now) });
        self.times.push(if held_back { order::never() } else { at });
        self.tags.push(message.tag.clone());
        self.orders.push(message.order.clone());
        self.bodies.push(message.body.clone());
    }

    async fn insert(self, connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let Self { lanes, ids, priorities, states, times, tags, orders, bodies } = self;
        sqlx::query!(
            "with inserted as (
                 insert into queue_messages (lane, id, priority, state, position, visible_at, read_count, enqueued_at, tag, body,
                     order_key)
                 select lane, id, priority, state, nextval('queue_positions'), visible_at, 0, $8, tag, body, order_key
                 from unnest($1::text[], $2::bigint[], $3::smallint[], $4::smallint[], $5::timestamptz[], $6::text[], $7::text[],
                     $10::text[]) as given (lane, id, priority, state, visible_at, tag, body, order_key)
                 returning lane, priority, state, position)
             select pg_notify(weft_channel($9), priority || ' ' || min(position) || ' ' || lane) from inserted where state = 0
             group by lane, priority",
            &lanes,
            &ids,
            &priorities,
            &states,
            &times,
            tags as _,
            &bodies,
            now,
            CHANNEL,
            orders as _,
        )
        .fetch_all(connection)
        .await?;
        Ok(())
    }
}
