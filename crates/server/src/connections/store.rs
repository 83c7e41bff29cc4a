//! Connections in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, ConfigurationId, ConnectionId, TenantId, UserId, WayName};
use weft_vault::Sealed;

use super::credential::{Origin, Times};
pub use super::delegations::store::{Delegate, Terms, find_delegable, replace_delegation, take_call};

/// A connection as it is shown.
pub struct Listed {
    pub id: Uuid,
    pub kind: String,
    pub user_id: Option<Uuid>,
    pub agent_app_id: Option<String>,
    pub source_id: Option<Uuid>,
    pub label: Option<String>,
    pub way: Option<String>,
    pub status: String,
    pub status_cause: Option<String>,
    pub status_message: Option<String>,
    pub status_since: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub delegated_until: Option<DateTime<Utc>>,
    pub delegated_actions: Option<Vec<String>>,
    pub delegated_calls: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Who has a say in a connection.
pub struct Holders {
    pub kind: String,
    pub user_id: Option<Uuid>,
    /// Where a delegation leads.
    pub source_id: Option<Uuid>,
    /// Whose the connection is that it leads to.
    pub source_user_id: Option<Uuid>,
}

/// A direct connection with what is sealed of it.
pub struct Stored {
    pub id: Uuid,
    pub integration_id: String,
    pub user_id: Option<Uuid>,
    pub status: String,
    pub status_message: Option<String>,
    pub configuration_id: Option<Uuid>,
    pub way: Option<String>,
    pub version: i64,
    pub key_version: i32,
    pub sealed: Vec<u8>,
    pub expires_at: Option<DateTime<Utc>>,
    pub refresh_at: Option<DateTime<Utc>>,
    pub refreshed_at: Option<DateTime<Utc>>,
}

/// A connection that a call may use: what it is, and how far it reaches.
pub struct Candidate {
    pub id: Uuid,
    pub user_id: Option<Uuid>,
    pub delegation_id: Option<Uuid>,
    pub delegated_until: Option<DateTime<Utc>>,
    pub delegated_actions: Option<Vec<String>>,
    pub delegated_calls: Option<i64>,
}

/// Credentials on their way into a row.
pub struct Sealing {
    pub version: i64,
    pub key_version: i32,
    pub sealed: Sealed,
    pub times: Times,
    pub origin: Origin,
}

/// Whose direct connections are meant: a person's, or with `None` the tenant's.
pub type Owner = Option<UserId>;

/// The connections that somebody sees: their own, those of the tenant, and delegations to and from them.
pub async fn list(
    connection: &mut PgConnection,
    (tenant, integration, user): (&TenantId, &AppId, UserId),
    after: Option<ConnectionId>,
    limit: i64,
) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        "select connections.id, connections.kind, connections.user_id, connections.agent_app_id, connections.source_id,
             connections.label, coalesce(source.way, connections.way) as way,
             coalesce(source.status, connections.status) as \"status!\",
             coalesce(source.status_cause, connections.status_cause) as status_cause,
             coalesce(source.status_message, connections.status_message) as status_message,
             coalesce(source.status_since, connections.status_since) as \"status_since!\",
             coalesce(source.expires_at, connections.expires_at) as expires_at,
             connections.delegated_until, connections.delegated_actions, connections.delegated_calls, connections.created_at,
             greatest(connections.updated_at, source.updated_at) as \"updated_at!\"
         from connections left join connections source on source.id = connections.source_id
         where connections.tenant_id = $1 and connections.integration_id = $2
           and (connections.user_id = $3 or source.user_id = $3
                or (connections.kind = 'direct' and connections.user_id is null))
           and ($4::uuid is null or connections.id > $4)
         order by connections.id limit $5",
        tenant.as_str(),
        integration.as_str(),
        user.as_uuid(),
        after.map(ConnectionId::as_uuid),
        limit,
    )
    .fetch_all(connection)
    .await
}

/// One connection, and who has a say in it.
pub async fn find_holders(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    id: ConnectionId,
) -> sqlx::Result<Option<Holders>> {
    sqlx::query_as!(
        Holders,
        "select connections.kind, connections.user_id, connections.source_id, source.user_id as source_user_id
         from connections left join connections source on source.id = connections.source_id
         where connections.tenant_id = $1 and connections.integration_id = $2 and connections.id = $3",
        tenant.as_str(),
        integration.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

pub async fn find(connection: &mut PgConnection, tenant: &TenantId, id: ConnectionId) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        "select id, integration_id, user_id, status, status_message, configuration_id, way, version,
             key_version as \"key_version!\", sealed as \"sealed!\", expires_at, refresh_at, refreshed_at
         from connections where tenant_id = $1 and id = $2 and kind = 'direct'",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// The direct connection that has a label, locked against another change until the transaction ends.
pub async fn lock_labelled(
    connection: &mut PgConnection,
    (tenant, integration, owner): (&TenantId, &AppId, Owner),
    label: &str,
) -> sqlx::Result<Option<(ConnectionId, i64)>> {
    let row = sqlx::query!(
        "select id, version from connections where tenant_id = $1 and integration_id = $2 and kind = 'direct'
           and user_id is not distinct from $3 and label = $4 for update",
        tenant.as_str(),
        integration.as_str(),
        owner.map(UserId::as_uuid),
        label,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.id.into(), row.version)))
}

