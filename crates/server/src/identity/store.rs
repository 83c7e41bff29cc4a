//! Users and sessions in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{SessionId, TenantId, UserId};

/// A user as others see it.
pub struct User {
    pub id: UserId,
    pub email: String,
    pub display_name: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// What logging in needs to know of a user.
pub struct Credentials {
    pub user: User,
    pub password_hash: Option<String>,
    pub disabled: bool,
}

/// What authenticating a request needs to know: the user behind a live session.
pub struct SessionUser {
    pub user: User,
    pub kind: String,
    pub disabled: bool,
}

pub async fn insert_user(connection: &mut PgConnection, tenant: &TenantId, user: &User, password_hash: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users (id, tenant_id, email, display_name, password_hash, created_at) values ($1, $2, $3, $4, $5, $6)",
        user.id.as_uuid(),
        tenant.as_str(),
        user.email,
        user.display_name,
        password_hash,
        user.created_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn find_credentials(
    connection: &mut PgConnection,
    tenant: &TenantId,
    email: &str,
) -> sqlx::Result<Option<Credentials>> {
    let row = sqlx::query!(
        "select id, email, display_name, created_at, password_hash, disabled_at is not null as \"disabled!\"
         from users where tenant_id = $1 and lower(email) = lower($2) and kind = 'user'",
        tenant.as_str(),
        email,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Credentials {
        user: User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at },
        password_hash: row.password_hash,
        disabled: row.disabled,
    }))
}

pub async fn find_session_user(
    connection: &mut PgConnection,
    tenant: &TenantId,
    session: SessionId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<SessionUser>> {
    let row = sqlx::query!(
        "select users.id, email, display_name, users.created_at, kind, disabled_at is not null as \"disabled!\"
         from sessions join users on users.id = user_id
         where sessions.id = $1 and sessions.tenant_id = $2 and expires_at > $3",
        session.as_uuid(),
        tenant.as_str(),
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| SessionUser {
        user: User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at },
        kind: row.kind,
        disabled: row.disabled,
    }))
}

pub async fn find_user(connection: &mut PgConnection, tenant: &TenantId, id: UserId) -> sqlx::Result<Option<User>> {
    let row = sqlx::query!(
        "select id, email, display_name, created_at from users where tenant_id = $1 and id = $2 and kind = 'user'",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at }))
}

pub async fn list_users(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Vec<User>> {
    let rows = sqlx::query!(
        "select id, email, display_name, created_at from users where tenant_id = $1 and kind = 'user' order by email",
        tenant.as_str(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at })
        .collect())
}

/// Whether nobody has registered yet.
pub async fn is_empty(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!("select not exists (select from users where kind = 'user') as \"empty!\"").fetch_one(connection).await
}

/// Whether a user of that kind and tenant was deleted.
pub async fn delete_user(connection: &mut PgConnection, tenant: &TenantId, id: UserId) -> sqlx::Result<bool> {
    let result =
        sqlx::query!("delete from users where tenant_id = $1 and id = $2 and kind = 'user'", tenant.as_str(), id.as_uuid())
            .execute(connection)
            .await?;
    Ok(result.rows_affected() > 0)
}

pub async fn insert_session(
    connection: &mut PgConnection,
    tenant: &TenantId,
    session: SessionId,
    user: UserId,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into sessions (id, tenant_id, user_id, created_at, expires_at) values ($1, $2, $3, $4, $5)",
        session.as_uuid(),
        tenant.as_str(),
        user.as_uuid(),
        now,
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn delete_session(connection: &mut PgConnection, tenant: &TenantId, session: SessionId) -> sqlx::Result<()> {
    sqlx::query!("delete from sessions where tenant_id = $1 and id = $2", tenant.as_str(), session.as_uuid())
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn delete_expired_sessions(connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
    Ok(sqlx::query!("delete from sessions where expires_at <= $1", now).execute(connection).await?.rows_affected())
}
