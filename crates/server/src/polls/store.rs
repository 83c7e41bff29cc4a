//! Polls in the database.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, ConnectionId, SyncId, TenantId, UserId};

/// A poll as it is stored.
#[derive(Debug, Clone)]
pub struct Poll {
    pub id: Uuid,
    pub app_id: String,
    pub kind: String,
    pub name: String,
    pub connection_id: Option<Uuid>,
    pub user_id: Uuid,
    pub status: String,
    pub version: i64,
    pub message_id: i64,
    pub pass: i64,
    pub progress: Option<Value>,
    pub cursor: Option<Value>,
    pub seeded: bool,
    pub next_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub succeeded_at: Option<DateTime<Utc>>,
    pub created: i64,
    pub updated: i64,
    pub deleted: i64,
    pub rejected: i64,
    pub rejection: Option<String>,
    pub failures: i32,
    pub error_code: Option<String>,
    pub error_category: Option<String>,
    pub error_message: Option<String>,
    pub error_run: Option<Uuid>,
    /// Somebody has said that the run at hand, or the next one, may delete most of what is there.
    pub deletions_confirmed: bool,
    /// What it asks for besides what the manifest says, an object.
    pub input: Value,
}

/// A poll with the label of its connection.
pub struct Listed {
    pub poll: Poll,
    pub label: Option<String>,
}

/// A poll that is declared and not there yet.
#[derive(Debug)]
pub struct Missing {
    pub kind: String,
    pub name: String,
    pub connection_id: Option<Uuid>,
    pub user_id: Uuid,
    pub auto_start: bool,
}

/// What a manifest declares, column by column.
#[derive(Debug, Default)]
pub struct Declared {
    pub kinds: Vec<String>,
    pub names: Vec<String>,
    pub per_connection: Vec<bool>,
    pub auto_start: Vec<bool>,
}

