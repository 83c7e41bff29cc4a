//! Enqueueing jobs, looking at them, and what people do to them by hand.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use dashmap::DashMap;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinHandle;
use uuid::Uuid;
use weft_model::{AppId, Fault, Principal, TenantId, manifest::PAYLOAD_LIMIT};
use weft_queue::{Key, Lease, Message, NewMessage, Sent, Settlement, State, Which};

use super::{
    envelope::{Envelope, Standing, lane},
    inbox::Inbox,
};
use crate::{
    clock::Clock,
    db::{
        group::{Groups, NotWritten, Pace},
        notify::Change,
    },
    polls,
};

pub const DEFAULT_PRIORITY: i16 = 5;
pub const DEFAULT_ATTEMPTS: i32 = 5;
pub const DEFAULT_TIMEOUT: u32 = 15 * 60;
const MOST_ATTEMPTS: i32 = 100;
const LONGEST_TIMEOUT: u32 = 24 * 60 * 60;
const LONGEST_DELAY: f64 = 366.0 * 24.0 * 60.0 * 60.0;
/// How long a key is remembered.
const KEY_LIFETIME: TimeDelta = TimeDelta::hours(24);
const PACE: Pace = Pace { capacity: 16_384, gather: std::time::Duration::ZERO };

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the job breaks its rules")]
    Invalid(Vec<Fault>),
    #[error("the payload has {0} bytes; a job takes {PAYLOAD_LIMIT} at most: pass a reference instead")]
    TooLarge(usize),
    #[error("this Idempotency-Key was used for another job: use a new key for a new one")]
    KeyMismatch,
    #[error("job {0}")]
    Unknown(i64),
    #[error("the permission to change the jobs of others is missing")]
    NotYours(AppId),
    #[error("job {id} is {state}, so it cannot be {wanted}")]
    WrongState { id: i64, state: &'static str, wanted: &'static str },
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A wish to have something done later.
#[derive(Debug)]
pub struct NewJob {
    pub payload: Box<RawValue>,
    /// In seconds.
    pub delay: f64,
    pub priority: i16,
    pub max_attempts: i32,
    /// For one attempt, in seconds.
    pub timeout: u32,
    pub key: Option<String>,
}

/// Who wants it, and as whom it is done.
#[derive(Debug, Clone)]
pub struct OnBehalf {
    pub caller: Arc<Principal>,
    pub acting_as: Arc<Principal>,
}

/// Jobs and the way to whoever works on them.
pub struct Jobs {
    pool: PgPool,
    clock: Clock,
    /// Who holds what this node leases.
    pub(super) node: Uuid,
    pub(super) inbox: Inbox,
    /// What is at work on this node, by the token of the lease.
    pub(super) held: DashMap<i64, Lease>,
    sends: Groups<NewMessage, Sent>,
    ends: Groups<(Lease, Settlement), bool>,
}

impl Jobs {
    /// Starts the writers. They end, everything written, when this is dropped; wait for the handles.
    pub fn start(pool: PgPool, clock: Clock, node: Uuid) -> (Self, Vec<JoinHandle<()>>) {
        let source = (pool.clone(), clock.clone());
        let (sends, sending) = Groups::start(PACE, move |group: Vec<NewMessage>| {
            let (pool, clock) = source.clone();
            async move {
                let mut transaction = pool.begin().await?;
                let sent = weft_queue::send(&mut transaction, clock.now(), &group).await?;
                transaction.commit().await?;
                Ok(sent)
            }
        });
        let source = (pool.clone(), clock.clone());
        let (ends, ending) = Groups::start(PACE, move |group: Vec<(Lease, Settlement)>| {
            let (pool, clock) = source.clone();
            async move {
                let mut transaction = pool.begin().await?;
                let held = weft_queue::settle(&mut transaction, clock.now(), &group).await?;
                transaction.commit().await?;
                Ok(held)
            }
        });
        (Self { pool, clock, node, inbox: Inbox::default(), held: DashMap::new(), sends, ends }, vec![sending, ending])
    }

    /// Passes on what is of interest to whoever works on jobs.
    pub fn apply(&self, change: &Change) {
        match change {
            Change::Ready(ready) => self.inbox.put(|news| news.ready.push(ready.clone())),
            Change::Nodes => self.inbox.put(|news| news.nodes = true),
            Change::App(_) | Change::Everything => self.inbox.put(|news| news.look_around = true),
            _ => {}
        }
    }

