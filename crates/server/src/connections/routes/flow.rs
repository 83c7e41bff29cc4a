//! Leading a person to a vendor and back.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json as Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{AppId, ConfigurationId, ConnectionId};

use crate::{
    connections::{
        Chosen,
        connect::Wanted,
        oauth::{CALLBACK, Connected, Pending, Returned, Started},
    },
    http::{
        Problems,
        extract::{Caller, Json, Path, Query, body_bytes},
        problem::{Code, Problem},
        trace,
        visit::{Button, Visit},
    },
    node::Node,
    runs::{self, Invocation},
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(callback, confirm))
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = StartConnecting)]
struct Start {
    /// What to call the connection; else the vendor's name for the account.
    label: Option<String>,
    /// For the whole tenant. It takes the right to manage the integration.
    shared: bool,
    /// The name of the way to connect; else that of the connection which gets fresh credentials, else the first.
    way: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Again {
    /// A connection to put fresh credentials into, instead of making one.
    connection_id: Option<ConnectionId>,
    /// A named configuration of the integration to connect with.
    config_id: Option<ConfigurationId>,
}

impl Again {
    /// What somebody asks for who connects.
    pub(super) fn wanted(&self, label: Option<String>, shared: bool, way: Option<String>) -> Wanted {
        Wanted { label, shared, again: self.connection_id, way, configuration: self.config_id }
    }
}

/// What to do to connect.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConnectingStarted)]
struct StartAnswer {
    /// `redirect`: open the address. `credentials`: enter what the schema asks for. `connected`: it is done.
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The same as `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_id: Option<ConnectionId>,
}

/// Begin to connect
///
/// The answer says where the person has to go, or what they have to enter. The address is good once and for 10 minutes.
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/auth/start", tag = "connections",
    params(("integration_id" = AppId, Path), Again), request_body = Start,
    responses((status = 200, body = StartAnswer), Problems))]
async fn start(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<AppId>,
    Query(again): Query<Again>,
    Json(body): Json<Start>,
) -> Result<(HeaderMap, Body<StartAnswer>), Problem> {
    let app = node.integrations.get(&caller.tenant, &id).await?;
    let nothing = StartAnswer { kind: "connected", url: None, redirect_url: None, schema: None, connection_id: None };
    let mut headers = HeaderMap::new();
    let answer = match node.connections.start(&caller, &app, again.wanted(body.label, body.shared, body.way)).await? {
        Started::Redirect { url, state } => {
            headers.extend(HeaderValue::from_str(&node.connections.tie(&state)).ok().map(|tie| (header::SET_COOKIE, tie)));
            StartAnswer { kind: "redirect", url: Some(url.clone()), redirect_url: Some(url), ..nothing }
        }
        Started::Credentials { schema } => StartAnswer { kind: "credentials", schema: Some(schema), ..nothing },
        Started::Connected(kept) => StartAnswer { connection_id: Some(kept.id), ..nothing },
    };
    Ok((headers, Body(answer)))
}

/// Where a vendor sends people back to
///
/// Answers with a page for the person. A browser that did not begin it is asked first.
#[utoipa::path(get, path = "/api/v1/integrations/auth/callback", tag = "connections", security(()),
    params(("state" = Option<String>, Query), ("code" = Option<String>, Query), ("error" = Option<String>, Query),
        ("oauth_token" = Option<String>, Query), ("oauth_verifier" = Option<String>, Query)),
    responses((status = 200, description = "A page that says what came of it", content_type = "text/html"), Problems))]
async fn callback(
    State(node): State<Arc<Node>>,
    visit: Visit,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let Some(state) = state(&query) else { return visit.refuse(stateless()) };
    // Programs that are no browsers follow no one's links, and who said no connects nothing.
    let says_no = ["error", "oauth_problem", "denied"].iter().any(|name| query.contains_key(*name));
    if !visit.is_browser || says_no || node.connections.is_tied(&headers, &state) {
        return finish(&node, visit, state, query).await;
    }
    match node.connections.pending(&node, &state).await {
        Ok(pending) => ask(visit, &pending, &query),
        Err(error) => visit.refuse(error.into()),
    }
}

/// Bytes of what the button of the page sends: what the vendor put into its address.
const FORM_LIMIT: usize = 64 * 1024;

/// Finish to connect in a browser that did not begin it
///
/// What the page of the callback sends when its button is pressed: the parameters that the vendor sent.
#[utoipa::path(post, path = "/api/v1/integrations/auth/callback", tag = "connections", security(()),
    request_body(content = String, description = "The parameters of the callback", content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "A page that says what came of it", content_type = "text/html"), Problems))]
async fn confirm(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    let body = body_bytes(request, FORM_LIMIT).await?;
    let query: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let state = state(&query).ok_or_else(stateless)?;
    Ok(finish(&node, Visit::of_button(), state, query).await)
}

/// What somebody comes back with. By OAuth 1.0a that is the vendor's temporary token; some call it otherwise when it was refused.
fn state(query: &BTreeMap<String, String>) -> Option<String> {
    ["state", "oauth_token", "denied"].into_iter().find_map(|name| query.get(name).cloned())
}

fn stateless() -> Problem {
    Problem::new(Code::InvalidRequest, "missing state: this address is where a vendor sends people back to.")
}

/// Somebody may have been sent here by whoever began. They learn for whom they are about to connect.
fn ask(visit: Visit, pending: &Pending, query: &BTreeMap<String, String>) -> Response {
    let (name, who) = (&pending.app.manifest.content.name, &pending.principal.email);
    let whose = if pending.shared { format!("everybody in the organisation of {who}") } else { who.clone() };
    let lines = [
        format!("{who} began to connect {name}. If you go on, {whose} can use the account that you have just chosen there."),
        "If that is not you, or you were sent here by somebody else, close this tab: nothing is connected then.".to_owned(),
    ];
    let text = format!("Connect for {who}");
    visit.ask(&format!("Connect {name}?"), &lines, &Button { text: &text, path: CALLBACK, fields: query })
}

async fn finish(node: &Arc<Node>, visit: Visit, state: String, mut query: BTreeMap<String, String>) -> Response {
    query.remove("state");
    let connections = Arc::clone(&node.connections);
    let connected = match connections.finish(node, Returned { state, query }).await {
        Ok(connected) => connected,
        Err(error) => {
            tracing::warn!(%error, "connection.callback: refused");
            return visit.refuse(error.into());
        }
    };
    let name = &connected.app.manifest.content.name;
    let account = connected.kept.label.as_ref().map_or_else(String::new, |label| format!(" as {label}"));
    let whose = if connected.shared { "everybody in your organisation".to_owned() } else { connected.principal.email.clone() };
    let synced = first_sync(node, &connected).await;
    let title = if synced.is_ok() { format!("Connected to {name}!") } else { "Connected, but sync failed".to_owned() };
    let mut lines = vec![format!("{name} is connected{account}, for {whose}.")];
    lines.extend(synced.err());
    lines.push("You can close this tab.".to_owned());
    visit.inform(&title, &lines)
}

/// Lets an integration that has an action `sync_connect` fetch what there is.
async fn first_sync(node: &Arc<Node>, connected: &Connected) -> Result<(), String> {
    const ACTION: &str = "sync_connect";
    if !connected.app.actions.contains_key(ACTION) {
        return Ok(());
    }
    let invocation = Invocation {
        principal: Arc::clone(&connected.principal),
        provider: connected.app.id.clone(),
        action: ACTION.to_owned(),
        input: serde_json::from_str("{}").map_err(|error| error.to_string())?,
        calling_app: None,
        idempotency_key: None,
        trace: trace::current(),
        parent: None,
        depth: 0,
        hops: 0,
        connection: Some(Chosen::Inherited(connected.kept.id)),
    };
    match runs::invoke(node, invocation).await {
        Ok(outcome) => told(&outcome.output),
        Err(error) => Err(Problem::from(error).message().to_owned()),
    }
}

/// What an integration says itself, when that is no success.
fn told(output: &RawValue) -> Result<(), String> {
    let Some(refusal) = runs::refusal(output) else { return Ok(()) };
    let text = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    Err(format!("[{}] {}", text(refusal.code), text(refusal.message)))
}
