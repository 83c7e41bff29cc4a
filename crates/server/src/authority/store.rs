//! Signing keys in the database.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use weft_vault::Sealed;

/// A key with its life so far.
#[derive(Debug, Clone)]
pub struct StoredKey {
    pub id: String,
    pub public_key: Value,
    /// The private half and the version of the data key that sealed it; absent once the key no longer signs.
    pub sealed: Option<(i32, Sealed)>,
    pub created_at: DateTime<Utc>,
    pub signs_from: DateTime<Utc>,
    pub retired_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Lets one node at a time change the keys, until the transaction ends.
pub async fn lock(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('signing keys', 0))").fetch_one(connection).await?;
    Ok(())
}

/// Every key that ever signed or will, newest first.
pub async fn list(connection: &mut PgConnection) -> sqlx::Result<Vec<StoredKey>> {
    let rows = sqlx::query!(
        "select id, public_key, key_version, sealed, created_at, signs_from, retired_at, revoked_at
         from signing_keys order by signs_from desc, id"
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StoredKey {
            id: row.id,
            public_key: row.public_key,
            sealed: row.key_version.zip(row.sealed.map(Sealed)),
            created_at: row.created_at,
            signs_from: row.signs_from,
            retired_at: row.retired_at,
            revoked_at: row.revoked_at,
        })
        .collect())
}

pub async fn insert(connection: &mut PgConnection, key: &StoredKey) -> sqlx::Result<()> {
    let (version, sealed) = key.sealed.clone().unzip();
    sqlx::query!(
        "insert into signing_keys (id, public_key, key_version, sealed, created_at, signs_from) values ($1, $2, $3, $4, $5, $6)",
        key.id,
        key.public_key,
        version,
        sealed.map(|sealed| sealed.0),
        key.created_at,
        key.signs_from,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the signing of every key but `successor` and removes their private halves.
pub async fn retire_others(connection: &mut PgConnection, successor: &str, at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update signing_keys set key_version = null, sealed = null, retired_at = coalesce(retired_at, $2)
         where id <> $1 and sealed is not null",
        successor,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Withdraws every key but `successor`.
pub async fn revoke_others(connection: &mut PgConnection, successor: &str, at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("update signing_keys set revoked_at = $2 where id <> $1 and revoked_at is null", successor, at)
        .execute(connection)
        .await?;
    Ok(())
}
