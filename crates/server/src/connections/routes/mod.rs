//! `/api/v1/integrations/{id}/auth*` and `/connections*`.

mod flow;

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::HeaderMap};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{
    AppId, ConnectionId, UserId,
    connection::{ConnectionKind, ConnectionStatus},
};

use flow::Again;

use super::{
    bindings,
    check::Checked,
    error::Error,
    oauth::Revocation,
    service::manages,
    store::{Delegate, Listed, Terms},
};
use crate::{
    http::{
        Message, Problems,
        extract::{Authorized, Caller, Json, Path, Query, denied, lacking, rights},
        page::{self, Paging, next},
        problem::{Code, Problem},
    },
    integrations::{self, OfferedWay},
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(status, disconnect))
        .merge(flow::router())
        .routes(routes!(enter))
        .routes(routes!(delegate))
        .routes(routes!(list))
        .routes(routes!(rename, remove))
        .routes(routes!(check))
        .routes(routes!(users))
        .merge(bindings::router())
}

/// How it is between the caller and an integration.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuthStatus {
    /// How one connects who names no way: `redirect`, `credentials`, `oauth2`, `oauth1` or `token`; null where there is nothing to connect.
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    /// All ways to connect, the first one first.
    ways: Vec<OfferedWay>,
    /// Whether calls can be made with a connection of the caller's own, or with one of the tenant.
    connected: bool,
    /// The caller's own connections that serve.
    connection_count: i64,
    /// The caller's own connections that do not.
    dead_count: i64,
    /// Whether the tenant has a connection for everybody.
    shared: bool,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OfAgent {
    /// The app whose delegations are meant, instead of the caller's own connections. It takes the right to configure the integration.
    agent_app_id: Option<AppId>,
}

/// A connection. Its credentials are never shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Connection {
    id: Uuid,
    integration_id: AppId,
    /// Whose it is, or for whom it was delegated; absent: the tenant's, or an app's.
    user_id: Option<Uuid>,
    #[schema(value_type = ConnectionKind)]
    kind: String,
    label: Option<String>,
    /// The name of the way that it was made by; null: the first, from before that had a name.
    way: Option<String>,
    /// Whether it is the tenant's, for everybody who may call the integration.
    shared: bool,
    #[schema(value_type = ConnectionStatus)]
    status: String,
    /// Why it does not serve: a short name, and words for a person.
    status_cause: Option<String>,
    status_message: Option<String>,
    status_since: DateTime<Utc>,
    /// When the vendor's token is over. It is renewed before, where that is possible.
    expires_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegation: Option<DelegatedConnection>,
    created_at: DateTime<Utc>,
    /// When its credentials, its label or its status changed last.
    updated_at: DateTime<Utc>,
}

/// How far a delegation reaches.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DelegatedConnection {
    /// The connection that it leads to.
    source_id: Option<Uuid>,
    agent_app_id: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    /// Absent: all of them.
    actions: Option<Vec<String>>,
    /// Absent: as many as one likes.
    calls_left: Option<i64>,
}

impl Connection {
    fn new(integration: &AppId, row: Listed) -> Self {
        let delegated = row.kind == ConnectionKind::Delegation.as_str();
        Self {
            id: row.id,
            integration_id: integration.clone(),
            user_id: row.user_id,
            shared: !delegated && row.user_id.is_none(),
            kind: row.kind,
            label: row.label,
            way: row.way,
            status: row.status,
            status_cause: row.status_cause,
            status_message: row.status_message,
            status_since: row.status_since,
            expires_at: row.expires_at,
            delegation: delegated.then_some(DelegatedConnection {
                source_id: row.source_id,
                agent_app_id: row.agent_app_id,
                expires_at: row.delegated_until,
                actions: row.delegated_actions,
                calls_left: row.delegated_calls,
            }),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// How one is connected or not
#[utoipa::path(get, path = "/api/v1/integrations/{integration_id}/auth", tag = "connections",
    params(("integration_id" = AppId, Path), OfAgent), responses((status = 200, body = AuthStatus), Problems))]
async fn status(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<AppId>,
    Query(of): Query<OfAgent>,
) -> Result<Body<AuthStatus>, Problem> {
    let app = node.integrations.get(&caller.tenant, &id).await?;
    if of.agent_app_id.is_some() && !manages(&caller, &id) {
        return Err(lacking(super::service::manage_keys(&id).to_vec()));
    }
    let summary = node.connections.summary(&caller, &app, of.agent_app_id.as_ref()).await?;
    let (config, content) = (node.integrations.config(&app).await?, &app.manifest.content);
    Ok(Body(AuthStatus {
        kind: content.user_auth.as_ref().map(|auth| auth.first.way.as_str()),
        ways: integrations::offered_ways(content, |way| config.lacks(content, way)),
        connected: summary.active > 0 || summary.shared,
        connection_count: summary.active,
        dead_count: summary.dead,
        shared: summary.shared,
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EnteredCredentials)]
struct Enter {
    /// What the schema of the way asks for.
    #[schema(value_type = Object)]
    credentials: Map<String, Value>,
    /// What to call the connection. One that has this label gets the new credentials.
    label: Option<String>,
    /// For the whole tenant. It takes the right to manage the integration.
    #[serde(default)]
    shared: bool,
    /// The name of the way to connect; else that of the connection which gets them, else the first.
    way: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CredentialsStored)]
struct Entered {
    message: &'static str,
    connection_id: ConnectionId,
    label: Option<String>,
}

/// Connect by entering credentials
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/auth/credentials", tag = "connections",
    params(("integration_id" = AppId, Path), Again), request_body = Enter,
    responses((status = 200, body = Entered), Problems))]
