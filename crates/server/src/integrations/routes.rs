//! `/api/v1/integrations*`.

use std::{fmt, str::FromStr, sync::Arc};

use axum::{Json as Body, extract::State, http::HeaderMap, response::Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{AppId, ConfigurationId, ConnectionId, manifest::Action};

use super::{
    catalog::Unread,
    service::{Error, Listed},
    store::Named,
    ways::OfferedWay,
};
use crate::{
    apps,
    connections::Chosen,
    http::{
        Message, Problems,
        extract::{self, Authorized, Caller, Json, JsonBytes, Path, Query, rights},
        page::{self, Paging},
        problem::{Code, Problem},
        trace,
    },
    node::Node,
    runs::{self, Invocation},
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(save_config))
        .routes(routes!(list_named, add_named))
        .routes(routes!(remove_named))
        .routes(routes!(call_action))
        .merge(super::catalog::router())
        .merge(super::proxy::router())
}

/// An installed integration.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Integration {
    id: AppId,
    name: String,
    version: String,
    description: String,
    actions: Vec<Action>,
    #[schema(value_type = Option<Object>)]
    config_schema: Option<Value>,
    #[schema(value_type = Option<Object>)]
    user_auth: Option<Value>,
    /// The ways to connect it, the first one first.
    ways: Vec<OfferedWay>,
    /// Names of its inbound webhooks.
    webhooks: Vec<String>,
    instructions: Option<String>,
    /// Whether every required field of the configuration has a value.
    configured: bool,
    /// Required fields without a value.
    missing: Vec<String>,
    /// Whether there is something to call: a backend was deployed, or none is needed.
    deployed: bool,
}

impl From<Listed> for Integration {
    fn from(Listed { content, deployed, missing, ways }: Listed) -> Self {
        Self {
            id: content.app_id,
            name: content.name,
            version: content.version,
            description: content.description,
            actions: content.actions,
            config_schema: content.config_schema,
            user_auth: content.user_auth.and_then(|auth| serde_json::to_value(auth).ok()),
            ways,
            webhooks: content.webhooks.into_iter().map(|webhook| webhook.name).collect(),
            instructions: content.instructions,
            configured: missing.is_empty(),
            missing,
            deployed,
        }
    }
}

/// The answer to saving a configuration.
#[derive(Serialize, ToSchema)]
struct Saved {
    message: String,
    configured: bool,
    /// Required fields that still have no value.
    missing: Vec<String>,
}

/// List installed integrations
#[utoipa::path(get, path = "/api/v1/integrations", tag = "integrations", responses((status = 200, body = Vec<Integration>), Problems))]
async fn list(State(node): State<Arc<Node>>, Caller(caller): Caller) -> Result<Body<Vec<Box<RawValue>>>, Problem> {
    let show = |listed| serde_json::value::to_raw_value(&Integration::from(listed));
    let all = node.integrations.list(&caller.tenant, show).await?.into_iter().collect::<Result<_, _>>();
    Ok(Body(all.map_err(Problem::internal)?))
}

/// Save the configuration of an integration
///
/// Fields with `platformSecret` go to the vault, the others beside it. Fields not sent stay as they are; null or "" removes one.
#[utoipa::path(put, path = "/api/v1/integrations/{integration_id}/config", tag = "integrations",
    params(("integration_id" = AppId, Path)), request_body(content = Object, description = "Field names and values"),
    responses((status = 200, body = Saved), Problems))]
async fn save_config(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ConfigureIntegration>,
    Path(id): Path<AppId>,
    Json(given): Json<Map<String, Value>>,
) -> Result<Body<Saved>, Problem> {
    let config = node.integrations.save(&caller, &id, given).await?;
    let missing = config.missing.clone();
    Ok(Body(Saved { message: "config saved".to_owned(), configured: missing.is_empty(), missing }))
}

/// A further configuration of an integration. Its values are never shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NamedConfiguration {
    id: Uuid,
    label: String,
    configured: bool,
    created_at: DateTime<Utc>,
}

#[derive(Deserialize, ToSchema)]
struct NewConfiguration {
    label: String,
    /// Fields of `configSchema` and their values. What is not here is taken from the integration's own configuration.
    #[schema(value_type = Object)]
    credentials: Map<String, Value>,
}

#[derive(Serialize, ToSchema)]
struct ConfigurationAdded {
    id: ConfigurationId,
    label: String,
}

/// List the named configurations of an integration
///
/// `x-weft-next-cursor` names the next page, if there is one.
#[utoipa::path(get, path = "/api/v1/integrations/{integration_id}/configs", tag = "integrations",
    params(("integration_id" = AppId, Path), Paging), responses((status = 200, body = Vec<NamedConfiguration>), Problems))]
