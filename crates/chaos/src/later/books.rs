//! What became of all that was to be done later: the queue, the audit of records, the history of crons, and what handlers did.

use serde_json::Value;
use sqlx::{Connection, PgConnection, Row};

/// Why there is a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Somebody asked for it, under this nonce.
    Asked(String),
    /// A tick of this cron.
    Tick(String),
    /// This change of a record: the operation, the record, and the step that it was at then.
    Change(String, String, i64),
}

#[derive(Debug, Clone)]
pub struct Job {
    pub id: i64,
    /// Absent: it is still in the queue.
    pub outcome: Option<String>,
    pub attempts: i32,
    pub cause: Cause,
    pub note: Option<String>,
}

impl Job {
    /// Whether it had all the attempts that jobs have of which nobody said how many, and lies with the dead letters. With a fault every few
    /// seconds all five may be broken off.
    pub fn was_given_up(&self) -> bool {
        let says_so = self.note.as_ref().is_some_and(|note| note.starts_with("given up after 5 of 5 attempts"));
        let of_default = !matches!(self.cause, Cause::Asked(_));
        self.outcome.as_deref() == Some("dead") && of_default && self.attempts >= 5 && says_so
    }
}

/// What a handler did.
#[derive(Debug, Clone)]
pub struct Effect {
    pub job: i64,
    pub cause: Cause,
    /// The step of the last effect on the same record by a job of the same hook.
    pub previous: Option<i64>,
}

/// A committed change of a record.
#[derive(Debug, Clone)]
pub struct Change {
    pub operation: String,
    pub record: String,
    pub nonce: String,
    pub step: i64,
}

impl Change {
    pub fn cause(&self) -> Cause {
        Cause::Change(self.operation.clone(), self.record.clone(), self.step)
    }
}

/// A tick that a server noted. Times are in microseconds since the program began.
#[derive(Debug, Clone)]
pub struct Tick {
    pub cron: String,
    pub name: String,
    pub due: i64,
    pub fired: i64,
    pub outcome: String,
    pub job: Option<i64>,
}

#[derive(Debug, Default)]
pub struct Books {
    pub jobs: Vec<Job>,
    pub effects: Vec<Effect>,
    /// In the order in which they were made.
    pub changes: Vec<Change>,
    /// By cron and tick.
    pub ticks: Vec<Tick>,
    /// Jobs beyond this are too new to be over.
    pub horizon: i64,
    /// When this was read, in microseconds since the program began.
    pub now: i64,
}

/// The number up to which jobs exist by now.
pub async fn horizon(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select last_value from queue_ids").fetch_one(connection).await
}

/// How much of what there was at a horizon is not over: jobs, and changes that have not become jobs yet.
pub async fn unfinished(connection: &mut PgConnection, horizon: i64) -> sqlx::Result<i64> {
    let query = "select (select count(*) from queue_messages where id <= $1 or order_key is not null)
                     + (select count(*) from data_audit where app_id = 'later' and entity = 'items')
                     - (select count(*) from (
                            select body from queue_messages where lane = 'default/later'
                            union all select body from queue_archive where lane = 'default/later') as message
                        where body like '%\"_hook\":true%')";
    sqlx::query_scalar(query).bind(horizon).fetch_one(connection).await
}

/// Reads everything; `elapsed` is the time of this program now.
pub async fn read(connection: &mut PgConnection, horizon: i64, elapsed: u64) -> anyhow::Result<Books> {
    // One look at all of it: crons go on meanwhile.
    let mut look = connection.begin_with("begin isolation level repeatable read").await?;
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let now: i64 = sqlx::query_scalar(now).fetch_one(&mut *look).await?;
    let elapsed = i64::try_from(elapsed)?;
    let books = Books {
        jobs: jobs(&mut look).await?,
        effects: effects(&mut look).await?,
        changes: changes(&mut look).await?,
        ticks: ticks(&mut look, now - elapsed).await?,
        horizon,
        now: elapsed,
    };
    look.rollback().await?;
    Ok(books)
}