async fn enter(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<AppId>,
    Query(again): Query<Again>,
    Json(body): Json<Enter>,
) -> Result<Body<Entered>, Problem> {
    let app = node.integrations.get(&caller.tenant, &id).await?;
    let wanted = again.wanted(body.label, body.shared, body.way);
    let kept = node.connections.enter(&caller, &app, body.credentials, wanted).await?;
    Ok(Body(Entered { message: "credentials stored", connection_id: kept.id, label: kept.label }))
}

/// For whom a connection is delegated, and how far.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewDelegation)]
struct DelegateTo {
    /// An app, for example an agent. Either this or `user_id`.
    agent_app_id: Option<AppId>,
    /// A member of the tenant, for example a service account.
    user_id: Option<UserId>,
    /// One's own connection, or one of the tenant; else the caller's oldest that serves.
    connection_id: Option<ConnectionId>,
    /// When it ends by itself.
    expires_at: Option<DateTime<Utc>>,
    /// The same, in seconds from now.
    expires_in: Option<u32>,
    /// The actions that it covers; all of them when absent.
    actions: Option<Vec<String>>,
    /// How many calls it is good for.
    max_calls: Option<i64>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Delegated {
    message: &'static str,
    /// Delete this connection to end the delegation.
    connection_id: ConnectionId,
}

/// Delegate a connection
///
/// The app or the member then calls the integration with the caller's account, for as long and as far as is said. Delegating the
/// same connection to the same one again replaces what was said before.
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/auth/delegate", tag = "connections",
    params(("integration_id" = AppId, Path)), request_body = DelegateTo, responses((status = 200, body = Delegated), Problems))]
async fn delegate(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ConfigureIntegration>,
    Path(id): Path<AppId>,
    Json(body): Json<DelegateTo>,
) -> Result<Body<Delegated>, Problem> {
    let app = node.integrations.get(&caller.tenant, &id).await?;
    let to = match (body.agent_app_id, body.user_id) {
        (Some(agent), None) => Delegate::App(agent),
        (None, Some(user)) => Delegate::Member(user),
        _ => return Err(Problem::new(Code::InvalidRequest, "Say for whom: either agent_app_id or user_id.")),
    };
    let later = body.expires_in.map(|seconds| node.clock.now() + TimeDelta::seconds(seconds.into()));
    let terms = Terms { until: body.expires_at.or(later), actions: body.actions, calls: body.max_calls };
    let connection_id = node.connections.delegate(&caller, &app, body.connection_id, to, terms).await?;
    Ok(Body(Delegated { message: "delegated", connection_id }))
}

/// What became of the tokens at the vendor.
#[derive(Serialize, ToSchema)]
struct DeletedConnection {
    message: &'static str,
    /// `revoked`, `not_offered`, `nothing_to_revoke` or `failed`.
    revocation: &'static str,
    /// The same in words for a person.
    detail: String,
}

impl From<Revocation> for DeletedConnection {
    fn from(revocation: Revocation) -> Self {
        Self { message: "connection deleted", revocation: revocation.as_str(), detail: revocation.to_string() }
    }
}

/// Disconnect
///
/// Deletes all of the caller's own connections with their credentials, or ends what was delegated to an app.
#[utoipa::path(delete, path = "/api/v1/integrations/{integration_id}/auth", tag = "connections",
    params(("integration_id" = AppId, Path), OfAgent), responses((status = 200, body = Message), Problems))]
async fn disconnect(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<AppId>,
    Query(of): Query<OfAgent>,
) -> Result<Body<Message>, Problem> {
    if of.agent_app_id.is_some() && !manages(&caller, &id) {
        return Err(lacking(super::service::manage_keys(&id).to_vec()));
    }
    node.connections.disconnect(&caller, &id, of.agent_app_id.as_ref()).await?;
    Ok(Message::new("disconnected"))
}

