//! Apps in the database.

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use serde_json::Value;
use sqlx::PgConnection;
use weft_model::{AppId, DeploymentId, TenantId, UserId, manifest::Content};

/// An app as it is stored.
pub struct StoredApp {
    pub tenant: String,
    pub manifest: Value,
    pub deployment: Option<Deployment>,
    /// Nobody stopped the worker, and the tenant is not switched off.
    pub worker_enabled: bool,
}

/// A version of an app's backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub id: DeploymentId,
    pub entry_point: String,
    /// Whether it has a handler for jobs, once its process has said so on some node.
    pub takes_jobs: Option<bool>,
}

/// One line of the list of apps.
pub struct Listed {
    pub id: String,
    pub kind: String,
    pub name: String,
    pub version: String,
    pub manifest: Value,
    pub deployed: bool,
    pub has_frontend: bool,
}

pub async fn find(connection: &mut PgConnection, id: &AppId) -> sqlx::Result<Option<StoredApp>> {
    let row = sqlx::query!(
        "select apps.tenant_id, apps.manifest, deployments.id as \"deployment?\", entry_point as \"entry_point?\", takes_jobs,
             worker_enabled and tenants.disabled_at is null and tenants.deleted_at is null as \"worker_enabled!\"
         from apps join tenants on tenants.id = apps.tenant_id left join deployments on deployments.id = deployment_id
         where apps.id = $1",
        id.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| StoredApp {
        tenant: row.tenant_id,
        manifest: row.manifest,
        deployment: row.deployment.zip(row.entry_point).map(|(id, entry_point)| Deployment {
            id: id.into(),
            entry_point,
            takes_jobs: row.takes_jobs,
        }),
        worker_enabled: row.worker_enabled,
    }))
}

/// Stores an app, new or again. False when the id belongs to another tenant.
pub async fn upsert(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (content, manifest): (&Content, &Value),
    by: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into apps (id, tenant_id, kind, name, version, manifest, installed_by, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
         on conflict (id) do update set kind = excluded.kind, name = excluded.name, version = excluded.version,
             manifest = excluded.manifest, updated_at = excluded.updated_at
         where apps.tenant_id = excluded.tenant_id",
        content.app_id.as_str(),
        tenant.as_str(),
        content.kind.as_str(),
        content.name,
        content.version,
        manifest,
        by.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Reads the list line by line, so that thousands of manifests are not in memory at once.
pub async fn list<T>(
    connection: &mut PgConnection,
    tenant: &TenantId,
    kind: Option<&str>,
    read: impl FnMut(Listed) -> T + Send,
) -> sqlx::Result<Vec<T>> {
    let lines = sqlx::query_as!(
        Listed,
        "select id, kind, name, version, manifest, deployment_id is not null as \"deployed!\",
             exists (select from frontends where app_id = apps.id) as \"has_frontend!\" from apps
         where tenant_id = $1 and ($2::text is null or kind = $2) order by name, id",
        tenant.as_str(),
        kind,
    )
    .fetch(connection);
    lines.map_ok(read).try_collect().await
}

/// The apps of a tenant; with a kind of identity, those that keep things of that kind.
pub async fn list_ids(connection: &mut PgConnection, tenant: &TenantId, identity: Option<&str>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select id from apps where tenant_id = $1 and ($2::text is null
             or manifest->'dataContract' @> jsonb_build_array(jsonb_build_object('identityKind', $2))) order by id",
        tenant.as_str(),
        identity,
    )
    .fetch_all(connection)
    .await
}

/// Apps whose backend runs even when nobody calls it; the rule is that of `Content::keeps_running`.
pub async fn list_kept(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select apps.id from apps join tenants on tenants.id = apps.tenant_id
         where worker_enabled and deployment_id is not null and tenants.disabled_at is null and tenants.deleted_at is null
             and coalesce((manifest->>'keepRunning')::boolean, kind <> 'integration') order by apps.id"
    )
    .fetch_all(connection)
    .await
}

/// Apps whose manifest declares data and that lack tables, or policies on them: those that were installed before there were any.
pub async fn list_without_tables(connection: &mut PgConnection) -> sqlx::Result<Vec<(String, Value)>> {
    let rows = sqlx::query!(
        "select id, manifest from apps
         where jsonb_array_length(manifest->'dataContract') > 0
             and (to_regnamespace(quote_ident(id)) is null or exists (
                 select from pg_trigger join pg_class as tables on tables.oid = tgrelid
                 where tables.relnamespace = to_regnamespace(quote_ident(id)) and tgname = 'weft_audit_insert'
                     and not exists (select from pg_policy where polrelid = tables.oid)))
         order by id"
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.manifest)).collect())
}

/// Whether there was such an app. Deployments, endpoints and settings go with it.
pub async fn delete(connection: &mut PgConnection, tenant: &TenantId, id: &AppId) -> sqlx::Result<bool> {
    let result = sqlx::query!("delete from apps where tenant_id = $1 and id = $2", tenant.as_str(), id.as_str())
        .execute(connection)
        .await?;
    Ok(result.rows_affected() > 0)
}

/// Notes whether a version has a handler for jobs, if that was not known. Whether it was not.
pub async fn set_takes_jobs(connection: &mut PgConnection, id: DeploymentId, takes_jobs: bool) -> sqlx::Result<bool> {
    let result =
        sqlx::query!("update deployments set takes_jobs = $2 where id = $1 and takes_jobs is null", id.as_uuid(), takes_jobs)
            .execute(connection)
            .await?;
    Ok(result.rows_affected() > 0)
}

pub async fn set_worker_enabled(connection: &mut PgConnection, tenant: &TenantId, id: &AppId, enabled: bool) -> sqlx::Result<()> {
    sqlx::query!("update apps set worker_enabled = $3 where tenant_id = $1 and id = $2", tenant.as_str(), id.as_str(), enabled)
        .execute(connection)
        .await?;
    Ok(())
}
