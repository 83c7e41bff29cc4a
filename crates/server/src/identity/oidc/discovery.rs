//! What providers publish about themselves: their endpoints and keys, by issuer, remembered on each node.
//!
//! Fetched once per issuer however many ask at the same time, and again after an hour. When that fails, what is known serves on
//! for a day. A token signed with a key that is not known has the keys fetched at once, but not more often than every ten
//! seconds, because anybody can make up such tokens.

use std::{pin::Pin, sync::Arc};

use chrono::{DateTime, Duration, Utc};
use openidconnect::{
    AsyncHttpClient, DiscoveryError, HttpRequest, HttpResponse, IssuerUrl, TokenUrl, UserInfoUrl, core::CoreProviderMetadata,
};
use tokio::sync::Mutex;
use url::Url;

use super::address;
use crate::{
    clock::Clock,
    http::outbound::{self, Limits, Outbound},
};

const FRESH: Duration = Duration::hours(1);
const USABLE: Duration = Duration::days(1);
/// Between two attempts to fetch after a failure, and between two fetches for an unknown key.
const PAUSE: Duration = Duration::seconds(10);
/// Issuers that a node remembers.
const REMEMBERED: u64 = 1000;
const LIMITS: Limits = Limits { timeout: std::time::Duration::from_secs(10), body: 1024 * 1024, redirects: 3 };

/// Why an issuer's documents are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDiscovery {
    #[error("{0}")]
    Unreachable(#[from] outbound::Error),
    #[error("{0}")]
    Invalid(String),
}

/// An issuer's endpoints with its keys.
pub type Published = Arc<CoreProviderMetadata>;

#[derive(Default)]
struct Entry {
    known: Option<(Published, DateTime<Utc>)>,
    failed: Option<(NoDiscovery, DateTime<Utc>)>,
}

pub struct Discovery {
    http: Http,
    clock: Clock,
    issuers: moka::sync::Cache<String, Arc<Mutex<Entry>>>,
}

impl Discovery {
    pub fn new(outbound: Arc<Outbound>, clock: Clock) -> Self {
        Self { http: Http(outbound), clock, issuers: moka::sync::Cache::new(REMEMBERED) }
    }

    /// What an issuer publishes, from memory where that will do.
    pub async fn find(&self, issuer: &str) -> Result<Published, NoDiscovery> {
        let entry = self.entry(issuer);
        let mut entry = entry.lock().await;
        let now = self.clock.now();
        let usable = entry.known.clone().filter(|(_, at)| now < *at + USABLE);
        let failed = entry.failed.clone().filter(|(_, at)| now < *at + PAUSE);
        match (usable, failed) {
            (Some((known, at)), failed) if now < at + FRESH || failed.is_some() => Ok(known),
            (None, Some((cause, _))) => Err(cause),
            (usable, _) => match (self.fetch(issuer, &mut entry).await, usable) {
                (Err(cause), Some((known, _))) => {
                    tracing::warn!(issuer, %cause, "oidc.discover: what was known before serves on");
                    Ok(known)
                }
                (fetched, _) => fetched,
            },
        }
    }

    /// What an issuer publishes now.
    pub async fn look(&self, issuer: &str) -> Result<Published, NoDiscovery> {
        let entry = self.entry(issuer);
        let mut entry = entry.lock().await;
        self.fetch(issuer, &mut entry).await
    }

    /// Newer documents than `seen`, when there are or may be some.
    pub async fn newer(&self, issuer: &str, seen: &Published) -> Option<Published> {
        let entry = self.entry(issuer);
        let mut entry = entry.lock().await;
        let now = self.clock.now();
        match &entry.known {
            Some((known, _)) if !Arc::ptr_eq(known, seen) => Some(Arc::clone(known)),
            Some((_, at)) if now < *at + PAUSE => None,
            _ if entry.failed.as_ref().is_some_and(|(_, at)| now < *at + PAUSE) => None,
            _ => self.fetch(issuer, &mut entry).await.ok(),
        }
    }

    fn entry(&self, issuer: &str) -> Arc<Mutex<Entry>> {
        self.issuers.get_with_by_ref(issuer, Arc::default)
    }

    async fn fetch(&self, issuer: &str, entry: &mut Entry) -> Result<Published, NoDiscovery> {
        let fetched = self.request(issuer).await;
        let now = self.clock.now();
        match fetched {
            Ok(published) => {
                let published = Arc::new(published);
                *entry = Entry { known: Some((Arc::clone(&published), now)), failed: None };
                Ok(published)
            }
            Err(cause) => {
                entry.failed = Some((cause.clone(), now));
                Err(cause)
            }
        }
    }

    async fn request(&self, issuer: &str) -> Result<CoreProviderMetadata, NoDiscovery> {
        let issuer = IssuerUrl::new(issuer.to_owned()).map_err(|_| NoDiscovery::Invalid("the issuer is no address".into()))?;
        let published = CoreProviderMetadata::discover_async(issuer, &self.http).await.map_err(explain)?;
        let endpoints = [
            Some(published.authorization_endpoint().url()),
            Some(published.jwks_uri().url()),
            published.token_endpoint().map(TokenUrl::url),
            published.userinfo_endpoint().map(UserInfoUrl::url),
        ];
        if let Some(url) = endpoints.into_iter().flatten().find(|url| !address::is_secure(url)) {
            return Err(NoDiscovery::Invalid(format!("its endpoint {} is not HTTPS", origin(url))));
        }
        Ok(published)
    }

    /// The client for the protocol's other requests.
    pub fn http(&self) -> &Http {
        &self.http
    }
}

/// The guarded client as the library wants one.
pub struct Http(Arc<Outbound>);

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = outbound::Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, outbound::Error>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.0.send(request, LIMITS))
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn explain(error: DiscoveryError<outbound::Error>) -> NoDiscovery {
    match error {
        DiscoveryError::Request(cause) => NoDiscovery::Unreachable(cause),
        DiscoveryError::Response(status, ..) => NoDiscovery::Invalid(format!("the answer was {status}, or not JSON")),
        DiscoveryError::Parse(cause) => NoDiscovery::Invalid(format!("it is not understood: {cause}")),
        DiscoveryError::Validation(cause) => NoDiscovery::Invalid(cause),
        other => NoDiscovery::Invalid(other.to_string()),
    }
}