    /// Puts a job into the queue of an app. It is on disk when this returns.
    pub async fn enqueue(&self, app: &AppId, who: &OnBehalf, new: NewJob) -> Result<Sent, Error> {
        let faults = faults(&new);
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        if new.payload.get().len() > PAYLOAD_LIMIT {
            return Err(Error::TooLarge(new.payload.get().len()));
        }
        let delay = std::time::Duration::try_from_secs_f64(new.delay).unwrap_or_default();
        let visible_at = self.clock.now() + TimeDelta::from_std(delay).unwrap_or_default();
        let key = new.key.as_ref().map(|name| key(who, name, &new));
        let message = NewMessage {
            lane: lane(&who.caller.tenant, app),
            priority: new.priority,
            visible_at,
            tag: None,
            key,
            order: None,
            body: envelope(who, new)?,
        };
        match self.sends.write(message).await? {
            Sent::Mismatch(_) => Err(Error::KeyMismatch),
            sent => Ok(sent),
        }
    }

    pub async fn list(
        &self,
        tenant: &TenantId,
        app: &AppId,
        which: Which,
        (before, limit): (Option<i64>, i64),
    ) -> Result<Vec<Message>, Error> {
        Ok(weft_queue::list(&mut *self.pool.acquire().await?, &lane(tenant, app), which, before, limit).await?)
    }

    /// A job that `caller` may see: its own, and others' with the permission.
    pub async fn find(&self, caller: &Principal, app: &AppId, id: i64) -> Result<Message, Error> {
        let found = weft_queue::find(&mut *self.pool.acquire().await?, &lane(&caller.tenant, app), id).await?;
        let message = found.ok_or(Error::Unknown(id))?;
        let sees_all = ["read", "manage"].iter().any(|right| caller.permissions.allows(&format!("app:{app}:job.{right}")));
        if sees_all || is_of(&message, caller) { Ok(message) } else { Err(Error::Unknown(id)) }
    }

    /// Takes a job out of the queue that nobody works on.
    pub async fn cancel(&self, caller: &Principal, app: &AppId, id: i64) -> Result<Message, Error> {
        self.changeable(caller, app, id).await?;
        let mut transaction = self.pool.begin().await?;
        let done = weft_queue::cancel(&mut transaction, &lane(&caller.tenant, app), id, self.clock.now()).await?;
        transaction.commit().await?;
        let message = self.find(caller, app, id).await?;
        if done { Ok(message) } else { Err(wrong_state(&message, "cancelled")) }
    }

    /// Gives a dead job all its attempts again, and lets one that waits for its next attempt have it now.
    pub async fn retry(&self, caller: &Principal, app: &AppId, id: i64) -> Result<Message, Error> {
        let message = self.changeable(caller, app, id).await?;
        let (mut connection, now, lane) = (self.pool.acquire().await?, self.clock.now(), lane(&caller.tenant, app));
        let done = match message.state {
            State::Dead => weft_queue::replay(&mut connection, &lane, id, now).await?,
            State::Waiting => weft_queue::wake(&mut connection, &lane, id, now).await?,
            _ => false,
        };
        drop(connection);
        let message = self.find(caller, app, id).await?;
        if done { Ok(message) } else { Err(wrong_state(&message, "tried again")) }
    }

    async fn changeable(&self, caller: &Principal, app: &AppId, id: i64) -> Result<Message, Error> {
        let message = self.find(caller, app, id).await?;
        let may = is_of(&message, caller) || caller.permissions.allows(&format!("app:{app}:job.manage"));
        if may { Ok(message) } else { Err(Error::NotYours(app.clone())) }
    }

    /// Ends a lease, also while the database is away.
    pub(super) async fn settle(&self, lease: Lease, settlement: Settlement) {
        let outcome = match &settlement {
            Settlement::Complete { .. } => "completed",
            Settlement::Retry { .. } => "retried",
            Settlement::Release { .. } => "released",
            Settlement::Bury { .. } => "dead",
        };
        if !polls::is_lane(&lease.lane) {
            metrics::counter!("weft_jobs_total", "outcome" => outcome).increment(1);
        }
        let id = lease.id;
        match self.ends.write((lease.clone(), settlement.clone())).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(job.id = id, outcome, "a job ended that was no longer held: it may be done twice"),
            Err(NotWritten) => self.ends.write_later((lease, settlement)).await,
        }
    }

    /// Forgets what ended longer ago than `kept`, dead letters included. Run now and then.
    pub async fn tidy(&self, kept: TimeDelta) -> sqlx::Result<()> {
        let (mut connection, now) = (self.pool.acquire().await?, self.clock.now());
        while weft_queue::delete_older(&mut connection, now - kept, now - KEY_LIFETIME).await? > 0 {}
        Ok(())
    }
}

