//! Requests to addresses that the server was told: by a setting, a manifest, a tenant, or another server's document.
//!
//! Such an address may point inward, at a database or a cloud's metadata service, so every one of them goes through here and
//! nothing else makes them. A name is looked up once per connection, inward addresses are left out ([`AddressGuard`]), and the
//! connection goes to what remains: there is no second lookup that could answer differently. Redirects are followed by hand
//! and judged like the first request. Environment proxies are not used, because behind one the guard sees nothing.
//!
//! Knows nothing of what is asked for. Errors name the host, never the path or a header, which may hold secrets.

mod error;
mod resolve;

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use reqwest::{Client, redirect::Policy};
use url::{Host, Url};
use weft_jail::{AddressGuard, Resolver};

use super::trace;
pub use error::Error;
use resolve::Guarded;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

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

/// The client for all of them.
pub struct Outbound {
    client: Client,
    guard: Arc<AddressGuard>,
}

impl Outbound {
    pub fn new(guard: Arc<AddressGuard>, resolver: impl Resolver + 'static) -> Result<Self, reqwest::Error> {
        let resolver = Arc::new(Guarded { guard: Arc::clone(&guard), resolver: Arc::new(resolver) });
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .dns_resolver(resolver)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("weft/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, guard })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub async fn send(&self, request: Request<Vec<u8>>, limits: Limits) -> Result<Response<Vec<u8>>, Error> {
        let request = reqwest::Request::try_from(request).map_err(|_| Error::Address)?;
        self.fetch(request, limits).await
    }

    /// The same, of a request whose address is parsed already.
    pub async fn fetch(&self, request: reqwest::Request, limits: Limits) -> Result<Response<Vec<u8>>, Error> {
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let answer = tokio::time::timeout(limits.timeout, self.follow(request, limits)).await;
        answer.unwrap_or(Err(Error::Timeout { host, after: limits.timeout }))
    }

    /// Sends a request and returns the answer as it begins to come, whatever it is: a redirect is the answer. Whoever reads it decides how
    /// much and for how long.
    pub async fn exchange(&self, request: Request<reqwest::Body>) -> Result<reqwest::Response, Error> {
        let request = reqwest::Request::try_from(request).map_err(|_| Error::Address)?;
        let host = self.admit(request.url())?;
        self.client.execute(request).await.map_err(|error| Error::transport(&host, &error))
    }

    async fn follow(&self, mut request: reqwest::Request, limits: Limits) -> Result<Response<Vec<u8>>, Error> {
        let mut left = limits.redirects;
        loop {
            let again = if limits.redirects > 0 { Again::of(&request) } else { None };
            let (answer, host) = self.execute(request).await?;
            let next = match again {
                Some(again) => again.after(&answer, &host)?,
                None => None,
            };
            let Some(next) = next else { return read(answer, host, limits.body).await };
            request = next;
            left = left.checked_sub(1).ok_or(Error::Redirect { host })?;
        }
    }

    /// Sends a request and gives the answer back as soon as it begins, unless `give_up` is over first, which says after how long. Both
    /// bodies pass through as they come. A redirect is an answer.
    pub async fn stream(
        &self,
        request: reqwest::Request,
        give_up: impl Future<Output = Duration>,
    ) -> Result<reqwest::Response, Error> {
        let host = request.url().host_str().unwrap_or_default().to_owned();
        tokio::select! {
            begun = self.execute(request) => begun.map(|(answer, _)| answer),
            after = give_up => Err(Error::Timeout { host, after }),
        }
    }

    async fn execute(&self, mut request: reqwest::Request) -> Result<(reqwest::Response, String), Error> {
        let host = self.admit(request.url())?;
        let value = format!("00-{}-{:016x}-01", trace::current(), rand::random::<u64>().max(1));
        request.headers_mut().insert(TRACE_PARENT, HeaderValue::from_str(&value).map_err(|_| Error::Address)?);
        let answer = self.client.execute(request).await.map_err(|error| Error::transport(&host, &error))?;
        Ok((answer, host))
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

/// What is needed to ask again elsewhere.
struct Again {
    url: Url,
    method: Method,
    headers: header::HeaderMap,
}

impl Again {
    /// Of a request that can be repeated without doing something twice.
    fn of(request: &reqwest::Request) -> Option<Self> {
        let repeatable = matches!(*request.method(), Method::GET | Method::HEAD);
        repeatable.then(|| Self {
            url: request.url().clone(),
            method: request.method().clone(),
            headers: request.headers().clone(),
        })
    }

    /// The request that an answer redirects to, unless that is an answer to keep; an error where it must not lead.
    fn after(self, answer: &reqwest::Response, host: &str) -> Result<Option<reqwest::Request>, Error> {
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

    fn to(self, target: Url) -> reqwest::Request {
        let stays = self.url.origin() == target.origin();
        let mut request = reqwest::Request::new(self.method, target);
        *request.headers_mut() = self.headers;
        if !stays {
            for secret in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
                request.headers_mut().remove(secret);
            }
        }
        request
    }
}

async fn read(mut answer: reqwest::Response, host: String, limit: usize) -> Result<Response<Vec<u8>>, Error> {
    let too_large = |host| Err(Error::TooLarge { host, limit });
    if answer.content_length().is_some_and(|length| length > limit as u64) {
        return too_large(host);
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Error::transport(&host, &error))? {
        if body.len() + chunk.len() > limit {
            return too_large(host);
        }
        body.extend_from_slice(&chunk);
    }
    let mut whole = Response::new(body);
    *whole.status_mut() = answer.status();
    *whole.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(whole)
}

#[cfg(test)]
mod tests;
