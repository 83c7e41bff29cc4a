//! Bindings in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, BindingId, ConnectionId, TenantId, UserId};

pub struct Binding {
    pub id: BindingId,
    pub integration_id: String,
    pub user_id: Option<Uuid>,
    pub connection_id: Option<Uuid>,
    pub triggers: Vec<String>,
    pub created_at: DateTime<Utc>,
}

/// The bindings of an app that somebody sees: their own and those for everybody.
pub async fn list(
    connection: &mut PgConnection,
    (tenant, app, user): (&TenantId, &AppId, UserId),
    after: Option<BindingId>,
    limit: i64,
) -> sqlx::Result<Vec<Binding>> {
    sqlx::query_as!(
        Binding,
        "select id, integration_id, user_id, connection_id, triggers, created_at from app_bindings
         where tenant_id = $1 and app_id = $2 and (user_id = $3 or user_id is null) and ($4::uuid is null or id > $4)
         order by id limit $5",
        tenant.as_str(),
        app.as_str(),
        user.as_uuid(),
        after.map(BindingId::as_uuid),
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Whose binding it is: somebody's, or with `None` everybody's.
pub type Owner = Option<UserId>;

pub async fn upsert(
    connection: &mut PgConnection,
    (tenant, app, integration): (&TenantId, &AppId, &AppId),
    (owner, bound, triggers): (Owner, Option<ConnectionId>, &[String]),
    (id, by): (BindingId, UserId),
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into app_bindings (id, tenant_id, app_id, integration_id, user_id, connection_id, created_by, created_at, triggers)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (tenant_id, app_id, integration_id, user_id) do update
             set connection_id = excluded.connection_id, created_by = excluded.created_by, triggers = excluded.triggers",
        id.as_uuid(),
        tenant.as_str(),
        app.as_str(),
        integration.as_str(),
        owner.map(UserId::as_uuid),
        bound.map(ConnectionId::as_uuid),
        by.as_uuid(),
        now,
        triggers,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn delete(
    connection: &mut PgConnection,
    (tenant, app, integration): (&TenantId, &AppId, &AppId),
    owner: Owner,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "delete from app_bindings where tenant_id = $1 and app_id = $2 and integration_id = $3
           and user_id is not distinct from $4",
        tenant.as_str(),
        app.as_str(),
        integration.as_str(),
        owner.map(UserId::as_uuid),
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Whether somebody may bind a connection: their own or the tenant's, and for themselves also one that is delegated to them. What was
/// lent to one person is not theirs to give to everybody.
pub async fn may_bind(
    connection: &mut PgConnection,
    (tenant, integration, user): (&TenantId, &AppId, UserId),
    owner: Owner,
    id: ConnectionId,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        "select exists (select from connections where tenant_id = $1 and integration_id = $2 and id = $4
             and ((kind = 'direct' and (user_id = $3 or user_id is null)) or (kind = 'delegation' and user_id = $5)))
             as \"bindable!\"",
        tenant.as_str(),
        integration.as_str(),
        user.as_uuid(),
        id.as_uuid(),
        owner.map(UserId::as_uuid),
    )
    .fetch_one(connection)
    .await
}
