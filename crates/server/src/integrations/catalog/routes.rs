//! `/api/v1/integrations/catalog*`.

use std::sync::Arc;

use axum::{Json as Body, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{AppId, manifest::Action};

use super::{
    indexes::State as IndexState,
    service::{self, Offer},
};
use crate::{
    data::Consent,
    http::{
        Message, Problems,
        extract::{Authorized, Caller, Path, Query, rights},
        problem::Problem,
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(indexes)).routes(routes!(deploy)).routes(routes!(remove))
}

/// An integration that can be deployed by its name.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CatalogEntry {
    id: AppId,
    name: String,
    version: String,
    description: String,
    actions: Vec<Action>,
    #[schema(value_type = Option<Object>)]
    config_schema: Option<Value>,
    #[schema(value_type = Option<Object>)]
    user_auth: Option<Value>,
    /// Names of its inbound webhooks.
    webhooks: Vec<String>,
    instructions: Option<String>,
    /// Whether deploying it starts a backend; without one its actions are carried out by the server.
    backend: bool,
    /// The address of the index that lists it; null for what comes with the server.
    index: Option<String>,
    /// When that index was read.
    index_read_at: Option<DateTime<Utc>>,
    /// Why that index could not be read again since, when that is so.
    index_fault: Option<String>,
    /// The version that is installed, if it is.
    installed_version: Option<String>,
}

/// The answer to a deployment from the catalog.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CatalogDeployed {
    message: String,
    app_id: AppId,
    /// The number of the version of its backend; null for one without.
    version: Option<i32>,
}

/// A signed index of integrations that the server's settings name.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CatalogIndex {
    url: String,
    /// As it calls itself; null while it was never read.
    name: Option<String>,
    /// How many integrations it lists.
    integrations: Option<usize>,
    issued_at: Option<DateTime<Utc>>,
    /// Afterwards what it lists is not offered any more.
    expires_at: Option<DateTime<Utc>>,
    /// When it was read.
    read_at: Option<DateTime<Utc>>,
    /// When it was last asked for.
    asked_at: Option<DateTime<Utc>>,
    /// Why nothing came of that, or why it does not count.
    fault: Option<String>,
}

impl From<IndexState> for CatalogIndex {
    fn from(IndexState { url, read, asked_at, fault }: IndexState) -> Self {
        let index = read.as_ref().map(|(_, index)| index);
        Self {
            url: url.into(),
            name: index.map(|index| index.name.clone()),
            integrations: index.map(|index| index.integrations.len()),
            issued_at: index.map(|index| index.issued_at),
            expires_at: index.map(|index| index.expires_at),
            read_at: read.as_ref().map(|(at, _)| *at),
            asked_at,
            fault: fault.map(|fault| fault.to_string()),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CatalogFilter {
    /// Have the indexes read again soon, at most every 15 seconds. The answer does not wait for that.
    #[serde(default)]
    refresh: bool,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CatalogOptions {
    /// Agree to losing the data that the new data contract drops.
    #[serde(default, rename = "acceptLoss")]
    accept_loss: bool,
}

impl From<Offer> for CatalogEntry {
    fn from(Offer { document, content, index, installed }: Offer) -> Self {
        let (index_read_at, index_fault) =
            index.as_ref().map_or((None, None), |origin| (Some(origin.read_at), origin.fault.clone()));
        Self {
            backend: content.needs_backend(),
            id: content.app_id,
            name: content.name,
            version: content.version,
            description: content.description,
            actions: content.actions,
            config_schema: content.config_schema,
            // As it is written: what the server makes of it concerns nobody.
            user_auth: document.get("userAuth").cloned(),
            webhooks: content.webhooks.into_iter().map(|webhook| webhook.name).collect(),
            instructions: content.instructions,
            index: index.map(|origin| origin.url.into()),
            index_read_at,
            index_fault,
            installed_version: installed,
        }
    }
}

/// List the integrations that can be deployed
///
/// Those that come with the server, and those of the signed indexes that its settings name, as they were read last: at the start, every 10
/// minutes, and when somebody asks for it.
#[utoipa::path(get, path = "/api/v1/integrations/catalog", tag = "integrations", params(CatalogFilter),
    responses((status = 200, body = Vec<CatalogEntry>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Query(filter): Query<CatalogFilter>,
) -> Result<Body<Vec<CatalogEntry>>, Problem> {
    if filter.refresh {
        node.catalog.ask_for_news();
    }
    Ok(Body(service::list(&node, &caller).await?.into_iter().map(CatalogEntry::from).collect()))
}

/// List the indexes of the catalog
///
/// The signed indexes that the server's settings name, in their order, with what became of reading them on the node that answers.
#[utoipa::path(get, path = "/api/v1/integrations/catalog-indexes", tag = "integrations", params(CatalogFilter),
    responses((status = 200, body = Vec<CatalogIndex>), Problems))]
async fn indexes(
    State(node): State<Arc<Node>>,
    _caller: Authorized<rights::ManageCatalog>,
    Query(filter): Query<CatalogFilter>,
) -> Body<Vec<CatalogIndex>> {
    if filter.refresh {
        node.catalog.ask_for_news();
    }
    Body(node.catalog.states().into_iter().map(CatalogIndex::from).collect())
}

/// Deploy an integration from the catalog
///
/// Its manifest is installed, its permissions and webhooks exist, and its backend, where it has one, is started. Deploying it again
/// replaces it, as every deployment does. What it still needs is its configuration.
#[utoipa::path(post, path = "/api/v1/integrations/catalog/{id}/deploy", tag = "integrations",
    params(("id" = AppId, Path), CatalogOptions), responses((status = 200, body = CatalogDeployed), Problems))]
async fn deploy(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageCatalog>,
    Path(id): Path<AppId>,
    Query(options): Query<CatalogOptions>,
) -> Result<Body<CatalogDeployed>, Problem> {
    let by = Arc::clone(caller.principal());
    let version = service::deploy(&node, by, &id, Consent::given(options.accept_loss)).await?;
    let state = if version.is_some() { "deployed and started" } else { "deployed" };
    Ok(Body(CatalogDeployed { message: format!("integration '{id}' {state}"), app_id: id, version }))
}

/// Remove an integration of the catalog
///
/// Removes its worker, data, permissions, webhooks and jobs like uninstalling does, and besides that the platform secrets that only its
/// configuration names. Removing one that is not installed succeeds.
#[utoipa::path(delete, path = "/api/v1/integrations/catalog/{id}", tag = "integrations", params(("id" = AppId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn remove(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageCatalog>,
    Path(id): Path<AppId>,
) -> Result<Body<Message>, Problem> {
    service::remove(&node, Arc::clone(caller.principal()), &id).await?;
    Ok(Message::new(format!("integration '{id}' removed")))
}
