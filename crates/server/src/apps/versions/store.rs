//! Versions and their archives in the database.

use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, DeploymentId, TenantId, UserId};

use crate::apps::store::Deployment;

/// A version about to be stored.
pub struct New<'a> {
    pub deployment: &'a Deployment,
    pub digest: &'a [u8],
    pub size: i64,
    /// What is installed now.
    pub manifest: &'a Value,
    pub manifest_version: &'a str,
    pub lockfile: Option<&'a str>,
    pub by: UserId,
    /// Made by `weft dev`.
    pub developed: bool,
}

/// A version that one may go back to.
pub struct Stored {
    pub number: i32,
    pub deployment: Deployment,
    /// Absent when its archive was given up.
    pub manifest: Option<Value>,
    pub active: bool,
}

/// One line of the list of versions.
pub struct Listed {
    pub id: Uuid,
    pub number: i32,
    pub entry_point: String,
    pub digest: Vec<u8>,
    pub size: i64,
    pub manifest_version: String,
    pub kept: bool,
    pub active: bool,
    pub created_at: DateTime<Utc>,
    pub developed: bool,
    pub created_by: Option<Uuid>,
    pub created_by_email: Option<String>,
    pub activated_at: Option<DateTime<Utc>>,
    pub activated_by: Option<Uuid>,
    pub activated_by_email: Option<String>,
}

/// Stores a version that does not serve yet.
pub async fn insert(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    new: New<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into deployments
             (id, tenant_id, app_id, entry_point, digest, size, manifest, manifest_version, lockfile, created_by, created_at, developed)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        new.deployment.id.as_uuid(),
        tenant.as_str(),
        app.as_str(),
        new.deployment.entry_point,
        new.digest,
        new.size,
        new.manifest,
        new.manifest_version,
        new.lockfile,
        new.by.as_uuid(),
        now,
        new.developed,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn insert_chunk(connection: &mut PgConnection, id: DeploymentId, number: i32, bytes: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("insert into deployment_chunks (deployment_id, number, bytes) values ($1, $2, $3)", id.as_uuid(), number, bytes)
        .execute(connection)
        .await?;
    Ok(())
}

/// The pieces of an archive in order; none when it was given up.
pub fn chunks(connection: &mut PgConnection, id: DeploymentId) -> BoxStream<'_, sqlx::Result<Vec<u8>>> {
    sqlx::query_scalar!("select bytes from deployment_chunks where deployment_id = $1 order by number", id.as_uuid())
        .fetch(connection)
}

pub async fn find_lockfile(connection: &mut PgConnection, id: DeploymentId) -> sqlx::Result<Option<String>> {
    let found = sqlx::query_scalar!("select lockfile from deployments where id = $1", id.as_uuid());
    Ok(found.fetch_optional(connection).await?.flatten())
}

/// Makes a version the one that serves, and gives it its number if it has none. Nothing when the app or the archive is gone.
pub async fn activate(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    (id, takes_jobs): (DeploymentId, Option<bool>),
    by: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        "with app as (
             update apps set deployment_id = $3, worker_enabled = true, updated_at = $5,
                 last_version = last_version + (select (number is null)::integer from deployments where id = $3)
             where tenant_id = $1 and id = $2 returning last_version)
         update deployments set number = coalesce(number, app.last_version), activated_at = $5, activated_by = $4,
             takes_jobs = coalesce($6, takes_jobs)
         from app where deployments.id = $3 and app_id = $2 and manifest is not null
         returning number as \"number!\"",
        tenant.as_str(),
        app.as_str(),
        id.as_uuid(),
        by.as_uuid(),
        now,
        takes_jobs,
    )
    .fetch_optional(connection)
    .await
}

/// Removes a version that never served.
pub async fn delete(connection: &mut PgConnection, id: DeploymentId) -> sqlx::Result<()> {
    sqlx::query!("delete from deployments where id = $1 and number is null", id.as_uuid()).execute(connection).await?;
    Ok(())
}

/// Gives up the archives of all but the latest `kept` versions and the one that serves, and removes what deployments left that
/// began before `abandoned` and never served. A version that `weft dev` made is kept only while it serves.
pub async fn prune(connection: &mut PgConnection, app: &AppId, kept: i64, abandoned: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "with given_up as (
             update deployments set manifest = null, lockfile = null
             where app_id = $1 and number is not null and manifest is not null
                 and id is distinct from (select deployment_id from apps where id = $1)
                 and id not in (select id from deployments where app_id = $1 and number is not null and manifest is not null
                                    and not developed
                                order by number desc limit $2)
             returning id)
         delete from deployment_chunks using given_up where deployment_id = given_up.id",
        app.as_str(),
        kept,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from deployments where app_id = $1 and number is null and created_at < $2", app.as_str(), abandoned)
        .execute(connection)
        .await?;
    Ok(())
}

/// The version of that number; without a number, the latest one before the one that serves whose archive is kept.
pub async fn find(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    number: Option<i32>,
) -> sqlx::Result<Option<Stored>> {
    let row = sqlx::query!(
        "select deployments.id, number as \"number!\", entry_point, takes_jobs, deployments.manifest,
             coalesce(deployments.id = apps.deployment_id, false) as \"active!\"
         from deployments join apps on apps.id = app_id
         where deployments.tenant_id = $1 and app_id = $2 and number is not null
             and case when $3::integer is not null then number = $3 else deployments.manifest is not null
                 and number < (select serving.number from deployments as serving where serving.id = apps.deployment_id) end
         order by number desc limit 1",
        tenant.as_str(),
        app.as_str(),
        number,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Stored {
        number: row.number,
        deployment: Deployment { id: row.id.into(), entry_point: row.entry_point, takes_jobs: row.takes_jobs },
        manifest: row.manifest,
        active: row.active,
    }))
}

/// Versions with a number below `before`, newest first.
pub async fn list(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    before: Option<i32>,
    limit: i64,
) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        "select deployments.id, number as \"number!\", entry_point, digest, size, manifest_version,
             deployments.manifest is not null as \"kept!\", coalesce(deployments.id = apps.deployment_id, false) as \"active!\",
             deployments.created_at, developed, created_by, creator.email as \"created_by_email?\",
             activated_at, activated_by, activator.email as \"activated_by_email?\"
         from deployments join apps on apps.id = app_id
             left join users as creator on creator.id = created_by
             left join users as activator on activator.id = activated_by
         where deployments.tenant_id = $1 and app_id = $2 and number is not null and ($3::integer is null or number < $3)
         order by number desc limit $4",
        tenant.as_str(),
        app.as_str(),
        before,
        limit,
    )
    .fetch_all(connection)
    .await
}
