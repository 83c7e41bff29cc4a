//! Tenants in the database.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use weft_model::{TenantId, UserId};

/// A tenant as it is stored.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub id: TenantId,
    pub name: String,
    pub created_at: DateTime<Utc>,
    pub disabled_at: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
}

/// Whether the id was free. The roles that every tenant has come with it.
pub async fn insert(connection: &mut PgConnection, tenant: &Tenant, by: UserId) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into tenants (id, name, created_at, created_by) values ($1, $2, $3, $4) on conflict do nothing",
        tenant.id.as_str(),
        tenant.name,
        tenant.created_at,
        by.as_uuid(),
    )
    .execute(&mut *connection)
    .await?;
    if result.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "insert into roles (tenant_id, name, description, permissions)
         values ($1, 'admin', 'May do everything', '{*}'), ($1, 'base', 'May sign in and nothing else', '{}')",
        tenant.id.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(true)
}

pub async fn list(connection: &mut PgConnection, only: Option<&TenantId>) -> sqlx::Result<Vec<Tenant>> {
    let rows = sqlx::query!(
        "select id, name, created_at, disabled_at, deleted_at from tenants where $1::text is null or id = $1 order by id",
        only.map(TenantId::as_str),
    )
    .fetch_all(connection)
    .await?;
    let id = |id: String| TenantId::try_from(id).map_err(|error| sqlx::Error::Decode(error.into()));
    rows.into_iter()
        .map(|row| {
            let (created_at, disabled_at, deleted_at) = (row.created_at, row.disabled_at, row.deleted_at);
            Ok(Tenant { id: id(row.id)?, name: row.name, created_at, disabled_at, deleted_at })
        })
        .collect()
}

/// Locks a tenant until the transaction ends.
pub async fn lock(connection: &mut PgConnection, id: &TenantId) -> sqlx::Result<()> {
    sqlx::query!("select id from tenants where id = $1 for update", id.as_str()).fetch_optional(connection).await?;
    Ok(())
}

pub async fn update_disabled(
    connection: &mut PgConnection,
    id: &TenantId,
    disabled_at: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    sqlx::query!("update tenants set disabled_at = $2 where id = $1", id.as_str(), disabled_at).execute(connection).await?;
    Ok(())
}

pub async fn update_deleted(connection: &mut PgConnection, id: &TenantId, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("update tenants set deleted_at = $2 where id = $1", id.as_str(), now).execute(&mut *connection).await?;
    sqlx::query!("delete from sessions where tenant_id = $1", id.as_str()).execute(connection).await?;
    Ok(())
}

/// The tenants whose rows are still to go.
pub async fn list_deleted(connection: &mut PgConnection) -> sqlx::Result<Vec<TenantId>> {
    let ids = sqlx::query_scalar!("select id from tenants where deleted_at is not null order by deleted_at")
        .fetch_all(connection)
        .await?;
    ids.into_iter().map(|id| TenantId::try_from(id).map_err(|error| sqlx::Error::Decode(error.into()))).collect()
}

/// Whether nobody else erases this tenant. The lock goes with the transaction.
pub async fn try_lock_erasure(connection: &mut PgConnection, id: &TenantId) -> sqlx::Result<bool> {
    let name = format!("erase tenant {id}");
    sqlx::query_scalar!("select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as \"free!\"", name)
        .fetch_one(connection)
        .await
}

/// Deletes a batch of the accounts that are members of this tenant only: machines, then people. Returns how many.
pub async fn delete_accounts(connection: &mut PgConnection, id: &TenantId) -> sqlx::Result<u64> {
    let machines = sqlx::query!(
        "delete from users where id in (select id from service_accounts where tenant_id = $1 limit 500)",
        id.as_str(),
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if machines > 0 {
        return Ok(machines);
    }
    let people = sqlx::query!(
        "delete from users where id in (
             select user_id from memberships as here where tenant_id = $1 and not exists
                 (select from memberships as elsewhere where elsewhere.user_id = here.user_id and elsewhere.tenant_id <> $1)
             limit 500)",
        id.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(people.rows_affected())
}

/// Every table whose rows belong to a tenant, with its name quoted.
pub async fn list_tables(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select quote_ident(tables.table_name) as \"name!\"
         from information_schema.tables join information_schema.columns using (table_schema, table_name)
         where table_schema = current_schema() and table_type = 'BASE TABLE' and column_name = 'tenant_id'
             -- The rows of a partitioned table are those of its partitions, each of which is in the list.
             and exists (select from pg_class where relkind = 'r' and relname = tables.table_name
                         and relnamespace = to_regnamespace(quote_ident(table_schema)))
         order by tables.table_name"
    )
    .fetch_all(connection)
    .await
}

/// Deletes a batch of a tenant's rows from one of [`list_tables`]. Returns how many.
pub async fn delete_rows(connection: &mut PgConnection, table: &str, id: &TenantId) -> sqlx::Result<u64> {
    let statement = format!("delete from {table} where ctid in (select ctid from {table} where tenant_id = $1 limit 2000)");
    let result = sqlx::query(AssertSqlSafe(statement)).bind(id.as_str()).execute(connection).await?;
    Ok(result.rows_affected())
}

/// Whether a tenant was marked as deleted before `since` and is gone now.
pub async fn delete(connection: &mut PgConnection, id: &TenantId, since: DateTime<Utc>) -> sqlx::Result<bool> {
    let result =
        sqlx::query!("delete from tenants where id = $1 and deleted_at <= $2", id.as_str(), since).execute(connection).await?;
    Ok(result.rows_affected() > 0)
}
