//! Passing a caller's own request on to the vendor of an integration, with the integration's credential, as a run.
//!
//! Bodies pass through as they come, in both directions. The run says how the vendor began to answer; what it says is the caller's. Where
//! the server renews the token, a small body is kept, so that the request can be made once more with a newer one.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::watch;
use weft_model::{
    AppId, Principal, RunId,
    run::{ErrorCategory, RunKind},
};
use weft_recipe::{Call, Forward, oauth1::Once};

use super::{
    admission::{Asker, Left, Vendor},
    error::{Cause, Error},
    invoke::resolve,
    prepared::With,
    recipe::{may_contact, told},
    record::{Failed, Record},
};
use crate::{
    apps::App,
    background::outlive,
    connections::{Chosen, Credential, Wish, renews, status_expired, way_name},
    http::{outbound::Ask, trace::TraceId},
    node::Node,
};

/// How long the vendor may take to begin its answer once it has the whole request, and how long the request may stand still before.
const BEGIN_TIMEOUT: Duration = Duration::from_mins(1);
/// The name of such runs, of the permission, and under which the leave for them is delegated.
pub const PROXY: &str = "proxy";

/// The longest body that is kept to be sent again, in bytes.
const KEPT: u64 = 1024 * 1024;

/// The code of a failure after which it is not known what the vendor has got.
const NO_ANSWER: &str = "no_answer";

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
    /// What was left of the vendor's budget, where there is one.
    pub left: Option<Left>,
    pub response: Response<Incoming>,
}

/// Passes a request on. It goes on until the answer begins, even when whoever asked for it goes away.
pub async fn proxy(node: &Arc<Node>, call: ProxyCall) -> Result<Forwarded, Error> {
    let shared = Arc::clone(node);
    outlive(&node.background, async move { pass_on(&shared, call).await }).await
}

async fn pass_on(node: &Arc<Node>, call: ProxyCall) -> Result<Forwarded, Error> {
    let app = resolve(node, (&call.principal.tenant, &call.provider), call.calling_app.as_ref()).await?;
    let permission = format!("integration:{}:{PROXY}", app.id);
    if !call.principal.permissions.allows(&permission) {
        return Err(Cause::Denied(permission).into());
    }
    let mut record = begin(node, &app, &call);
    let asked = (Arc::clone(&call.principal), call.calling_app.clone(), call.connection);
    let with = match ready(node, &app, asked).await {
        Ok(with) => with,
        Err(cause) => return fail(node, record, cause).await,
    };
    record.connection = with.connection();
    record.announced = call.method == Method::DELETE;
    if record.announced
        && let Err(not_written) = node.runs.record_start(record.clone()).await
    {
        return fail(node, record, not_written.into()).await;
    }
    match send(node, &app, call, (&record, &with)).await {
        Ok(response) => {
            let run = record.id;
            let end = outcome(&response);
            node.runs.record(record.finished(node.clock.now(), end)).await;
            Ok(Forwarded { run, left: with.left(), response })
        }
        Err(cause) => {
            let cause = with.masked(cause.masked(&node.integrations.masks(&app).await));
            fail(node, record, cause).await.map_err(|error| error.with_left(with.left()))
        }
    }
}

async fn fail(node: &Node, record: Record, cause: Cause) -> Result<Forwarded, Error> {
    let run = Some(record.id);
    node.runs.record(record.finished(node.clock.now(), Err(cause.failed()))).await;
    Err(Error { run, cause, left: None })
}

fn begin(node: &Node, app: &App, call: &ProxyCall) -> Record {
    Record {
        app: call.calling_app.clone(),
        principal: Some(Arc::clone(&call.principal)),
        input_bytes: usize::try_from(call.body.size_hint().lower()).unwrap_or_default(),
        ..Record::begin((RunKind::Action, PROXY), (&app.tenant, &app.id), call.trace, node.clock.now())
    }
}

/// With what the request is made. It may be delegated by its name like an action.
async fn ready(
    node: &Node,
    app: &App,
    (principal, calling_app, chosen): (Arc<Principal>, Option<AppId>, Option<Chosen>),
) -> Result<With, Cause> {
    if app.manifest.recipes.is_none() {
        return Err(Cause::NoProxy(app.id.clone()));
    }
    let calling_app = calling_app.as_ref();
    With::wished(node, &Wish { principal: &principal, app, action: PROXY, calling_app, attested: false, chosen }).await
}

