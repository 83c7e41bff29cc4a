//! `/api/v1/apps/{app_id}/upload`, `/api/v1/apps/{app_id}/storage` and the addresses below `/api/v1/storage` that are good for once.

use std::{io, sync::Arc};

use axum::{
    Json as Body, Router,
    body::Body as RawBody,
    extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State, multipart::Field},
    http::{HeaderMap, Method, StatusCode},
    response::Response,
    routing::post,
};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{AppId, FileId, Principal};

use super::{
    answer, content,
    service::{Error, NewFile},
    store::File as Stored,
    tickets::{Issued, WorkerUpload},
};
use crate::{
    http::{
        Problems,
        extract::{Authorized, Json, Path, Query, rights},
        page::{self, ONE_MORE},
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(upload_known))
        .routes(routes!(upload))
        .routes(routes!(store_once))
        // Files are counted as they come.
        .layer(DefaultBodyLimit::disable())
        .routes(routes!(list))
        .routes(routes!(allow_upload))
        .routes(routes!(download, remove))
        .routes(routes!(allow_download))
        .routes(routes!(read_once))
}

/// The one route that workers reach without a token, for a listener of its own.
pub fn door() -> Router<Arc<Node>> {
    Router::new().route("/api/v1/storage/upload/{nonce}", post(store_once))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the multipart body in the API reference")]
struct FileForm {
    /// The file, with its name. The field may have any name.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
}

/// A file.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "it is called so on the wire")]
struct File {
    file_id: Uuid,
    name: String,
    /// What it is, as far as its first bytes show, else what was said.
    content_type: String,
    size: i64,
    /// SHA-256 of what it holds, in hexadecimal.
    digest: Option<String>,
    uploaded_by: Option<Uuid>,
    created_at: DateTime<Utc>,
}

impl From<Stored> for File {
    fn from(file: Stored) -> Self {
        Self {
            file_id: file.id,
            name: file.name,
            content_type: file.content_type,
            size: file.size,
            digest: file.digest.map(hex::encode),
            uploaded_by: file.uploaded_by,
            created_at: file.created_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Uploaded {
    file_id: Uuid,
    original_name: String,
    size: i64,
}

/// A page of files, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FilePage {
    data: Vec<File>,
    /// Pass as `cursor` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListFilter {
    /// How many, 1 to 200; 50 when absent.
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Deserialize, ToSchema)]
struct UploadRequest {
    name: String,
    #[serde(default)]
    content_type: Option<String>,
    /// Bytes that it may have at most; 0 or absent: as many as any file.
    #[serde(default)]
    size: Option<u64>,
}

/// An address that is good for once.
#[derive(Serialize, ToSchema)]
struct OneTimeUrl {
    /// Whoever knows it may use it.
    url: String,
    expires_at: DateTime<Utc>,
}

#[derive(Serialize, ToSchema)]
struct FileDeleted {
    deleted: FileId,
}

/// Upload a file of a known kind
///
/// By the end of its name: csv, json, xml, txt, md, ics, pdf, png, jpg, jpeg, gif, webp, svg, xlsx, xls, doc, docx, zip, gz, parquet. It is
/// kept as any other file of the app.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/upload", tag = "files", params(("app_id" = AppId, Path)),
    request_body(content = FileForm, content_type = "multipart/form-data"), responses((status = 201, body = Uploaded), Problems))]
async fn upload_known(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteFiles>,
    Path(app): Path<AppId>,
    request: Request<RawBody>,
) -> Result<(StatusCode, Body<Uploaded>), Problem> {
    let mut form = form(&node, caller.principal(), &app, request).await?;
    let field = field(&mut form).await?;
    if let Some(end) = content::unknown_end(&content::name(field.file_name())) {
        let message = format!("file extension '.{end}' not allowed: POST /api/v1/apps/{app}/storage/upload takes any file.");
        return Err(Problem::new(Code::ValidationFailed, message));
    }
    let file = receive(&node, caller.principal(), &app, field).await?;
    Ok((StatusCode::CREATED, Body(Uploaded { file_id: file.id, original_name: file.name, size: file.size })))
}

/// Upload a file
///
/// It is stored as it comes, and there when this answers.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/storage/upload", tag = "files", params(("app_id" = AppId, Path)),
    request_body(content = FileForm, content_type = "multipart/form-data"), responses((status = 201, body = File), Problems))]
