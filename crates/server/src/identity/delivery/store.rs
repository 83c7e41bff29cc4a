//! Nonces in the database, by their digest.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{TenantId, UserId};

pub async fn insert(
    connection: &mut PgConnection,
    tenant: &TenantId,
    nonce_hash: &[u8],
    user: UserId,
    expires_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into login_nonces (nonce_hash, tenant_id, user_id, expires_at) values ($1, $2, $3, $4)",
        nonce_hash,
        tenant.as_str(),
        user.as_uuid(),
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whom a nonce lets in, if it is still good. Whoever comes second finds none: the tenant follows from the nonce.
pub async fn take(
    connection: &mut PgConnection,
    nonce_hash: &[u8],
    now: DateTime<Utc>,
) -> sqlx::Result<Option<(TenantId, UserId)>> {
    let row = sqlx::query!(
        "delete from login_nonces where nonce_hash = $1 and expires_at > $2 returning tenant_id, user_id",
        nonce_hash,
        now,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let tenant = TenantId::try_from(row.tenant_id).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok((tenant, row.user_id.into()))
    })
    .transpose()
}

pub async fn delete_expired(connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
    Ok(sqlx::query!("delete from login_nonces where expires_at <= $1", now).execute(connection).await?.rows_affected())
}