async fn send(
    node: &Arc<Node>,
    app: &App,
    call: ProxyCall,
    (record, with): (&Record, &With),
) -> Result<Response<Incoming>, Cause> {
    let forward = forward(app, &call, (with, with.credential()))?;
    let host = forward.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = forward.url.port_or_known_default().unwrap_or_default();
    if !may_contact(app, &host, port) {
        let failure = weft_workers::Failure::new(format!("the manifest's egress does not name {host}:{port}"));
        return Err(Cause::Failed(Box::new(failure.with_code("not_permitted"))));
    }
    let (place, bare) = (with.place(app), call.body.size_hint().exact() == Some(0));
    let asker = Asker::of(call.calling_app.as_ref(), call.principal.id);
    with.admit(node, app, (&place, asker)).await?;
    record.contacts.add(&host, port);
    let sent = exchange(node, app, call, (with, forward)).await;
    let vendor = match &sent {
        Ok(response) if response.status().is_server_error() => Some(Vendor::Silent),
        Ok(_) => Some(Vendor::Answered),
        // That a body did not get there may be the caller's doing.
        Err(Cause::Failed(failure)) if !bare && failure.code.as_deref() == Some(NO_ANSWER) => None,
        Err(cause) => cause.of_vendor(),
    };
    node.admission.learnt(&place, vendor);
    sent
}

/// Sends it, and once more with a newer token where the vendor refuses the first: a refusal has had no effect.
async fn exchange(
    node: &Arc<Node>,
    app: &App,
    mut call: ProxyCall,
    (with, mut forward): (&With, Forward),
) -> Result<Response<Incoming>, Cause> {
    let body = std::mem::take(&mut call.body);
    let credential = with.credential().filter(|credential| renews(app, credential));
    let may_go_again = credential.is_some() && body.size_hint().exact().is_some_and(|length| length <= KEPT);
    let (body, again) = if may_go_again || forward.signs_body() {
        let kept = whole(body).await?;
        (Body::from(kept.clone()), Some(kept))
    } else {
        (body, None)
    };
    sign(node, &mut forward, again.as_deref())?;
    let answer = stream(node, forward, body).await?;
    let refused = |credential: &&Arc<Credential>| status_expired(app, credential, answer.status().as_u16());
    let Some(credential) = credential.filter(refused) else { return Ok(answer) };
    // What cannot be sent again gets its refusal, and whoever comes next a token that is good.
    match (node.connections.renewed(app, credential).await?, again) {
        (Some(newer), Some(kept)) => {
            let masked = |cause: Cause| cause.masked(&newer.masks);
            let mut forward = self::forward(app, &call, (with, Some(&newer))).map_err(masked)?;
            sign(node, &mut forward, Some(&kept))?;
            stream(node, forward, Body::from(kept)).await.map_err(masked)
        }
        _ => Ok(answer),
    }
}

/// Signs it, where the vendor wants that.
fn sign(node: &Node, forward: &mut Forward, body: Option<&[u8]>) -> Result<(), Cause> {
    let once = Once { nonce: format!("{:032x}", rand::random::<u128>()), timestamp: node.clock.now().timestamp() };
    forward.sign(body.unwrap_or_default(), &once).map_err(told)
}

/// A small body, once it has arrived.
async fn whole(body: Body) -> Result<Bytes, Cause> {
    let unfit = |code: &str, message: &str| {
        let failure = weft_workers::Failure::new(message).with_code(code);
        Cause::Failed(Box::new(failure.with_category(weft_workers::Category::Validation)))
    };
    let (mut parts, mut whole) = (body.into_data_stream(), BytesMut::new());
    loop {
        match tokio::time::timeout(BEGIN_TIMEOUT, parts.next()).await {
            Ok(Some(Ok(part))) => whole.extend_from_slice(&part),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Err(_))) | Err(_) => return Err(unfit("incomplete_body", "the request's body did not arrive whole")),
        }
        if u64::try_from(whole.len()).is_ok_and(|length| length > KEPT) {
            return Err(unfit("form_too_long", "a form of more than 1 MiB cannot be signed"));
        }
    }
}

