//! Links in the database, by the digest of their token.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{TenantId, UserId};

/// A link as it was made.
pub struct Link {
    pub tenant: TenantId,
    pub email: String,
    pub roles: Vec<String>,
    pub redirect_uri: Option<String>,
    pub delivery: String,
    pub created_by: UserId,
    pub expires_at: DateTime<Utc>,
}

pub async fn insert(connection: &mut PgConnection, token_hash: &[u8], link: &Link) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into magic_links (token_hash, tenant_id, email, roles, redirect_uri, delivery, created_by, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        token_hash,
        link.tenant.as_str(),
        link.email,
        &link.roles,
        link.redirect_uri,
        link.delivery,
        link.created_by.as_uuid(),
        link.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Uses a link up, if it is still good. Whoever comes second finds none: the tenant follows from the token.
pub async fn take(connection: &mut PgConnection, token_hash: &[u8], now: DateTime<Utc>) -> sqlx::Result<Option<Link>> {
    let row = sqlx::query!(
        "update magic_links set used_at = $2 where token_hash = $1 and used_at is null and expires_at > $2
         returning tenant_id, email, roles, redirect_uri, delivery, created_by, expires_at",
        token_hash,
        now,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Link {
            tenant: TenantId::try_from(row.tenant_id).map_err(|error| sqlx::Error::Decode(error.into()))?,
            email: row.email,
            roles: row.roles,
            redirect_uri: row.redirect_uri,
            delivery: row.delivery,
            created_by: row.created_by.into(),
            expires_at: row.expires_at,
        })
    })
    .transpose()
}

pub async fn delete_expired(connection: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    Ok(sqlx::query!("delete from magic_links where expires_at <= $1", before).execute(connection).await?.rows_affected())
}