/// The version of a connection, locked in the same way.
pub async fn lock(connection: &mut PgConnection, tenant: &TenantId, id: ConnectionId) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "select version from connections where tenant_id = $1 and id = $2 and kind = 'direct' for update",
        tenant.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// The same by id, if it belongs to this owner.
pub async fn lock_own(
    connection: &mut PgConnection,
    (tenant, integration, owner): (&TenantId, &AppId, Owner),
    id: ConnectionId,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "select version from connections where tenant_id = $1 and integration_id = $2 and kind = 'direct'
           and user_id is not distinct from $3 and id = $4 for update",
        tenant.as_str(),
        integration.as_str(),
        owner.map(UserId::as_uuid),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

pub async fn insert(
    connection: &mut PgConnection,
    (tenant, integration, owner): (&TenantId, &AppId, Owner),
    (id, label, by): (ConnectionId, Option<&str>, UserId),
    sealing: &Sealing,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into connections (id, tenant_id, integration_id, kind, user_id, label, status_since, version, key_version, sealed,
             expires_at, refresh_at, refreshed_at, created_by, created_at, updated_at, configuration_id, way)
         values ($1, $2, $3, 'direct', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $6, $6, $14, $15)",
        id.as_uuid(),
        tenant.as_str(),
        integration.as_str(),
        owner.map(UserId::as_uuid),
        label,
        now,
        sealing.version,
        sealing.key_version,
        sealing.sealed.0,
        sealing.times.expires_at,
        sealing.times.refresh_at,
        sealing.times.refreshed_at,
        by.as_uuid(),
        sealing.origin.configuration.map(ConfigurationId::as_uuid),
        sealing.origin.way.as_ref().map(WayName::as_str),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts fresh credentials into a connection, which serves again. A label that is given replaces the one before.
pub async fn update_credentials(
    connection: &mut PgConnection,
    id: ConnectionId,
    label: Option<&str>,
    sealing: &Sealing,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update connections set label = coalesce($2, label), status = 'active', status_cause = null, status_message = null,
             status_since = case status when 'active' then status_since else $3 end, version = $4, key_version = $5, sealed = $6,
             expires_at = $7, refresh_at = $8, refreshed_at = $9, refresh_holder = null, refresh_started_at = null,
             refresh_until = null, updated_at = $3, configuration_id = $10, way = $11
         where id = $1",
        id.as_uuid(),
        label,
        now,
        sealing.version,
        sealing.key_version,
        sealing.sealed.0,
        sealing.times.expires_at,
        sealing.times.refresh_at,
        sealing.times.refreshed_at,
        sealing.origin.configuration.map(ConfigurationId::as_uuid),
        sealing.origin.way.as_ref().map(WayName::as_str),
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn update_label(
    connection: &mut PgConnection,
    tenant: &TenantId,
    id: ConnectionId,
    label: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update connections set label = $3, updated_at = $4 where tenant_id = $1 and id = $2",
        tenant.as_str(),
        id.as_uuid(),
        label,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that a connection does not serve any more, unless its credentials were renewed since.
pub async fn update_status(
    connection: &mut PgConnection,
    (tenant, id, version): (&TenantId, ConnectionId, i64),
    (status, cause, message): (&str, &str, &str),
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "update connections set status = $4, status_cause = $5, status_message = $6, status_since = $7, refresh_holder = null,
             refresh_started_at = null, refresh_until = null, updated_at = $7
         where tenant_id = $1 and id = $2 and version = $3",
        tenant.as_str(),
        id.as_uuid(),
        version,
        status,
        cause,
        message,
        now,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

pub async fn delete(connection: &mut PgConnection, tenant: &TenantId, id: ConnectionId) -> sqlx::Result<bool> {
    let result = sqlx::query!("delete from connections where tenant_id = $1 and id = $2", tenant.as_str(), id.as_uuid())
        .execute(connection)
        .await?;
    Ok(result.rows_affected() > 0)
}

/// The direct connections of a person, or the delegations to an app.
pub async fn list_ids(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    of: (Option<UserId>, Option<&AppId>),
) -> sqlx::Result<Vec<ConnectionId>> {
    let ids = sqlx::query_scalar!(
        "select id from connections where tenant_id = $1 and integration_id = $2
           and ((kind = 'direct' and user_id = $3) or (kind = 'delegation' and agent_app_id = $4)) order by id",
        tenant.as_str(),
        integration.as_str(),
        of.0.map(UserId::as_uuid),
        of.1.map(AppId::as_str),
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(ConnectionId::from).collect())
}

/// Who has connections of their own.
pub async fn list_users(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    after: Option<UserId>,
    limit: i64,
) -> sqlx::Result<Vec<UserId>> {
    let ids = sqlx::query_scalar!(
        "select distinct user_id as \"user_id!\" from connections
         where tenant_id = $1 and integration_id = $2 and kind = 'direct' and user_id is not null
           and ($3::uuid is null or user_id > $3) order by 1 limit $4",
        tenant.as_str(),
        integration.as_str(),
        after.map(UserId::as_uuid),
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(UserId::from).collect())
}

/// How many connections of its own somebody has that serve, and how many that do not; and whether the tenant has one that serves.
pub async fn count(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    of: (Option<UserId>, Option<&AppId>),
) -> sqlx::Result<(i64, i64, bool)> {
    let row = sqlx::query!(
        "select count(*) filter (where own and coalesce(source.status, connections.status) = 'active') as \"active!\",
             count(*) filter (where own and coalesce(source.status, connections.status) <> 'active') as \"dead!\",
             coalesce(bool_or(not own and connections.status = 'active'), false) as \"shared!\"
         from connections left join connections source on source.id = connections.source_id
         cross join lateral (select connections.kind = 'delegation' or connections.user_id is not null as own) as whose
         where connections.tenant_id = $1 and connections.integration_id = $2
           and ((connections.kind = 'direct' and (connections.user_id = $3 or (connections.user_id is null and $4::text is null)))
                or (connections.kind = 'delegation' and connections.agent_app_id = $4))",
        tenant.as_str(),
        integration.as_str(),
        of.0.map(UserId::as_uuid),
        of.1.map(AppId::as_str),
    )
    .fetch_one(connection)
    .await?;
    Ok((row.active, row.dead, row.shared))
}

/// Tenant, integration and person that a call is about.
pub type Whose<'a> = (&'a TenantId, &'a AppId, UserId);

/// The connection that an app is bound to for somebody: their own binding before the one for everybody.
pub async fn find_bound(
    connection: &mut PgConnection,
    (tenant, integration, user): Whose<'_>,
    app: &AppId,
) -> sqlx::Result<Option<Candidate>> {
    sqlx::query_as!(
        Candidate,
        "select coalesce(connections.source_id, connections.id) as \"id!\", coalesce(source.user_id, connections.user_id) as user_id,
             case connections.kind when 'delegation' then connections.id end as delegation_id,
             connections.delegated_until, connections.delegated_actions, connections.delegated_calls
         from app_bindings join connections on connections.id = connection_id
         left join connections source on source.id = connections.source_id
         where app_bindings.tenant_id = $1 and app_bindings.integration_id = $2 and app_id = $4
           and (app_bindings.user_id = $3 or app_bindings.user_id is null)
         order by app_bindings.user_id nulls last limit 1",
        tenant.as_str(),
        integration.as_str(),
        user.as_uuid(),
        app.as_str(),
    )
    .fetch_optional(connection)
    .await
}

/// The connection that somebody uses: their own, the tenant's, or one that is delegated to them or to the app they come through. The
/// one that is named; else one that serves before one that does not, one that is good for something before a delegation that is over
/// or used up, then a delegation before an own one before the tenant's, then the oldest.
pub async fn find_usable(
    connection: &mut PgConnection,
    ((tenant, integration, user), app): (Whose<'_>, Option<&AppId>),
    named: Option<ConnectionId>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Candidate>> {
    sqlx::query_as!(
        Candidate,
        "select coalesce(connections.source_id, connections.id) as \"id!\", coalesce(source.user_id, connections.user_id) as user_id,
             case connections.kind when 'delegation' then connections.id end as delegation_id,
             connections.delegated_until, connections.delegated_actions, connections.delegated_calls
         from connections left join connections source on source.id = connections.source_id
         where connections.tenant_id = $1 and connections.integration_id = $2 and ($6::uuid is null or connections.id = $6)
           and (connections.user_id = $3 or (connections.kind = 'delegation' and connections.agent_app_id = $4)
                or (connections.kind = 'direct' and connections.user_id is null))
         order by coalesce(source.status, connections.status) = 'active' desc,
             (connections.delegated_until is null or connections.delegated_until > $5)
                 and (connections.delegated_calls is null or connections.delegated_calls > 0) desc,
             connections.kind = 'delegation' desc, connections.user_id nulls last, connections.created_at, connections.id
         limit 1",
        tenant.as_str(),
        integration.as_str(),
        user.as_uuid(),
        app.map(AppId::as_str),
        now,
        named.map(ConnectionId::as_uuid),
    )
    .fetch_optional(connection)
    .await
}

/// Whether somebody is a member of the tenant.
pub async fn is_member(connection: &mut PgConnection, tenant: &TenantId, user: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        "select exists (select from memberships where tenant_id = $1 and user_id = $2) as \"member!\"",
        tenant.as_str(),
        user.as_uuid(),
    )
    .fetch_one(connection)
    .await
}
