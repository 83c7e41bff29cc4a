//! Trace identifiers: taken from an incoming W3C `traceparent` or made here, carried through the request by the task.

use std::fmt;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue},
};

/// The 128-bit identifier that ties logs, runs, traces and error bodies of one request together; 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    pub fn generate() -> Self {
        Self(rand::random::<u128>().max(1))
    }

    /// The trace that a request belongs to: the one that it names, else a new one.
    pub fn of(request: &Request) -> Self {
        Self::from_headers(request.headers()).unwrap_or_else(Self::generate)
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

/// Runs `work` as a part of the trace.
pub async fn within<T>(trace: TraceId, work: impl Future<Output = T>) -> T {
    CURRENT.scope(trace, work).await
}

/// The span of a request.
pub fn span(request: &Request, trace: TraceId) -> tracing::Span {
    tracing::info_span!("http.request", method = %request.method(), route = route(request), trace.id = %trace)
}

/// Names the trace in an answer.
pub fn header(headers: &mut HeaderMap, trace: TraceId) {
    if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
        headers.insert(HeaderName::from_static("x-trace-id"), value);
    }
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
