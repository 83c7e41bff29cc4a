//! Passing a caller's own request on to the vendor of an integration, with the integration's credential, as a run.
//!
//! Bodies pass through as they come, in both directions. The run says how the vendor began to answer; what it says is the caller's.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, HttpBody};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;
use weft_model::{
    AppId, Principal, RunId,
    manifest::AppKind,
    run::{ErrorCategory, RunKind},
};
use weft_recipe::{Call, Forward};

use super::{
    error::{Cause, Error},
    recipe::{may_contact, told},
    record::{Contacts, Failed, Record},
};
use crate::{
    apps::{self, App},
    background::outlive,
    connections::{Chosen, Credential, Wish},
    http::trace::TraceId,
    node::Node,
};

/// How long the vendor may take to begin its answer.
const BEGIN_TIMEOUT: Duration = Duration::from_mins(1);
/// The name of such runs, and of the permission.
const PROXY: &str = "proxy";

/// A request to pass on.
pub struct ProxyCall {
    pub principal: Arc<Principal>,
    pub provider: AppId,
    /// The app on whose behalf the request is made, when one is named.
    pub calling_app: Option<AppId>,
    /// The connection that was named, if one was.
    pub connection: Option<Chosen>,
    pub method: Method,
    /// Below the vendor's base address, as the caller wrote it.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Body,
    pub trace: TraceId,
}

/// The beginning of the vendor's answer.
pub struct Forwarded {
    pub run: RunId,
    pub response: reqwest::Response,
}

/// Passes a request on. It goes on until the answer begins, even when whoever asked for it goes away.
pub async fn proxy(node: &Arc<Node>, call: ProxyCall) -> Result<Forwarded, Error> {
    let shared = Arc::clone(node);
    outlive(&node.background, async move { pass_on(&shared, call).await }).await
}

async fn pass_on(node: &Arc<Node>, call: ProxyCall) -> Result<Forwarded, Error> {
    let app = match node.apps.get(&call.principal.tenant, &call.provider).await {
        Ok(app) if app.manifest.content.kind == AppKind::Integration => app,
        Ok(_) | Err(apps::Error::Unknown(_)) => return Err(Cause::UnknownIntegration(call.provider).into()),
        Err(other) => return Err(Cause::App(other).into()),
    };
    let permission = format!("integration:{}:{PROXY}", app.id);
    if !call.principal.permissions.allows(&permission) {
        return Err(Cause::Denied(permission).into());
    }
    let mut record = begin(node, &app, &call);
    let asked = (Arc::clone(&call.principal), call.calling_app.clone(), call.connection);
    let credential = match credential(node, &app, asked).await {
        Ok(credential) => credential,
        Err(cause) => return fail(node, record, cause).await,
    };
    record.connection = credential.as_ref().map(|credential| credential.connection);
    if call.method == Method::DELETE
        && let Err(not_written) = node.runs.record_start(record.clone()).await
    {
        return fail(node, record, not_written.into()).await;
    }
    match send(node, &app, call, (&record, credential.as_deref())).await {
        Ok(response) => {
            let run = record.id;
            let end = outcome(&response);
            node.runs.record(record.finished(node.clock.now(), end)).await;
            Ok(Forwarded { run, response })
        }
        Err(cause) => {
            let mut cause = cause.masked(&node.integrations.masks(&app).await);
            if let Some(credential) = &credential {
                cause = cause.masked(&credential.masks);
            }
            fail(node, record, cause).await
        }
    }
}

async fn fail(node: &Node, record: Record, cause: Cause) -> Result<Forwarded, Error> {
    let run = Some(record.id);
    node.runs.record(record.finished(node.clock.now(), Err(cause.failed()))).await;
    Err(Error { run, cause })
}

