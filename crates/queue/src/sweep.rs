//! What time brings about: waiting messages become ready, lost leases end, what is old goes.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{Stream, ends::announce};

/// Makes a batch of messages ready whose time has come after `since`: they waited, or their lease ran out. Returns how many.
pub async fn sweep(connection: &mut PgConnection, since: DateTime<Utc>, now: DateTime<Utc>, most: i64) -> sqlx::Result<usize> {
    let rows = sqlx::query!(
        "with due as materialized (
             select ctid as place from queue_messages where state <> 0 and visible_at > $1 and visible_at <= $2
             order by visible_at limit $3 for update skip locked)
         update queue_messages as message set state = 0, position = nextval('queue_positions')
         where message.ctid = any(array(select place from due))
         returning message.lane, message.priority, message.position",
        since,
        now,
        most,
    )
    .fetch_all(&mut *connection)
    .await?;
    let count = rows.len();
    announce(connection, rows.into_iter().map(|row| (row.lane, row.priority, row.position))).await?;
    Ok(count)
}

/// Every stream that has something ready. Jumps from one to the next, so the number of messages does not matter.
pub async fn ready_streams(connection: &mut PgConnection) -> sqlx::Result<Vec<Stream>> {
    let rows = sqlx::query!(
        "with recursive streams as (
             (select lane, priority from queue_messages where state = 0 order by lane, priority limit 1)
             union all
             select following.lane, following.priority from streams cross join lateral (
                 select lane, priority from queue_messages as message
                 where message.state = 0 and (message.lane, message.priority) > (streams.lane, streams.priority)
                 order by message.lane, message.priority limit 1) as following)
         select lane as \"lane!\", priority as \"priority!\" from streams"
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| Stream::new(row.lane, row.priority)).collect())
}

/// Which of these lanes and tags have a message that is not over.
pub async fn pending(connection: &mut PgConnection, pairs: &[(String, String)]) -> sqlx::Result<HashSet<(String, String)>> {
    let (lanes, tags): (Vec<String>, Vec<String>) = pairs.iter().cloned().unzip();
    let rows = sqlx::query!(
        "select asked.lane as \"lane!\", asked.tag as \"tag!\" from unnest($1::text[], $2::text[]) as asked (lane, tag)
         cross join lateral (select from queue_messages as message
             where message.lane = asked.lane and message.tag = asked.tag and message.tag is not null limit 1) as found",
        &lanes,
        &tags,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.tag)).collect())
}

/// Removes a lane and all that is left of it.
pub async fn remove_lane(connection: &mut PgConnection, lane: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from queue_messages where lane = $1", lane).execute(&mut *connection).await?;
    sqlx::query!("delete from queue_archive where lane = $1", lane).execute(&mut *connection).await?;
    sqlx::query!("delete from queue_keys where lane = $1", lane).execute(connection).await?;
    Ok(())
}

/// Removes a batch of what ended before `ended`, dead letters included, and of keys from before `keys`. Returns how many.
pub async fn delete_older(connection: &mut PgConnection, ended: DateTime<Utc>, keys: DateTime<Utc>) -> sqlx::Result<u64> {
    let archived = sqlx::query!(
        "delete from queue_archive where ctid in (select ctid from queue_archive where ended_at < $1 limit 5000)",
        ended,
    )
    .execute(&mut *connection)
    .await?;
    let forgotten = sqlx::query!(
        "delete from queue_keys where ctid in (select ctid from queue_keys where created_at < $1 order by created_at limit 5000)",
        keys,
    )
    .execute(connection)
    .await?;
    Ok(archived.rows_affected() + forgotten.rows_affected())
}
