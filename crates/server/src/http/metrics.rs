//! Counters and timings of every request, by route.

use std::{collections::HashMap, sync::LazyLock, time::Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::StatusCode,
};
use dashmap::DashMap;
use metrics::{Counter, Histogram, Label};

/// What is known of a request while it is handled.
pub struct Figures {
    begun: Instant,
    method: &'static str,
    /// The pattern of the route, never the path itself: that would make a series per identifier.
    route: Option<MatchedPath>,
}

/// The series of one method and status.
type Series = (Counter, Histogram);

/// The series of a route.
type Known = HashMap<(&'static str, StatusCode), Series>;

/// The series of every route that was asked for: looking one up by its labels costs a request more than counting it.
static SERIES: LazyLock<DashMap<String, Known>> = LazyLock::new(DashMap::new);

impl Figures {
    pub fn begin(request: &Request) -> Self {
        Self { begun: Instant::now(), method: method(request), route: request.extensions().get::<MatchedPath>().cloned() }
    }

    /// Counts the request.
    pub fn end(self, status: StatusCode) {
        let (route, key) = (self.route.as_ref().map_or("unmatched", MatchedPath::as_str), (self.method, status));
        let count = |(counter, histogram): &Series| {
            counter.increment(1);
            histogram.record(self.begun.elapsed());
        };
        if let Some(known) = SERIES.get(route)
            && let Some(series) = known.get(&key)
        {
            return count(series);
        }
        count(SERIES.entry(route.to_owned()).or_default().entry(key).or_insert_with(|| series(route, key)));
    }
}

fn series(route: &str, (method, status): (&'static str, StatusCode)) -> Series {
    let labels = vec![
        Label::from_static_parts("method", method),
        Label::new("route", route.to_owned()),
        Label::new("status", status.as_str().to_owned()),
    ];
    let counter = metrics::counter!("weft_http_requests_total", labels.clone());
    (counter, metrics::histogram!("weft_http_request_seconds", labels))
}

/// The method, if it is a usual one: a caller may invent others, and each would be a series.
fn method(request: &Request) -> &'static str {
    const USUAL: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    USUAL.into_iter().find(|name| *name == request.method().as_str()).unwrap_or("other")
}
