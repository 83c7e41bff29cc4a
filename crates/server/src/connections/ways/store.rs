//! Connections by ways that come and go, in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{AppId, TenantId};

/// What stands for a connection's way in the message of [`end`].
pub const WAY: &str = "{way}";

/// Notes of connections by other ways than these that they do not serve any more.
pub async fn end(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    known: &[String],
    (cause, message): (&str, &str),
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update connections set status = 'error', status_cause = $4, status_message = replace($5, $6, way), status_since = $7,
             refresh_holder = null, refresh_started_at = null, refresh_until = null, updated_at = $7
         where tenant_id = $1 and integration_id = $2 and kind = 'direct' and status = 'active' and way <> all($3)",
        tenant.as_str(),
        integration.as_str(),
        known,
        cause,
        message,
        WAY,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets those serve again that did not for this cause, and whose way is one of these.
pub async fn wake(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    known: &[String],
    cause: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update connections set status = 'active', status_cause = null, status_message = null, status_since = $5, updated_at = $5
         where tenant_id = $1 and integration_id = $2 and kind = 'direct' and status_cause = $4 and way = any($3)",
        tenant.as_str(),
        integration.as_str(),
        known,
        cause,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}
