//! `/api/v1/apps*`: installing, deploying, running, calling, following the log.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json as Body,
    body::Body as RawBody,
    extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State},
    http::{HeaderMap, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{AppId, DeploymentId, manifest::AppKind};
use weft_workers::CallError;

use super::{
    dev::{self, Purpose},
    service::{DEFAULT_TIMEOUT, Error},
    store,
};
use crate::{
    http::{
        BODY_LIMIT, Message, Problems,
        extract::{Authorized, Caller, Json, Path, Query, rights},
        problem::{Code, Problem},
        run_header, trace,
    },
    node::Node,
    runs::{self, RpcCall},
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    let upload = OpenApiRouter::new().routes(routes!(deploy)).layer(DefaultBodyLimit::max(BODY_LIMIT + 64 * 1024));
    OpenApiRouter::new()
        .routes(routes!(list, install))
        .routes(routes!(get_app, uninstall))
        .routes(routes!(start_worker))
        .routes(routes!(stop_worker))
        .routes(routes!(worker_status))
        .routes(routes!(rpc))
        .routes(routes!(logs))
        .merge(upload)
        .merge(super::workers::router())
}

/// An installed app, in short.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AppSummary {
    id: AppId,
    name: String,
    version: String,
    /// Always `installed`.
    status: &'static str,
    #[serde(rename = "type")]
    kind: String,
    /// Names of the collections it declares.
    entities: Vec<String>,
    /// Whether a backend was deployed.
    deployed: bool,
    has_frontend: bool,
}

/// An installed app.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AppDetails {
    id: AppId,
    name: String,
    version: String,
    /// Always `installed`.
    status: &'static str,
    #[serde(rename = "type")]
    kind: AppKind,
    description: String,
    /// The collections as declared.
    #[schema(value_type = Vec<Object>)]
    data_contract: Value,
    /// The deployment that serves.
    deployment_id: Option<DeploymentId>,
    icon: Option<String>,
    /// The manifest as it was installed.
    #[schema(value_type = Object)]
    manifest: Value,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListFilter {
    /// Only apps of this type.
    #[serde(rename = "type")]
    kind: Option<AppKind>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeployOptions {
    /// Report every call, its input and output and its outgoing HTTP to the app's live log until the next deployment.
    #[serde(default)]
    dev: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Deployed {
    message: String,
    migrations_applied: Vec<String>,
    deployment_id: DeploymentId,
    /// Where the backend begins.
    entry_point: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the multipart body in the API reference")]
struct Archive {
    /// A gzip-compressed tar whose root is the backend's folder.
    #[schema(format = Binary, content_media_type = "application/gzip")]
    archive: String,
}

#[derive(Serialize, ToSchema)]
struct WorkerStatus {
    app_id: AppId,
    /// `starting`, `running`, `stopping`, `stopped` or `crashed`.
    status: String,
}

#[derive(Deserialize, ToSchema)]
struct RpcRequest {
    method: String,
    /// An empty object when absent.
    #[serde(default = "empty_object")]
    #[schema(value_type = Option<Object>)]
    params: Box<RawValue>,
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

#[derive(Serialize, ToSchema)]
struct LogEntry {
    /// `debug`, `info`, `warn`, `error`, `event`, `stdout`, `stderr` or `system`.
    level: String,
    message: String,
}

/// List installed apps
#[utoipa::path(get, path = "/api/v1/apps", tag = "apps", params(ListFilter), responses((status = 200, body = Vec<AppSummary>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Query(filter): Query<ListFilter>,
) -> Result<Body<Vec<AppSummary>>, Problem> {
    let apps = node.apps.list(&caller.tenant, filter.kind).await?;
    apps.into_iter().map(summary).collect::<Result<_, _>>().map(Body)
}

fn summary(app: store::Listed) -> Result<AppSummary, Problem> {
    let entities = app.manifest.get("dataContract").and_then(Value::as_array).into_iter().flatten();
    let entities = entities.filter_map(|entity| entity.get("entityName")?.as_str().map(str::to_owned)).collect();
    let id = app.id.try_into().map_err(Problem::internal)?;
    let (name, version, kind, deployed) = (app.name, app.version, app.kind, app.deployed);
    Ok(AppSummary { id, name, version, status: "installed", kind, entities, deployed, has_frontend: false })
}

/// Install an app from a manifest
///
/// Installing again replaces the manifest. Every fault is reported at once.
#[utoipa::path(post, path = "/api/v1/apps", tag = "apps", request_body(content = Object, description = "The manifest"),
    responses((status = 200, body = Message), Problems))]
async fn install(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::InstallApps>,
    Json(manifest): Json<Value>,
) -> Result<Body<Message>, Problem> {
    let id = node.apps.install(&caller, manifest).await?;
    node.apply(&crate::db::notify::Change::App(id.clone()));
    node.identity.forget();
    Ok(Message::new(format!("app '{id}' installed")))
}

/// Get an app
#[utoipa::path(get, path = "/api/v1/apps/{app_id}", tag = "apps", params(("app_id" = AppId, Path)),
    responses((status = 200, body = AppDetails), Problems))]
