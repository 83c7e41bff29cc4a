//! Roles, assignments and the catalogue of permission keys in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{TenantId, UserId};

pub struct Role {
    pub name: String,
    pub description: Option<String>,
    pub inherits: Vec<String>,
    pub permissions: Vec<String>,
}

pub struct Assignment {
    pub user: UserId,
    pub role: String,
    pub assigned_at: DateTime<Utc>,
}

/// What somebody holds, inherited roles included, both lists sorted.
pub struct Effective {
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
}

pub struct Permission {
    pub key: String,
    pub description: String,
}

/// The union of all roles of a user and of those they inherit from. `union` ends the walk even over a cycle.
pub async fn effective(connection: &mut PgConnection, tenant: &TenantId, user: UserId) -> sqlx::Result<Effective> {
    let row = sqlx::query!(
        "with recursive held (name) as (
             select role from role_assignments where tenant_id = $1 and user_id = $2
             union
             select parent from held
             join roles on roles.tenant_id = $1 and roles.name = held.name, unnest(inherits) as parent
         )
         select coalesce(array_agg(distinct roles.name order by roles.name), '{}') as \"roles!\",
                coalesce((select array_agg(distinct permission order by permission) from held as again
                          join roles as granting on granting.tenant_id = $1 and granting.name = again.name,
                          unnest(granting.permissions) as permission), '{}') as \"permissions!\"
         from held join roles on roles.tenant_id = $1 and roles.name = held.name",
        tenant.as_str(),
        user.as_uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(Effective { roles: row.roles, permissions: row.permissions })
}

/// Locks the administrator role of a tenant, so that two changes cannot each remove what the other one counts on.
/// Returns the people who hold it directly: a key of a machine expires, and then nobody would be left.
pub async fn lock_administrators(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Vec<UserId>> {
    lock_admin_role(connection, tenant).await?;
    let holders = sqlx::query_scalar!(
        "select user_id from role_assignments join memberships using (tenant_id, user_id) join users on users.id = user_id
         where tenant_id = $1 and role = $2 and disabled_at is null and kind = 'user'",
        tenant.as_str(),
        super::ADMIN,
    )
    .fetch_all(connection)
    .await?;
    Ok(holders.into_iter().map(UserId::from).collect())
}

async fn lock_admin_role(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<()> {
    sqlx::query!("select from roles where tenant_id = $1 and name = $2 for update", tenant.as_str(), super::ADMIN)
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn list(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Vec<Role>> {
    sqlx::query_as!(
        Role,
        "select name, description, inherits, permissions from roles where tenant_id = $1 order by name",
        tenant.as_str(),
    )
    .fetch_all(connection)
    .await
}

/// Locks every role of the tenant against changes until the transaction ends, and returns them.
pub async fn lock_all(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Vec<Role>> {
    // A statement sees only what was committed before it began: the one below must not begin before its turn.
    lock_admin_role(connection, tenant).await?;
    sqlx::query_as!(
        Role,
        "select name, description, inherits, permissions from roles where tenant_id = $1 order by name for update",
        tenant.as_str(),
    )
    .fetch_all(connection)
    .await
}

/// Whether the role was new.
pub async fn insert(connection: &mut PgConnection, tenant: &TenantId, role: &Role) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into roles (tenant_id, name, description, inherits, permissions) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        tenant.as_str(),
        role.name,
        role.description,
        &role.inherits,
        &role.permissions,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

pub async fn update(connection: &mut PgConnection, tenant: &TenantId, role: &Role) -> sqlx::Result<()> {
    sqlx::query!(
        "update roles set description = $3, inherits = $4, permissions = $5 where tenant_id = $1 and name = $2",
        tenant.as_str(),
        role.name,
        role.description,
        &role.inherits,
        &role.permissions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the role existed. Assignments of it go with it.
pub async fn delete(connection: &mut PgConnection, tenant: &TenantId, name: &str) -> sqlx::Result<bool> {
    let result =
        sqlx::query!("delete from roles where tenant_id = $1 and name = $2", tenant.as_str(), name).execute(connection).await?;
    Ok(result.rows_affected() > 0)
}

pub async fn list_assignments(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Vec<Assignment>> {
    let rows = sqlx::query!(
        "select user_id, role, assigned_at from role_assignments where tenant_id = $1 order by assigned_at desc, user_id, role",
        tenant.as_str(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Assignment { user: row.user_id.into(), role: row.role, assigned_at: row.assigned_at })
        .collect())
}

/// A role that was given to somebody.
pub struct Given {
    pub role: String,
    pub assigned_at: DateTime<Utc>,
    pub assigned_by: Option<UserId>,
}

/// The roles that were given to a user, in order of their names.
pub async fn list_given(connection: &mut PgConnection, tenant: &TenantId, user: UserId) -> sqlx::Result<Vec<Given>> {
    let rows = sqlx::query!(
        "select role, assigned_at, assigned_by from role_assignments where tenant_id = $1 and user_id = $2 order by role",
        tenant.as_str(),
        user.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    let given = rows.into_iter().map(|row| Given {
        role: row.role,
        assigned_at: row.assigned_at,
        assigned_by: row.assigned_by.map(UserId::from),
    });
    Ok(given.collect())
}

/// Whether a key acts on the server as a whole.
pub async fn is_of_the_instance(connection: &mut PgConnection, key: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!("select exists (select from permissions where key = $1 and of_the_instance) as \"is!\"", key)
        .fetch_one(connection)
        .await
}

/// Gives a role; giving it again changes nothing. Whether it was given just now.
pub async fn assign(
    connection: &mut PgConnection,
    tenant: &TenantId,
    user: UserId,
    role: &str,
    by: Option<UserId>,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into role_assignments (tenant_id, user_id, role, assigned_at, assigned_by) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        tenant.as_str(),
        user.as_uuid(),
        role,
        now,
        by.map(UserId::as_uuid),
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Whether the assignment existed.
pub async fn revoke(connection: &mut PgConnection, tenant: &TenantId, user: UserId, role: &str) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "delete from role_assignments where tenant_id = $1 and user_id = $2 and role = $3",
        tenant.as_str(),
        user.as_uuid(),
        role,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// The keys of the platform, which are those of the tenant `default`, and those of the tenant's apps.
pub async fn list_permissions(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Vec<Permission>> {
    sqlx::query_as!(
        Permission,
        "select key, description from permissions
         where tenant_id = $1 or (tenant_id = 'default' and source_app is null and not of_the_instance) order by key",
        tenant.as_str()
    )
    .fetch_all(connection)
    .await
}

/// Makes the catalogue hold exactly `permissions` for an app.
pub async fn replace_permissions(
    connection: &mut PgConnection,
    tenant: &TenantId,
    app: &str,
    permissions: &[Permission],
) -> sqlx::Result<()> {
    sqlx::query!("delete from permissions where tenant_id = $1 and source_app = $2", tenant.as_str(), app)
        .execute(&mut *connection)
        .await?;
    let keys: Vec<String> = permissions.iter().map(|permission| permission.key.clone()).collect();
    let descriptions: Vec<String> = permissions.iter().map(|permission| permission.description.clone()).collect();
    sqlx::query!(
        "insert into permissions (tenant_id, key, description, source_app)
         select $1, key, description, $2 from unnest($3::text[], $4::text[]) as given (key, description)
         on conflict (tenant_id, key) do nothing",
        tenant.as_str(),
        app,
        &keys,
        &descriptions,
    )
    .execute(connection)
    .await?;
    Ok(())
}
