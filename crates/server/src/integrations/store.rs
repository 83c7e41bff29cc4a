//! The settings of integrations that are no secrets.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use weft_model::{AppId, TenantId};

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
