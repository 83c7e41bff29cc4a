//! Trace identifiers: taken from an incoming W3C `traceparent` or made here, carried through the request by the task.

use std::{fmt, net::IpAddr};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
};
use tracing::Span;

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

/// Where what is done comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub trace: TraceId,
    /// Of whoever sent the request. Absent outside of any request.
    pub address: Option<IpAddr>,
}

/// A request as the log and traces name it.
#[derive(Debug, Clone)]
pub struct Visit {
    origin: Origin,
    method: Method,
    /// The pattern of the route. Never the path itself: that holds identifiers and the tokens of webhooks.
    route: Option<MatchedPath>,
}

impl Visit {
    pub fn of(request: &Request, origin: Origin) -> Self {
        Self { origin, method: request.method().clone(), route: request.extensions().get::<MatchedPath>().cloned() }
    }

    pub fn span(&self) -> Span {
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        tracing::info_span!("http.request", method = %self.method, route, trace.id = %self.origin.trace)
    }
}

/// What a task does something for.
#[derive(Debug, Clone)]
enum For {
    Visit(Visit),
    Origin(Origin),
}

tokio::task_local! {
    static CURRENT: For;
}

/// The request that this task serves; a fresh trace outside of any request.
pub fn origin() -> Origin {
    let known = CURRENT.try_with(|current| match current {
        For::Visit(visit) => visit.origin,
        For::Origin(origin) => *origin,
    });
    known.unwrap_or_else(|_| Origin { trace: TraceId::generate(), address: None })
}

/// The trace of the request that this task serves.
pub fn current() -> TraceId {
    origin().trace
}

/// A span for what this task logs, where it serves a request.
pub fn span() -> Option<Span> {
    let visit = |current: &For| if let For::Visit(visit) = current { Some(visit.span()) } else { None };
    CURRENT.try_with(visit).ok().flatten()
}

/// Serves a request.
pub async fn serve<T>(visit: Visit, work: impl Future<Output = T>) -> T {
    CURRENT.scope(For::Visit(visit), work).await
}

/// Runs `work` as a part of something that came from a request.
pub async fn within<T>(origin: Origin, work: impl Future<Output = T>) -> T {
    CURRENT.scope(For::Origin(origin), work).await
}

/// Takes the request along into a task that outlives it.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let current = CURRENT.try_with(For::clone).unwrap_or_else(|_| For::Origin(origin()));
    CURRENT.scope(current, work)
}

/// Names the trace in an answer.
pub fn header(headers: &mut HeaderMap, trace: TraceId) {
    if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
        headers.insert(HeaderName::from_static("x-trace-id"), value);
    }
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