async fn upload(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteFiles>,
    Path(app): Path<AppId>,
    request: Request<RawBody>,
) -> Result<(StatusCode, Body<File>), Problem> {
    let mut form = form(&node, caller.principal(), &app, request).await?;
    let field = field(&mut form).await?;
    Ok((StatusCode::CREATED, Body(receive(&node, caller.principal(), &app, field).await?.into())))
}

async fn form(node: &Node, caller: &Principal, app: &AppId, request: Request<RawBody>) -> Result<Multipart, Problem> {
    node.apps.get(&caller.tenant, app).await?;
    Multipart::from_request(request, &()).await.map_err(|_| no_field())
}

async fn field(form: &mut Multipart) -> Result<Field<'_>, Problem> {
    let field = form.next_field().await.map_err(|error| Problem::new(Code::InvalidRequest, broken(&error.body_text())))?;
    field.ok_or_else(no_field)
}

fn no_field() -> Problem {
    Problem::new(Code::InvalidRequest, "no file field: send the file as multipart/form-data.")
}

fn broken(why: &str) -> String {
    format!("The upload broke off: {why}.")
}

async fn receive(node: &Node, caller: &Principal, app: &AppId, field: Field<'_>) -> Result<Stored, Problem> {
    let new = NewFile {
        name: field.file_name().unwrap_or_default().to_owned(),
        content_type: field.content_type().map(str::to_owned),
        by: Some(caller.id),
        most: None,
    };
    let content = field.map_err(|error| Error::Interrupted(error.body_text())).boxed();
    Ok(node.files.store((&caller.tenant, app), new, content).await?)
}

/// List the files of an app
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/storage", tag = "files", params(("app_id" = AppId, Path), ListFilter),
    responses((status = 200, body = FilePage), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadFiles>,
    Path(app): Path<AppId>,
    Query(filter): Query<ListFilter>,
) -> Result<Body<FilePage>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    let limit = page::limit(filter.limit)?;
    let before = filter.cursor.as_deref().map(page::read::<16>).transpose()?.map(Uuid::from_bytes);
    let mut files = node.files.list((&caller.tenant, &app), before, limit + ONE_MORE).await?;
    let next_cursor = page::cut(&mut files, limit, |file| *file.id.as_bytes());
    Ok(Body(FilePage { data: files.into_iter().map(File::from).collect(), next_cursor }))
}

/// Download a file
///
/// With `Range`, a part of it; with `If-Range` besides, the whole file unless it is still the one of which there is a part.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/storage/{file_id}", tag = "files",
    params(("app_id" = AppId, Path), ("file_id" = FileId, Path),
        ("Range" = Option<String>, Header, description = "One part: `bytes=0-99`, `bytes=100-`, `bytes=-100`"),
        ("If-Range" = Option<String>, Header, description = "The `ETag` of the file of which there is a part")),
    responses((status = 200, description = "What the file holds", content_type = "*/*"),
        (status = 206, description = "The part that `Range` asks for", content_type = "*/*"),
        Problems))]
async fn download(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadFiles>,
    Path((app, id)): Path<(AppId, FileId)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = node.files.find((&caller.tenant, &app), id).await?;
    answer::requested(&node, &caller.tenant, &file, (&method, &headers)).await
}

/// Delete a file
#[utoipa::path(delete, path = "/api/v1/apps/{app_id}/storage/{file_id}", tag = "files",
    params(("app_id" = AppId, Path), ("file_id" = FileId, Path)), responses((status = 200, body = FileDeleted), Problems))]
async fn remove(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteFiles>,
    Path((app, id)): Path<(AppId, FileId)>,
) -> Result<Body<FileDeleted>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    node.files.delete(&caller, &app, id).await?;
    Ok(Body(FileDeleted { deleted: id }))
}

/// Make an address to upload one file to
///
/// It is good for once and for 60 seconds, and whoever knows it needs no token: POST the bytes to it as they are.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/storage/upload-url", tag = "files", params(("app_id" = AppId, Path)),
    request_body = UploadRequest, responses((status = 201, body = OneTimeUrl), Problems))]
