//! Hooks in the database.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, HookId, TenantId, UserId};

use crate::{events::Operation, jobs::Standing};

/// A hook as it is stored.
#[derive(Debug, Clone)]
pub struct Hook {
    pub id: Uuid,
    pub tenant_id: String,
    pub app_id: String,
    pub entity: String,
    pub operation: String,
    pub action_type: String,
    pub action_config: Value,
    pub changed_fields: Option<Vec<String>>,
    pub condition: Option<Value>,
    pub active: bool,
    pub created_by: Uuid,
    pub set_up_by: Option<Uuid>,
    pub only_permissions: Option<Vec<String>>,
    pub since: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Hook {
    pub fn standing(&self) -> Standing {
        let (by, only) = (self.set_up_by.map(UserId::from), self.only_permissions.clone());
        Standing { user: self.created_by.into(), by, only }
    }
}

/// Stores a new hook and returns it as it is stored.
pub async fn insert(connection: &mut PgConnection, hook: &Hook) -> sqlx::Result<Hook> {
    sqlx::query_as!(
        Hook,
        "insert into hooks (id, tenant_id, app_id, entity, operation, action_type, action_config, changed_fields, condition, active,
             created_by, set_up_by, only_permissions, since, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)
         returning id, tenant_id, app_id, entity, operation, action_type, action_config, changed_fields, condition, active, created_by,
             set_up_by, only_permissions, since, created_at, updated_at",
        hook.id,
        hook.tenant_id,
        hook.app_id,
        hook.entity,
        hook.operation,
        hook.action_type,
        hook.action_config,
        hook.changed_fields.as_deref(),
        hook.condition,
        hook.active,
        hook.created_by,
        hook.set_up_by,
        hook.only_permissions.as_deref(),
        hook.since,
        hook.created_at,
    )
    .fetch_one(connection)
    .await
}

/// Which hooks of an app somebody asks for.
#[derive(Debug, Default)]
pub struct Asked {
    pub entity: Option<String>,
    pub operation: Option<Operation>,
    /// Older ones than this.
    pub before: Option<HookId>,
    /// Whose alone.
    pub of: Option<UserId>,
}

/// Hooks of an app, newest first.
pub async fn list(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    asked: &Asked,
    most: i64,
) -> sqlx::Result<Vec<Hook>> {
    sqlx::query_as!(
        Hook,
        "select id, tenant_id, app_id, entity, operation, action_type, action_config, changed_fields, condition, active, created_by,
             set_up_by, only_permissions, since, created_at, updated_at
         from hooks where tenant_id = $1 and app_id = $2 and ($3::text is null or entity = $3) and ($4::text is null or operation = $4)
           and ($5::uuid is null or id < $5) and ($6::uuid is null or created_by = $6 or set_up_by = $6)
         order by id desc limit $7",
        tenant.as_str(),
        app.as_str(),
        asked.entity,
        asked.operation.map(Operation::as_str),
        asked.before.map(HookId::as_uuid),
        asked.of.map(UserId::as_uuid),
        most,
    )
    .fetch_all(connection)
    .await
}

