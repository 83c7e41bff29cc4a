//! `/api/v1/apps*`: installing, deploying, running, calling, following the log.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json as Body,
    extract::State,
    http::header,
    response::{
        Response,
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
    archive, dependencies, dev,
    service::{DEFAULT_TIMEOUT, Error},
    store,
    versions::warnings_of,
};
use crate::{
    data::{Consent, MigrationFailed},
    http::{
        Message, Problems,
        extract::{Authorized, Caller, Json, Path, Query, rights},
        problem::{Code, Problem},
        run_header, trace,
    },
    node::Node,
    runs::{self, RpcCall},
};

/// The longest name of a method, in bytes.
const MAX_METHOD: usize = 200;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list, install))
        .routes(routes!(get_app, uninstall))
        .routes(routes!(start_worker))
        .routes(routes!(stop_worker))
        .routes(routes!(worker_status))
        .routes(routes!(rpc))
        .routes(routes!(logs))
        .merge(super::versions::router())
        .merge(super::frontends::router())
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
struct InstallOptions {
    /// Agree to losing the data that the new data contract drops.
    #[serde(default, rename = "acceptLoss")]
    accept_loss: bool,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct UninstallOptions {
    /// Only say what would be removed.
    #[serde(default, rename = "dryRun")]
    dry_run: bool,
}

#[derive(Serialize, ToSchema)]
struct Uninstalled {
    message: String,
    /// What would be removed, when that was the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    removes: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
struct WorkerStatus {
    app_id: AppId,
    /// `starting`, `running`, `stopping`, `stopped` or `crashed`.
    status: String,
    /// The version that serves. Absent: nothing was deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment_id: Option<DeploymentId>,
    /// Whether its calls are reported to the live log, because `weft dev` deployed it since this server was started. Absent: no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    developed: bool,
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
    node.apps.list(&caller.tenant, filter.kind, summary).await?.into_iter().collect::<Result<_, _>>().map(Body)
}

fn summary(app: store::Listed) -> Result<AppSummary, Problem> {
    let entities = app.manifest.get("dataContract").and_then(Value::as_array).into_iter().flatten();
    let entities = entities.filter_map(|entity| entity.get("entityName")?.as_str().map(str::to_owned)).collect();
    let id = app.id.try_into().map_err(Problem::internal)?;
    let (name, version, kind, deployed, has_frontend) = (app.name, app.version, app.kind, app.deployed, app.has_frontend);
    Ok(AppSummary { id, name, version, status: "installed", kind, entities, deployed, has_frontend })
}

#[derive(Serialize, ToSchema)]
struct Installed {
    message: String,
    /// Keys of the manifest that have no meaning. Absent: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Install an app from a manifest
///
/// Installing again replaces the manifest, and the app's tables follow its data contract. What would lose data is refused and named
/// unless `acceptLoss` is true. Every fault is reported at once.
#[utoipa::path(post, path = "/api/v1/apps", tag = "apps", params(InstallOptions), request_body(content = Object, description = "The manifest"),
    responses((status = 200, body = Installed), Problems))]
async fn install(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::InstallApps>,
    Query(options): Query<InstallOptions>,
    Json(manifest): Json<Value>,
) -> Result<Body<Installed>, Problem> {
    let manifest = node.apps.install(&caller, manifest, Consent::given(options.accept_loss)).await?;
    let id = &manifest.content.app_id;
    node.apply(&crate::db::notify::Change::App(id.clone()));
    node.identity.forget();
    Ok(Body(Installed { message: format!("app '{id}' installed"), warnings: warnings_of(&manifest, None) }))
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
/// Removes its worker, its data with the tables, secrets, permissions, webhooks and files. Its runs and what the audit recorded stay.
/// With `dryRun` nothing is removed, and the answer names all that would be. Removing an unknown app succeeds.
#[utoipa::path(delete, path = "/api/v1/apps/{app_id}", tag = "apps", params(("app_id" = AppId, Path), UninstallOptions),
    responses((status = 200, body = Uninstalled), Problems))]
