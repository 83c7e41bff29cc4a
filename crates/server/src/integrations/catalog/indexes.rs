//! Catalogs of others: signed indexes that the settings name, and the archives that these list.
//!
//! An index is fetched when somebody looks at the catalog and what is known of it is old. What was read last stays when it cannot be
//! read again, as long as its own date allows, and no older one takes its place.

use std::{fmt, sync::Arc, time::Duration};

use axum::http::Request;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use tokio::sync::Mutex;
use url::Url;
use weft_attest::PublicKey;
use weft_catalog::{Index, LARGEST_ARCHIVE, Listed, Package, Refused};

use crate::{
    clock::Clock,
    http::outbound::{self, Limits, Outbound},
};

/// How long an index is not asked for again, after an answer and after none.
const FRESH: TimeDelta = TimeDelta::minutes(10);
const PAUSE: TimeDelta = TimeDelta::seconds(15);

const OF_INDEX: Limits = Limits { timeout: Duration::from_secs(10), body: 16 * 1024 * 1024, redirects: 5 };
const OF_ARCHIVE: Limits = Limits { timeout: Duration::from_mins(1), body: LARGEST_ARCHIVE, redirects: 5 };

/// Where an index is, and whose it has to be.
#[derive(Debug, Clone)]
pub struct Source {
    pub url: Url,
    pub key: PublicKey,
}

/// Why there is no index or no archive.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Outbound(#[from] outbound::Error),
    #[error("it was answered with {0}")]
    Status(u16),
    #[error("{0}")]
    Refused(Arc<Refused>),
    #[error("the index names it by an address that is none")]
    Address,
}

/// An index that was not read, or whose archive was not.
#[derive(Debug, thiserror::Error)]
#[error("{index}: {cause}")]
pub struct UnreadIndex {
    pub index: Url,
    pub cause: Unread,
}

impl From<Refused> for Unread {
    fn from(refused: Refused) -> Self {
        Self::Refused(Arc::new(refused))
    }
}

/// An index as it was read last.
#[derive(Clone)]
pub struct Read {
    pub source: Source,
    pub index: Arc<Index>,
}

/// All indexes that the settings name.
pub struct Indexes {
    known: Vec<(Source, Mutex<Kept>)>,
    outbound: Arc<Outbound>,
    clock: Clock,
}

#[derive(Default)]
struct Kept {
    index: Option<Arc<Index>>,
    asked: Option<(DateTime<Utc>, Option<Unread>)>,
}

impl fmt::Debug for Read {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Read({})", self.source.url)
    }
}

impl Indexes {
    pub fn new(sources: Vec<Source>, outbound: Arc<Outbound>, clock: Clock) -> Self {
        let known = sources.into_iter().map(|source| (source, Mutex::default())).collect();
        Self { known, outbound, clock }
    }

    /// Every index that is known, in the order of the settings, and why the others are not.
    pub async fn read(&self) -> (Vec<Read>, Vec<UnreadIndex>) {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let read = self.known.iter().map(|(source, kept)| async move {
            let mut kept = kept.lock().await;
            (source, kept.refreshed(self, source).await)
        });
        for (source, result) in join_all(read).await {
            match result {
                Ok(index) => known.push(Read { source: source.clone(), index }),
                Err(cause) => unknown.push(UnreadIndex { index: source.url.clone(), cause }),
            }
        }
        (known, unknown)
    }

    /// The integration that an index lists.
    pub async fn open(&self, source: &Source, listed: &Listed) -> Result<Package, Unread> {
        let address = listed.address(&source.url).map_err(|_| Unread::Address)?;
        Ok(listed.open(&self.fetch(&address, OF_ARCHIVE).await?)?)
    }

    async fn fetch(&self, url: &Url, limits: Limits) -> Result<Vec<u8>, Unread> {
        let request = Request::get(url.as_str()).body(Vec::new()).map_err(|_| Unread::Address)?;
        let answer = self.outbound.send(request, limits).await?;
        if answer.status().is_success() { Ok(answer.into_body()) } else { Err(Unread::Status(answer.status().as_u16())) }
    }
}

impl Kept {
    async fn refreshed(&mut self, indexes: &Indexes, source: &Source) -> Result<Arc<Index>, Unread> {
        let now = indexes.clock.now();
        let rests = |(at, problem): &(DateTime<Utc>, Option<Unread>)| {
            // A clock that was set back has seen nothing yet.
            *at <= now && now < *at + if problem.is_some() { PAUSE } else { FRESH }
        };
        if !self.asked.as_ref().is_some_and(rests) {
            let problem = self.ask(indexes, source, now).await.err();
            if let Some(error) = &problem {
                tracing::warn!(index = %source.url, %error, "catalog.index: not read");
            }
            self.asked = Some((now, problem));
        }
        if let Some(index) = self.index.as_ref().filter(|index| index.expires_at > now) {
            return Ok(Arc::clone(index));
        }
        let expired = self.index.as_ref().map(|index| Unread::from(Refused::Expired(index.expires_at)));
        let problem = self.asked.as_ref().and_then(|(_, problem)| problem.clone());
        Err(problem.or(expired).unwrap_or(Unread::Address))
    }

    async fn ask(&mut self, indexes: &Indexes, source: &Source, now: DateTime<Utc>) -> Result<(), Unread> {
        let text = String::from_utf8(indexes.fetch(&source.url, OF_INDEX).await?).map_err(|_| Refused::Signature)?;
        let index = Index::verify(&text, &source.key, now)?;
        // Whoever can answer for that address must not bring back what was withdrawn.
        if self.index.as_ref().is_none_or(|known| known.issued_at <= index.issued_at) {
            self.index = Some(Arc::new(index));
        }
        Ok(())
    }
}
