//! Files in the database: what they are called, what they use, and the addresses that are good for once.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, FileId, TenantId, UserId};

/// A file that is complete.
#[derive(Debug, Clone)]
pub struct File {
    pub id: Uuid,
    pub name: String,
    pub content_type: String,
    pub size: i64,
    pub digest: Option<Vec<u8>>,
    pub key_version: Option<i32>,
    pub uploaded_by: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    /// Where its content lies in the store.
    pub object: String,
}

impl File {
    /// How long its content is.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.size).unwrap_or_default()
    }
}

/// Notes a file before anything of it is stored, so that nothing can be left over that nobody knows of. Returns its object.
pub async fn insert(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, Option<&AppId>),
    (id, name): (FileId, &str),
    by: Option<UserId>,
    now: DateTime<Utc>,
) -> sqlx::Result<String> {
    sqlx::query_scalar!(
        "insert into files (id, tenant_id, app_id, name, content_type, uploaded_by, created_at) values ($1, $2, $3, $4, '', $5, $6)
         returning weft_file_object(tenant_id, id) as \"object!\"",
        id.as_uuid(),
        tenant.as_str(),
        app.map(AppId::as_str),
        name,
        by.map(UserId::as_uuid),
        now,
    )
    .fetch_one(connection)
    .await
}

/// What is known of a file when all of it has come.
#[derive(Debug)]
pub struct Completed {
    pub content_type: String,
    pub size: i64,
    pub digest: Vec<u8>,
    pub key_version: i32,
}

/// Makes a file complete. Nothing when it is gone, with its app or its tenant.
pub async fn complete(
    connection: &mut PgConnection,
    id: FileId,
    with: &Completed,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<File>> {
    sqlx::query_as!(
        File,
        "update files set content_type = $2, size = $3, digest = $4, key_version = $5, completed_at = $6
         where id = $1 and completed_at is null
         returning id, name, content_type, size, digest, key_version, uploaded_by, created_at,
             weft_file_object(tenant_id, id) as \"object!\"",
        id.as_uuid(),
        with.content_type,
        with.size,
        with.digest,
        with.key_version,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// Adds to what a tenant uses, unless that would be more than `most`.
pub async fn add_usage(connection: &mut PgConnection, tenant: &TenantId, bytes: i64, most: i64) -> sqlx::Result<bool> {
    let added = sqlx::query!(
        "insert into file_usage (tenant_id, bytes) select $1, $2::bigint where $2::bigint <= $3
         on conflict (tenant_id) do update set bytes = file_usage.bytes + excluded.bytes
         where file_usage.bytes + excluded.bytes <= $3",
        tenant.as_str(),
        bytes,
        most,
    )
    .execute(connection)
    .await?;
    Ok(added.rows_affected() > 0)
}

pub async fn find_usage(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<i64> {
    let bytes = sqlx::query_scalar!("select bytes from file_usage where tenant_id = $1", tenant.as_str());
    Ok(bytes.fetch_optional(connection).await?.unwrap_or(0))
}

/// A complete file of an app.
pub async fn find(connection: &mut PgConnection, (tenant, app): (&TenantId, &AppId), id: FileId) -> sqlx::Result<Option<File>> {
    sqlx::query_as!(
        File,
        "select id, name, content_type, size, digest, key_version, uploaded_by, created_at,
             weft_file_object(tenant_id, id) as \"object!\"
         from files where tenant_id = $1 and app_id = $2 and id = $3 and completed_at is not null",
        tenant.as_str(),
        app.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// A complete file that belongs to no app.
pub async fn find_own(connection: &mut PgConnection, tenant: &TenantId, id: FileId) -> sqlx::Result<Option<File>> {
    sqlx::query_as!(
        File,
        "select id, name, content_type, size, digest, key_version, uploaded_by, created_at,
             weft_file_object(tenant_id, id) as \"object!\"
         from files where tenant_id = $1 and app_id is null and id = $2 and completed_at is not null",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// Complete files of an app, newest first, before one of them.
pub async fn list(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    before: Option<Uuid>,
    most: i64,
) -> sqlx::Result<Vec<File>> {
    sqlx::query_as!(
        File,
        "select id, name, content_type, size, digest, key_version, uploaded_by, created_at,
             weft_file_object(tenant_id, id) as \"object!\"
         from files where tenant_id = $1 and app_id = $2 and completed_at is not null and ($3::uuid is null or id < $3)
         order by id desc limit $4",
        tenant.as_str(),
        app.as_str(),
        before,
        most,
    )
    .fetch_all(connection)
    .await
}

/// Removes a file; a trigger notes its object. The name and size that it had.
pub async fn delete(connection: &mut PgConnection, tenant: &TenantId, id: FileId) -> sqlx::Result<Option<(String, i64)>> {
    let row =
        sqlx::query!("delete from files where tenant_id = $1 and id = $2 returning name, size", tenant.as_str(), id.as_uuid())
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|row| (row.name, row.size)))
}

/// Removes a batch of uploads that were begun before a time and never completed. Returns how many.
pub async fn delete_unfinished(connection: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "delete from files where id in (select id from files where completed_at is null and created_at < $1 limit 1000)",
        before,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}

/// Objects that are to be removed, the oldest first.
pub async fn list_remains(connection: &mut PgConnection, most: i64) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select object from file_remains order by since limit $1", most).fetch_all(connection).await
}

pub async fn put_off(connection: &mut PgConnection, object: &str, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("update file_remains set since = $2 where object = $1", object, now).execute(connection).await?;
    Ok(())
}

pub async fn delete_remains(connection: &mut PgConnection, objects: &[String]) -> sqlx::Result<()> {
    sqlx::query!("delete from file_remains where object = any($1)", objects).execute(connection).await?;
    Ok(())
}

/// What an address lets somebody do, once.
#[derive(Debug, Clone)]
pub struct Ticket {
    pub tenant_id: String,
    pub app_id: String,
    pub file_id: Option<Uuid>,
    pub name: Option<String>,
    pub content_type: Option<String>,
    pub most: Option<i64>,
    pub issued_to: Option<Uuid>,
}

pub async fn insert_ticket(
    connection: &mut PgConnection,
    digest: &[u8],
    ticket: &Ticket,
    expires_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into file_tickets (digest, tenant_id, app_id, file_id, name, content_type, most, issued_to, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        digest,
        ticket.tenant_id,
        ticket.app_id,
        ticket.file_id,
        ticket.name,
        ticket.content_type,
        ticket.most,
        ticket.issued_to,
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a ticket of a kind, which ends by this. Nothing when there is none, its time is over, or its tenant was switched off.
pub async fn take_ticket(
    connection: &mut PgConnection,
    digest: &[u8],
    is_upload: bool,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Ticket>> {
    sqlx::query_as!(
        Ticket,
        "delete from file_tickets using tenants
         where digest = $1 and (file_id is null) = $2 and expires_at > $3 and tenants.id = tenant_id and disabled_at is null
           and deleted_at is null
         returning tenant_id, app_id, file_id, file_tickets.name, content_type, most, issued_to",
        digest,
        is_upload,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// Removes a batch of tickets whose time is over. Returns how many.
pub async fn delete_expired_tickets(connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "delete from file_tickets where digest in (select digest from file_tickets where expires_at <= $1 limit 5000)",
        now,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}
