//! The OpenAPI document, generated from the handlers, and its reader at `/docs`.

use std::sync::Arc;

use axum::{
    Router,
    extract::Path,
    http::header,
    response::{IntoResponse, Redirect},
    routing::get,
};
use bytes::Bytes;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};
use weft_model::{ConfigurationId, ConnectionId, CronId, FileId, HookId, ObjectId, SyncId};

use super::problem::{Code, Problem, ProblemBody};
use crate::{
    apps, audit, authority, connections, data, files, hooks, identity, integrations, jobs, namespaces, node::Node, polls, runs,
    secrets, tenants, webhooks,
};

/// Where the document is.
const DOCUMENT: &str = "/api/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Weft",
        description = "One governed door between a company's software and everything outside it.\n\nEvery error has the same body (`ProblemBody`); its `code` is explained at `/docs/errors/{code}`.",
    ),
    security(("bearer" = [])),
    // What is only part of paths has to be named here.
    components(schemas(ProblemBody, ConfigurationId, ConnectionId, CronId, FileId, HookId, ObjectId, SyncId)),
    modifiers(&Bearer),
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Every route with its documentation.
pub fn routes() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(super::system::router())
        .merge(identity::router())
        .merge(authority::router())
        .merge(audit::router())
        .merge(tenants::router())
        .merge(namespaces::router())
        .merge(secrets::router())
        .merge(apps::router())
        .merge(data::router())
        .merge(files::router())
        .merge(hooks::router())
        .merge(integrations::router())
        .merge(connections::router())
        .merge(jobs::router())
        .merge(polls::router())
        .merge(runs::router())
        .merge(webhooks::router())
}

/// The document with its paths as OpenAPI writes them: the router calls the rest of a path `{*path}`.
pub fn published(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    document
}

/// `/api/openapi.json`, `/docs` and the pages of the error codes.
pub fn router(document: &utoipa::openapi::OpenApi) -> Router<Arc<Node>> {
    // Written once and kept as a text: what it is written from is many times as large.
    let text = Bytes::from(document.to_json().expect("the document is JSON"));
    Router::new()
        .merge(SwaggerUi::new("/docs").config(Config::from(DOCUMENT)))
        .route(DOCUMENT, get(async move || ([(header::CONTENT_TYPE, "application/json")], text.clone())))
        .route("/", get(async || Redirect::temporary("/docs/")))
        .route("/docs/errors/{code}", get(error_page))
}

async fn error_page(Path(code): Path<String>) -> Result<impl IntoResponse, Problem> {
    let page = Code::ALL.iter().find(|known| known.as_str() == code).map(|known| known.page());
    let page = page.ok_or_else(|| Problem::not_found(format!("error code '{code}'")))?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], page))
}