/// The caller's request as the vendor gets it.
fn forward(app: &App, call: &ProxyCall, (with, credential): (&With, Option<&Arc<Credential>>)) -> Result<Forward, Cause> {
    let recipes = app.manifest.recipes.as_ref().ok_or_else(|| Cause::NoProxy(app.id.clone()))?;
    let parsed = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| Cause::Internal(error.to_string()));
    let config = parsed(with.config.json().get())?;
    let credentials = credential.map(|credential| parsed(credential.json().get())).transpose()?;
    let way = credential.and_then(|credential| way_name(app, credential));
    let values = Call { input: &Value::Null, config: &config, credentials: credentials.as_ref(), way, key: None };
    let wanted = (call.method.clone(), call.path.as_str(), call.query.as_deref());
    weft_recipe::forward(recipes, wanted, &call.headers, &values).map_err(told)
}

async fn stream(node: &Node, forward: Forward, body: Body) -> Result<Response<Incoming>, Cause> {
    let secrets = forward.secrets.clone();
    let (moved, moving) = watch::channel(());
    let (ask, body) = request(forward, body, move || _ = moved.send(()));
    node.outbound.stream(ask, body, standstill(moving)).await.map_err(|error| {
        let category = if error.is_passing() { weft_workers::Category::Transient } else { weft_workers::Category::Poison };
        let masks = crate::secrets::Masks::new(secrets.iter().map(String::as_str));
        let failure = weft_workers::Failure::new(masks.text(&error.to_string()));
        let code = if error.is_unsent() { "unreachable" } else { NO_ANSWER };
        Cause::Failed(Box::new(failure.with_code(code).with_category(category)))
    })
}

/// Is over when nothing has moved for as long as the vendor may take. Whoever sends a large body slowly is no reason to give up.
async fn standstill(mut moving: watch::Receiver<()>) -> Duration {
    while let Ok(moved) = tokio::time::timeout(BEGIN_TIMEOUT, moving.changed()).await {
        if moved.is_err() {
            // All of it is on its way: now it is the vendor's turn.
            tokio::time::sleep(BEGIN_TIMEOUT).await;
            break;
        }
    }
    BEGIN_TIMEOUT
}

/// Calls `moved` for each part of the body that goes out, and drops it with the last.
fn request(forward: Forward, body: Body, moved: impl Fn() + Send + 'static) -> (Ask, Body) {
    let Forward { method, url, mut headers, .. } = forward;
    // With a length where it is known: many vendors take no chunks.
    let length = body.size_hint().exact();
    if let Some(length) = length.filter(|length| *length > 0) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let body =
        if length == Some(0) { Body::empty() } else { Body::from_stream(body.into_data_stream().inspect(move |_| moved())) };
    (Ask { method, url, headers }, body)
}

/// How the run ends: as the vendor's status says.
fn outcome(response: &Response<Incoming>) -> Result<usize, Failed> {
    let status = response.status().as_u16();
    let category = match status {
        401 | 403 => ErrorCategory::Auth,
        429 => ErrorCategory::RateLimited,
        400..=499 => ErrorCategory::Validation,
        500..=599 => ErrorCategory::Transient,
        _ => return Ok(response.body().size_hint().exact().and_then(|length| usize::try_from(length).ok()).unwrap_or_default()),
    };
    Err(Failed::new(&format!("http_{status}"), category, format!("the vendor answered with status {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_vendors_time_begins_when_it_has_the_whole_request() {
        let (moved, moving) = watch::channel(());
        let (begun, given_up) = (tokio::time::Instant::now(), tokio::spawn(standstill(moving)));
        for _ in 0..10 {
            tokio::time::sleep(BEGIN_TIMEOUT / 2).await;
            moved.send(()).expect("somebody waits");
        }
        drop(moved);
        assert_eq!(given_up.await.expect("it ends"), BEGIN_TIMEOUT);
        assert_eq!(begun.elapsed(), BEGIN_TIMEOUT / 2 * 10 + BEGIN_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_stands_still_is_given_up() {
        let (_moved, moving) = watch::channel(());
        let begun = tokio::time::Instant::now();
        standstill(moving).await;
        assert_eq!(begun.elapsed(), BEGIN_TIMEOUT);
    }
}
