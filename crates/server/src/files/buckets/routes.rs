//! `/api/v1/storage/buckets` and `/api/v1/storage/objects`.

use std::sync::Arc;

use axum::{
    Json as Body,
    body::Body as RawBody,
    extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use futures::{StreamExt, TryStreamExt};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{ObjectId, Principal};

use super::{
    names::BucketName,
    service::{Error, Move, NewBucket},
    store::Place,
    wire::{
        Bucket, BucketCreated, BucketDeleted, BucketFilter, CreateBucketRequest, CreateFolderRequest, FolderCreated, MoveRequest,
        ObjectDeleted, ObjectFilter, ObjectForm, ObjectMoved, ObjectUploaded, StorageObject, WayPoint,
    },
};
use crate::{
    files::{
        answer,
        service::{self, Arrived, NewFile},
    },
    http::{
        Problems,
        extract::{Authorized, Caller, Json, Path, Query, lacking, rights},
        page,
        problem::{Code, Problem},
    },
    node::Node,
};

/// Rows per list at most.
const MAX_LIMIT: i64 = 1000;
/// The longest text field of a form, in bytes.
const LONGEST_TEXT: usize = 100;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(upload))
        // Files are counted as they come.
        .layer(DefaultBodyLimit::disable())
        .routes(routes!(list_buckets, create_bucket))
        .routes(routes!(delete_bucket))
        .routes(routes!(list_objects, create_folder))
        .routes(routes!(download, relocate, remove))
        .routes(routes!(ancestors))
}

/// List the buckets
#[utoipa::path(get, path = "/api/v1/storage/buckets", tag = "storage", params(BucketFilter),
    responses((status = 200, body = Vec<Bucket>), Problems))]
async fn list_buckets(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ListBuckets>,
    Query(filter): Query<BucketFilter>,
) -> Result<Body<Vec<Bucket>>, Problem> {
    let limit = page::limit_within(filter.limit, MAX_LIMIT, MAX_LIMIT)?;
    let buckets = node.files.buckets(&caller.tenant, filter.after.as_deref().unwrap_or_default(), limit).await?;
    Ok(Body(buckets.into_iter().map(Bucket::from).collect()))
}

/// Create a bucket
#[utoipa::path(post, path = "/api/v1/storage/buckets", tag = "storage", request_body = CreateBucketRequest,
    responses((status = 201, body = BucketCreated), Problems))]
async fn create_bucket(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::CreateBuckets>,
    Json(request): Json<CreateBucketRequest>,
) -> Result<(StatusCode, Body<BucketCreated>), Problem> {
    let CreateBucketRequest { name, public, max_file_size, allowed_types } = request;
    let new = NewBucket { name: name.clone(), public, max_file_size, allowed_types };
    node.files.create_bucket(&caller, new).await?;
    Ok((StatusCode::CREATED, Body(BucketCreated { name })))
}

/// Delete a bucket
///
/// One with nothing in it. `default` stays.
#[utoipa::path(delete, path = "/api/v1/storage/buckets/{bucket}", tag = "storage", params(("bucket" = String, Path)),
    responses((status = 200, body = BucketDeleted), Problems))]
async fn delete_bucket(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeleteBuckets>,
    Path(bucket): Path<BucketName>,
) -> Result<Body<BucketDeleted>, Problem> {
    node.files.delete_bucket(&caller, &bucket).await?;
    Ok(Body(BucketDeleted { deleted: String::from(&*bucket) }))
}

/// List what is in a bucket or in one of its folders
///
/// Folders first, then by name.
#[utoipa::path(get, path = "/api/v1/storage/objects/{bucket}", tag = "storage", params(("bucket" = String, Path), ObjectFilter),
    responses((status = 200, body = Vec<StorageObject>), Problems))]
async fn list_objects(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadObjects>,
    Path(bucket): Path<BucketName>,
    Query(filter): Query<ObjectFilter>,
) -> Result<Body<Vec<StorageObject>>, Problem> {
    let limit = page::limit_within(filter.limit, MAX_LIMIT, MAX_LIMIT)?;
    let place = Place { tenant: &caller.tenant, bucket: &bucket, parent: folder(filter.parent_id.as_deref())? };
    let objects = node.files.objects(place, filter.after, limit).await?;
    Ok(Body(objects.into_iter().map(StorageObject::from).collect()))
}

