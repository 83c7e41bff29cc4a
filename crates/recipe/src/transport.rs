//! What carries requests out: the network, the clock and chance, as the platform grants them.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, Response};
use url::Url;

/// A request to a vendor.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Interrupted {
    /// In words that name the host and nothing else of the address.
    pub message: String,
    /// Whether it is certain that the vendor has not got the request.
    pub unsent: bool,
    /// Whether trying again can help.
    pub passing: bool,
}

/// The world of a call.
pub trait Transport: Sync {
    /// Sends a request and reads the answer, at most `limit` bytes of body, redirects not followed.
    fn send(&self, request: Outgoing, limit: usize) -> impl Future<Output = Result<Response<Bytes>, Interrupted>> + Send;

    /// Waits.
    fn pause(&self, delay: Duration) -> impl Future<Output = ()> + Send;

    fn now(&self) -> DateTime<Utc>;

    /// How much of the call's time is left.
    fn left(&self) -> Duration;

    /// Anything, differently each time.
    fn random(&self) -> u64;

    /// Whether the integration may contact this host besides that of its base address.
    fn permits(&self, host: &str, port: u16) -> bool;
}
