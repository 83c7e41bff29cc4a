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

impl Stored {
    /// What it takes in a statement.
    pub fn size(&self) -> usize {
        self.path.len() + self.body.len() + self.gzipped.as_ref().map_or(0, Vec::len)
    }
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

/// Adds files to a frontend.
pub async fn insert_files(connection: &mut PgConnection, app: &AppId, files: &[Stored]) -> sqlx::Result<()> {
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    let tags: Vec<_> = files.iter().map(|file| file.tag.as_str()).collect();
    let bodies: Vec<_> = files.iter().map(|file| file.body.as_slice()).collect();
    let gzipped: Vec<_> = files.iter().map(|file| file.gzipped.as_deref()).collect();
    sqlx::query!(
        "insert into frontend_files (app_id, path, tag, body, gzipped)
         select $1, * from unnest($2::text[], $3::text[], $4::bytea[], $5::bytea[])",
        app.as_str(),
        paths.as_slice() as &[&str],
        tags.as_slice() as &[&str],
        bodies.as_slice() as &[&[u8]],
        gzipped.as_slice() as &[Option<&[u8]>],
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
