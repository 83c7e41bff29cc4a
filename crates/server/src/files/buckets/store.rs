//! Buckets and their objects in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{FileId, ObjectId, TenantId, UserId};

#[derive(Debug, Clone)]
pub struct Bucket {
    pub name: String,
    pub public: bool,
    pub max_file_size: Option<i64>,
    pub allowed_types: Option<Vec<String>>,
    pub created_at: DateTime<Utc>,
}

/// A folder, or what stands for a file.
#[derive(Debug, Clone)]
pub struct Object {
    pub id: Uuid,
    pub bucket: String,
    pub parent_id: Option<Uuid>,
    pub name: String,
    /// Absent: it is a folder.
    pub file_id: Option<Uuid>,
    pub content_type: Option<String>,
    pub size: Option<i64>,
    pub digest: Option<Vec<u8>>,
    pub created_by: Option<Uuid>,
    pub created_at: DateTime<Utc>,
}

/// Stores a new bucket. Whether there was none of that name.
pub async fn insert_bucket(connection: &mut PgConnection, tenant: &TenantId, bucket: &Bucket) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "insert into storage_buckets (tenant_id, name, public, max_file_size, allowed_types, created_at)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        tenant.as_str(),
        bucket.name,
        bucket.public,
        bucket.max_file_size,
        bucket.allowed_types.as_deref(),
        bucket.created_at,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Buckets by name, after one.
pub async fn list_buckets(connection: &mut PgConnection, tenant: &TenantId, after: &str, most: i64) -> sqlx::Result<Vec<Bucket>> {
    sqlx::query_as!(
        Bucket,
        "select name, public, max_file_size, allowed_types, created_at from storage_buckets
         where tenant_id = $1 and name > $2 order by name limit $3",
        tenant.as_str(),
        after,
        most,
    )
    .fetch_all(connection)
    .await
}

pub async fn find_bucket(connection: &mut PgConnection, tenant: &TenantId, name: &str) -> sqlx::Result<Option<Bucket>> {
    sqlx::query_as!(
        Bucket,
        "select name, public, max_file_size, allowed_types, created_at from storage_buckets where tenant_id = $1 and name = $2",
        tenant.as_str(),
        name,
    )
    .fetch_optional(connection)
    .await
}

/// Lets nobody else put anything into a bucket until the transaction ends. Whether it is there.
pub async fn lock_bucket(connection: &mut PgConnection, tenant: &TenantId, name: &str) -> sqlx::Result<bool> {
    let found =
        sqlx::query!("select name from storage_buckets where tenant_id = $1 and name = $2 for update", tenant.as_str(), name);
    Ok(found.fetch_optional(connection).await?.is_some())
}

/// Lets nobody else move anything within a bucket until the transaction ends. Whether it is there.
pub async fn lock_places(connection: &mut PgConnection, tenant: &TenantId, name: &str) -> sqlx::Result<bool> {
    Ok(sqlx::query!(
        "select name from storage_buckets where tenant_id = $1 and name = $2 for no key update",
        tenant.as_str(),
        name
    )
    .fetch_optional(connection)
    .await?
    .is_some())
}

pub async fn has_objects(connection: &mut PgConnection, tenant: &TenantId, bucket: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        "select exists (select from storage_objects where tenant_id = $1 and bucket = $2) as \"any!\"",
        tenant.as_str(),
        bucket,
    )
    .fetch_one(connection)
    .await
}

pub async fn delete_bucket(connection: &mut PgConnection, tenant: &TenantId, name: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from storage_buckets where tenant_id = $1 and name = $2", tenant.as_str(), name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Where something is put.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub tenant: &'a TenantId,
    pub bucket: &'a str,
    pub parent: Option<ObjectId>,
}

