//! `/api/v1/apps/{app_id}/integrations`.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::HeaderMap};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{AppId, BindingId, ConnectionId};

use super::{service::Reach, store};
use crate::{
    http::{
        Message, Problems,
        extract::{Caller, Json, Path, Query},
        page::{self, Paging, next},
        problem::Problem,
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(list, bind)).routes(routes!(unbind))
}

/// What an app uses an integration with.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AppBinding)]
struct Binding {
    integration_id: String,
    /// Always: a binding that is not wanted is removed.
    enabled: bool,
    /// Absent: whatever connection the caller has.
    connection_id: Option<Uuid>,
    /// The triggers of the integration that the app hears of.
    triggers: Vec<String>,
    /// Whose binding it is; absent: everybody's who uses the app.
    user_id: Option<Uuid>,
    created_at: DateTime<Utc>,
}

impl From<store::Binding> for Binding {
    fn from(row: store::Binding) -> Self {
        let store::Binding { integration_id, user_id, connection_id, triggers, created_at, .. } = row;
        Self { integration_id, enabled: true, connection_id, triggers, user_id, created_at }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewAppBinding)]
struct Bind {
    integration_id: AppId,
    /// The account that the app uses. Absent: the first connection of whoever calls.
    connection_id: Option<ConnectionId>,
    #[serde(default)]
    #[schema(default)]
    scope: Reach,
    /// Triggers of the integration that the app's `onJob` is told of, for the connection that is named; without one, those that ask
    /// with the configuration.
    #[serde(default)]
    triggers: Vec<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Whose {
    /// `user`: the caller's own binding; `app` or absent: the one for everybody.
    #[serde(default)]
    #[param(inline)]
    scope: Reach,
}

/// List the integrations that an app is bound to
///
/// Bindings for everybody and the caller's own. `x-weft-next-cursor` names the next page, if there is one.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/integrations", tag = "connections",
    params(("app_id" = AppId, Path), Paging), responses((status = 200, body = Vec<Binding>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(app): Path<AppId>,
    Query(paging): Query<Paging>,
) -> Result<(HeaderMap, Body<Vec<Binding>>), Problem> {
    let (limit, after) = paging.read()?;
    let mut rows = node.connections.bindings(&caller, &app, after.map(BindingId::from), limit + page::ONE_MORE).await?;
    let headers = next(page::cut(&mut rows, limit, |row| row.id.as_uuid().into_bytes()));
    Ok((headers, Body(rows.into_iter().map(Binding::from).collect())))
}

/// Bind an app to an integration
///
/// Calls on behalf of the app then use that connection. For everybody who uses the app it takes the right to manage the integration.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/integrations", tag = "connections",
    params(("app_id" = AppId, Path)), request_body = Bind, responses((status = 200, body = Message), Problems))]
async fn bind(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(app): Path<AppId>,
    Json(body): Json<Bind>,
) -> Result<Body<Message>, Problem> {
    node.connections.bind(&caller, (&app, &body.integration_id), body.scope, (body.connection_id, body.triggers)).await?;
    Ok(Message::new("bound"))
}

/// Unbind an app from an integration
#[utoipa::path(delete, path = "/api/v1/apps/{app_id}/integrations/{integration_id}", tag = "connections",
    params(("app_id" = AppId, Path), ("integration_id" = AppId, Path), Whose),
    responses((status = 200, body = Message), Problems))]
async fn unbind(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((app, integration)): Path<(AppId, AppId)>,
    Query(whose): Query<Whose>,
) -> Result<Body<Message>, Problem> {
    node.connections.unbind(&caller, (&app, &integration), whose.scope).await?;
    Ok(Message::new("unbound"))
}
