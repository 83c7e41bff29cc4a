//! Catalogs of others: signed indexes that the settings name, and the archives that these list.
//!
//! Indexes are fetched in the background, so that nobody who looks at the catalog waits for another server. What was read last stays when it
//! cannot be read again, as long as its own date allows, and no older one takes its place.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::Request;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio_util::sync::CancellationToken;
use url::Url;
use weft_attest::PublicKey;
use weft_catalog::{Index, LARGEST_ARCHIVE, Listed, Package, Refused};

use crate::{
    clock::Clock,
    http::outbound::{self, Limits, Outbound},
};

/// How often indexes are asked for, after answers and when one is missing.
const EVERY: Duration = Duration::from_mins(10);
const AGAIN: Duration = Duration::from_mins(1);
/// How long an index is not asked for again, whoever wishes it.
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
    #[error("it was not read yet: try again in a moment")]
    NotYet,
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
    pub at: DateTime<Utc>,
    /// Why it could not be read again since.
    pub fault: Option<Unread>,
}

/// How it is with an index that the settings name.
#[derive(Debug)]
pub struct State {
    pub url: Url,
    /// What was read last, when, and until when it is good.
    pub read: Option<(DateTime<Utc>, Arc<Index>)>,
    /// When it was last asked for.
    pub asked_at: Option<DateTime<Utc>>,
    /// Why nothing came of that, or why what is known does not count.
    pub fault: Option<Unread>,
}

/// All indexes that the settings name.
pub struct Indexes {
    known: Vec<(Source, Kept)>,
    outbound: Arc<Outbound>,
    clock: Clock,
    /// Whether all were asked for once.
    begun: watch::Sender<bool>,
    bell: Notify,
}

/// What is known of one of them.
#[derive(Default)]
struct Kept {
    /// One request at a time.
    asking: AsyncMutex<()>,
    known: Mutex<Known>,
}

#[derive(Default, Clone)]
struct Known {
    read: Option<(DateTime<Utc>, Arc<Index>)>,
    asked: Option<(DateTime<Utc>, Option<Unread>)>,
}

/// An index that counts, when it was read, and why it could not be read since.
type Usable = (DateTime<Utc>, Arc<Index>, Option<Unread>);

impl fmt::Debug for Read {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Read({})", self.source.url)
    }
}

impl Indexes {
    pub fn new(sources: Vec<Source>, outbound: Arc<Outbound>, clock: Clock) -> Self {
        let known = sources.into_iter().map(|source| (source, Kept::default())).collect();
        Self { known, outbound, clock, begun: watch::Sender::new(false), bell: Notify::new() }
    }

    /// Reads all of them now and then, until the node stops.
    pub async fn keep_fresh(&self, stopping: &CancellationToken) {
        if self.known.is_empty() {
            self.begun.send_replace(true);
            return;
        }
        loop {
            let is_whole = tokio::select! { () = stopping.cancelled() => return, whole = self.refresh() => whole };
            self.begun.send_replace(true);
            let pause = if is_whole { EVERY } else { AGAIN };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.bell.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Has all of them read soon.
    pub fn ask_for_news(&self) {
        self.bell.notify_one();
    }

    /// Waits until all were asked for once since the start, but no longer than `patience`.
    pub async fn begun(&self, patience: Duration) {
        let mut begun = self.begun.subscribe();
        let _ = tokio::time::timeout(patience, begun.wait_for(|begun| *begun)).await;
    }

    /// Reads all that were not asked for a moment ago. Whether each was answered with an index.
    pub async fn refresh(&self) -> bool {
        let asked = self.known.iter().map(async |(source, kept)| kept.refresh(self, source).await);
        join_all(asked).await.into_iter().all(|answered| answered)
    }

    /// Every index that is known, in the order of the settings, and why the others are not.
    pub fn known(&self) -> (Vec<Read>, Vec<UnreadIndex>) {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for (source, kept) in &self.known {
            match kept.usable(self.clock.now()) {
                Ok((at, index, fault)) => known.push(Read { source: source.clone(), index, at, fault }),
                Err(cause) => unknown.push(UnreadIndex { index: source.url.clone(), cause }),
            }
        }
        (known, unknown)
    }

    /// How it is with each of them, in the order of the settings.
    pub fn states(&self) -> Vec<State> {
        let state = |(source, kept): &(Source, Kept)| {
            let (known, usable) = (kept.look(), kept.usable(self.clock.now()));
            State {
                url: source.url.clone(),
                read: known.read,
                asked_at: known.asked.map(|(at, _)| at),
                fault: usable.map_or_else(Some, |(_, _, fault)| fault),
            }
        };
        self.known.iter().map(state).collect()
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
    fn look(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The index, when it was read, and why it could not be read since; or why there is none.
    fn usable(&self, now: DateTime<Utc>) -> Result<Usable, Unread> {
        let Known { read, asked } = self.look();
        let fault = asked.and_then(|(_, fault)| fault);
        match read {
            Some((at, index)) if index.expires_at > now => Ok((at, index, fault)),
            Some((_, index)) => Err(fault.unwrap_or_else(|| Refused::Expired(index.expires_at).into())),
            None => Err(fault.unwrap_or(Unread::NotYet)),
        }
    }

    /// Asks for it, unless somebody did a moment ago. Whether the last answer was an index.
    async fn refresh(&self, indexes: &Indexes, source: &Source) -> bool {
        let _one_at_a_time = self.asking.lock().await;
        let now = indexes.clock.now();
        // A clock that was set back has seen nothing yet.
        if let Some((at, fault)) = self.look().asked
            && at <= now
            && now < at + PAUSE
        {
            return fault.is_none();
        }
        let answer = Self::ask(indexes, source, now).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = match answer {
            Ok(index) => {
                // Whoever can answer for that address must not bring back what was withdrawn.
                let older = known.read.take().filter(|(_, known)| known.issued_at > index.issued_at);
                known.read = Some((now, older.map_or_else(|| Arc::new(index), |(_, known)| known)));
                None
            }
            Err(error) => {
                tracing::warn!(index = %source.url, %error, "catalog.index: not read");
                Some(error)
            }
        };
        let is_whole = fault.is_none();
        known.asked = Some((now, fault));
        is_whole
    }

    async fn ask(indexes: &Indexes, source: &Source, now: DateTime<Utc>) -> Result<Index, Unread> {
        let text = String::from_utf8(indexes.fetch(&source.url, OF_INDEX).await?).map_err(|_| Refused::Signature)?;
        Ok(Index::verify(&text, &source.key, now)?)
    }
}