async fn jobs(connection: &mut PgConnection) -> anyhow::Result<Vec<Job>> {
    let query = "select id, outcome, read_count, note, body::jsonb -> 'payload' as payload from queue_archive where lane = 'default/later'
                 union all select id, null, read_count, note, body::jsonb -> 'payload' from queue_messages where lane = 'default/later'
                 order by id";
    let rows = sqlx::query(query).fetch_all(connection).await?;
    let job = |row: sqlx::postgres::PgRow| {
        let payload: Value = row.try_get("payload")?;
        let (outcome, attempts, note) = (row.try_get("outcome")?, row.try_get("read_count")?, row.try_get("note")?);
        Ok(Job { id: row.try_get("id")?, outcome, attempts, note, cause: cause(&payload) })
    };
    rows.into_iter().map(job).collect()
}

/// Why a job with this payload is there.
fn cause(payload: &Value) -> Cause {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if payload.get("_hook").is_some() {
        let record = ["record", "old_record"].into_iter().find_map(|name| payload.get(name).filter(|record| !record.is_null()));
        let step = record.and_then(|record| record.get("step")?.as_f64()).unwrap_or(-1.0);
        #[expect(clippy::cast_possible_truncation, reason = "steps are small whole numbers")]
        return Cause::Change(text("operation"), text("record_id"), step as i64);
    }
    if payload.get("cron_id").is_some() { Cause::Tick(text("cron_id")) } else { Cause::Asked(text("nonce")) }
}

async fn effects(connection: &mut PgConnection) -> anyhow::Result<Vec<Effect>> {
    let query = "select job::bigint as job, kind, subject, step::bigint as step, previous::bigint as previous from later.effects";
    let rows = sqlx::query(query).fetch_all(connection).await?;
    let effect = |row: sqlx::postgres::PgRow| {
        let (kind, subject): (String, String) = (row.try_get("kind")?, row.try_get("subject")?);
        let cause = match kind.as_str() {
            "asked" => Cause::Asked(subject),
            "tick" => Cause::Tick(subject),
            _ => Cause::Change(kind, subject, row.try_get("step")?),
        };
        Ok(Effect { job: row.try_get("job")?, cause, previous: row.try_get("previous")? })
    };
    rows.into_iter().map(effect).collect()
}

async fn changes(connection: &mut PgConnection) -> anyhow::Result<Vec<Change>> {
    let query = "select operation, record_id, record ->> 'nonce' as nonce, (record ->> 'step')::numeric::bigint as step
                 from data_audit cross join lateral (select coalesce(new_record, old_record) as record) as shown
                 where app_id = 'later' and entity = 'items' order by id";
    let rows = sqlx::query(query).fetch_all(connection).await?;
    let change = |row: sqlx::postgres::PgRow| {
        let (operation, record) = (row.try_get("operation")?, row.try_get("record_id")?);
        Ok(Change { operation, record, nonce: row.try_get("nonce")?, step: row.try_get("step")? })
    };
    rows.into_iter().map(change).collect()
}

async fn ticks(connection: &mut PgConnection, begun: i64) -> anyhow::Result<Vec<Tick>> {
    let query = "select cron_id::text as cron, name, (extract(epoch from tick) * 1000000)::bigint as tick,
                     (extract(epoch from fired_at) * 1000000)::bigint as fired, outcome, message_id
                 from cron_firings join crons on crons.id = cron_id where tick is not null order by name, tick";
    let rows = sqlx::query(query).fetch_all(connection).await?;
    let tick = |row: sqlx::postgres::PgRow| {
        let (tick, fired): (i64, i64) = (row.try_get("tick")?, row.try_get("fired")?);
        let (cron, name, outcome, job) =
            (row.try_get("cron")?, row.try_get("name")?, row.try_get("outcome")?, row.try_get("message_id")?);
        Ok(Tick { cron, name, due: tick - begun, fired: fired - begun, outcome, job })
    };
    rows.into_iter().map(tick).collect()
}
