//! The HTTP surface as a whole: the router, what surrounds every request, and what all routes share.

mod address;
pub mod extract;
mod metrics;
mod openapi;
pub mod outbound;
pub mod page;
pub mod problem;
mod system;
pub mod trace;
pub mod visit;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use axum::{
    Json as Body, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use ipnet::IpNet;
use serde::Serialize;
use tower::Layer;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, Cors, CorsLayer};
use tracing::{Instrument, Span};
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{ContentBuilder, RefOr, Response as Documented, ResponseBuilder},
};
use weft_model::RunId;

use crate::{config::Settings, files, node::Node};
use problem::{Code, Problem, ProblemBody};
use trace::{Origin, TraceId, Visit};

/// The largest JSON body, in bytes.
pub const BODY_LIMIT: usize = 50 * 1024 * 1024;

/// What surrounds the routes of a node.
pub fn router(node: &Arc<Node>) -> Cors<Router> {
    let (routes, document) = openapi::routes().split_for_parts();
    let document = openapi::published(document);
    let routes = routes
        .merge(openapi::router(&document))
        .fallback(async || Problem::new(Code::NotFound, "There is no such path. The API is described at /docs."))
        .method_not_allowed_fallback(async |method: Method| {
            Problem::new(Code::MethodNotAllowed, format!("This path does not take {method}. The API is described at /docs."))
        })
        // One layer for everything: each costs every request an allocation or two and a copy of it.
        .layer(middleware::from_fn_with_state(Arc::new(Surroundings::of(&node.settings)), surround))
        .with_state(Arc::clone(node));
    cors(&node.settings.cors_origins).layer(routes)
}

/// What workers on this machine may reach of a node: uploads by addresses that are good for once, and nothing else.
pub fn door(node: &Arc<Node>) -> Router {
    files::door()
        .fallback(async || Problem::new(Code::NotFound, "Only uploads come in here."))
        .layer(middleware::from_fn_with_state(
            Arc::new(Surroundings { proxies: Vec::new(), ..Surroundings::of(&node.settings) }),
            surround,
        ))
        .with_state(Arc::clone(node))
}

/// What all requests have around them.
#[derive(Debug)]
struct Surroundings {
    proxies: Vec<IpNet>,
    /// Whether somebody collects spans. Where nobody does, a request gets one when something is logged.
    traced: bool,
}

impl Surroundings {
    fn of(settings: &Settings) -> Self {
        Self { proxies: settings.trusted_proxies.clone(), traced: settings.otlp_endpoint.is_some() }
    }
}

/// What happens around every request: a trace, figures, and an answer even when the handler panics.
async fn surround(State(around): State<Arc<Surroundings>>, request: Request, next: Next) -> Response {
    let (trace, figures) = (TraceId::of(&request), metrics::Figures::begin(&request));
    let origin = Origin { trace, address: address::client(&around.proxies, request.extensions(), request.headers()) };
    let visit = Visit::of(&request, origin);
    let span = if around.traced { visit.span() } else { Span::none() };
    let handled = async {
        let handled = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        handled.unwrap_or_else(|_| Problem::internal("a handler panicked").into_response())
    };
    let mut response = trace::serve(visit, handled.instrument(span)).await;
    trace::header(response.headers_mut(), trace);
    figures.end(response.status());
    response
}

/// The OpenAPI document of all routes.
pub fn document() -> utoipa::openapi::OpenApi {
    openapi::published(openapi::routes().split_for_parts().1)
}

/// The patterns of every route of the router itself, whether the document names it or not. For the test that walks them.
pub fn paths() -> BTreeSet<String> {
    let (routes, document) = openapi::routes().split_for_parts();
    // The router does not list its routes, but shows them: `RouteId(7): "/api/v1/apps"`.
    let shown = format!("{:?}", routes.merge(openapi::router(&document)));
    let paths = shown.split("RouteId(").filter_map(|part| part.split_once("): \"")?.1.split('"').next());
    paths.filter(|path| path.starts_with('/') && !path.contains("__private__")).map(str::to_owned).collect()
}

fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<_> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    CorsLayer::new()
        // A list of its own would be copied for every request.
        .allow_origin(AllowOrigin::predicate(move |origin, _| origins.contains(origin)))
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
}

/// The answer of a route that has nothing else to say.
#[derive(Debug, Serialize, ToSchema)]
pub struct Message {
    pub message: String,
}

impl Message {
    pub fn new(message: impl Into<String>) -> Body<Self> {
        Body(Self { message: message.into() })
    }
}

/// Names the run that an answer, good or bad, came from.
pub fn run_header(headers: &mut HeaderMap, run: RunId) {
    if let Ok(value) = HeaderValue::from_str(&run.to_string()) {
        headers.insert(HeaderName::from_static("x-weft-run-id"), value);
    }
}

/// In the OpenAPI document: every other answer is a problem.
pub struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems("application/problem+json")
    }
}

/// The same at the token endpoints, whose clients know no other type than JSON.
pub struct OauthProblems;

impl IntoResponses for OauthProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems("application/json")
    }
}

fn problems(content_type: &str) -> BTreeMap<String, RefOr<Documented>> {
    let schema = RefOr::Ref(utoipa::openapi::Ref::from_schema_name(ProblemBody::name()));
    debug_assert!(matches!(ProblemBody::schema(), RefOr::T(_)));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description("A problem").content(content_type, content).build();
    BTreeMap::from([("default".to_owned(), RefOr::T(response))])
}