async fn get_app(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<AppId>,
) -> Result<Body<AppDetails>, Problem> {
    let app = node.apps.get(&caller.tenant, &id).await?;
    let content = &app.manifest.content;
    Ok(Body(AppDetails {
        id,
        name: content.name.clone(),
        version: content.version.clone(),
        status: "installed",
        kind: content.kind,
        description: content.description.clone(),
        data_contract: app.manifest.document.get("dataContract").cloned().unwrap_or_else(|| Value::Array(Vec::new())),
        deployment_id: app.deployment.as_ref().map(|deployment| deployment.id),
        icon: content.icon.clone(),
        manifest: app.manifest.document.clone(),
    }))
}

/// Uninstall an app
///
/// Removes its worker, secrets, permissions, webhooks and files. Its runs stay. Removing an unknown app succeeds.
#[utoipa::path(delete, path = "/api/v1/apps/{app_id}", tag = "apps", params(("app_id" = AppId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn uninstall(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::RemoveApps>,
    Path(id): Path<AppId>,
) -> Result<Body<Message>, Problem> {
    node.apps.uninstall(&caller.tenant, &id).await?;
    node.apply(&crate::db::notify::Change::App(id.clone()));
    node.identity.forget();
    Ok(Message::new(format!("app '{id}' uninstalled")))
}

/// Deploy the backend of an app
///
/// Dependencies are installed without running their scripts. The new version serves once its process is ready; when it does
/// not get there, the version before goes on serving.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/deploy", tag = "apps", params(("app_id" = AppId, Path), DeployOptions),
    request_body(content = Archive, content_type = "multipart/form-data"), responses((status = 200, body = Deployed), Problems))]
async fn deploy(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeployApps>,
    Path(id): Path<AppId>,
    Query(options): Query<DeployOptions>,
    request: Request<RawBody>,
) -> Result<Body<Deployed>, Problem> {
    node.apps.get(&caller.tenant, &id).await?;
    let archive = read_archive(request).await?;
    let purpose = if options.dev { Purpose::Develop } else { Purpose::Serve };
    // Goes on when the client hangs up: half a deployment helps nobody.
    let (apps, by, app) = (Arc::clone(&node.apps), Arc::clone(caller.principal()), id.clone());
    let deploying = node.background.spawn(async move { apps.deploy(&by, &app, archive, purpose).await });
    let deployment = deploying.await.map_err(Problem::internal)??;
    node.integrations.forget();
    Ok(Body(Deployed {
        message: format!("app '{id}' deployed and started"),
        migrations_applied: Vec::new(),
        deployment_id: deployment.id,
        entry_point: deployment.entry_point,
    }))
}

async fn read_archive(request: Request<RawBody>) -> Result<Vec<u8>, Problem> {
    let invalid = |message: String| Problem::new(Code::InvalidArchive, message);
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|_| {
        invalid("Send the archive as multipart/form-data with a field named 'archive' that holds a tar.gz file.".to_owned())
    })?;
    let too_large =
        || Problem::new(Code::PayloadTooLarge, format!("The archive is larger than {} MiB.", BODY_LIMIT / 1024 / 1024));
    let broken = |error: axum::extract::multipart::MultipartError| {
        if error.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
            too_large()
        } else {
            invalid(format!("The upload broke off: {}.", error.body_text()))
        }
    };
    let Some(mut field) = multipart.next_field().await.map_err(broken)? else {
        return Err(invalid("missing 'archive' field".to_owned()));
    };
    let mut archive = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        archive.extend_from_slice(&chunk);
        if archive.len() > BODY_LIMIT {
            return Err(too_large());
        }
    }
    Ok(archive)
}