/// A folder as it is named in requests: nothing, an empty text and `null` are the bucket itself.
fn folder(text: Option<&str>) -> Result<Option<ObjectId>, Problem> {
    let named = text.filter(|text| !text.is_empty() && *text != "null");
    let id = named.map(str::parse::<Uuid>).transpose();
    let id = id.map_err(|_| {
        Problem::new(Code::InvalidRequest, "parent_id must be the id of a folder, or empty for the bucket itself.")
    })?;
    Ok(id.map(ObjectId::from))
}

/// Create a folder
#[utoipa::path(post, path = "/api/v1/storage/objects/{bucket}", tag = "storage", params(("bucket" = String, Path)),
    request_body = CreateFolderRequest, responses((status = 201, body = FolderCreated), Problems))]
async fn create_folder(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteObjects>,
    Path(bucket): Path<BucketName>,
    Json(request): Json<CreateFolderRequest>,
) -> Result<(StatusCode, Body<FolderCreated>), Problem> {
    let place = Place { tenant: &caller.tenant, bucket: &bucket, parent: folder(request.parent_id.as_deref())? };
    let id = node.files.create_folder(&caller, place, &request.name).await?;
    Ok((StatusCode::CREATED, Body(FolderCreated { id, name: request.name, is_folder: true })))
}

/// Upload a file into a bucket
///
/// One file, and the text field `parent_id` if it is to be in a folder. It is there when this answers.
#[utoipa::path(post, path = "/api/v1/storage/objects/{bucket}/upload", tag = "storage", params(("bucket" = String, Path)),
    request_body(content = ObjectForm, content_type = "multipart/form-data"),
    responses((status = 201, body = ObjectUploaded), Problems))]
async fn upload(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteObjects>,
    Path(bucket): Path<BucketName>,
    request: Request<RawBody>,
) -> Result<(StatusCode, Body<ObjectUploaded>), Problem> {
    let form = Multipart::from_request(request, &()).await.map_err(|_| no_file())?;
    let mut sent = Sent::default();
    if let Err(problem) = sent.receive(&node, &caller, &bucket, form).await {
        if let Some(arrived) = &sent.file {
            node.files.discard(&caller.tenant, arrived).await;
        }
        return Err(problem);
    }
    let arrived = sent.file.ok_or_else(no_file)?;
    let place = Place { tenant: &caller.tenant, bucket: &bucket, parent: sent.parent };
    let (id, file) = node.files.put(&caller, place, &arrived).await?;
    let uploaded = ObjectUploaded { id, name: file.name, content_type: file.content_type, size: file.size };
    Ok((StatusCode::CREATED, Body(uploaded)))
}

/// What came with a form.
#[derive(Default)]
struct Sent {
    file: Option<Arrived>,
    parent: Option<ObjectId>,
}

impl Sent {
    /// Takes in the fields as they come, in whatever order.
    async fn receive(&mut self, node: &Node, caller: &Principal, bucket: &str, mut form: Multipart) -> Result<(), Problem> {
        let broken =
            |error: axum::extract::multipart::MultipartError| Problem::from(service::Error::Interrupted(error.body_text()));
        while let Some(mut field) = form.next_field().await.map_err(broken)? {
            if field.file_name().is_some() {
                if self.file.is_some() {
                    return Err(Problem::new(Code::InvalidRequest, "Send one file at a time."));
                }
                let new = NewFile {
                    name: field.file_name().unwrap_or_default().to_owned(),
                    content_type: field.content_type().map(str::to_owned),
                    by: Some(caller.id),
                    most: None,
                };
                let content = field.map_err(|error| service::Error::Interrupted(error.body_text())).boxed();
                self.file = Some(node.files.take_in_for(&caller.tenant, bucket, new, content).await?);
            } else if field.name() == Some("parent_id") {
                let mut text = Vec::new();
                while let Some(chunk) = field.chunk().await.map_err(broken)? {
                    text.extend(chunk.into_iter().take(LONGEST_TEXT.saturating_sub(text.len())));
                }
                self.parent = folder(Some(&String::from_utf8_lossy(&text)))?;
            }
        }
        Ok(())
    }
}

fn no_file() -> Problem {
    Problem::new(Code::InvalidRequest, "no file field: send the file as multipart/form-data.")
}

