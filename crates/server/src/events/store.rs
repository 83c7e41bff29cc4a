//! Events and the places of their consumers in the database.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;
use weft_model::{AppId, TenantId};

/// What was done to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    Insert,
    Update,
    Delete,
}

impl Operation {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// Reads it, in whatever case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Insert, Self::Update, Self::Delete].into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text))
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// Counts up; of two changes of one record the later one has the higher number.
    pub id: i64,
    pub tenant: String,
    pub kind: String,
    pub subject: String,
    /// How many reactions of consumers led here.
    pub hops: i16,
    /// JSON.
    pub body: String,
}

/// An event, with how many there are in all.
struct Listed {
    id: i64,
    tenant: String,
    kind: String,
    subject: String,
    hops: i16,
    body: String,
    number: i64,
}

impl From<Listed> for Event {
    fn from(row: Listed) -> Self {
        Self { id: row.id, tenant: row.tenant, kind: row.kind, subject: row.subject, hops: row.hops, body: row.body }
    }
}

/// Where a consumer is.
#[derive(Debug)]
pub struct Place {
    /// A batch was begun and not finished.
    pub is_open: bool,
    /// It was written down on another cluster, whose transactions had other numbers: the database was restored from a dump.
    pub is_elsewhere: bool,
}

/// Takes the place of a consumer, for this transaction alone. Not while another one has it.
pub async fn lock_place(connection: &mut PgConnection, consumer: &str) -> sqlx::Result<bool> {
    let locked = sqlx::query!("select name from event_consumers where name = $1 for update skip locked", consumer)
        .fetch_optional(connection)
        .await?;
    Ok(locked.is_some())
}

/// Where a consumer is, whose place is locked.
pub async fn find_place(connection: &mut PgConnection, consumer: &str) -> sqlx::Result<Place> {
    sqlx::query_as!(
        Place,
        "select until is not null as \"is_open!\",
             pg_snapshot_xmax(coalesce(until, seen)) > pg_snapshot_xmax(pg_current_snapshot()) as \"is_elsewhere!\"
         from event_consumers where name = $1",
        consumer,
    )
    .fetch_one(connection)
    .await
}

/// Makes all events that are there new ones: to have some twice is better than to miss some.
pub async fn begin_again(connection: &mut PgConnection, consumer: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update event_consumers set seen = default, seen_id = default, seen_xid = default, until = null, until_id = null,
             until_xid = null, after_id = 0 where name = $1",
        consumer,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("update events set xid = pg_current_xact_id() where xid > pg_current_xact_id()").execute(connection).await?;
    Ok(())
}

/// Whether there may be events that the consumer has not seen. Costs the same however many there are.
pub async fn has_news(connection: &mut PgConnection, consumer: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        "select exists (select from events where id > seen_id)
             or exists (select from events where xid = any(array(select pg_snapshot_xip(seen))))
             or exists (select from events where xid >= pg_snapshot_xmax(seen) and xid <= seen_xid) as \"news!\"
         from event_consumers where name = $1",
        consumer,
    )
    .fetch_one(connection)
    .await
}

/// The number of the last event so far.
pub async fn last_number(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!("select case when is_called then last_value else last_value - 1 end as \"last!\" from event_ids")
        .fetch_one(connection)
        .await
}

