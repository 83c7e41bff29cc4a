//! Trace identifiers: taken from an incoming W3C `traceparent` or made here, carried through the request by the task.

use std::fmt;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::Instrument;

/// The 128-bit identifier that ties logs, runs, traces and error bodies of one request together; 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    pub fn generate() -> Self {
        Self(rand::random::<u128>().max(1))
    }

    /// The trace id of a `traceparent` header (`00-<trace id>-<parent id>-<flags>`), when it has a valid one.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
        let (version, id) = (parts.next()?, parts.next()?);
        if version.len() != 2 || id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(id, 16).ok().filter(|id| *id != 0).map(Self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

tokio::task_local! {
    static CURRENT: TraceId;
}

/// The trace of the request that this task serves; a fresh one outside of any request.
pub fn current() -> TraceId {
    CURRENT.try_with(|trace| *trace).unwrap_or_else(|_| TraceId::generate())
}

/// Gives every request a trace id, a span and the `x-trace-id` response header.
pub async fn layer(request: Request, next: Next) -> Response {
    let trace = TraceId::from_headers(request.headers()).unwrap_or_else(TraceId::generate);
    let span = tracing::info_span!("http.request", method = %request.method(), route = route(&request), trace.id = %trace);
    let mut response = CURRENT.scope(trace, next.run(request).instrument(span)).await;
    if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
        response.headers_mut().insert(HeaderName::from_static("x-trace-id"), value);
    }
    response
}

/// The pattern of a request's route. Never the path itself: that holds identifiers and the tokens of webhooks.
pub fn route(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_traceparent_is_taken_over_and_rubbish_is_not() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().expect("a header value"));
            TraceId::from_headers(&headers).map(|trace| trace.to_string())
        };
        assert_eq!(
            with("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        for bad in
            ["", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-xyz-1-01", "4bf92f3577b34da6a3ce929d0e0e4736"]
        {
            assert_eq!(with(bad), None, "{bad}");
        }
    }
}
