//! Leasing: taking the next messages of many streams in one statement, and keeping them for longer.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Lease, Stream, ends::announce};

/// What somebody wants of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub stream: Stream,
    /// The position after which to look, see [`crate::Cursors`].
    pub after: i64,
    pub most: i32,
}

/// A message that is leased.
#[derive(Debug, Clone)]
pub struct Leased {
    pub stream: Stream,
    pub id: i64,
    /// Proves this lease: a later one has another.
    pub token: i64,
    /// Where it stood in its stream.
    pub position: i64,
    /// How often it was leased, this time included.
    pub read_count: i32,
    pub enqueued_at: DateTime<Utc>,
    pub tag: Option<String>,
    /// What waits for its end: see [`crate::NewMessage`].
    pub order: Option<String>,
    pub body: String,
}

impl Leased {
    pub fn lease(&self) -> Lease {
        Lease { lane: self.stream.lane.clone(), id: self.id, token: self.token, order: self.order.clone() }
    }
}

/// Leases messages until `until` for `holder`, whoever that is. What others are just leasing is passed over.
///
/// The rows are found by their place: a join would be planned by statistics, which for a queue are always wrong, and read the whole
/// table. They are locked, so they stay where they are; one that was changed just before is left to the next lease.
pub async fn lease(
    connection: &mut PgConnection,
    holder: Uuid,
    wants: &[Want],
    until: DateTime<Utc>,
) -> sqlx::Result<Vec<Leased>> {
    let lanes: Vec<String> = wants.iter().map(|want| want.stream.lane.to_string()).collect();
    let priorities: Vec<i16> = wants.iter().map(|want| want.stream.priority).collect();
    let after: Vec<i64> = wants.iter().map(|want| want.after).collect();
    let most: Vec<i32> = wants.iter().map(|want| want.most).collect();
    let rows = sqlx::query!(
        "with picked as materialized (
             select found.place, found.lane, found.id, found.position
             from unnest($1::text[], $2::smallint[], $3::bigint[], $4::int[]) as wanted (lane, priority, after, most)
             cross join lateral (
                 select ctid as place, lane, id, position from queue_messages as message
                 where message.state = 0 and message.lane = wanted.lane and message.priority = wanted.priority
                   and message.position > wanted.after
                 order by message.position limit wanted.most for update skip locked) as found),
         leased as (
             update queue_messages as message
             set state = 2, position = nextval('queue_positions'), visible_at = $5, read_count = read_count + 1,
                 holder = $6
             where message.ctid = any(array(select place from picked))
             returning lane, priority, id, position, read_count, enqueued_at, tag, order_key, body)
         select leased.lane, leased.priority, leased.id, leased.position as token, picked.position, leased.read_count,
             leased.enqueued_at, leased.tag, leased.order_key, leased.body
         from leased join picked on picked.lane = leased.lane and picked.id = leased.id",
        &lanes,
        &priorities,
        &after,
        &most,
        until,
        holder,
    )
    .fetch_all(connection)
    .await?;
    let mut leased: Vec<Leased> = rows
        .into_iter()
        .map(|row| Leased {
            stream: Stream::new(row.lane, row.priority),
            id: row.id,
            token: row.token,
            position: row.position,
            read_count: row.read_count,
            enqueued_at: row.enqueued_at,
            tag: row.tag,
            order: row.order_key,
            body: row.body,
        })
        .collect();
    leased.sort_unstable_by_key(|message| (-message.stream.priority, message.position));
    Ok(leased)
}

/// Keeps leases until `until` and returns the identifiers of those that still hold. The others belong to somebody else, or are over.
pub async fn extend(connection: &mut PgConnection, leases: &[Lease], until: DateTime<Utc>) -> sqlx::Result<Vec<i64>> {
    let lanes: Vec<String> = leases.iter().map(|lease| lease.lane.to_string()).collect();
    let ids: Vec<i64> = leases.iter().map(|lease| lease.id).collect();
    let tokens: Vec<i64> = leases.iter().map(|lease| lease.token).collect();
    sqlx::query_scalar!(
        "update queue_messages as message set visible_at = $4
         from unnest($1::text[], $2::bigint[], $3::bigint[]) as held (lane, id, token)
         where message.lane = held.lane and message.id = held.id and message.position = held.token and message.state = 2
         returning message.id",
        &lanes,
        &ids,
        &tokens,
        until,
    )
    .fetch_all(connection)
    .await
}

/// How many messages of each lane each holder has leased. Looks at everything that is leased or waits.
pub async fn held(connection: &mut PgConnection) -> sqlx::Result<Vec<(String, Uuid, usize)>> {
    let rows = sqlx::query!(
        "select lane, holder as \"holder!\", count(*) as \"count!\" from queue_messages
         where state <> 0 and state = 2 and holder is not null group by lane, holder"
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.holder, usize::try_from(row.count).unwrap_or(usize::MAX))).collect())
}

/// Makes ready what a holder that is gone has leased, before its leases run out. Returns how many messages.
pub async fn forsake(connection: &mut PgConnection, holder: Uuid) -> sqlx::Result<usize> {
    let rows = sqlx::query!(
        "with held as materialized (
             select ctid as place from queue_messages where state <> 0 and state = 2 and holder = $1 for update skip locked)
         update queue_messages as message set state = 0, position = nextval('queue_positions')
         where message.ctid = any(array(select place from held))
         returning message.lane, message.priority, message.position",
        holder,
    )
    .fetch_all(&mut *connection)
    .await?;
    let count = rows.len();
    announce(connection, rows.into_iter().map(|row| (row.lane, row.priority, row.position))).await?;
    Ok(count)
}