fn begin(node: &Node, app: &App, call: &ProxyCall) -> Record {
    let now = node.clock.now();
    Record {
        id: RunId::generate(now),
        tenant: app.tenant.clone(),
        kind: RunKind::Action,
        provider: app.id.clone(),
        action: PROXY.to_owned(),
        app: call.calling_app.clone(),
        principal: Some(Arc::clone(&call.principal)),
        parent: None,
        trace: call.trace,
        started_at: now,
        begun: std::time::Instant::now(),
        input_bytes: usize::try_from(call.body.size_hint().lower()).unwrap_or_default(),
        attempts: 1,
        contacts: Contacts::default(),
        connection: None,
        end: None,
    }
}

/// With whose account the request is made. An action of this name may be delegated like any other.
async fn credential(
    node: &Node,
    app: &App,
    (principal, calling_app, chosen): (Arc<Principal>, Option<AppId>, Option<Chosen>),
) -> Result<Option<Arc<Credential>>, Cause> {
    if app.manifest.recipes.is_none() {
        return Err(Cause::NoProxy(app.id.clone()));
    }
    let wish = Wish { principal: &principal, app, action: PROXY, calling_app: calling_app.as_ref(), attested: false, chosen };
    Ok(node.connections.for_call(&wish).await?)
}

async fn send(
    node: &Node,
    app: &App,
    call: ProxyCall,
    (record, credential): (&Record, Option<&Credential>),
) -> Result<reqwest::Response, Cause> {
    let recipes = app.manifest.recipes.as_ref().ok_or_else(|| Cause::NoProxy(app.id.clone()))?;
    let config = node.integrations.config_by(app, credential.and_then(|credential| credential.configuration)).await?;
    if !config.missing.is_empty() {
        return Err(Cause::NotConfigured(config.missing.clone()));
    }
    let parsed = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| Cause::Internal(error.to_string()));
    let config = parsed(config.json().get())?;
    let credentials = credential.map(|credential| parsed(credential.json().get())).transpose()?;
    let values = Call { input: &Value::Null, config: &config, credentials: credentials.as_ref(), key: None };
    let wanted = (call.method, call.path.as_str(), call.query.as_deref());
    let forward = weft_recipe::forward(recipes, wanted, &call.headers, &values).map_err(told)?;
    let host = forward.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = forward.url.port_or_known_default().unwrap_or_default();
    if !may_contact(app, &host, port) {
        let failure = weft_workers::Failure::new(format!("the manifest's egress does not name {host}:{port}"));
        return Err(Cause::Failed(Box::new(failure.with_code("not_permitted"))));
    }
    record.contacts.add(&host, port);
    let secrets = forward.secrets.clone();
    node.outbound.stream(request(forward, call.body), BEGIN_TIMEOUT).await.map_err(|error| {
        let category = if error.is_passing() { weft_workers::Category::Transient } else { weft_workers::Category::Poison };
        let masks = crate::secrets::Masks::new(secrets.iter().map(String::as_str));
        let failure = weft_workers::Failure::new(masks.text(&error.to_string()));
        let code = if error.is_unsent() { "unreachable" } else { "no_answer" };
        Cause::Failed(Box::new(failure.with_code(code).with_category(category)))
    })
}

fn request(forward: Forward, body: Body) -> reqwest::Request {
    let Forward { method, url, headers, .. } = forward;
    let mut request = reqwest::Request::new(method, url);
    *request.headers_mut() = headers;
    // With a length where it is known: many vendors take no chunks.
    match body.size_hint().exact() {
        Some(0) => {}
        Some(length) => {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            *request.body_mut() = Some(reqwest::Body::wrap_stream(body.into_data_stream()));
        }
        None => *request.body_mut() = Some(reqwest::Body::wrap_stream(body.into_data_stream())),
    }
    request
}

/// How the run ends: as the vendor's status says.
fn outcome(response: &reqwest::Response) -> Result<usize, Failed> {
    let status = response.status().as_u16();
    let category = match status {
        401 | 403 => ErrorCategory::Auth,
        429 => ErrorCategory::RateLimited,
        400..=499 => ErrorCategory::Validation,
        500..=599 => ErrorCategory::Transient,
        _ => return Ok(response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default()),
    };
    Err(Failed::new(&format!("http_{status}"), category, format!("the vendor answered with status {status}")))
}