/// Start the worker of an app
///
/// One that runs already is left alone.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/worker/start", tag = "workers", params(("app_id" = AppId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn start_worker(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeployApps>,
    Path(id): Path<AppId>,
) -> Result<Body<Message>, Problem> {
    node.apps.start_worker(&caller.tenant, &id).await?;
    Ok(Message::new(format!("worker '{id}' started")))
}

/// Stop the worker of an app
///
/// It stays stopped until it is started or deployed again.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/worker/stop", tag = "workers", params(("app_id" = AppId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn stop_worker(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeployApps>,
    Path(id): Path<AppId>,
) -> Result<Body<Message>, Problem> {
    node.apps.stop_worker(&caller.tenant, &id).await?;
    Ok(Message::new(format!("worker '{id}' stopped")))
}

/// How the worker of an app is
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/worker/status", tag = "workers", params(("app_id" = AppId, Path)),
    responses((status = 200, body = WorkerStatus), Problems))]
async fn worker_status(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(app_id): Path<AppId>,
) -> Result<Body<WorkerStatus>, Problem> {
    let status = node.apps.worker_status(&caller.tenant, &app_id).await?.to_string();
    Ok(Body(WorkerStatus { app_id, status }))
}

/// Call a method of an app's backend
///
/// The answer is what the handler returns. It has 30 seconds.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/rpc", tag = "workers", params(("app_id" = AppId, Path)),
    request_body = RpcRequest, responses((status = 200, description = "What the handler returned"), Problems))]
async fn rpc(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::InvokeApp>,
    Path(id): Path<AppId>,
    Json(request): Json<RpcRequest>,
) -> Result<Response, Problem> {
    if request.method.starts_with("__") {
        return Err(Problem::new(Code::InvalidRequest, "Methods that start with '__' are called by the platform only."));
    }
    let app = node.apps.get(&caller.tenant, &id).await?;
    let call = RpcCall {
        app,
        principal: Arc::clone(caller.principal()),
        method: request.method,
        params: request.params,
        trace: trace::current(),
        timeout: DEFAULT_TIMEOUT,
    };
    Ok(raw_json(runs::call_rpc(&node, call).await?))
}

/// An outcome as the raw JSON that the backend returned.
pub fn raw_json(outcome: runs::Outcome) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    run_header(&mut headers, outcome.run);
    (headers, String::from(Box::<str>::from(outcome.output))).into_response()
}

/// Follow the log of an app
///
/// Server-sent events, each an object with `level` and `message`. Begins with what is logged from now on.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/logs", tag = "workers", params(("app_id" = AppId, Path)),
    responses((status = 200, body = LogEntry, content_type = "text/event-stream"), Problems))]
async fn logs(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<AppId>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let lines = BroadcastStream::new(node.apps.logs(&caller.tenant, &id).await?);
    let stopping = node.stopping.clone();
    let watching = dev::may_watch(&caller);
    let events = lines
        .filter(move |line| std::future::ready(watching || !matches!(line, Ok(line) if dev::is_report(line))))
        .map(|line| {
            let entry = match line {
                Ok(line) => LogEntry { level: line.level.to_string(), message: line.message.to_string() },
                Err(BroadcastStreamRecvError::Lagged(count)) => {
                    LogEntry { level: "system".to_owned(), message: format!("... {count} messages dropped ...") }
                }
            };
            Ok(Event::default().json_data(entry).unwrap_or_default())
        })
        .take_until(async move { stopping.cancelled().await });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::InvalidManifest(faults) => {
                let list: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
                Self::new(Code::ValidationFailed, format!("{message}: {}", list.join("; "))).with_faults(faults)
            }
            Error::IdTaken(_) => Self::new(Code::Conflict, message),
            Error::NotYours(_) => Self::new(Code::Forbidden, format!("{message}. It needs the permission admin:apps.install.")),
            Error::Unknown(_) => Self::not_found(message),
            Error::NotDeployed(_) => Self::new(Code::NotDeployed, message),
            Error::Stopped(_) | Error::Call(CallError::NotRunning { .. }) => Self::new(Code::WorkerNotRunning, message),
            Error::Archive(super::archive::Error::Write(cause)) | Error::Files(cause) => Self::internal(cause),
            Error::Archive(_) => Self::new(Code::InvalidArchive, message),
            Error::Dependencies(_) => Self::new(Code::DeployFailed, message),
            Error::Start(cause) => Self::new(Code::DeployFailed, format!("The backend does not start: {cause}")),
            Error::Call(_) => Self::new(Code::ActionFailed, message),
            Error::Secrets(cause) => cause.into(),
            Error::Database(cause) => cause.into(),
        }
    }
}