async fn list_named(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<AppId>,
    Query(paging): Query<Paging>,
) -> Result<(HeaderMap, Body<Vec<NamedConfiguration>>), Problem> {
    let (limit, after) = paging.read()?;
    let after = after.map(ConfigurationId::from);
    let mut rows = node.integrations.named(&caller, &id, after, limit + page::ONE_MORE).await?;
    let headers = page::next(page::cut(&mut rows, limit, |row| row.id.into_bytes()));
    let show = |row: Named| NamedConfiguration { id: row.id, label: row.label, configured: true, created_at: row.created_at };
    Ok((headers, Body(rows.into_iter().map(show).collect())))
}

/// Add a named configuration
///
/// For another OAuth client at the same vendor. Connections are made with it when `auth/start` is given its id as `config_id`.
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/configs", tag = "integrations",
    params(("integration_id" = AppId, Path)), request_body = NewConfiguration,
    responses((status = 200, body = ConfigurationAdded), Problems))]
async fn add_named(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ConfigureIntegration>,
    Path(id): Path<AppId>,
    Json(body): Json<NewConfiguration>,
) -> Result<Body<ConfigurationAdded>, Problem> {
    let named = node.integrations.add_named(&caller, &id, &body.label, body.credentials).await?;
    Ok(Body(ConfigurationAdded { id: named, label: body.label }))
}

/// Delete a named configuration
///
/// Refused while connections use it.
#[utoipa::path(delete, path = "/api/v1/integrations/{integration_id}/configs/{configuration_id}", tag = "integrations",
    params(("integration_id" = AppId, Path), ("configuration_id" = ConfigurationId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn remove_named(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ConfigureIntegration>,
    Path((id, named)): Path<(AppId, ConfigurationId)>,
) -> Result<Body<Message>, Problem> {
    node.integrations.remove_named(&caller, &id, named).await?;
    Ok(Message::new("config deleted"))
}

/// Call an action of an integration
///
/// The body is the action's input, the answer is its result. With an `Idempotency-Key` the same key answers the same result
/// once. The header `x-weft-run-id` of the answer names the recorded run. Where the manifest has a `rateLimit`, `RateLimit-Policy` and
/// `RateLimit` say how large the budget is, what could go out at once, and in how many seconds it is whole again.
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/actions/{action_id}", tag = "integrations",
    params(
        ("integration_id" = AppId, Path),
        ("action_id" = String, Path),
        ("x-app-id" = Option<AppId>, Header, description = "The app on whose behalf the call is made"),
        ("x-connection-id" = Option<ConnectionId>, Header, description = "Which of one's connections to use"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, kept for 24 hours"),
    ),
    request_body(content = Object, description = "The input, as the action's inputSchema says"),
    responses((status = 200, description = "What the action returned"), Problems))]
async fn call_action(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::CallAction>,
    Path((provider, action)): Path<(AppId, String)>,
    headers: HeaderMap,
    JsonBytes(body): JsonBytes,
) -> Result<Response, Problem> {
    let invocation = Invocation {
        principal: Arc::clone(caller.principal()),
        provider,
        action,
        input: extract::parse::<Box<RawValue>>(&body)?,
        calling_app: named(&headers, "x-app-id")?,
        idempotency_key: extract::header(&headers, "idempotency-key")?.map(str::to_owned),
        trace: trace::current(),
        parent: None,
        depth: 0,
        connection: named(&headers, "x-connection-id")?.map(Chosen::Asked),
        hops: 0,
    };
    Ok(apps::raw_json(runs::invoke(&node, invocation).await?))
}

/// An id that a header names.
pub(super) fn named<T: FromStr<Err: fmt::Display>>(headers: &HeaderMap, name: &'static str) -> Result<Option<T>, Problem> {
    let read = extract::header(headers, name)?.map(str::parse).transpose();
    read.map_err(|error| Problem::new(Code::InvalidRequest, format!("{name}: {error}")))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Unknown(_) | Error::UnknownConfiguration(_) | Error::NotInCatalog(_) => Self::not_found(message),
            Error::Unread { cause, .. } => match cause.cause {
                Unread::Refused(_) | Unread::Address => Self::new(Code::InvalidArchive, message),
                Unread::Outbound(_) | Unread::Status(_) | Unread::NotYet => Self::new(Code::VendorUnavailable, message),
            },
            Error::LabelTaken(_) => Self::new(Code::Conflict, message),
            Error::ConfigurationInUse(_) => Self::new(Code::InvalidRequest, message),
            Error::Invalid(faults) => {
                let list: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
                Self::new(Code::ValidationFailed, format!("{message}: {}", list.join("; "))).with_faults(faults)
            }
            Error::Bind(_) => Self::new(Code::ActionFailed, message),
            Error::App(cause) => cause.into(),
            Error::Secrets(cause) => cause.into(),
            Error::Database(cause) => cause.into(),
        }
    }
}
