//! The settings of integrations that are no secrets, and further configurations, which are sealed.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, ConfigurationId, TenantId, UserId};
use weft_vault::Sealed;

pub async fn find_settings(connection: &mut PgConnection, tenant: &TenantId, integration: &AppId) -> sqlx::Result<Option<Value>> {
    sqlx::query_scalar!(
        "select settings from integration_settings where tenant_id = $1 and integration_id = $2",
        tenant.as_str(),
        integration.as_str(),
    )
    .fetch_optional(connection)
    .await
}

/// The settings of every integration of a tenant that has any.
pub async fn list_settings(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Vec<(String, Map<String, Value>)>> {
    let rows = sqlx::query!("select integration_id, settings from integration_settings where tenant_id = $1", tenant.as_str())
        .fetch_all(connection)
        .await?;
    let settings = |settings| if let Value::Object(settings) = settings { settings } else { Map::new() };
    Ok(rows.into_iter().map(|row| (row.integration_id, settings(row.settings))).collect())
}

/// The same of one, locked against another save until the transaction ends.
pub async fn lock_settings(connection: &mut PgConnection, tenant: &TenantId, integration: &AppId) -> sqlx::Result<Option<Value>> {
    sqlx::query_scalar!(
        "select settings from integration_settings where tenant_id = $1 and integration_id = $2 for update",
        tenant.as_str(),
        integration.as_str(),
    )
    .fetch_optional(connection)
    .await
}

pub async fn upsert_settings(
    connection: &mut PgConnection,
    tenant: &TenantId,
    integration: &AppId,
    settings: &Value,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into integration_settings (tenant_id, integration_id, settings, updated_at) values ($1, $2, $3, $4)
         on conflict (tenant_id, integration_id) do update set settings = excluded.settings, updated_at = excluded.updated_at",
        tenant.as_str(),
        integration.as_str(),
        settings,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A named configuration, without its values.
pub struct Named {
    pub id: Uuid,
    pub label: String,
    pub created_at: DateTime<Utc>,
}

pub async fn list_named(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    after: Option<ConfigurationId>,
    limit: i64,
) -> sqlx::Result<Vec<Named>> {
    sqlx::query_as!(
        Named,
        "select id, label, created_at from integration_configurations
         where tenant_id = $1 and integration_id = $2 and ($3::uuid is null or id > $3) order by id limit $4",
        tenant.as_str(),
        integration.as_str(),
        after.map(ConfigurationId::as_uuid),
        limit,
    )
    .fetch_all(connection)
    .await
}

/// False when there is one of that label.
pub async fn insert_named(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    (id, label, by): (ConfigurationId, &str, UserId),
    (key_version, sealed): &(i32, Sealed),
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into integration_configurations (id, tenant_id, integration_id, label, key_version, sealed, created_by, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (tenant_id, integration_id, label) do nothing",
        id.as_uuid(),
        tenant.as_str(),
        integration.as_str(),
        label,
        key_version,
        sealed.0,
        by.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

pub async fn find_named(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    id: ConfigurationId,
) -> sqlx::Result<Option<(i32, Vec<u8>)>> {
    let row = sqlx::query!(
        "select key_version, sealed from integration_configurations where tenant_id = $1 and integration_id = $2 and id = $3",
        tenant.as_str(),
        integration.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.key_version, row.sealed)))
}

/// Locked against connections that are being made with it.
pub async fn lock_named(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    id: ConfigurationId,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select id from integration_configurations where tenant_id = $1 and integration_id = $2 and id = $3 for update",
        tenant.as_str(),
        integration.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// How many connections were made with it.
pub async fn count_uses(connection: &mut PgConnection, id: ConfigurationId) -> sqlx::Result<i64> {
    sqlx::query_scalar!("select count(*) as \"count!\" from connections where configuration_id = $1", id.as_uuid())
        .fetch_one(connection)
        .await
}

pub async fn delete_named(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    id: ConfigurationId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from integration_configurations where tenant_id = $1 and integration_id = $2 and id = $3",
        tenant.as_str(),
        integration.as_str(),
        id.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
