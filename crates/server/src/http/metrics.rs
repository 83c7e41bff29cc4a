//! Counters and timings of every request, by route.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    http::StatusCode,
};
use metrics::{Label, SharedString};

/// What is known of a request while it is handled.
pub struct Figures {
    begun: Instant,
    method: &'static str,
    /// The pattern of the route, never the path itself: that would make a series per identifier.
    route: Option<MatchedPath>,
}

impl Figures {
    pub fn begin(request: &Request) -> Self {
        Self { begun: Instant::now(), method: method(request), route: request.extensions().get::<MatchedPath>().cloned() }
    }

    /// Counts the request.
    pub fn end(self, status: StatusCode) {
        let route = self.route.map_or(SharedString::const_str("unmatched"), |route| route.as_str().to_owned().into());
        let labels = vec![
            Label::from_static_parts("method", self.method),
            Label::new("route", route),
            Label::new("status", status.as_str().to_owned()),
        ];
        metrics::counter!("weft_http_requests_total", labels.clone()).increment(1);
        metrics::histogram!("weft_http_request_seconds", labels).record(self.begun.elapsed());
    }
}

/// The method, if it is a usual one: a caller may invent others, and each would be a series.
fn method(request: &Request) -> &'static str {
    const USUAL: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    USUAL.into_iter().find(|name| *name == request.method().as_str()).unwrap_or("other")
}
