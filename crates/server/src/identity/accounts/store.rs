//! Service accounts, their keys and delegations in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{CredentialId, TenantId, UserId};

use crate::identity::store::User;

/// A service account as its managers see it.
pub struct Account {
    pub user: User,
    pub slug: String,
    pub owner: UserId,
    pub disabled: bool,
}

/// A key as its managers see it.
pub struct Key {
    pub id: CredentialId,
    pub name: String,
    pub prefix: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A key that somebody showed, with the account that it belongs to.
pub struct ShownKey {
    pub id: CredentialId,
    pub tenant: TenantId,
    pub account: User,
    pub expires_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
}

pub async fn insert(connection: &mut PgConnection, tenant: &TenantId, account: &Account) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users (id, kind, email, display_name, created_at) values ($1, 'service_account', $2, $3, $4)",
        account.user.id.as_uuid(),
        account.user.email,
        account.user.display_name,
        account.user.created_at,
    )
    .execute(&mut *connection)
    .await?;
    crate::identity::store::insert_membership(connection, tenant, account.user.id, account.user.created_at).await?;
    sqlx::query!(
        "insert into service_accounts (id, tenant_id, slug, owner_id) values ($1, $2, $3, $4)",
        account.user.id.as_uuid(),
        tenant.as_str(),
        account.slug,
        account.owner.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn list(connection: &mut PgConnection, tenant: &TenantId, only: Option<UserId>) -> sqlx::Result<Vec<Account>> {
    let rows = sqlx::query!(
        "select users.id, email, display_name, users.created_at, slug, owner_id, disabled_at is not null as \"disabled!\"
         from service_accounts
         join users on users.id = service_accounts.id
         join memberships on memberships.tenant_id = service_accounts.tenant_id and user_id = users.id
         where service_accounts.tenant_id = $1 and ($2::uuid is null or users.id = $2) order by slug",
        tenant.as_str(),
        only.map(UserId::as_uuid),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Account {
            user: User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at },
            slug: row.slug,
            owner: row.owner_id.into(),
            disabled: row.disabled,
        })
        .collect())
}

