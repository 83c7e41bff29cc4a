//! Users, memberships and sessions in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{SessionId, TenantId, UserId};

/// A user as others see it.
#[derive(Debug, Clone)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub display_name: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// What logging in needs to know of a person.
pub struct Credentials {
    pub user: User,
    pub password_hash: Option<String>,
}

/// What authenticating a request needs to know: the user behind a live session.
pub struct SessionUser {
    pub user: User,
    pub kind: String,
    /// Whether the login proved who the user is to the whole server, not to this tenant only.
    pub spans_tenants: bool,
}

/// A tenant that somebody is a member of.
#[derive(Debug, Clone)]
pub struct Membership {
    pub tenant: TenantId,
    /// The tenant's name for people.
    pub name: String,
    /// Neither the tenant nor the member is switched off.
    pub usable: bool,
}

/// A session about to be stored.
pub struct NewSession<'a> {
    pub id: SessionId,
    pub tenant: &'a TenantId,
    pub user: UserId,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// See [`SessionUser::spans_tenants`]. When in doubt, false.
    pub spans_tenants: bool,
}

/// Stores a person's account without making it a member anywhere.
pub async fn insert_account(connection: &mut PgConnection, user: &User, password_hash: Option<&str>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users (id, email, display_name, password_hash, created_at) values ($1, $2, $3, $4, $5)",
        user.id.as_uuid(),
        user.email,
        user.display_name,
        password_hash,
        user.created_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that an administrator of this tenant chose the password of an account.
pub async fn update_password_maker(connection: &mut PgConnection, user: UserId, tenant: &TenantId) -> sqlx::Result<()> {
    sqlx::query!("update users set password_made_in = $2 where id = $1", user.as_uuid(), tenant.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes a user a member of a tenant. False when it is one already.
pub async fn insert_membership(
    connection: &mut PgConnection,
    tenant: &TenantId,
    user: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into memberships (tenant_id, user_id, created_at) values ($1, $2, $3) on conflict do nothing",
        tenant.as_str(),
        user.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// The account of a person, whatever tenants it is a member of.
pub async fn find_credentials(connection: &mut PgConnection, email: &str) -> sqlx::Result<Option<Credentials>> {
    let row = sqlx::query!(
        "select id, email, display_name, created_at, password_hash from users where lower(email) = lower($1) and kind = 'user'",
        email,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Credentials {
        user: User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at },
        password_hash: row.password_hash,
    }))
}

/// Whether the account with this e-mail address was logged in to from a network before.
pub async fn is_familiar(connection: &mut PgConnection, email: &str, network: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        "select exists (select from login_networks join users on users.id = user_id
                        where lower(email) = lower($1) and kind = 'user' and network = $2) as \"familiar!\"",
        email,
        network,
    )
    .fetch_one(connection)
    .await
}

/// Remembers from where somebody logged in. Written at most once a day for one place.
pub async fn upsert_network(connection: &mut PgConnection, user: UserId, network: &str, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into login_networks as known (user_id, network, last_used_at) values ($1, $2, $3)
         on conflict (user_id, network) do update set last_used_at = excluded.last_used_at
         where known.last_used_at < excluded.last_used_at - interval '1 day'",
        user.as_uuid(),
        network,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn delete_old_networks(connection: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    Ok(sqlx::query!("delete from login_networks where last_used_at < $1", before).execute(connection).await?.rows_affected())
}

/// The user behind a session that has not ended, in a tenant and as a member that are not switched off.
pub async fn find_session_user(
    connection: &mut PgConnection,
    tenant: &TenantId,
    session: SessionId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<SessionUser>> {
    let row = sqlx::query!(
        "select users.id, email, display_name, users.created_at, kind, spans_tenants
         from sessions
         join users on users.id = sessions.user_id
         join memberships on memberships.tenant_id = sessions.tenant_id and memberships.user_id = sessions.user_id
         join tenants on tenants.id = sessions.tenant_id
         where sessions.id = $1 and sessions.tenant_id = $2 and expires_at > $3
           and memberships.disabled_at is null and tenants.disabled_at is null and tenants.deleted_at is null",
        session.as_uuid(),
        tenant.as_str(),
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| SessionUser {
        user: User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at },
        kind: row.kind,
        spans_tenants: row.spans_tenants,
    }))
}

