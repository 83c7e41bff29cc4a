//! Requests to addresses that the server was told: by a setting, a manifest, a tenant, or another server's document.
//!
//! Such an address may point inward, at a database or a cloud's metadata service, so every one of them goes through here and
//! nothing else makes them. A name is looked up once per connection, inward addresses are left out ([`AddressGuard`]), and the
//! connection goes to what remains: there is no second lookup that could answer differently. Redirects are followed by hand
//! and judged like the first request. Environment proxies are not used, because behind one the guard sees nothing.
//!
//! Knows nothing of what is asked for. Errors name the host, never the path or a header, which may hold secrets.

mod connect;
mod error;
mod resolve;

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Client;
use url::{Host, Url};
use weft_jail::{AddressGuard, Resolver};

use super::trace;
use connect::Connector;
pub use error::Error;

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("weft/", env!("CARGO_PKG_VERSION")));

/// What one request may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the whole answer is there, redirects included.
    pub timeout: Duration,
    /// Bytes of the answer's body.
    pub body: usize,
    /// Redirects of a GET or HEAD that are followed; with 0, and for every other method, a redirect is the answer.
    pub redirects: u8,
}

/// What is asked, and where: a request but for its body.
#[derive(Debug, Clone)]
pub struct Ask {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
}

/// The client for all of them.
pub struct Outbound {
    client: Client<Connector, Body>,
    guard: Arc<AddressGuard>,
}

impl Outbound {
    pub fn new(guard: Arc<AddressGuard>, resolver: impl Resolver + 'static) -> io::Result<Self> {
        let client = connect::client(Arc::clone(&guard), Arc::new(resolver))?;
        Ok(Self { client, guard })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub async fn send(&self, request: Request<Vec<u8>>, limits: Limits) -> Result<Response<Vec<u8>>, Error> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string()).map_err(|_| Error::Address)?;
        let ask = Ask { method: head.method, url, headers: head.headers };
        self.fetch(ask, body.into(), limits).await.map(|answer| answer.map(Vec::from))
    }

    /// The same, of a request whose address is parsed already.
    pub async fn fetch(&self, ask: Ask, body: Bytes, limits: Limits) -> Result<Response<Bytes>, Error> {
        let host = self.admit(&ask.url)?;
        let answer = tokio::time::timeout(limits.timeout, self.follow(ask, body, (&host, limits))).await;
        answer.unwrap_or(Err(Error::Timeout { host, after: limits.timeout }))
    }

    /// Sends a request and returns the answer as it begins to come, whatever it is: a redirect is the answer. Whoever reads it decides how
    /// much and for how long.
    pub async fn exchange(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let url = Url::parse(&request.uri().to_string()).map_err(|_| Error::Address)?;
        let host = self.admit(&url)?;
        self.request(request, &host).await
    }

    async fn follow(&self, mut ask: Ask, mut body: Bytes, (host, limits): (&str, Limits)) -> Result<Response<Bytes>, Error> {
        let (mut host, mut left) = (host.to_owned(), limits.redirects);
        let repeatable = limits.redirects > 0 && matches!(ask.method, Method::GET | Method::HEAD);
        loop {
            let again = repeatable.then(|| ask.clone());
            // What was sent along is for whom it was sent to.
            let answer = self.execute(ask, std::mem::take(&mut body).into(), &host).await?;
            let next = match again {
                Some(again) => again.after(&answer, &host)?,
                None => None,
            };
            let Some(next) = next else { return read(answer, host, limits.body).await };
            left = left.checked_sub(1).ok_or(Error::Redirect { host })?;
            host = self.admit(&next.url)?;
            ask = next;
        }
    }

    /// Sends a request and gives the answer back as soon as it begins, unless `give_up` is over first, which says after how long. Both
    /// bodies pass through as they come. A redirect is an answer.
    pub async fn stream(
        &self,
        ask: Ask,
        body: Body,
        give_up: impl Future<Output = Duration>,
    ) -> Result<Response<Incoming>, Error> {
        let host = self.admit(&ask.url)?;
        tokio::select! {
            begun = self.execute(ask, body, &host) => begun,
            after = give_up => Err(Error::Timeout { host, after }),
        }
    }

    async fn execute(&self, ask: Ask, body: Body, host: &str) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(body);
        *request.method_mut() = ask.method;
        *request.uri_mut() = Uri::from_maybe_shared(String::from(ask.url)).map_err(|_| Error::Address)?;
        *request.headers_mut() = ask.headers;
        let trace = format!("00-{}-{:016x}-01", trace::current(), rand::random::<u64>().max(1));
        request.headers_mut().insert(TRACE_PARENT, HeaderValue::try_from(trace).map_err(|_| Error::Address)?);
        self.request(request, host).await
    }

    async fn request(&self, mut request: Request<Body>, host: &str) -> Result<Response<Incoming>, Error> {
        request.headers_mut().entry(header::ACCEPT).or_insert(ANYTHING);
        request.headers_mut().entry(header::USER_AGENT).or_insert(USER_AGENT);
        self.client.request(request).await.map_err(|error| Error::transport(host, &error, !error.is_connect()))
    }

    /// The host of an address that may be asked. Those behind a name are judged when it is looked up.
    fn admit(&self, url: &Url) -> Result<String, Error> {
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Address);
        }
        let host = url.host_str().ok_or(Error::Address)?.to_owned();
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        if literal.is_some_and(|address| !self.guard.permits(address)) {
            return Err(Error::Inward { host });
        }
        Ok(host)
    }
}

impl Ask {
    /// What an answer redirects to, unless that is an answer to keep; an error where it must not lead.
    fn after(self, answer: &Response<Incoming>, host: &str) -> Result<Option<Self>, Error> {
        let redirects = [
            StatusCode::MOVED_PERMANENTLY,
            StatusCode::FOUND,
            StatusCode::SEE_OTHER,
            StatusCode::TEMPORARY_REDIRECT,
            StatusCode::PERMANENT_REDIRECT,
        ];
        let Some(location) = answer.headers().get(header::LOCATION).filter(|_| redirects.contains(&answer.status())) else {
            return Ok(None);
        };
        let target = location.to_str().ok().and_then(|location| self.url.join(location).ok());
        let target = target.filter(|target| self.url.scheme() != "https" || target.scheme() == "https");
        target.map(|target| Some(self.to(target))).ok_or_else(|| Error::Redirect { host: host.to_owned() })
    }

    fn to(mut self, target: Url) -> Self {
        if self.url.origin() != target.origin() {
            for secret in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
                self.headers.remove(secret);
            }
        }
        Self { url: target, ..self }
    }
}

async fn read(answer: Response<Incoming>, host: String, limit: usize) -> Result<Response<Bytes>, Error> {
    let (head, mut body) = answer.into_parts();
    if body.size_hint().lower() > limit as u64 {
        return Err(Error::TooLarge { host, limit });
    }
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::transport(&host, &error, true))?;
        let Ok(part) = frame.into_data() else { continue };
        if first.len() + rest.len() + part.len() > limit {
            return Err(Error::TooLarge { host, limit });
        }
        // Most answers are one part, which is not copied.
        if first.is_empty() { first = part } else { rest.extend_from_slice(&part) }
    }
    let whole = if rest.is_empty() { first } else { [&first[..], &rest].concat().into() };
    Ok(Response::from_parts(head, whole))
}

#[cfg(test)]
mod tests;
