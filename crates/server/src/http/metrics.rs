//! Counters and timings of every request, by route.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use super::trace::route;
use crate::node::Node;

/// Counts a request under its route pattern, never under the path itself: that would make a series per identifier.
pub async fn layer(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let started = node.clock.now();
    let method = method(&request);
    let route = route(&request).to_owned();
    let response = next.run(request).await;
    let labels = [("method", method.to_owned()), ("route", route), ("status", response.status().as_u16().to_string())];
    let seconds = (node.clock.now() - started).as_seconds_f64();
    ::metrics::counter!("weft_http_requests_total", &labels).increment(1);
    ::metrics::histogram!("weft_http_request_seconds", &labels).record(seconds);
    response
}

/// The method, if it is a usual one: a caller may invent others, and each would be a series.
fn method(request: &Request) -> &'static str {
    const USUAL: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    USUAL.into_iter().find(|name| *name == request.method().as_str()).unwrap_or("other")
}