/// List connections
///
/// One's own, those of the tenant, and delegations to and from oneself, oldest first. `x-weft-next-cursor` names the next page.
#[utoipa::path(get, path = "/api/v1/integrations/{integration_id}/connections", tag = "connections",
    params(("integration_id" = AppId, Path), Paging), responses((status = 200, body = Vec<Connection>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<AppId>,
    Query(paging): Query<Paging>,
) -> Result<(HeaderMap, Body<Vec<Connection>>), Problem> {
    let (limit, after) = paging.read()?;
    let mut rows = node.connections.list(&caller, &id, after.map(ConnectionId::from), limit + page::ONE_MORE).await?;
    let headers = next(page::cut(&mut rows, limit, |row| row.id.into_bytes()));
    Ok((headers, Body(rows.into_iter().map(|row| Connection::new(&id, row)).collect())))
}

#[derive(Deserialize, ToSchema)]
#[schema(as = ConnectionChange)]
struct Change {
    label: String,
}

/// Rename a connection
#[utoipa::path(patch, path = "/api/v1/integrations/{integration_id}/connections/{connection_id}", tag = "connections",
    params(("integration_id" = AppId, Path), ("connection_id" = ConnectionId, Path)), request_body = Change,
    responses((status = 200, body = Message), Problems))]
async fn rename(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((integration, id)): Path<(AppId, ConnectionId)>,
    Json(body): Json<Change>,
) -> Result<Body<Message>, Problem> {
    node.connections.rename(&caller, &integration, id, &body.label).await?;
    Ok(Message::new("updated"))
}

/// Delete a connection
///
/// Its credentials are deleted, and taken back at the vendor where that is possible; the answer says what came of that. A
/// delegation ends.
#[utoipa::path(delete, path = "/api/v1/integrations/{integration_id}/connections/{connection_id}", tag = "connections",
    params(("integration_id" = AppId, Path), ("connection_id" = ConnectionId, Path)),
    responses((status = 200, body = DeletedConnection), Problems))]
async fn remove(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((integration, id)): Path<(AppId, ConnectionId)>,
) -> Result<Body<DeletedConnection>, Problem> {
    Ok(Body(node.connections.delete(&caller, &integration, id).await?.into()))
}

/// Check a connection
///
/// Looks at the configuration, the status and the token, which is renewed where that is possible, and names what to do.
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/connections/{connection_id}/check", tag = "connections",
    params(("integration_id" = AppId, Path), ("connection_id" = ConnectionId, Path)),
    responses((status = 200, body = Checked), Problems))]
async fn check(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((integration, id)): Path<(AppId, ConnectionId)>,
) -> Result<Body<Checked>, Problem> {
    Ok(Body(node.connections.check(&caller, &integration, id).await?))
}

/// List who is connected
///
/// The ids of users with connections of their own. `x-weft-next-cursor` names the next page.
#[utoipa::path(get, path = "/api/v1/integrations/{integration_id}/connected-users", tag = "connections",
    params(("integration_id" = AppId, Path), Paging), responses((status = 200, body = Vec<UserId>), Problems))]
async fn users(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ConfigureIntegration>,
    Path(id): Path<AppId>,
    Query(paging): Query<Paging>,
) -> Result<(HeaderMap, Body<Vec<UserId>>), Problem> {
    let (limit, after) = paging.read()?;
    let mut users = node.connections.users(&caller, &id, after.map(UserId::from), limit + page::ONE_MORE).await?;
    let headers = next(page::cut(&mut users, limit, |user| user.as_uuid().into_bytes()));
    Ok((headers, Body(users)))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let code = match error {
            Error::Unknown(_) => return Self::not_found(message),
            Error::Denied(key) => return denied(&key),
            Error::Invalid(faults) => {
                let list: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
                return Self::new(Code::ValidationFailed, format!("{message}: {}", list.join("; "))).with_faults(faults);
            }
            Error::NotConnected { connect_url, .. } => {
                return Self::new(Code::NotConnected, message).with_reconnect_url(connect_url);
            }
            Error::Dead { reconnect_url, .. } => {
                return Self::new(Code::ReconnectRequired, message).with_reconnect_url(reconnect_url);
            }
            Error::App(cause) => return cause.into(),
            Error::Integration(cause) => return cause.into(),
            Error::Secrets(cause) => return cause.into(),
            Error::Database(cause) => return cause.into(),
            Error::NotYours | Error::DelegationOver(_) | Error::DelegationUsedUp | Error::ActionNotDelegated { .. } => {
                Code::Forbidden
            }
            Error::NothingToConnect(_)
            | Error::OtherWay { .. }
            | Error::UnknownWay { .. }
            | Error::InvalidRequest(_)
            | Error::NothingToDelegate
            | Error::InvalidState
            | Error::StateExpired => Code::InvalidRequest,
            Error::LabelTaken(_) => Code::Conflict,
            Error::NoClient(_) | Error::InsecureAddress(_) | Error::ClientRefused(_) => Code::NotConfigured,
            Error::Unreachable(_) => Code::VendorUnavailable,
            Error::NoToken(_) | Error::Refused { .. } | Error::NoCode | Error::NotSent(_) | Error::WayRemoved { .. } => {
                Code::ConnectFailed
            }
            Error::Backend { .. } => Code::ActionFailed,
        };
        Self::new(code, message)
    }
}