/// Stores an object. Fails by a unique index when there is one of that name, by a foreign key when the place is gone.
pub async fn insert_object(
    connection: &mut PgConnection,
    place: Place<'_>,
    (id, name, file): (ObjectId, &str, Option<FileId>),
    by: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into storage_objects (id, tenant_id, bucket, parent_id, name, file_id, created_by, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        id.as_uuid(),
        place.tenant.as_str(),
        place.bucket,
        place.parent.map(ObjectId::as_uuid),
        name,
        file.map(FileId::as_uuid),
        by.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What lies in a place: folders first, then by name, after one of them.
pub async fn list_objects(
    connection: &mut PgConnection,
    place: Place<'_>,
    after: Option<ObjectId>,
    most: i64,
) -> sqlx::Result<Vec<Object>> {
    sqlx::query_as!(
        Object,
        "select object.id, object.bucket, object.parent_id, object.name, object.file_id, files.content_type as \"content_type?\",
             files.size as \"size?\", files.digest, object.created_by, object.created_at
         from storage_objects as object left join files on files.id = object.file_id
         where object.tenant_id = $1 and object.bucket = $2
           and coalesce(object.parent_id, '00000000-0000-0000-0000-000000000000')
               = coalesce($3::uuid, '00000000-0000-0000-0000-000000000000')
           and ($4::uuid is null or ((object.file_id is not null), object.name)
               > (select (last.file_id is not null), last.name from storage_objects as last where last.id = $4 and last.tenant_id = $1))
         order by (object.file_id is not null), object.name limit $5",
        place.tenant.as_str(),
        place.bucket,
        place.parent.map(ObjectId::as_uuid),
        after.map(ObjectId::as_uuid),
        most,
    )
    .fetch_all(connection)
    .await
}

pub async fn find_object(
    connection: &mut PgConnection,
    (tenant, bucket): (&TenantId, &str),
    id: ObjectId,
) -> sqlx::Result<Option<Object>> {
    sqlx::query_as!(
        Object,
        "select object.id, object.bucket, object.parent_id, object.name, object.file_id, files.content_type as \"content_type?\",
             files.size as \"size?\", files.digest, object.created_by, object.created_at
         from storage_objects as object left join files on files.id = object.file_id
         where object.tenant_id = $1 and object.bucket = $2 and object.id = $3",
        tenant.as_str(),
        bucket,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// A folder on the way from the bucket to an object, or the object itself.
#[derive(Debug)]
pub struct Ancestor {
    pub id: Uuid,
    pub name: String,
}

/// The way to an object, from the outermost folder to itself. Empty when it is not there.
pub async fn list_ancestors(
    connection: &mut PgConnection,
    (tenant, bucket): (&TenantId, &str),
    id: ObjectId,
) -> sqlx::Result<Vec<Ancestor>> {
    sqlx::query_as!(
        Ancestor,
        "with recursive way as (
             select id, name, parent_id, 0 as step from storage_objects where tenant_id = $1 and bucket = $2 and id = $3
             union all
             select above.id, above.name, above.parent_id, way.step + 1
             from way join storage_objects as above on above.id = way.parent_id)
         select id as \"id!\", name as \"name!\" from way order by step desc",
        tenant.as_str(),
        bucket,
        id.as_uuid(),
    )
    .fetch_all(connection)
    .await
}

/// How many folders lie in one another below an object, itself included; 0 for a file.
pub async fn find_height(connection: &mut PgConnection, id: ObjectId) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        "with recursive tree as (
             select id, 1 as step from storage_objects where id = $1 and file_id is null
             union all
             select below.id, tree.step + 1 from tree join storage_objects as below
                 on below.parent_id = tree.id and below.file_id is null)
         select coalesce(max(step), 0) as \"height!\" from tree",
        id.as_uuid(),
    )
    .fetch_one(connection)
    .await
}

pub async fn update_place(connection: &mut PgConnection, place: Place<'_>, (id, name): (ObjectId, &str)) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "update storage_objects set parent_id = $4, name = $5 where tenant_id = $1 and bucket = $2 and id = $3",
        place.tenant.as_str(),
        place.bucket,
        id.as_uuid(),
        place.parent.map(ObjectId::as_uuid),
        name,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// Removes an object with all that lies in it; triggers see to the files.
pub async fn delete_object(connection: &mut PgConnection, (tenant, bucket): (&TenantId, &str), id: ObjectId) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from storage_objects where tenant_id = $1 and bucket = $2 and id = $3",
        tenant.as_str(),
        bucket,
        id.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
