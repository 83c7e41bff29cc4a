//! People who are at a vendor, and renewals on their way, in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, ConfigurationId, ConnectionId, TenantId, UserId, WayName};

use crate::connections::{credential::Origin, store::Sealing};

/// Somebody who was sent to a vendor and is to come back.
pub struct Flow {
    pub tenant: TenantId,
    pub integration: AppId,
    pub user: UserId,
    pub shared: bool,
    pub connection: Option<ConnectionId>,
    pub origin: Origin,
    pub label: Option<String>,
    pub callback_url: String,
    pub pkce_verifier: String,
    pub expires_at: DateTime<Utc>,
}

pub async fn insert_flow(connection: &mut PgConnection, state_hash: &[u8], flow: &Flow) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into connection_flows
             (state_hash, tenant_id, integration_id, user_id, shared, connection_id, label, callback_url, pkce_verifier, expires_at,
              configuration_id, way)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        state_hash,
        flow.tenant.as_str(),
        flow.integration.as_str(),
        flow.user.as_uuid(),
        flow.shared,
        flow.connection.map(ConnectionId::as_uuid),
        flow.label,
        flow.callback_url,
        flow.pkce_verifier,
        flow.expires_at,
        flow.origin.configuration.map(ConfigurationId::as_uuid),
        flow.origin.way.as_ref().map(WayName::as_str),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a flow, so that nobody can come back twice.
pub async fn take_flow(connection: &mut PgConnection, state_hash: &[u8]) -> sqlx::Result<Option<Flow>> {
    let row = sqlx::query!(
        "delete from connection_flows where state_hash = $1
         returning tenant_id, integration_id, user_id, shared, connection_id, label, callback_url, pkce_verifier, expires_at,
             configuration_id, way",
        state_hash,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let decode = |error: weft_model::id::InvalidName| sqlx::Error::Decode(error.into());
        Ok(Flow {
            tenant: row.tenant_id.parse().map_err(decode)?,
            integration: row.integration_id.parse().map_err(decode)?,
            user: row.user_id.into(),
            shared: row.shared,
            connection: row.connection_id.map(ConnectionId::from),
            origin: Origin {
                way: row.way.as_deref().map(str::parse).transpose().map_err(decode)?,
                configuration: row.configuration_id.map(ConfigurationId::from),
            },
            label: row.label,
            callback_url: row.callback_url,
            pkce_verifier: row.pkce_verifier,
            expires_at: row.expires_at,
        })
    })
    .transpose()
}

pub async fn delete_expired_flows(connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let result = sqlx::query!("delete from connection_flows where expires_at <= $1", now).execute(connection).await?;
    Ok(result.rows_affected())
}

/// The lease on a renewal.
pub struct Lease {
    pub holder: Uuid,
    pub until: DateTime<Utc>,
    /// A lease that is good for longer was made by a clock that went wrong.
    pub longest: DateTime<Utc>,
}

/// What became of the wish to renew.
pub enum Claimed {
    /// Go ahead. Whether an earlier renewal of the same token broke off.
    Won { interrupted: bool },
    /// Somebody is at it, or was just told to wait.
    Busy,
    /// It was renewed, it does not serve any more, or it is gone.
    Changed,
}

/// Notes that the token of this version is about to be renewed.
pub async fn claim(
    connection: &mut PgConnection,
    (tenant, id, version): (&TenantId, ConnectionId, i64),
    lease: &Lease,
    now: DateTime<Utc>,
) -> sqlx::Result<Claimed> {
    let row = sqlx::query!(
        "with seen as (
             select refresh_started_at, (refresh_until is null or refresh_until <= $4 or refresh_until > $6) as free
             from connections where tenant_id = $1 and id = $2 and version = $3 and status = 'active' and kind = 'direct' for update
         ), claimed as (
             update connections set refresh_holder = $7, refresh_started_at = $4, refresh_until = $5
             from seen where id = $2 and free returning 1 as one
         )
         select free as \"free!\", refresh_started_at is not null as \"interrupted!\", (select count(*) from claimed) as \"claimed!\"
         from seen",
        tenant.as_str(),
        id.as_uuid(),
        version,
        now,
        lease.until,
        lease.longest,
        lease.holder,
    )
    .fetch_optional(connection)
    .await?;
    Ok(match row {
        None => Claimed::Changed,
        Some(row) if row.free && row.claimed > 0 => Claimed::Won { interrupted: row.interrupted },
        Some(_) => Claimed::Busy,
    })
}

/// Puts the renewed credentials in the place of those they were got for, whoever holds the lease by now: an answer of a vendor is not
/// thrown away while it may be the only one.
pub async fn finish(connection: &mut PgConnection, id: ConnectionId, sealing: &Sealing) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "update connections set version = $2::bigint, key_version = $3, sealed = $4, expires_at = $5, refresh_at = $6, refreshed_at = $7,
             refresh_holder = null, refresh_started_at = null, refresh_until = null
         where id = $1 and version = $2::bigint - 1",
        id.as_uuid(),
        sealing.version,
        sealing.key_version,
        sealing.sealed.0,
        sealing.times.expires_at,
        sealing.times.refresh_at,
        sealing.times.refreshed_at,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Gives the lease back without a result, for a while. `unknown`: whether the vendor did something is not known.
pub async fn postpone(
    connection: &mut PgConnection,
    (id, holder): (ConnectionId, Uuid),
    until: DateTime<Utc>,
    unknown: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update connections set refresh_until = $3, refresh_started_at = case when $4 then refresh_started_at end
         where id = $1 and refresh_holder = $2",
        id.as_uuid(),
        holder,
        until,
        unknown,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Connections whose tokens were not renewed since `before`, and for which nobody tried since `tried_before`.
pub async fn list_idle(
    connection: &mut PgConnection,
    before: DateTime<Utc>,
    tried_before: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<(TenantId, AppId, ConnectionId)>> {
    let rows = sqlx::query!(
        "select tenant_id, integration_id, id from connections
         where refreshed_at < $1 and status = 'active' and (refresh_until is null or refresh_until <= $2)
         order by refreshed_at limit $3",
        before,
        tried_before,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let known = |row: (String, String, Uuid)| Some((row.0.parse().ok()?, row.1.parse().ok()?, row.2.into()));
    Ok(rows.into_iter().filter_map(|row| known((row.tenant_id, row.integration_id, row.id))).collect())
}

/// Notes that somebody tried to renew a token and did not even get as far as the vendor. Whoever needs it is not kept from trying.
pub async fn note_attempt(
    connection: &mut PgConnection,
    (tenant, id): (&TenantId, ConnectionId),
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update connections set refresh_until = $3
         where tenant_id = $1 and id = $2 and (refresh_until is null or refresh_until < $3)",
        tenant.as_str(),
        id.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}
