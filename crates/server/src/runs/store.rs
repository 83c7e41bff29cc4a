//! Runs and nodes in the database.

use std::{borrow::Cow, collections::BTreeMap};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;
use weft_model::{AppId, ConnectionId, RunId, TenantId, UserId};

use super::record::Record;
use crate::db::copy::Rows;

/// The longest names and messages that are stored, in characters.
const NAME_LIMIT: usize = 200;
const MESSAGE_LIMIT: usize = 2000;

/// A run as it is read back.
pub struct Row {
    pub id: Uuid,
    pub kind: String,
    pub provider: String,
    pub action: String,
    pub app_id: Option<String>,
    pub principal_id: Option<Uuid>,
    pub principal_kind: Option<String>,
    pub principal_email: Option<String>,
    pub connection_id: Option<Uuid>,
    pub parent_id: Option<Uuid>,
    pub status: String,
    pub attempts: i32,
    pub started_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
    pub duration_us: Option<i64>,
    pub input_bytes: i64,
    pub output_bytes: Option<i64>,
    pub error_code: Option<String>,
    pub error_category: Option<String>,
    pub error_message: Option<String>,
    pub hosts: Vec<String>,
    pub trace_id: String,
}

/// Which runs to list, newest first.
#[derive(Debug, Default)]
pub struct Filter {
    pub tenant: String,
    pub principal: Option<UserId>,
    pub provider: Option<String>,
    pub action: Option<String>,
    pub app: Option<String>,
    pub kind: Option<String>,
    pub status: Option<String>,
    pub category: Option<String>,
    pub trace: Option<String>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
    pub before: Option<RunId>,
    pub limit: i64,
}

/// Writes a group of runs. A run that is there already gets its end.
pub async fn write(connection: &mut PgConnection, node: Uuid, records: &[Record]) -> sqlx::Result<()> {
    // The last word on a run wins, because one statement may touch a row only once. In their order rows go to the end of each index.
    let mut latest: BTreeMap<RunId, &Record> = BTreeMap::new();
    for record in records {
        if record.end.is_some() || !latest.contains_key(&record.id) {
            latest.insert(record.id, record);
        }
    }
    let (known, new): (Vec<_>, Vec<_>) = latest.into_values().partition(|record| record.announced);
    match copy(connection, node, &new).await {
        // A group of which only the word was lost that it is written.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => upsert(connection, node, &new).await?,
        result => result?,
    }
    upsert(connection, node, &known).await
}

/// Adds runs that are not there yet.
async fn copy(connection: &mut PgConnection, node: Uuid, records: &[&Record]) -> sqlx::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::of(24);
    for record in records {
        Written::from(*record).push(node, &mut rows)?;
    }
    let mut copy = connection
        .copy_in_raw(
            "copy runs (id, tenant_id, node_id, kind, provider, action, app_id, principal_id, principal_kind, principal_email,
                 connection_id, parent_id, status, attempts, started_at, completed_at, duration_us, input_bytes, output_bytes,
                 error_code, error_category, error_message, trace_id, hosts) from stdin (format binary)",
        )
        .await?;
    copy.send(rows.finish()).await?;
    copy.finish().await?;
    Ok(())
}

/// Adds runs or their ends in one statement; each run is given once.
async fn upsert(connection: &mut PgConnection, node: Uuid, records: &[&Record]) -> sqlx::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = records.iter().map(|record| Written::from(*record)).collect();
    sqlx::query!(
        "insert into runs (id, tenant_id, node_id, kind, provider, action, app_id, principal_id, principal_kind,
             principal_email, connection_id, parent_id, status, attempts, started_at, completed_at, duration_us, input_bytes,
             output_bytes, error_code, error_category, error_message, trace_id, hosts)
         select id, tenant_id, $1, kind, provider, action, app_id, principal_id, principal_kind,
             principal_email, connection_id, parent_id, status, attempts, started_at, completed_at, duration_us, input_bytes,
             output_bytes, error_code, error_category, error_message, trace_id, hosts
         from jsonb_populate_recordset(null::runs, $2)
         on conflict (tenant_id, id) do update set status = excluded.status, attempts = excluded.attempts,
             completed_at = excluded.completed_at, duration_us = excluded.duration_us, output_bytes = excluded.output_bytes,
             error_code = excluded.error_code, error_category = excluded.error_category, error_message = excluded.error_message,
             hosts = excluded.hosts
         where excluded.status <> 'running'",
        node,
        Json(rows) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A run as it is written: the columns of its row but for the node, with texts where they are.
