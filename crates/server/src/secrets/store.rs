//! Data keys and sealed values in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{TenantId, UserId};
use weft_vault::Sealed;

pub struct WrappedKey {
    pub tenant: String,
    pub version: i32,
    pub master_key_id: String,
    pub wrapped: Sealed,
}

pub struct StoredSecret {
    pub name: String,
    pub version: i32,
    pub key_version: i32,
    pub sealed: Sealed,
}

/// Every data key, locked against a rotation at the same time.
pub async fn lock_keys(connection: &mut PgConnection) -> sqlx::Result<Vec<WrappedKey>> {
    let rows =
        sqlx::query!("select tenant_id, version, master_key_id, wrapped from vault_keys order by tenant_id, version for update")
            .fetch_all(connection)
            .await?;
    Ok(rows
        .into_iter()
        .map(|row| WrappedKey {
            tenant: row.tenant_id,
            version: row.version,
            master_key_id: row.master_key_id,
            wrapped: Sealed(row.wrapped),
        })
        .collect())
}

pub async fn list_keys(connection: &mut PgConnection) -> sqlx::Result<Vec<WrappedKey>> {
    let rows = sqlx::query!("select tenant_id, version, master_key_id, wrapped from vault_keys order by tenant_id, version")
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| WrappedKey {
            tenant: row.tenant_id,
            version: row.version,
            master_key_id: row.master_key_id,
            wrapped: Sealed(row.wrapped),
        })
        .collect())
}

/// Removes the keys of a tenant and what the vault holds sealed with them.
pub async fn delete_tenant(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<()> {
    sqlx::query!("delete from secrets where tenant_id = $1", tenant.as_str()).execute(&mut *connection).await?;
    sqlx::query!("delete from vault_keys where tenant_id = $1", tenant.as_str()).execute(connection).await?;
    Ok(())
}

/// Writes the table of keys anew, because PostgreSQL keeps removed rows in its file until their place is needed.
pub async fn rewrite_keys(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("vacuum full vault_keys").execute(connection).await?;
    Ok(())
}

/// Whether the key was stored; false when the tenant has one of that version already.
pub async fn insert_key(connection: &mut PgConnection, key: &WrappedKey, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into vault_keys (tenant_id, version, master_key_id, wrapped, created_at) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        key.tenant,
        key.version,
        key.master_key_id,
        key.wrapped.0,
        now,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

pub async fn update_key(connection: &mut PgConnection, key: &WrappedKey) -> sqlx::Result<()> {
    sqlx::query!(
        "update vault_keys set master_key_id = $3, wrapped = $4 where tenant_id = $1 and version = $2",
        key.tenant,
        key.version,
        key.master_key_id,
        key.wrapped.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The version that the next value of a name gets. Until the transaction ends nobody else gets one for that name.
pub async fn next_version(connection: &mut PgConnection, tenant: &TenantId, scope: &str, name: &str) -> sqlx::Result<i32> {
    let lock = format!("secret {tenant} {scope} {name}");
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", lock).fetch_one(&mut *connection).await?;
    sqlx::query_scalar!(
        "select coalesce(max(version), 0) + 1 as \"next!\" from secrets where tenant_id = $1 and scope = $2 and name = $3",
        tenant.as_str(),
        scope,
        name,
    )
    .fetch_one(connection)
    .await
}

pub async fn insert(
    connection: &mut PgConnection,
    (tenant, scope): (&TenantId, &str),
    secret: &StoredSecret,
    by: Option<UserId>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into secrets (tenant_id, scope, name, version, key_version, sealed, created_at, created_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        tenant.as_str(),
        scope,
        secret.name,
        secret.version,
        secret.key_version,
        secret.sealed.0,
        now,
        by.map(UserId::as_uuid),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes all but the newest `keep` versions of a name.
pub async fn delete_old(
    connection: &mut PgConnection,
    tenant: &TenantId,
    scope: &str,
    name: &str,
    below: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from secrets where tenant_id = $1 and scope = $2 and name = $3 and version < $4",
        tenant.as_str(),
        scope,
        name,
        below,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The current value of every name in a scope.
pub async fn list_current(connection: &mut PgConnection, tenant: &TenantId, scope: &str) -> sqlx::Result<Vec<StoredSecret>> {
    let rows = sqlx::query!(
        "select distinct on (name) name, version, key_version, sealed from secrets
         where tenant_id = $1 and scope = $2 order by name, version desc",
        tenant.as_str(),
        scope,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StoredSecret {
            name: row.name,
            version: row.version,
            key_version: row.key_version,
            sealed: Sealed(row.sealed),
        })
        .collect())
}

pub async fn list_names(connection: &mut PgConnection, tenant: &TenantId, scope: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select distinct name from secrets where tenant_id = $1 and scope = $2 order by name",
        tenant.as_str(),
        scope
    )
    .fetch_all(connection)
    .await
}

/// Scopes that begin like this, each with a name in it.
pub async fn list_scoped_names(
    connection: &mut PgConnection,
    tenant: &TenantId,
    beginning: &str,
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!(
        "select distinct scope, name from secrets where tenant_id = $1 and starts_with(scope, $2)",
        tenant.as_str(),
        beginning,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.scope, row.name)).collect())
}

/// Whether there was such a secret. All its versions go.
pub async fn delete(connection: &mut PgConnection, tenant: &TenantId, scope: &str, name: &str) -> sqlx::Result<bool> {
    let result =
        sqlx::query!("delete from secrets where tenant_id = $1 and scope = $2 and name = $3", tenant.as_str(), scope, name)
            .execute(connection)
            .await?;
    Ok(result.rows_affected() > 0)
}

pub async fn delete_scope(connection: &mut PgConnection, tenant: &TenantId, scope: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from secrets where tenant_id = $1 and scope = $2", tenant.as_str(), scope).execute(connection).await?;
    Ok(())
}