/// The tenants that somebody is a member of, the one used last first, then the one joined first.
pub async fn list_memberships(connection: &mut PgConnection, user: UserId) -> sqlx::Result<Vec<Membership>> {
    let rows = sqlx::query!(
        "select tenants.id, name,
             memberships.disabled_at is null and tenants.disabled_at is null
                 and coalesce(password_made_in, tenants.id) = tenants.id as \"usable!\"
         from memberships join tenants on tenants.id = tenant_id join users on users.id = user_id
         where user_id = $1 and deleted_at is null
         order by last_login_at desc nulls last, memberships.created_at, tenants.id",
        user.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    let tenant = |id: String| TenantId::try_from(id).map_err(|error| sqlx::Error::Decode(error.into()));
    rows.into_iter().map(|row| Ok(Membership { tenant: tenant(row.id)?, name: row.name, usable: row.usable })).collect()
}

/// Notes that somebody logged in to a tenant.
pub async fn update_last_login(
    connection: &mut PgConnection,
    tenant: &TenantId,
    user: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update memberships set last_login_at = $3 where tenant_id = $1 and user_id = $2",
        tenant.as_str(),
        user.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A member of any kind: person, service account, agent.
pub async fn find_member(connection: &mut PgConnection, tenant: &TenantId, id: UserId) -> sqlx::Result<Option<User>> {
    let row = sqlx::query!(
        "select id, email, display_name, users.created_at from users
         join memberships on user_id = users.id where tenant_id = $1 and users.id = $2",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at }))
}

/// A member of any kind as questions about it name it.
#[derive(Debug, Clone)]
pub struct Member {
    pub id: UserId,
    pub email: String,
    pub kind: String,
    pub disabled: bool,
}

/// A member by id or by e-mail address.
pub async fn find_any_member(connection: &mut PgConnection, tenant: &TenantId, named: &str) -> sqlx::Result<Option<Member>> {
    let row = sqlx::query!(
        "select id, email, kind, disabled_at is not null as \"disabled!\" from users join memberships on user_id = users.id
         where tenant_id = $1 and (id = $2 or lower(email) = lower($3)) order by id limit 1",
        tenant.as_str(),
        named.parse().ok().map(UserId::as_uuid),
        named,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Member { id: row.id.into(), email: row.email, kind: row.kind, disabled: row.disabled }))
}

/// A member of any kind that is not switched off, and which kind it is.
pub async fn find_enabled_member(
    connection: &mut PgConnection,
    tenant: &TenantId,
    id: UserId,
) -> sqlx::Result<Option<(User, String)>> {
    let row = sqlx::query!(
        "select id, email, display_name, users.created_at, kind from users
         join memberships on user_id = users.id where tenant_id = $1 and users.id = $2 and disabled_at is null",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| {
        let user = User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at };
        (user, row.kind)
    }))
}

/// A person who may act in a tenant: a member, and neither is switched off.
pub async fn find_active_person(connection: &mut PgConnection, tenant: &TenantId, id: UserId) -> sqlx::Result<Option<User>> {
    let row = sqlx::query!(
        "select users.id, email, display_name, users.created_at from users
         join memberships on user_id = users.id join tenants on tenants.id = tenant_id
         where tenant_id = $1 and users.id = $2 and kind = 'user'
           and memberships.disabled_at is null and tenants.disabled_at is null and deleted_at is null",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at }))
}

/// Whether a member is switched off; `None` when the user is no member.
pub async fn find_disabled(connection: &mut PgConnection, tenant: &TenantId, id: UserId) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar!(
        "select disabled_at is not null as \"disabled!\" from memberships where tenant_id = $1 and user_id = $2",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

pub async fn find_user(connection: &mut PgConnection, tenant: &TenantId, id: UserId) -> sqlx::Result<Option<User>> {
    let row = sqlx::query!(
        "select id, email, display_name, users.created_at from users
         join memberships on user_id = users.id where tenant_id = $1 and users.id = $2 and kind = 'user'",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| User { id: row.id.into(), email: row.email, display_name: row.display_name, created_at: row.created_at }))
}

pub async fn list_users(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Vec<User>> {
    let rows = sqlx::query!(
        "select id, email, display_name, users.created_at from users
         join memberships on user_id = users.id where tenant_id = $1 and kind = 'user' order by email",
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

/// Ends a person's membership. Roles and sessions go with it.
pub async fn delete_membership(connection: &mut PgConnection, tenant: &TenantId, id: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from memberships using users
         where memberships.tenant_id = $1 and user_id = $2 and users.id = user_id and kind = 'user'",
        tenant.as_str(),
        id.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes the account of somebody who is no member of any tenant.
pub async fn delete_homeless(connection: &mut PgConnection, id: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from users where id = $1 and not exists (select from memberships where user_id = users.id)",
        id.as_uuid()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether such a person is a member. One that is switched off loses its sessions.
pub async fn set_disabled(
    connection: &mut PgConnection,
    tenant: &TenantId,
    id: UserId,
    disabled_at: Option<DateTime<Utc>>,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "update memberships set disabled_at = $3 where tenant_id = $1 and user_id = $2",
        tenant.as_str(),
        id.as_uuid(),
        disabled_at,
    )
    .execute(&mut *connection)
    .await?;
    if disabled_at.is_some() {
        sqlx::query!("delete from sessions where tenant_id = $1 and user_id = $2", tenant.as_str(), id.as_uuid())
            .execute(connection)
            .await?;
    }
    Ok(result.rows_affected() > 0)
}

/// Replaces a person's password and ends all sessions but the one that `kept` names.
pub async fn update_password(
    connection: &mut PgConnection,
    id: UserId,
    password_hash: &str,
    kept: SessionId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update users set password_hash = $2, password_made_in = null where id = $1 and kind = 'user'",
        id.as_uuid(),
        password_hash,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from sessions where user_id = $1 and id <> $2", id.as_uuid(), kept.as_uuid())
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn insert_session(connection: &mut PgConnection, session: &NewSession<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into sessions (id, tenant_id, user_id, created_at, expires_at, spans_tenants) values ($1, $2, $3, $4, $5, $6)",
        session.id.as_uuid(),
        session.tenant.as_str(),
        session.user.as_uuid(),
        session.created_at,
        session.expires_at,
        session.spans_tenants,
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
