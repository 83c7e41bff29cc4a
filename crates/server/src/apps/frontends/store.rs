//! Frontends in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{AppId, UserId};

/// A file as it is stored.
pub struct Stored {
    pub path: String,
    pub tag: String,
    pub body: Vec<u8>,
    pub gzipped: Option<Vec<u8>>,
}

/// Puts an empty frontend in the place of whatever there was.
pub async fn replace(
    connection: &mut PgConnection,
    app: &AppId,
    digest: &[u8],
    by: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!("delete from frontends where app_id = $1", app.as_str()).execute(&mut *connection).await?;
    sqlx::query!(
        "insert into frontends (app_id, digest, deployed_by, deployed_at) values ($1, $2, $3, $4)",
        app.as_str(),
        digest,
        by.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn insert_file(connection: &mut PgConnection, app: &AppId, file: &Stored) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into frontend_files (app_id, path, tag, body, gzipped) values ($1, $2, $3, $4, $5)",
        app.as_str(),
        file.path,
        file.tag,
        file.body,
        file.gzipped.as_deref(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A file of the frontend of an app whose tenant is not switched off.
pub async fn find_file(connection: &mut PgConnection, app: &str, path: &str) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        "select path, tag, body, gzipped from frontend_files
         join apps on apps.id = app_id join tenants on tenants.id = apps.tenant_id
         where app_id = $1 and path = $2 and tenants.disabled_at is null and tenants.deleted_at is null",
        app,
        path,
    )
    .fetch_optional(connection)
    .await
}