#[derive(Serialize)]
struct Written<'a> {
    id: Uuid,
    tenant_id: &'a str,
    kind: &'a str,
    provider: &'a str,
    action: Cow<'a, str>,
    app_id: Option<&'a str>,
    principal_id: Option<Uuid>,
    principal_kind: Option<&'a str>,
    principal_email: Option<&'a str>,
    connection_id: Option<Uuid>,
    parent_id: Option<Uuid>,
    status: &'a str,
    attempts: i32,
    started_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
    duration_us: Option<i64>,
    input_bytes: i64,
    output_bytes: Option<i64>,
    error_code: Option<Cow<'a, str>>,
    error_category: Option<&'a str>,
    error_message: Option<Cow<'a, str>>,
    trace_id: String,
    hosts: Vec<String>,
}

impl<'a> From<&'a Record> for Written<'a> {
    fn from(record: &'a Record) -> Self {
        let (principal, end) = (record.principal.as_ref(), record.end.as_ref());
        let failed = end.and_then(|end| end.result.as_ref().err());
        Self {
            id: record.id.as_uuid(),
            tenant_id: record.tenant.as_str(),
            kind: record.kind.as_str(),
            provider: record.provider.as_str(),
            action: storable(&record.action, NAME_LIMIT),
            app_id: record.app.as_ref().map(AppId::as_str),
            principal_id: principal.map(|principal| principal.id.as_uuid()),
            principal_kind: principal.map(|principal| principal.kind.as_str()),
            principal_email: principal.map(|principal| principal.email.as_str()),
            connection_id: record.connection.map(ConnectionId::as_uuid),
            parent_id: record.parent.map(RunId::as_uuid),
            status: record.status().as_str(),
            attempts: record.attempts,
            started_at: record.started_at,
            completed_at: end.map(|end| end.at),
            duration_us: end.map(|end| i64::try_from(end.took.as_micros()).unwrap_or(i64::MAX)),
            input_bytes: bytes(record.input_bytes),
            output_bytes: end.and_then(|end| end.result.as_ref().ok()).map(|size| bytes(*size)),
            error_code: failed.map(|failed| storable(&failed.code, NAME_LIMIT)),
            error_category: failed.map(|failed| failed.category.as_str()),
            error_message: failed.map(|failed| storable(&failed.message, MESSAGE_LIMIT)),
            trace_id: record.trace.to_string(),
            hosts: record.contacts.list(),
        }
    }
}

impl Written<'_> {
    /// One row, in the order of the columns that `copy` names.
    fn push(self, node: Uuid, rows: &mut Rows) -> sqlx::Result<()> {
        rows.begin();
        rows.push(self.id)?;
        rows.push(self.tenant_id)?;
        rows.push(node)?;
        rows.push(self.kind)?;
        rows.push(self.provider)?;
        rows.push(self.action)?;
        rows.push(self.app_id)?;
        rows.push(self.principal_id)?;
        rows.push(self.principal_kind)?;
        rows.push(self.principal_email)?;
        rows.push(self.connection_id)?;
        rows.push(self.parent_id)?;
        rows.push(self.status)?;
        rows.push(self.attempts)?;
        rows.push(self.started_at)?;
        rows.push(self.completed_at)?;
        rows.push(self.duration_us)?;
        rows.push(self.input_bytes)?;
        rows.push(self.output_bytes)?;
        rows.push(self.error_code)?;
        rows.push(self.error_category)?;
        rows.push(self.error_message)?;
        rows.push(self.trace_id)?;
        rows.push(self.hosts)
    }
}

/// A text that callers or backends chose, as it can be stored: without the one character that PostgreSQL refuses, and not too long.
fn storable(text: &str, limit: usize) -> Cow<'_, str> {
    // A text has no more characters than bytes.
    if text.len() <= limit && !text.contains('\0') {
        return Cow::Borrowed(text);
    }
    text.chars().filter(|character| *character != '\0').take(limit).collect::<String>().into()
}

