//! Looking at messages, in the queue and in the archive.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ready,
    /// For `visible_at`.
    Waiting,
    /// Until those before it that have the same key are over.
    HeldBack,
    /// Until `visible_at`, unless that is extended.
    Leased,
    Completed,
    Dead,
    Cancelled,
}

/// A message as one looks at it.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: i64,
    pub state: State,
    pub priority: i16,
    /// When it becomes ready, or the lease runs out; absent when it is over or held back.
    pub visible_at: Option<DateTime<Utc>>,
    pub read_count: i32,
    pub enqueued_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub tag: Option<String>,
    pub body: String,
    pub note: Option<String>,
    pub result: Option<String>,
}

/// Which messages of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Not over.
    Active,
    /// Over, however.
    Archived,
    Dead,
}

struct Row {
    id: i64,
    state: String,
    priority: i16,
    visible_at: Option<DateTime<Utc>>,
    read_count: i32,
    enqueued_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    tag: Option<String>,
    body: String,
    note: Option<String>,
    result: Option<String>,
}

impl From<Row> for Message {
    fn from(row: Row) -> Self {
        let state = match row.state.as_str() {
            "0" => State::Ready,
            "1" => State::Waiting,
            "2" => State::Leased,
            "3" => State::HeldBack,
            "completed" => State::Completed,
            "cancelled" => State::Cancelled,
            _ => State::Dead,
        };
        Self {
            id: row.id,
            state,
            priority: row.priority,
            visible_at: row.visible_at.filter(|_| state != State::HeldBack),
            read_count: row.read_count,
            enqueued_at: row.enqueued_at,
            ended_at: row.ended_at,
            tag: row.tag,
            body: row.body,
            note: row.note,
            result: row.result,
        }
    }
}

/// The message of that identifier, wherever it is.
pub async fn find(connection: &mut PgConnection, lane: &str, id: i64) -> sqlx::Result<Option<Message>> {
    Ok(find_many(connection, lane, &[id]).await?.pop())
}

/// The messages of these identifiers that there are, wherever they are.
pub async fn find_many(connection: &mut PgConnection, lane: &str, ids: &[i64]) -> sqlx::Result<Vec<Message>> {
    let rows = sqlx::query_as!(
        Row,
        "select id as \"id!\", state::text as \"state!\", priority as \"priority!\", visible_at as \"visible_at?\",
             read_count as \"read_count!\", enqueued_at as \"enqueued_at!\", null::timestamptz as \"ended_at?\", tag as \"tag?\",
             body as \"body!\", note as \"note?\", null::text as \"result?\"
         from queue_messages where lane = $1 and id = any($2::bigint[])
         union all
         select id, outcome, priority, null, read_count, enqueued_at, ended_at, tag, body, note, result
         from queue_archive where lane = $1 and id = any($2::bigint[])",
        lane,
        ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Message::from).collect())
}

/// Messages of a lane, newest first, before an identifier.
pub async fn list(
    connection: &mut PgConnection,
    lane: &str,
    which: Which,
    before: Option<i64>,
    most: i64,
) -> sqlx::Result<Vec<Message>> {
    let before = before.unwrap_or(i64::MAX);
    let rows = match which {
        Which::Active => {
            sqlx::query_as!(
                Row,
                "select id, state::text as \"state!\", priority, visible_at as \"visible_at?\", read_count, enqueued_at,
                     null::timestamptz as ended_at, tag, body, note, null::text as result
                 from queue_messages where lane = $1 and id < $2 order by id desc limit $3",
                lane,
                before,
                most,
            )
            .fetch_all(connection)
            .await?
        }
        Which::Archived | Which::Dead => {
            sqlx::query_as!(
                Row,
                "select id, outcome as state, priority, null::timestamptz as visible_at, read_count, enqueued_at,
                     ended_at as \"ended_at?\", tag, body, note, result
                 from queue_archive where lane = $1 and id < $2 and (not $4 or outcome = 'dead') order by id desc limit $3",
                lane,
                before,
                most,
                which == Which::Dead,
            )
            .fetch_all(connection)
            .await?
        }
    };
    Ok(rows.into_iter().map(Message::from).collect())
}