/// A job that something leads to, and that nobody enqueues.
#[derive(Debug)]
pub struct Caused {
    pub standing: Standing,
    /// What else whoever it acts for has to be allowed.
    pub needs: Vec<String>,
    /// How many reactions led here, this one included.
    pub hops: u8,
    /// Jobs of an app with the same key are done one after the other.
    pub order: String,
    pub payload: Box<RawValue>,
}

/// A message for the queue of an app.
pub fn caused((tenant, app): (&TenantId, &AppId), job: Caused, now: DateTime<Utc>) -> sqlx::Result<NewMessage> {
    let Caused { standing: Standing { user, by, only }, needs, hops, order, payload } = job;
    let envelope = Envelope { user, by, only, needs, hops, max_attempts: DEFAULT_ATTEMPTS, timeout: DEFAULT_TIMEOUT, payload };
    Ok(NewMessage {
        lane: lane(tenant, app),
        priority: DEFAULT_PRIORITY,
        visible_at: now,
        tag: None,
        key: None,
        order: Some(order),
        body: serde_json::to_string(&envelope).map_err(|error| sqlx::Error::Encode(error.into()))?,
    })
}

/// Has what a node that is gone was at done by others.
pub async fn forsake(connection: &mut PgConnection, node: Uuid) -> sqlx::Result<usize> {
    weft_queue::forsake(connection, node).await
}

/// Removes the jobs of an app.
pub async fn remove(connection: &mut PgConnection, tenant: &TenantId, app: &AppId) -> sqlx::Result<()> {
    weft_queue::remove_lane(connection, &lane(tenant, app)).await
}

fn faults(new: &NewJob) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut rule = |holds: bool, path: &str, rule: &str| {
        if !holds {
            faults.push(Fault::new(path, rule));
        }
    };
    rule((0.0..=LONGEST_DELAY).contains(&new.delay), "$.delay_seconds", "must be 0 to 31622400, which is a year");
    rule((0..=9).contains(&new.priority), "$.priority", "must be 0 to 9; higher comes first");
    rule((1..=MOST_ATTEMPTS).contains(&new.max_attempts), "$.max_attempts", "must be 1 to 100");
    rule((1..=LONGEST_TIMEOUT).contains(&new.timeout), "$.timeout_seconds", "must be 1 to 86400, which is a day");
    let key = |key: &String| (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    rule(new.key.as_ref().is_none_or(key), "$.idempotency_key", "must be 1 to 255 visible ASCII characters");
    faults
}

/// Callers may put anything into a key, so only its digest is stored; and nobody meets the keys of others.
fn key(who: &OnBehalf, name: &str, new: &NewJob) -> Key {
    let name = format!("{} {}", who.caller.id, hex::encode(Sha256::digest(name.as_bytes())));
    let NewJob { payload, delay, priority, max_attempts, timeout, .. } = new;
    let what = format!("{} {delay} {priority} {max_attempts} {timeout} {}", who.acting_as.id, payload.get());
    Key { name, digest: Sha256::digest(what.as_bytes()).to_vec() }
}

fn envelope(who: &OnBehalf, new: NewJob) -> Result<String, Error> {
    let Standing { user, by, only } = Standing::of(&who.caller, &who.acting_as);
    let NewJob { payload, max_attempts, timeout, .. } = new;
    let envelope = Envelope { user, by, only, needs: Vec::new(), hops: 0, max_attempts, timeout, payload };
    Ok(serde_json::to_string(&envelope).map_err(|error| sqlx::Error::Encode(error.into()))?)
}

/// Whether it is done for `caller`, or was enqueued by it.
fn is_of(message: &Message, caller: &Principal) -> bool {
    let envelope: Result<Envelope, _> = serde_json::from_str(&message.body);
    envelope.is_ok_and(|envelope| envelope.user == caller.id || envelope.by == Some(caller.id))
}

fn wrong_state(message: &Message, wanted: &'static str) -> Error {
    Error::WrongState { id: message.id, state: word(message.state), wanted }
}

/// The state as people read it.
pub fn word(state: State) -> &'static str {
    match state {
        State::Ready => "queued",
        State::Waiting => "waiting",
        State::HeldBack => "held_back",
        State::Leased => "running",
        State::Completed => "completed",
        State::Dead => "dead",
        State::Cancelled => "cancelled",
    }
}