async fn uninstall(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::RemoveApps>,
    Path(id): Path<AppId>,
    Query(options): Query<UninstallOptions>,
) -> Result<Body<Uninstalled>, Problem> {
    if options.dry_run {
        let removes = Some(node.apps.removal(&caller.tenant, &id).await?);
        return Ok(Body(Uninstalled { message: format!("app '{id}' would be uninstalled"), removes }));
    }
    node.apps.uninstall(&caller.tenant, Some(caller.principal()), &id).await?;
    node.apply(&crate::db::notify::Change::App(id.clone()));
    node.identity.forget();
    Ok(Body(Uninstalled { message: format!("app '{id}' uninstalled"), removes: None }))
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
    let (status, serving) = node.apps.worker_status(&caller.tenant, &app_id).await?;
    let (deployment_id, purpose) = serving.unzip();
    let developed = purpose == Some(dev::Purpose::Develop);
    Ok(Body(WorkerStatus { app_id, status: status.to_string(), deployment_id, developed }))
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
    if request.method.len() > MAX_METHOD || request.method.chars().any(char::is_control) {
        return Err(Problem::new(
            Code::InvalidRequest,
            format!("A method's name has {MAX_METHOD} characters at most and no control characters."),
        ));
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
    let mut response = Response::new(String::from(Box::<str>::from(outcome.output)).into());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    run_header(response.headers_mut(), outcome.run);
    if let Some(left) = outcome.left {
        runs::budget_headers(response.headers_mut(), left);
    }
    response
}

/// Follow the log of an app
///
/// Server-sent events, each an object with `level` and `message`. Begins with what is logged from now on, and ends when the
/// caller's session does.
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
        .take_until(async move {
            tokio::select! { () = stopping.cancelled() => {} () = node.identity.until_ended(&caller) => {} }
        });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::InvalidManifest(faults) => Self::invalid(&message, faults),
            Error::IdTaken(_) | Error::VersionGone { .. } | Error::NothingBefore(_) | Error::TakesNoJobs(_) => {
                Self::new(Code::Conflict, message)
            }
            Error::NotYours(_) => Self::new(Code::Forbidden, format!("{message}. It needs the permission admin:apps.install.")),
            Error::Unknown(_) | Error::UnknownVersion { .. } => Self::not_found(message),
            Error::NotDeployed(_) => Self::new(Code::NotDeployed, message),
            Error::Stopped(_) | Error::Call(CallError::NotRunning { .. }) => Self::new(Code::WorkerNotRunning, message),
            Error::Archive(archive::Error::Write(cause) | archive::Error::Read(cause)) | Error::Files(cause) => {
                Self::files(cause)
            }
            Error::Archive(_) => Self::new(Code::InvalidArchive, message),
            Error::Dependencies(dependencies::Error::Run(cause)) => Self::files(cause),
            Error::Dependencies(dependencies::Error::Jail(cause)) => Self::internal(cause),
            Error::Dependencies(_) => Self::new(Code::DeployFailed, message),
            Error::Start(cause) => Self::new(Code::DeployFailed, format!("The backend does not start: {cause}")),
            Error::NotComingUp { cause, .. } => {
                let problem = Self::from(*cause);
                // What a deployment would be refused for; anything else is what it is.
                if problem.code() == Code::DeployFailed { Self::new(Code::StartFailed, message) } else { problem }
            }
            Error::Call(_) => Self::new(Code::ActionFailed, message),
            Error::Secrets(cause) => cause.into(),
            Error::Data(cause) => cause.into(),
            Error::Migration(cause) => match cause.unavailable() {
                Ok(database) => database.into(),
                Err(MigrationFailed::Files(cause)) => Self::files(cause),
                Err(cause) => Self::new(Code::DeployFailed, cause.to_string()),
            },
            Error::Database(cause) => cause.into(),
        }
    }
}
