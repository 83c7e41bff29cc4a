//! Namespaces, departments and their members in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{DepartmentId, NamespaceId, TenantId, UserId};

#[derive(Debug, Clone)]
pub struct Namespace {
    pub id: NamespaceId,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

#[derive(Debug, Clone)]
pub struct Department {
    pub id: DepartmentId,
    pub parent: Option<DepartmentId>,
    pub name: String,
}

pub struct Member {
    pub user: UserId,
    pub email: String,
    pub added_at: DateTime<Utc>,
}

/// The namespaces of a tenant, or the one, each with whether this user belongs to a department of it.
pub async fn list(
    connection: &mut PgConnection,
    tenant: &TenantId,
    only: Option<&NamespaceId>,
    user: UserId,
) -> sqlx::Result<Vec<(Namespace, bool)>> {
    let rows = sqlx::query!(
        "select id, name, created_at,
                exists (select from department_members as members
                        where members.tenant_id = $1 and namespace_id = namespaces.id and user_id = $3) as \"belongs!\"
         from namespaces where tenant_id = $1 and ($2::text is null or id = $2) order by id",
        tenant.as_str(),
        only.map(NamespaceId::as_str),
        user.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let id = NamespaceId::try_from(row.id).map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok((Namespace { id, name: row.name, created_at: row.created_at }, row.belongs))
        })
        .collect()
}

/// Whether the id was free. The keys that are limited to the namespace come with it.
pub async fn insert(connection: &mut PgConnection, tenant: &TenantId, namespace: &Namespace) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into namespaces (tenant_id, id, name, created_at) values ($1, $2, $3, $4) on conflict do nothing",
        tenant.as_str(),
        namespace.id.as_str(),
        namespace.name,
        namespace.created_at,
    )
    .execute(&mut *connection)
    .await?;
    if result.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "insert into permissions (tenant_id, key, description)
         values ($1, 'namespace:' || $2::text || ':manage', 'canManageNamespaces, in the namespace ' || $2),
                ($1, 'namespace:' || $2 || ':plugins.manage', 'canManagePlugins, in the namespace ' || $2)
         on conflict do nothing",
        tenant.as_str(),
        namespace.id.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(true)
}

pub async fn update_name(connection: &mut PgConnection, (tenant, id): (&TenantId, &NamespaceId), name: &str) -> sqlx::Result<()> {
    sqlx::query!("update namespaces set name = $3 where tenant_id = $1 and id = $2", tenant.as_str(), id.as_str(), name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes a namespace that has no departments.
pub async fn delete(connection: &mut PgConnection, (tenant, id): (&TenantId, &NamespaceId)) -> sqlx::Result<()> {
    sqlx::query!("delete from namespaces where tenant_id = $1 and id = $2", tenant.as_str(), id.as_str())
        .execute(&mut *connection)
        .await?;
    let keys = [format!("namespace:{id}:manage"), format!("namespace:{id}:plugins.manage")];
    sqlx::query!("delete from permissions where tenant_id = $1 and key = any($2)", tenant.as_str(), &keys)
        .execute(connection)
        .await?;
    Ok(())
}

/// Locks a namespace against other changes of it. False when the tenant has none of that id.
pub async fn lock(connection: &mut PgConnection, (tenant, id): (&TenantId, &NamespaceId)) -> sqlx::Result<bool> {
    let found = sqlx::query!(
        "select id from namespaces where tenant_id = $1 and id = $2 for no key update",
        tenant.as_str(),
        id.as_str()
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

pub async fn list_departments(
    connection: &mut PgConnection,
    (tenant, namespace): (&TenantId, &NamespaceId),
) -> sqlx::Result<Vec<Department>> {
    let rows = sqlx::query!(
        "select id, parent_id, name from departments where tenant_id = $1 and namespace_id = $2 order by name, id",
        tenant.as_str(),
        namespace.as_str(),
    )
    .fetch_all(connection)
    .await?;
    let department =
        |id: uuid::Uuid, parent: Option<uuid::Uuid>, name| Department { id: id.into(), parent: parent.map(Into::into), name };
    Ok(rows.into_iter().map(|row| department(row.id, row.parent_id, row.name)).collect())
}

/// The departments that a user belongs to, and all below them.
pub async fn list_reached(
    connection: &mut PgConnection,
    (tenant, namespace): (&TenantId, &NamespaceId),
    user: UserId,
) -> sqlx::Result<Vec<DepartmentId>> {
    let reached = sqlx::query_scalar!(
        "with recursive reached (id) as (
             select department_id from department_members where tenant_id = $1 and namespace_id = $2 and user_id = $3
             union
             select departments.id from reached
             join departments on tenant_id = $1 and namespace_id = $2 and parent_id = reached.id
         )
         select id as \"id!\" from reached order by id",
        tenant.as_str(),
        namespace.as_str(),
        user.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    Ok(reached.into_iter().map(DepartmentId::from).collect())
}

/// Stores a department, new or changed.
pub async fn upsert_department(
    connection: &mut PgConnection,
    (tenant, namespace): (&TenantId, &NamespaceId),
    department: &Department,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into departments (tenant_id, namespace_id, id, parent_id, name, created_at) values ($1, $2, $3, $4, $5, $6)
         on conflict (tenant_id, namespace_id, id) do update set parent_id = excluded.parent_id, name = excluded.name",
        tenant.as_str(),
        namespace.as_str(),
        department.id.as_uuid(),
        department.parent.map(DepartmentId::as_uuid),
        department.name,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes a department that has none below it. Memberships go with it.
pub async fn delete_department(
    connection: &mut PgConnection,
    (tenant, namespace): (&TenantId, &NamespaceId),
    id: DepartmentId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from departments where tenant_id = $1 and namespace_id = $2 and id = $3",
        tenant.as_str(),
        namespace.as_str(),
        id.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn list_members(
    connection: &mut PgConnection,
    (tenant, namespace): (&TenantId, &NamespaceId),
    department: DepartmentId,
) -> sqlx::Result<Vec<Member>> {
    let rows = sqlx::query!(
        "select user_id, email, added_at from department_members join users on users.id = user_id
         where tenant_id = $1 and namespace_id = $2 and department_id = $3 order by email, user_id",
        tenant.as_str(),
        namespace.as_str(),
        department.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| Member { user: row.user_id.into(), email: row.email, added_at: row.added_at }).collect())
}

/// Whether the user was no member yet.
pub async fn insert_member(
    connection: &mut PgConnection,
    (tenant, namespace): (&TenantId, &NamespaceId),
    (department, user): (DepartmentId, UserId),
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into department_members (tenant_id, namespace_id, department_id, user_id, added_at) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        tenant.as_str(),
        namespace.as_str(),
        department.as_uuid(),
        user.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Whether the user was a member.
pub async fn delete_member(
    connection: &mut PgConnection,
    (tenant, namespace): (&TenantId, &NamespaceId),
    (department, user): (DepartmentId, UserId),
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "delete from department_members where tenant_id = $1 and namespace_id = $2 and department_id = $3 and user_id = $4",
        tenant.as_str(),
        namespace.as_str(),
        department.as_uuid(),
        user.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}
