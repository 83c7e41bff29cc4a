//! Providers, logins on their way and who is who, in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{TenantId, UserId};

use super::provider::Provider;
use crate::identity::store::User;

/// A login that was sent to a provider and is to come back.
pub struct Pending {
    pub tenant: TenantId,
    pub provider_id: String,
    pub nonce: String,
    pub pkce_verifier: String,
    pub redirect_uri: Option<String>,
    pub delivery: String,
    pub browser_hash: Vec<u8>,
    pub expires_at: DateTime<Utc>,
}

/// The providers of a tenant; none while it is switched off.
pub async fn list(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Vec<Provider>> {
    sqlx::query_as!(
        Provider,
        "select id, display_name, issuer_url, client_id, scopes, auto_register, default_role, role_claim, enabled
         from oidc_providers where tenant_id = $1
           and exists (select from tenants where id = $1 and disabled_at is null and deleted_at is null) order by id",
        tenant.as_str(),
    )
    .fetch_all(connection)
    .await
}

/// A provider of a tenant that is not switched off.
pub async fn find(connection: &mut PgConnection, tenant: &TenantId, id: &str) -> sqlx::Result<Option<Provider>> {
    sqlx::query_as!(
        Provider,
        "select id, display_name, issuer_url, client_id, scopes, auto_register, default_role, role_claim, enabled
         from oidc_providers where tenant_id = $1 and id = $2
           and exists (select from tenants where id = $1 and disabled_at is null and deleted_at is null)",
        tenant.as_str(),
        id,
    )
    .fetch_optional(connection)
    .await
}

pub async fn upsert(
    connection: &mut PgConnection,
    tenant: &TenantId,
    provider: &Provider,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into oidc_providers (tenant_id, id, display_name, issuer_url, client_id, scopes, auto_register, default_role,
                                     role_claim, enabled, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict (tenant_id, id) do update set
             display_name = excluded.display_name, issuer_url = excluded.issuer_url, client_id = excluded.client_id,
             scopes = excluded.scopes, auto_register = excluded.auto_register, default_role = excluded.default_role,
             role_claim = excluded.role_claim, enabled = excluded.enabled, updated_at = excluded.updated_at",
        tenant.as_str(),
        provider.id,
        provider.display_name,
        provider.issuer_url,
        provider.client_id,
        &provider.scopes,
        provider.auto_register,
        provider.default_role,
        provider.role_claim,
        provider.enabled,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks a provider against new links, and counts those it has. `None`: there is no such provider.
pub async fn lock_and_count_links(connection: &mut PgConnection, tenant: &TenantId, id: &str) -> sqlx::Result<Option<i64>> {
    let found = sqlx::query!("select id from oidc_providers where tenant_id = $1 and id = $2 for update", tenant.as_str(), id)
        .fetch_optional(&mut *connection)
        .await?;
    if found.is_none() {
        return Ok(None);
    }
    let count = sqlx::query_scalar!(
        "select count(distinct user_id) as \"count!\" from user_identities where tenant_id = $1 and provider_id = $2",
        tenant.as_str(),
        id,
    )
    .fetch_one(connection)
    .await?;
    Ok(Some(count))
}

/// Deletes a provider with its links and its logins on their way.
pub async fn delete(connection: &mut PgConnection, tenant: &TenantId, id: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from oidc_providers where tenant_id = $1 and id = $2", tenant.as_str(), id).execute(connection).await?;
    Ok(())
}

pub async fn insert_pending(connection: &mut PgConnection, state_hash: &[u8], pending: &Pending) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into oidc_logins
             (state_hash, tenant_id, provider_id, nonce, pkce_verifier, redirect_uri, delivery, browser_hash, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        state_hash,
        pending.tenant.as_str(),
        pending.provider_id,
        pending.nonce,
        pending.pkce_verifier,
        pending.redirect_uri,
        pending.delivery,
        pending.browser_hash,
        pending.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a login that came back, so that nobody else can. The tenant follows from the state.
pub async fn take_pending(connection: &mut PgConnection, state_hash: &[u8]) -> sqlx::Result<Option<Pending>> {
    let row = sqlx::query!(
        "delete from oidc_logins where state_hash = $1
         returning tenant_id, provider_id, nonce, pkce_verifier, redirect_uri, delivery, browser_hash, expires_at",
        state_hash,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Pending {
            tenant: TenantId::try_from(row.tenant_id).map_err(|error| sqlx::Error::Decode(error.into()))?,
            provider_id: row.provider_id,
            nonce: row.nonce,
            pkce_verifier: row.pkce_verifier,
            redirect_uri: row.redirect_uri,
            delivery: row.delivery,
            browser_hash: row.browser_hash,
            expires_at: row.expires_at,
        })
    })
    .transpose()
}

pub async fn delete_expired(connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
    Ok(sqlx::query!("delete from oidc_logins where expires_at <= $1", now).execute(connection).await?.rows_affected())
}

/// Whom a subject of a provider is linked to.
pub async fn find_linked(
    connection: &mut PgConnection,
    tenant: &TenantId,
    provider: &Provider,
    subject: &str,
) -> sqlx::Result<Option<User>> {
    let row = sqlx::query!(
        "select users.id, email, display_name, created_at from user_identities join users on users.id = user_id
         where tenant_id = $1 and provider_id = $2 and issuer_url = $3 and subject = $4 and kind = 'user'",
        tenant.as_str(),
        provider.id,
        provider.issuer_url,
        subject,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at }))
}

/// Whether a user is somebody at any of the tenant's providers as it is configured now.
pub async fn is_linked(connection: &mut PgConnection, tenant: &TenantId, user: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        "select exists (
             select from user_identities as known
             join oidc_providers as provider
                 on provider.tenant_id = known.tenant_id and provider.id = known.provider_id
                     and provider.issuer_url = known.issuer_url
             where known.tenant_id = $1 and user_id = $2) as \"linked!\"",
        tenant.as_str(),
        user.as_uuid(),
    )
    .fetch_one(connection)
    .await
}

pub async fn insert_link(
    connection: &mut PgConnection,
    tenant: &TenantId,
    provider: &Provider,
    subject: &str,
    user: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into user_identities (tenant_id, provider_id, issuer_url, subject, user_id, linked_at)
         values ($1, $2, $3, $4, $5, $6)",
        tenant.as_str(),
        provider.id,
        provider.issuer_url,
        subject,
        user.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes over what the provider says about a user; `None` leaves it as it is. An e-mail address that another account has is
/// not taken over, and nothing is when the account is a member of other tenants too. Returns the user as it is then.
pub async fn update_user(
    connection: &mut PgConnection,
    tenant: &TenantId,
    user: User,
    email: Option<&str>,
    display_name: Option<&str>,
) -> sqlx::Result<User> {
    let row = sqlx::query!(
        "update users set
             email = case when exists (select from users as other
                                       where other.id <> $2 and other.kind = 'user' and lower(other.email) = lower($3))
                 then email else coalesce($3, email) end,
             display_name = coalesce($4, display_name)
         where id = $2 and not exists (select from memberships where user_id = $2 and tenant_id <> $1)
         returning email, display_name",
        tenant.as_str(),
        user.id.as_uuid(),
        email,
        display_name,
    )
    .fetch_optional(connection)
    .await?;
    Ok(match row {
        Some(row) => User { email: row.email, display_name: row.display_name, ..user },
        None => user,
    })
}
