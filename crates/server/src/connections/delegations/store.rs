//! Delegations in the database: connections that lead to somebody else's.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{AppId, ConnectionId, TenantId, UserId};

/// Takes one of the calls that a delegation has left, and says how many it has left then. `None` when there was none.
pub async fn take_call(connection: &mut PgConnection, tenant: &TenantId, delegation: ConnectionId) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "update connections set delegated_calls = delegated_calls - 1
         where tenant_id = $1 and id = $2 and delegated_calls > 0 returning delegated_calls as \"left!\"",
        tenant.as_str(),
        delegation.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// The direct connection to delegate: the one that is named, else the oldest of somebody's that serves.
pub async fn find_delegable(
    connection: &mut PgConnection,
    (tenant, integration, user): (&TenantId, &AppId, UserId),
    id: Option<ConnectionId>,
) -> sqlx::Result<Option<ConnectionId>> {
    let found = sqlx::query_scalar!(
        "select id from connections where tenant_id = $1 and integration_id = $2 and kind = 'direct'
           and (user_id = $3 or ($4::uuid is not null and user_id is null))
           and (id = $4 or ($4::uuid is null and status = 'active')) order by created_at, id limit 1",
        tenant.as_str(),
        integration.as_str(),
        user.as_uuid(),
        id.map(ConnectionId::as_uuid),
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.map(ConnectionId::from))
}

/// How far a delegation reaches.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    pub until: Option<DateTime<Utc>>,
    pub actions: Option<Vec<String>>,
    pub calls: Option<i64>,
}

/// Whom a delegation is for.
#[derive(Debug, Clone)]
pub enum Delegate {
    App(AppId),
    Member(UserId),
}

/// Replaces what this connection was delegated to this delegate before.
pub async fn replace_delegation(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    (id, source, by): (ConnectionId, ConnectionId, UserId),
    (to, terms): (&Delegate, &Terms),
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (app, member) = match to {
        Delegate::App(app) => (Some(app.as_str()), None),
        Delegate::Member(user) => (None, Some(user.as_uuid())),
    };
    sqlx::query!(
        "delete from connections where kind = 'delegation' and tenant_id = $1 and source_id = $2
           and agent_app_id is not distinct from $3 and user_id is not distinct from $4",
        tenant.as_str(),
        source.as_uuid(),
        app,
        member,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into connections (id, tenant_id, integration_id, kind, user_id, agent_app_id, source_id, status_since,
             delegated_until, delegated_actions, delegated_calls, created_by, created_at, updated_at)
         values ($1, $2, $3, 'delegation', $4, $5, $6, $7, $8, $9, $10, $11, $7, $7)",
        id.as_uuid(),
        tenant.as_str(),
        integration.as_str(),
        member,
        app,
        source.as_uuid(),
        now,
        terms.until,
        terms.actions.as_deref(),
        terms.calls,
        by.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