async fn allow_upload(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteFiles>,
    Path(app): Path<AppId>,
    Json(request): Json<UploadRequest>,
) -> Result<(StatusCode, Body<OneTimeUrl>), Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    let UploadRequest { name, content_type, size } = request;
    let wanted = WorkerUpload { name, content_type, size: size.unwrap_or_default() };
    let Issued { nonce, expires_at } = node.files.allow_upload((&caller.tenant, &app), wanted, Some(caller.id)).await?;
    let url = node.url(&format!("/api/v1/storage/upload/{nonce}"));
    Ok((StatusCode::CREATED, Body(OneTimeUrl { url, expires_at })))
}

/// Make an address to download a file from
///
/// It is good for once and for 300 seconds, and whoever knows it needs no token.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/storage/{file_id}/download-url", tag = "files",
    params(("app_id" = AppId, Path), ("file_id" = FileId, Path)), responses((status = 201, body = OneTimeUrl), Problems))]
async fn allow_download(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadFiles>,
    Path((app, id)): Path<(AppId, FileId)>,
) -> Result<(StatusCode, Body<OneTimeUrl>), Problem> {
    let Issued { nonce, expires_at } = node.files.allow_download(&caller, &app, id).await?;
    let url = node.url(&format!("/api/v1/storage/download/{nonce}"));
    Ok((StatusCode::CREATED, Body(OneTimeUrl { url, expires_at })))
}

/// Upload the file that an address is for
///
/// The body is the file. The address is used up, whatever becomes of it.
#[utoipa::path(post, path = "/api/v1/storage/upload/{nonce}", tag = "files", security(()), params(("nonce" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 201, body = File), Problems))]
async fn store_once(
    State(node): State<Arc<Node>>,
    Path(nonce): Path<String>,
    request: Request<RawBody>,
) -> Result<(StatusCode, Body<File>), Problem> {
    let content = request.into_body().into_data_stream().map_err(|error| Error::Interrupted(error.to_string())).boxed();
    Ok((StatusCode::CREATED, Body(node.files.store_once(&nonce, content).await?.into())))
}

/// Download the file that an address is for
#[utoipa::path(get, path = "/api/v1/storage/download/{nonce}", tag = "files", security(()), params(("nonce" = String, Path)),
    responses((status = 200, description = "What the file holds", content_type = "*/*"), Problems))]
async fn read_once(State(node): State<Arc<Node>>, method: Method, Path(nonce): Path<String>) -> Result<Response, Problem> {
    if method == Method::HEAD {
        // Whoever only looks at a link must not use it up.
        return Err(Problem::new(Code::MethodNotAllowed, "This address is good for once: get it with GET."));
    }
    let (file, content) = node.files.read_once(&nonce).await?;
    answer::whole(&file, content).await
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Unknown(_) | Error::UnknownApp(_) => Self::not_found(message),
            Error::UnknownTicket => Self::new(Code::NotFound, "This address is not known, was used before, or its time is over."),
            Error::Empty => Self::new(Code::ValidationFailed, "The file is empty."),
            Error::Beyond(_) => Self::new(Code::RangeNotSatisfiable, format!("{message}.")),
            Error::TooLarge(_) => Self::new(Code::PayloadTooLarge, format!("{message}.")),
            Error::QuotaReached(_) => Self::new(Code::StorageFull, format!("{message}.")),
            Error::Interrupted(why) => Self::new(Code::InvalidRequest, broken(&why)),
            Error::Store(cause) => store_failed(&cause),
            Error::Secrets(cause) => cause.into(),
            Error::Database(cause) => cause.into(),
        }
    }
}

/// What a disk says that takes no more.
const FULL: [io::ErrorKind; 3] = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];

/// A full disk is told as such. Whatever else it is, it is nothing the caller has done.
fn store_failed(cause: &object_store::Error) -> Problem {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(cause);
    while let Some(error) = source {
        if let Some(kind) = error.downcast_ref::<io::Error>().map(io::Error::kind).filter(|kind| FULL.contains(kind)) {
            return Problem::files(io::Error::new(kind, cause.to_string()));
        }
        source = error.source();
    }
    tracing::error!(error = %cause, "the store of files does not do what it is asked for");
    Problem::new(Code::Unavailable, "The store of files cannot be reached. Try again in a moment.")
}
