//! Counters and timings of every request, by route.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};

use crate::node::Node;

/// Counts a request under its route pattern, never under the path itself: that would make a series per identifier.
pub async fn layer(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let started = node.clock.now();
    let method = request.method().as_str().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let labels = [("method", method), ("route", route), ("status", response.status().as_u16().to_string())];
    let seconds = (node.clock.now() - started).as_seconds_f64();
    ::metrics::counter!("weft_http_requests_total", &labels).increment(1);
    ::metrics::histogram!("weft_http_request_seconds", &labels).record(seconds);
    response
}