pub async fn find(connection: &mut PgConnection, (tenant, app): (&TenantId, &AppId), id: HookId) -> sqlx::Result<Option<Hook>> {
    sqlx::query_as!(
        Hook,
        "select id, tenant_id, app_id, entity, operation, action_type, action_config, changed_fields, condition, active, created_by,
             set_up_by, only_permissions, since, created_at, updated_at
         from hooks where tenant_id = $1 and app_id = $2 and id = $3",
        tenant.as_str(),
        app.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// The same, for as long as the transaction lasts.
pub async fn lock(connection: &mut PgConnection, place: (&TenantId, &AppId), id: HookId) -> sqlx::Result<Option<Hook>> {
    let (tenant, app) = place;
    sqlx::query!(
        "select from hooks where tenant_id = $1 and app_id = $2 and id = $3 for update",
        tenant.as_str(),
        app.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    find(connection, place, id).await
}

/// How many hooks an entity has.
pub async fn count(connection: &mut PgConnection, app: &AppId, entity: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!("select count(*) as \"count!\" from hooks where app_id = $1 and entity = $2", app.as_str(), entity)
        .fetch_one(connection)
        .await
}

/// Stores what a hook became, and returns it as it is stored.
pub async fn update(connection: &mut PgConnection, hook: &Hook) -> sqlx::Result<Hook> {
    sqlx::query_as!(
        Hook,
        "update hooks set action_config = $2, changed_fields = $3, condition = $4, active = $5, set_up_by = $6, only_permissions = $7,
             since = $8, updated_at = $9 where id = $1
         returning id, tenant_id, app_id, entity, operation, action_type, action_config, changed_fields, condition, active, created_by,
             set_up_by, only_permissions, since, created_at, updated_at",
        hook.id,
        hook.action_config,
        hook.changed_fields.as_deref(),
        hook.condition,
        hook.active,
        hook.set_up_by,
        hook.only_permissions.as_deref(),
        hook.since,
        hook.updated_at,
    )
    .fetch_one(connection)
    .await
}

pub async fn delete(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from hooks where id = $1", id).execute(connection).await?;
    Ok(())
}

/// Lets nobody else make or change hooks of this app until the transaction ends.
pub async fn lock_app(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", format!("hooks {app}")).fetch_one(connection).await?;
    Ok(())
}

/// What the active hooks of an app are about.
pub async fn list_interests(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<Vec<(String, Operation)>> {
    let rows = sqlx::query!("select distinct entity, operation from hooks where app_id = $1 and active", app.as_str())
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.entity, Operation::parse(&row.operation)?))).collect())
}

/// The active hooks about any of these subjects (`app/entity`), oldest first. They stay until the transaction ends, so whoever removes
/// their app removes the jobs that come of them too.
pub async fn list_active(connection: &mut PgConnection, subjects: &[String]) -> sqlx::Result<Vec<Hook>> {
    sqlx::query_as!(
        Hook,
        "select hooks.id, tenant_id, app_id, hooks.entity, operation, action_type, action_config, changed_fields, condition, active,
             created_by, set_up_by, only_permissions, since, created_at, updated_at
         from hooks join (select split_part(subject, '/', 1) as app, split_part(subject, '/', 2) as entity
                          from unnest($1::text[]) as subject) as asked on hooks.app_id = asked.app and hooks.entity = asked.entity
         where active and action_type = 'job' order by hooks.id for key share of hooks",
        subjects,
    )
    .fetch_all(connection)
    .await
}

/// Stores a hook that an app declares. One that is there stays as somebody left it, and acts for whoever installed the app last.
pub async fn upsert_declared(connection: &mut PgConnection, by: &AppId, hook: &Hook) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hooks (id, tenant_id, app_id, entity, operation, action_type, action_config, active, created_by, set_up_by,
             only_permissions, since, created_at, updated_at, declared_by)
         values ($1, $2, $3, $4, $5, $6, $7, true, $8, null, $9, $10, $11, $11, $12)
         on conflict (declared_by, app_id, entity, operation) where declared_by is not null do update
             set created_by = excluded.created_by, set_up_by = null, only_permissions = excluded.only_permissions,
                 updated_at = excluded.updated_at",
        hook.id,
        hook.tenant_id,
        hook.app_id,
        hook.entity,
        hook.operation,
        hook.action_type,
        hook.action_config,
        hook.created_by,
        hook.only_permissions.as_deref(),
        hook.since,
        hook.created_at,
        by.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the hooks that an app has declared, but for those that it still does. Returns whose records they were about.
pub async fn delete_undeclared(
    connection: &mut PgConnection,
    (tenant, by): (&TenantId, &AppId),
    about: Option<(&AppId, &str)>,
    operations: &[Operation],
) -> sqlx::Result<Vec<AppId>> {
    let operations: Vec<String> = operations.iter().map(|operation| operation.as_str().to_owned()).collect();
    let rows = sqlx::query_scalar!(
        "with removed as (
             delete from hooks where tenant_id = $1 and declared_by = $2
               and (app_id = $3 and entity = $4 and operation = any($5)) is not true
             returning app_id)
         select distinct app_id as \"app_id!\" from removed",
        tenant.as_str(),
        by.as_str(),
        about.map(|(app, _)| app.as_str()),
        about.map(|(_, entity)| entity),
        &operations,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().filter_map(|id| id.parse().ok()).collect())
}