/// Opens a window on all that is committed now.
pub async fn open_window(connection: &mut PgConnection, consumer: &str, last: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "update event_consumers set until = pg_current_snapshot(), until_id = $2, until_xid = pg_current_xact_id(), after_id = 0
         where name = $1",
        consumer,
        last,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The next events of the open window, in the order of their numbers.
///
/// Most are of transactions that began after whoever closed the window before: all their events have numbers behind `seen_id`, so they are
/// read from there on. The others are of the few transactions that were at work at that time and have ended since: those that the
/// snapshot names, and those that it was too early to name. They are found by transaction, however long ago they wrote.
///
/// Returns up to `most` of them, of `bytes` together unless one alone has more, and whether there were more.
pub async fn list(connection: &mut PgConnection, consumer: &str, (most, bytes): (i64, i64)) -> sqlx::Result<(Vec<Event>, bool)> {
    let rows = sqlx::query_as!(
        Listed,
        "with place as materialized (select * from event_consumers where name = $1),
         later as (
             select event.* from events as event
             where event.id > (select greatest(seen_id, after_id) from place) and event.xid > (select seen_xid from place)
               and not pg_visible_in_snapshot(event.xid, (select seen from place))
               and pg_visible_in_snapshot(event.xid, (select until from place))
             order by event.id limit $2),
         late as (
             select event.* from events as event
             where event.xid = any(array(select named from place, pg_snapshot_xip(seen) as named where named <= seen_xid))
               and event.id > (select after_id from place) and pg_visible_in_snapshot(event.xid, (select until from place))
             union all
             select event.* from events as event
             where event.xid >= (select pg_snapshot_xmax(seen) from place) and event.xid <= (select seen_xid from place)
               and event.id > (select after_id from place) and pg_visible_in_snapshot(event.xid, (select until from place))),
         found as (select * from (select * from later union all select * from late) as both_kinds order by id limit $2),
         measured as (
             select *, count(*) over () as number, row_number() over by_id as place,
                 sum(octet_length(body::text)) over by_id as bytes
             from found window by_id as (order by id))
         select id as \"id!\", tenant_id as \"tenant!\", kind as \"kind!\", subject as \"subject!\", hops as \"hops!\",
             body::text as \"body!\", number as \"number!\"
         from measured where bytes <= $3::bigint or place = 1 order by id",
        consumer,
        most,
        bytes,
    )
    .fetch_all(connection)
    .await?;
    let number = rows.first().map_or(0, |row| row.number);
    let has_more = number >= most || i64::try_from(rows.len()).unwrap_or(i64::MAX) < number;
    Ok((rows.into_iter().map(Event::from).collect(), has_more))
}

/// Goes on within the window.
pub async fn update_place(connection: &mut PgConnection, consumer: &str, after: i64) -> sqlx::Result<()> {
    sqlx::query!("update event_consumers set after_id = $2 where name = $1", consumer, after).execute(connection).await?;
    Ok(())
}

/// Closes the window: all in it was consumed.
pub async fn close_window(connection: &mut PgConnection, consumer: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update event_consumers set seen = until, seen_id = until_id, seen_xid = until_xid, until = null, until_id = null,
             until_xid = null, after_id = 0 where name = $1 and until is not null",
        consumer,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn replace_interests(
    connection: &mut PgConnection,
    consumer: &str,
    (tenant, app): (&TenantId, &AppId),
    changes: &[(String, Operation)],
) -> sqlx::Result<()> {
    let entities: Vec<String> = changes.iter().map(|(entity, _)| entity.clone()).collect();
    let operations: Vec<String> = changes.iter().map(|(_, operation)| operation.as_str().to_owned()).collect();
    sqlx::query!(
        "delete from event_interests where consumer = $1 and app_id = $2
             and (entity, operation) not in (select entity, operation from unnest($3::text[], $4::text[]) as given (entity, operation))",
        consumer,
        app.as_str(),
        &entities,
        &operations,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into event_interests (tenant_id, app_id, entity, operation, consumer)
         select distinct $1, $2, entity, operation, $3 from unnest($4::text[], $5::text[]) as given (entity, operation)
         on conflict do nothing",
        tenant.as_str(),
        app.as_str(),
        consumer,
        &entities,
        &operations,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes events in the order of their bodies, and says that there are some.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (kind, subject): (&str, &str),
    bodies: &[String],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with written as (
             insert into events (tenant_id, kind, subject, hops, occurred_at, body)
             select $1, $2, $3, 0, $5, body::json from unnest($4::text[]) with ordinality as given (body, place) order by place
             returning id)
         select pg_notify(weft_channel('weft_events'), '') from (select from written limit 1) as any_written",
        tenant.as_str(),
        kind,
        subject,
        bodies,
        now,
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// Removes a batch of events after a number that every consumer has had. Returns the last number that was looked at; nothing at the end.
pub async fn delete_consumed(connection: &mut PgConnection, after: i64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "with looked_at as materialized (
             select id, xid from events where id > $1 and id <= (select min(seen_id) from event_consumers) order by id limit 5000),
         removed as (
             delete from events using looked_at
             where events.id = looked_at.id and not exists (
                 select from event_consumers where not pg_visible_in_snapshot(looked_at.xid, event_consumers.seen)))
         select max(id) from looked_at",
        after,
    )
    .fetch_one(connection)
    .await
}