/// Download a file of a bucket
///
/// With `Range`, a part of it; with `If-Range` besides, the whole file unless it is still the one of which there is a part. Everybody who
/// is logged in may read what is in a public bucket.
#[utoipa::path(get, path = "/api/v1/storage/objects/{bucket}/{object_id}", tag = "storage",
    params(("bucket" = String, Path), ("object_id" = ObjectId, Path),
        ("Range" = Option<String>, Header, description = "One part: `bytes=0-99`, `bytes=100-`, `bytes=-100`"),
        ("If-Range" = Option<String>, Header, description = "The `ETag` of the file of which there is a part")),
    responses((status = 200, description = "What the file holds", content_type = "*/*"),
        (status = 206, description = "The part that `Range` asks for", content_type = "*/*"),
        Problems))]
async fn download(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((bucket, id)): Path<(BucketName, ObjectId)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let keys = vec!["storage:read".to_owned(), format!("storage:{}:read", &*bucket)];
    if !keys.iter().any(|key| caller.permissions.allows(key)) {
        let is_public = node.files.bucket(&caller.tenant, &bucket).await?.is_some_and(|bucket| bucket.public);
        if !is_public {
            return Err(lacking(keys));
        }
    }
    let file = node.files.file_of((&caller.tenant, &bucket), id).await?;
    answer::requested(&node, &caller.tenant, &file, (&method, &headers)).await
}

/// Rename an object, or move it to another folder
#[utoipa::path(patch, path = "/api/v1/storage/objects/{bucket}/{object_id}", tag = "storage",
    params(("bucket" = String, Path), ("object_id" = ObjectId, Path)), request_body = MoveRequest,
    responses((status = 200, body = ObjectMoved), Problems))]
async fn relocate(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteObjects>,
    Path((bucket, id)): Path<(BucketName, ObjectId)>,
    Json(request): Json<MoveRequest>,
) -> Result<Body<ObjectMoved>, Problem> {
    let parent = request.parent_id.as_deref().map(|text| folder(Some(text))).transpose()?;
    node.files.relocate((&caller.tenant, &bucket), id, Move { name: request.name, parent }).await?;
    Ok(Body(ObjectMoved { id, updated: true }))
}

/// Delete an object
///
/// A folder goes with all that lies in it.
#[utoipa::path(delete, path = "/api/v1/storage/objects/{bucket}/{object_id}", tag = "storage",
    params(("bucket" = String, Path), ("object_id" = ObjectId, Path)), responses((status = 200, body = ObjectDeleted), Problems))]
async fn remove(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeleteObjects>,
    Path((bucket, id)): Path<(BucketName, ObjectId)>,
) -> Result<Body<ObjectDeleted>, Problem> {
    node.files.delete_object(&caller, &bucket, id).await?;
    Ok(Body(ObjectDeleted { deleted: id }))
}

/// The way to an object
///
/// From the outermost folder to the object itself.
#[utoipa::path(get, path = "/api/v1/storage/objects/{bucket}/{object_id}/ancestors", tag = "storage",
    params(("bucket" = String, Path), ("object_id" = ObjectId, Path)), responses((status = 200, body = Vec<WayPoint>), Problems))]
async fn ancestors(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadObjects>,
    Path((bucket, id)): Path<(BucketName, ObjectId)>,
) -> Result<Body<Vec<WayPoint>>, Problem> {
    let way = node.files.ancestors((&caller.tenant, &bucket), id).await?;
    Ok(Body(way.into_iter().map(WayPoint::from).collect()))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(faults) => Self::invalid(&message, faults),
            Error::BucketExists(_)
            | Error::IsDefault
            | Error::IsFolder(_)
            | Error::InvalidName(_)
            | Error::NameTaken(_)
            | Error::IntoItself
            | Error::TooDeep
            | Error::TypeNotAllowed { .. } => Self::new(Code::ValidationFailed, format!("{message}.")),
            Error::UnknownBucket(_) | Error::UnknownObject(_) | Error::UnknownFolder(_) => Self::not_found(message),
            Error::NotEmpty(_) => Self::new(Code::Conflict, format!("{message}.")),
            Error::File(cause) => cause.into(),
            Error::Database(cause) => cause.into(),
        }
    }
}