fn bytes(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

pub async fn find(connection: &mut PgConnection, tenant: &TenantId, id: RunId) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        "select id, kind, provider, action, app_id, principal_id, principal_kind,
             principal_email, connection_id, parent_id, status, attempts, started_at, completed_at,
             duration_us, input_bytes, output_bytes, error_code, error_category, error_message, trace_id, hosts
         from runs where tenant_id = $1 and id = $2",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

pub async fn list(connection: &mut PgConnection, filter: &Filter) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        "select id, kind, provider, action, app_id, principal_id, principal_kind,
             principal_email, connection_id, parent_id, status, attempts, started_at, completed_at,
             duration_us, input_bytes, output_bytes, error_code, error_category, error_message, trace_id, hosts
         from runs
         where tenant_id = $1
           and ($2::uuid is null or principal_id = $2)
           and ($3::text is null or provider = $3)
           and ($4::text is null or action = $4)
           and ($5::text is null or app_id = $5)
           and ($6::text is null or kind = $6)
           and ($7::text is null or status = $7)
           and ($8::text is null or error_category = $8)
           and ($9::text is null or trace_id = $9)
           and ($10::timestamptz is null or started_at >= $10)
           and ($11::timestamptz is null or started_at < $11)
           and ($12::uuid is null or id < $12)
         order by id desc limit $13",
        filter.tenant,
        filter.principal.map(UserId::as_uuid),
        filter.provider,
        filter.action,
        filter.app,
        filter.kind,
        filter.status,
        filter.category,
        filter.trace,
        filter.since,
        filter.until,
        filter.before.map(RunId::as_uuid),
        filter.limit,
    )
    .fetch_all(connection)
    .await
}

/// Removes a batch of finished runs from before `than`. Returns how many.
pub async fn delete_older(connection: &mut PgConnection, than: RunId) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "delete from runs where (tenant_id, id) in (select tenant_id, id from runs where id < $1 and status <> 'running' limit 5000)",
        than.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}

/// Forgets a node that is gone, unless it came back under another lock meanwhile. Whether it did.
pub async fn delete_node(connection: &mut PgConnection, node: Uuid, lock_key: i64) -> sqlx::Result<bool> {
    let result = sqlx::query!("delete from nodes where id = $1 and lock_key = $2", node, lock_key).execute(connection).await?;
    Ok(result.rows_affected() > 0)
}

/// Removes a node that left nothing behind. Whether it did.
pub async fn delete_idle_node(connection: &mut PgConnection, node: Uuid) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "delete from nodes where id = $1 and not exists (select from runs where node_id = $1 and status = 'running')",
        node,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

pub async fn list_other_nodes(connection: &mut PgConnection, node: Uuid) -> sqlx::Result<Vec<(Uuid, i64)>> {
    let rows = sqlx::query!("select id, lock_key from nodes where id <> $1", node).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.lock_key)).collect())
}

/// Whether the lock was free, which says that the node it belongs to has gone.
pub async fn try_node_lock(connection: &mut PgConnection, lock_key: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar!("select pg_try_advisory_lock($1) as \"free!\"", lock_key).fetch_one(connection).await
}

pub async fn release_node_lock(connection: &mut PgConnection, lock_key: i64) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_unlock($1)", lock_key).fetch_one(connection).await?;
    Ok(())
}

/// Takes over the webhooks that a node left behind, each for one more attempt, unless there were `attempts` already.
pub async fn adopt_webhooks(connection: &mut PgConnection, from: Uuid, to: Uuid, attempts: i32) -> sqlx::Result<Vec<RunId>> {
    let adopted = sqlx::query_scalar!(
        "update runs set node_id = $2, attempts = attempts + 1
         where node_id = $1 and status = 'running' and kind = 'webhook' and attempts < $3 returning id",
        from,
        to,
        attempts,
    )
    .fetch_all(connection)
    .await?;
    Ok(adopted.into_iter().map(RunId::from).collect())
}

/// Ends a run that `node` took over and of which nothing is known any more.
pub async fn interrupt(connection: &mut PgConnection, (node, run): (Uuid, RunId), now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update runs set status = 'failed', completed_at = $2, error_code = 'interrupted', error_category = 'Transient',
             error_message = 'The server stopped while this ran, and the request is not kept any more.'
         where node_id = $3 and id = $1 and status = 'running'",
        run.as_uuid(),
        now,
        node,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the runs that a node left behind. Returns how many.
pub async fn end_runs_of(connection: &mut PgConnection, node: Uuid, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "update runs set status = 'failed', completed_at = $2, error_code = 'interrupted', error_category = 'Transient',
             error_message = 'The server stopped while this ran; whether it took effect is not known.'
         where node_id = $1 and status = 'running'",
        node,
        now,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}