pub async fn find(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Poll>> {
    sqlx::query_as!(
        Poll,
        "select id, app_id, kind, name, connection_id, user_id, status, version, message_id, pass, progress, cursor, seeded,
             next_at, started_at, ended_at, succeeded_at, created, updated, deleted, rejected, rejection, failures, error_code,
             error_category, error_message, error_run, deletions_confirmed, input
         from polls where id = $1",
        id,
    )
    .fetch_optional(connection)
    .await
}

/// One of an integration's, for as long as the transaction lasts.
pub async fn lock(connection: &mut PgConnection, (tenant, app): (&TenantId, &AppId), id: SyncId) -> sqlx::Result<Option<Poll>> {
    let row = sqlx::query!(
        "select from polls where tenant_id = $1 and app_id = $2 and id = $3 for update",
        tenant.as_str(),
        app.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    if row.is_none() {
        return Ok(None);
    }
    find(connection, id.as_uuid()).await
}

/// Whether it is still as somebody left it; then nobody else changes it until the transaction ends.
pub async fn lock_version(connection: &mut PgConnection, (id, version): (Uuid, i64)) -> sqlx::Result<bool> {
    let row = sqlx::query!("select from polls where id = $1 and version = $2 for update", id, version);
    Ok(row.fetch_optional(connection).await?.is_some())
}

/// Stores what became of a poll, if it is still of the version that it was of. Whether it was.
pub async fn save(connection: &mut PgConnection, poll: &Poll, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "update polls set version = version + 1, message_id = $23, status = $3, pass = $4, progress = $5, cursor = $6, seeded = $7, next_at = $8,
             started_at = $9, ended_at = $10, succeeded_at = $11, created = $12, updated = $13, deleted = $14, rejected = $15,
             rejection = $16, failures = $17, error_code = $18, error_category = $19, error_message = $20, error_run = $21,
             updated_at = $22, deletions_confirmed = $24
         where id = $1 and version = $2",
        poll.id,
        poll.version,
        poll.status,
        poll.pass,
        poll.progress,
        poll.cursor,
        poll.seeded,
        poll.next_at,
        poll.started_at,
        poll.ended_at,
        poll.succeeded_at,
        poll.created,
        poll.updated,
        poll.deleted,
        poll.rejected,
        poll.rejection,
        poll.failures,
        poll.error_code,
        poll.error_category,
        poll.error_message,
        poll.error_run,
        now,
        poll.message_id,
        poll.deletions_confirmed,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Stores what a poll asks for. Apart, because it is large and all else of a poll changes with every page.
pub async fn set_input(connection: &mut PgConnection, id: Uuid, input: &Value) -> sqlx::Result<()> {
    sqlx::query!("update polls set input = $2 where id = $1", id, input).execute(connection).await?;
    Ok(())
}

/// The polls of an integration by their ids: somebody's, or everybody's.
pub async fn list(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    of: Option<UserId>,
    after: Option<SyncId>,
    most: i64,
) -> sqlx::Result<Vec<Listed>> {
    let rows = sqlx::query!(
        "select polls.id, app_id, polls.kind, name, connection_id, polls.user_id, polls.status, polls.version,
             message_id, pass, progress, cursor, seeded, next_at, started_at, ended_at, succeeded_at, created, updated, deleted,
             rejected, rejection, failures, error_code, error_category, error_message, error_run, deletions_confirmed, polls.input,
             connections.label as \"label?\"
         from polls left join connections on connections.id = connection_id
         where polls.tenant_id = $1 and app_id = $2 and ($3::uuid is null or polls.user_id = $3) and ($4::uuid is null or polls.id > $4)
         order by polls.id limit $5",
        tenant.as_str(),
        app.as_str(),
        of.map(UserId::as_uuid),
        after.map(SyncId::as_uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    let listed = rows.into_iter().map(|row| Listed {
        label: row.label,
        poll: Poll {
            id: row.id,
            app_id: row.app_id,
            kind: row.kind,
            name: row.name,
            connection_id: row.connection_id,
            user_id: row.user_id,
            status: row.status,
            version: row.version,
            message_id: row.message_id,
            pass: row.pass,
            progress: row.progress,
            cursor: row.cursor,
            seeded: row.seeded,
            next_at: row.next_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            succeeded_at: row.succeeded_at,
            created: row.created,
            updated: row.updated,
            deleted: row.deleted,
            rejected: row.rejected,
            rejection: row.rejection,
            failures: row.failures,
            error_code: row.error_code,
            error_category: row.error_category,
            error_message: row.error_message,
            error_run: row.error_run,
            deletions_confirmed: row.deletions_confirmed,
            input: row.input,
        },
    });
    Ok(listed.collect())
}

/// What is declared and not there yet: of one connection, or of all and of none. What has no owner acts as `by`.
pub async fn list_missing(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    declared: &Declared,
    of: Option<ConnectionId>,
    by: UserId,
) -> sqlx::Result<Vec<Missing>> {
    sqlx::query_as!(
        Missing,
        "select given.kind as \"kind!\", given.name as \"name!\", connections.id as \"connection_id?\",
             coalesce(connections.user_id, connections.created_by, $8) as \"user_id!\", given.auto_start as \"auto_start!\"
         from unnest($3::text[], $4::text[], $5::boolean[], $6::boolean[]) as given (kind, name, per_connection, auto_start)
         left join connections on given.per_connection and connections.tenant_id = $1 and connections.integration_id = $2
             and connections.kind = 'direct' and ($7::uuid is null or connections.id = $7)
         where (given.per_connection = (connections.id is not null)) and (given.per_connection or $7 is null)
           and not exists (select from polls where polls.app_id = $2 and polls.kind = given.kind and polls.name = given.name
                               and polls.connection_id is not distinct from connections.id)",
        tenant.as_str(),
        app.as_str(),
        &declared.kinds,
        &declared.names,
        &declared.per_connection,
        &declared.auto_start,
        of.map(ConnectionId::as_uuid),
        by.as_uuid(),
    )
    .fetch_all(connection)
    .await
}

/// Stores new polls with their messages in the queue. One that somebody else has just stored stays as it is.
pub async fn insert(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    missing: &[Missing],
    placed: &[(Uuid, i64)],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (ids, messages): (Vec<Uuid>, Vec<i64>) = placed.iter().copied().unzip();
    let kinds: Vec<String> = missing.iter().map(|poll| poll.kind.clone()).collect();
    let names: Vec<String> = missing.iter().map(|poll| poll.name.clone()).collect();
    let connections: Vec<Option<Uuid>> = missing.iter().map(|poll| poll.connection_id).collect();
    let users: Vec<Uuid> = missing.iter().map(|poll| poll.user_id).collect();
    let statuses: Vec<String> = missing.iter().map(|poll| if poll.auto_start { "active" } else { "paused" }.to_owned()).collect();
    sqlx::query!(
        "insert into polls (id, tenant_id, app_id, kind, name, connection_id, user_id, status, message_id, next_at, created_at, updated_at)
         select id, $1, $2, kind, name, connection_id, user_id, status, message_id, $10, $10, $10
         from unnest($3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::uuid[], $8::text[], $9::bigint[])
             as given (id, kind, name, connection_id, user_id, status, message_id)
         on conflict do nothing",
        tenant.as_str(),
        app.as_str(),
        &ids,
        &kinds,
        &names,
        connections as _,
        &users,
        &statuses,
        &messages,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes what is not declared any more, or is not asked for at connections any more, or is now.
pub async fn delete_undeclared(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    declared: &Declared,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from polls where tenant_id = $1 and app_id = $2 and not exists (
             select from unnest($3::text[], $4::text[], $5::boolean[]) as given (kind, name, per_connection)
             where given.kind = polls.kind and given.name = polls.name
               and given.per_connection = (polls.connection_id is not null))",
        tenant.as_str(),
        app.as_str(),
        &declared.kinds,
        &declared.names,
        &declared.per_connection,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets polls that are of no connection act as somebody else from now on.
pub async fn update_user(connection: &mut PgConnection, (tenant, app): (&TenantId, &AppId), user: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        "update polls set user_id = $3, version = version + 1
         where tenant_id = $1 and app_id = $2 and connection_id is null and user_id <> $3",
        tenant.as_str(),
        app.as_str(),
        user.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A poll that has to be in the queue now, with the message that it had.
#[derive(Debug)]
pub struct Waiting {
    pub id: Uuid,
    pub kind: String,
    pub name: String,
    pub connection_id: Option<Uuid>,
    pub message_id: i64,
}

/// Lets what stopped go on, and what waits after a failure go on at once: of one connection, or of all.
pub async fn resume_stopped(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    of: Option<ConnectionId>,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Waiting>> {
    sqlx::query_as!(
        Waiting,
        "update polls set status = 'active', version = version + 1, next_at = $4, updated_at = $4
         where tenant_id = $1 and app_id = $2 and ($3::uuid is null or connection_id = $3)
           and (status = 'stopped' or (status = 'active' and failures > 0))
         returning id, kind, name, connection_id, message_id",
        tenant.as_str(),
        app.as_str(),
        of.map(ConnectionId::as_uuid),
        now,
    )
    .fetch_all(connection)
    .await
}

/// The apps whose bindings want to hear of a trigger: through this connection, or of a trigger of none.
pub async fn list_hearing(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    trigger: &str,
    of: Option<Uuid>,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select distinct app_id from app_bindings
         where tenant_id = $1 and integration_id = $2 and triggers <> '{}' and $3 = any(triggers)
           and connection_id is not distinct from $4
         order by app_id",
        tenant.as_str(),
        app.as_str(),
        trigger,
        of,
    )
    .fetch_all(connection)
    .await
}

/// Whose a connection is; nobody's where it is the tenant's.
pub async fn find_owner(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Uuid>> {
    let owner = sqlx::query_scalar!("select user_id from connections where id = $1", id).fetch_optional(connection).await?;
    Ok(owner.flatten())
}

/// Notes which message stands for each poll now.
pub async fn update_messages(connection: &mut PgConnection, placed: &[(Uuid, i64)]) -> sqlx::Result<()> {
    let (ids, messages): (Vec<Uuid>, Vec<i64>) = placed.iter().copied().unzip();
    sqlx::query!(
        "update polls set message_id = given.message_id from unnest($1::uuid[], $2::bigint[]) as given (id, message_id)
         where polls.id = given.id",
        &ids,
        &messages,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn has_connection(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!("select exists (select from connections where id = $1) as \"there!\"", id).fetch_one(connection).await
}

/// Notes that a run met these. Returns those that were not known before.
pub async fn meet(connection: &mut PgConnection, (id, pass): (Uuid, i64), items: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "insert into poll_items as known (poll_id, item, pass) select $1, item, $2 from unnest($3::text[]) as item
         on conflict (poll_id, item) do update set pass = excluded.pass
         returning case when xmax = 0 then item end as \"new\"",
        id,
        pass,
        items,
    )
    .fetch_all(connection)
    .await
    .map(|found| found.into_iter().flatten().collect())
}

/// How much of what was met before this run was not met in it, and how much was met at all.
pub async fn count_unmet(connection: &mut PgConnection, (id, pass): (Uuid, i64)) -> sqlx::Result<(i64, i64)> {
    let counted = sqlx::query!(
        "select count(*) filter (where pass < $2) as \"unmet!\", count(*) as \"all!\" from poll_items where poll_id = $1",
        id,
        pass,
    );
    let row = counted.fetch_one(connection).await?;
    Ok((row.unmet, row.all))
}

/// Some of what was met before this run, and not in it.
pub async fn list_unmet(connection: &mut PgConnection, (id, pass): (Uuid, i64), most: i64) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select item from poll_items where poll_id = $1 and pass < $2 order by pass limit $3", id, pass, most)
        .fetch_all(connection)
        .await
}

pub async fn forget(connection: &mut PgConnection, id: Uuid, items: &[String]) -> sqlx::Result<()> {
    sqlx::query!("delete from poll_items where poll_id = $1 and item = any($2)", id, items).execute(connection).await?;
    Ok(())
}

pub async fn forget_all(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from poll_items where poll_id = $1", id).execute(connection).await?;
    Ok(())
}

/// Forgets what was met longest ago, as far as more than `most` others were met later; nothing that this run has met.
pub async fn forget_oldest(connection: &mut PgConnection, (id, pass): (Uuid, i64), most: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from poll_items where poll_id = $1 and pass < $2
             and pass < (select pass from poll_items where poll_id = $1 order by pass desc offset $3 limit 1)",
        id,
        pass,
        most,
    )
    .execute(connection)
    .await?;
    Ok(())
}