/// Locks an account until the transaction ends. False when the tenant has none of that id.
pub async fn lock(connection: &mut PgConnection, tenant: &TenantId, id: UserId) -> sqlx::Result<bool> {
    let found = sqlx::query!(
        "select id from service_accounts where tenant_id = $1 and id = $2 for update",
        tenant.as_str(),
        id.as_uuid()
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Deletes an account with its membership, keys and delegations.
pub async fn delete(connection: &mut PgConnection, id: UserId) -> sqlx::Result<()> {
    sqlx::query!("delete from users where id = $1 and kind = 'service_account'", id.as_uuid()).execute(connection).await?;
    Ok(())
}

pub async fn update_owner(connection: &mut PgConnection, tenant: &TenantId, id: UserId, owner: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        "update service_accounts set owner_id = $3 where tenant_id = $1 and id = $2",
        tenant.as_str(),
        id.as_uuid(),
        owner.as_uuid()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A key about to be stored.
pub struct NewKey<'a> {
    pub key: &'a Key,
    pub digest: &'a [u8],
    pub by: UserId,
}

pub async fn insert_key(
    connection: &mut PgConnection,
    (tenant, account): (&TenantId, UserId),
    new: NewKey<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into service_account_keys (id, tenant_id, account_id, name, digest, prefix, created_at, created_by, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new.key.id.as_uuid(),
        tenant.as_str(),
        account.as_uuid(),
        new.key.name,
        new.digest,
        new.key.prefix,
        new.key.created_at,
        new.by.as_uuid(),
        new.key.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The keys of an account, newest first.
pub async fn list_keys(connection: &mut PgConnection, tenant: &TenantId, account: UserId) -> sqlx::Result<Vec<Key>> {
    let rows = sqlx::query!(
        "select id, name, prefix, created_at, expires_at, last_used_at from service_account_keys
         where tenant_id = $1 and account_id = $2 order by id desc",
        tenant.as_str(),
        account.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Key {
            id: row.id.into(),
            name: row.name,
            prefix: row.prefix,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
        })
        .collect())
}

/// Whether there was such a key.
pub async fn delete_key(
    connection: &mut PgConnection,
    (tenant, account): (&TenantId, UserId),
    id: CredentialId,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "delete from service_account_keys where tenant_id = $1 and account_id = $2 and id = $3",
        tenant.as_str(),
        account.as_uuid(),
        id.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// The key of that digest, if it has not expired and neither account nor tenant is switched off. The key decides about the tenant.
pub async fn find_key(connection: &mut PgConnection, digest: &[u8], now: DateTime<Utc>) -> sqlx::Result<Option<ShownKey>> {
    let row = sqlx::query!(
        "select keys.id, keys.tenant_id, keys.expires_at, keys.last_used_at, users.id as user_id, email, display_name,
             users.created_at
         from service_account_keys as keys
         join users on users.id = account_id
         join memberships on memberships.tenant_id = keys.tenant_id and user_id = users.id
         join tenants on tenants.id = keys.tenant_id
         where digest = $1 and keys.expires_at > $2
           and memberships.disabled_at is null and tenants.disabled_at is null and tenants.deleted_at is null",
        digest,
        now,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(ShownKey {
        id: row.id.into(),
        tenant: TenantId::try_from(row.tenant_id).map_err(|error| sqlx::Error::Decode(error.into()))?,
        account: User { id: row.user_id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at },
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
    }))
}

/// The account behind a key that a token names, under the same conditions as [`find_key`].
pub async fn find_key_user(
    connection: &mut PgConnection,
    (tenant, account): (&TenantId, UserId),
    id: CredentialId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<(User, String)>> {
    let row = sqlx::query!(
        "select users.id, email, display_name, users.created_at, kind
         from service_account_keys as keys
         join users on users.id = account_id
         join memberships on memberships.tenant_id = keys.tenant_id and user_id = users.id
         join tenants on tenants.id = keys.tenant_id
         where keys.id = $1 and keys.tenant_id = $2 and account_id = $3 and keys.expires_at > $4
           and memberships.disabled_at is null and tenants.disabled_at is null and tenants.deleted_at is null",
        id.as_uuid(),
        tenant.as_str(),
        account.as_uuid(),
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| {
        let user = User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at };
        (user, row.kind)
    }))
}

pub async fn update_last_used(connection: &mut PgConnection, id: CredentialId, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("update service_account_keys set last_used_at = $2 where id = $1", id.as_uuid(), now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether the delegation is new.
pub async fn insert_delegation(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (actor, target): (UserId, UserId),
    by: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into delegations (tenant_id, actor_id, target_id, granted_at, granted_by) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        tenant.as_str(),
        actor.as_uuid(),
        target.as_uuid(),
        now,
        by.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Whether there was such a delegation.
pub async fn delete_delegation(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (actor, target): (UserId, UserId),
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "delete from delegations where tenant_id = $1 and actor_id = $2 and target_id = $3",
        tenant.as_str(),
        actor.as_uuid(),
        target.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// A standing permission to act as somebody else.
pub struct Delegation {
    pub actor: UserId,
    pub target: UserId,
    pub granted_at: DateTime<Utc>,
    pub granted_by: Option<UserId>,
}

/// The delegations from an actor, to a target, or both.
pub async fn list_delegations(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (actor, target): (Option<UserId>, Option<UserId>),
) -> sqlx::Result<Vec<Delegation>> {
    let rows = sqlx::query!(
        "select actor_id, target_id, granted_at, granted_by from delegations
         where tenant_id = $1 and ($2::uuid is null or actor_id = $2) and ($3::uuid is null or target_id = $3)
         order by granted_at, actor_id, target_id",
        tenant.as_str(),
        actor.map(UserId::as_uuid),
        target.map(UserId::as_uuid),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Delegation {
            actor: row.actor_id.into(),
            target: row.target_id.into(),
            granted_at: row.granted_at,
            granted_by: row.granted_by.map(UserId::from),
        })
        .collect())
}
