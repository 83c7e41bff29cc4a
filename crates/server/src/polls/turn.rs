//! One turn of a poll: some pages, then it is others' turn.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use weft_model::{
    manifest::{self, Interval, OnDisconnect, Sync, Trigger},
    run::ErrorCategory,
};
use weft_queue::{Leased, Settlement};

use super::{
    ask::{self, internal},
    backoff::Failure,
    cursor::Progress,
    keep,
    lane::{Kind, Message, owner},
    store::{self, Poll},
    tell,
};
use crate::{
    apps::{self, App},
    node::Node,
};

/// Pages of one turn, and how long it lasts: then the poll goes to the back of the queue.
const PAGES: usize = 10;
const LONGEST: Duration = Duration::from_secs(20);
/// How often is looked whether one that is paused, or stopped, is so still.
const PARKED: TimeDelta = TimeDelta::hours(1);
/// Before one is looked at again whose circumstances cannot be found out.
const PAUSE: TimeDelta = TimeDelta::seconds(5);
/// What is kept of a message that somebody's fault has, in characters.
const MESSAGE: usize = 1000;

/// Works on a poll that is due, and says when its message comes again.
pub async fn turn(node: &Arc<Node>, leased: &Leased) -> Settlement {
    let again = match serde_json::from_str(&leased.body) {
        Ok(message) => take(node, leased, &message).await,
        Err(error) => return Settlement::Bury { note: format!("unreadable: this is no poll: {error}") },
    };
    match again {
        Ok(Some(at)) => Settlement::Retry { at, note: String::new() },
        Ok(None) => Settlement::Complete { result: None, note: None },
        Err(failure) => Settlement::Retry { at: node.clock.now() + PAUSE, note: failure.message },
    }
}

/// When its message is to come again; never when there is no such poll any more.
async fn take(node: &Arc<Node>, leased: &Leased, message: &Message) -> Result<Option<DateTime<Utc>>, Failure> {
    let Some((tenant, app)) = owner(&leased.stream.lane) else { return Ok(None) };
    let found = store::find(&mut *node.pool.acquire().await?, message.poll).await?;
    let app = match node.apps.get(&tenant, &app).await {
        Ok(app) => app,
        Err(apps::Error::Unknown(_)) if found.is_none() => return Ok(None),
        Err(error) => return Err(internal(error)),
    };
    let Some(poll) = found else { return clear(node, &app, message).await };
    if poll.message_id != leased.id {
        return Ok(None);
    }
    let now = node.clock.now();
    if poll.status != "active" {
        return Ok(Some(now + PARKED));
    }
    if poll.next_at > now {
        return Ok(Some(poll.next_at));
    }
    // Somebody stopped it, or its tenant is switched off.
    if !app.worker_enabled {
        return Ok(Some(now + TimeDelta::minutes(1)));
    }
    let next = poll.clone();
    Turn { node: Arc::clone(node), app, poll, next }.run().await
}

/// Removes the records of a connection that is gone, where the manifest says so.
async fn clear(node: &Node, app: &App, message: &Message) -> Result<Option<DateTime<Utc>>, Failure> {
    let sync = app.manifest.content.syncs.iter().find(|sync| message.kind == Kind::Sync && sync.poll.name == message.name);
    let Some((sync, connection)) = sync.filter(|sync| sync.on_disconnect == OnDisconnect::Delete).zip(message.connection) else {
        return Ok(None);
    };
    if store::has_connection(&mut *node.pool.acquire().await?, connection).await? {
        return Ok(None);
    }
    let more = keep::delete_left(node, (app, sync), connection).await?;
    Ok(more.then(|| node.clock.now()))
}

/// A poll at work.
pub struct Turn {
    pub node: Arc<Node>,
    pub app: Arc<App>,
    /// As it is stored.
    pub poll: Poll,
    /// As it is to become.
    pub next: Poll,
}

/// What is asked, and what becomes of the answer.
pub enum Declared<'a> {
    Sync(&'a Sync),
    Trigger(&'a Trigger),
}

impl<'a> Declared<'a> {
    pub fn find(app: &'a App, poll: &Poll) -> Option<Self> {
        let content = &app.manifest.content;
        match Kind::parse(&poll.kind)? {
            Kind::Sync => content.syncs.iter().find(|sync| sync.poll.name == poll.name).map(Self::Sync),
            Kind::Trigger => content.triggers.iter().find(|trigger| trigger.poll.name == poll.name).map(Self::Trigger),
        }
    }

    pub const fn poll(&self) -> &'a manifest::Poll {
        match self {
            Self::Sync(sync) => &sync.poll,
            Self::Trigger(trigger) => &trigger.poll,
        }
    }
}

impl Turn {
    async fn run(mut self) -> Result<Option<DateTime<Utc>>, Failure> {
        let app = Arc::clone(&self.app);
        // Another manifest may be on its way to this node, or the poll on its way out.
        let Some(declared) = Declared::find(&app, &self.poll) else { return Ok(Some(self.node.clock.now() + PAUSE)) };
        let began = Instant::now();
        for _ in 0..PAGES {
            if self.node.stopping.is_cancelled() || began.elapsed() >= LONGEST {
                break;
            }
            match self.step(&declared).await {
                Ok(true) if self.poll.progress.is_none() => return Ok(Some(self.poll.next_at)),
                Ok(true) => {}
                // Somebody changed it: it is read anew.
                Ok(false) => break,
                Err(failure) => return self.fail(&declared, failure).await.map(Some),
            }
        }
        Ok(Some(self.node.clock.now()))
    }

    /// One page, or one step of deleting. False when somebody else has changed the poll meanwhile.
    async fn step(&mut self, declared: &Declared<'_>) -> Result<bool, Failure> {
        self.next = self.poll.clone();
        let progress = match self.poll.progress.clone().map(serde_json::from_value::<Progress>) {
            Some(Ok(progress)) => progress,
            Some(Err(_)) | None => self.begin(),
        };
        let saved = match declared {
            Declared::Sync(sync) if progress.is_deleting => keep::delete_unmet(self, sync, progress).await?,
            _ => {
                let app = Arc::clone(&self.app);
                let answer = ask::ask(&self.node, (&app, declared.poll()), &self.poll, &progress).await?;
                match declared {
                    Declared::Sync(sync) => keep::page(self, sync, answer, progress).await?,
                    Declared::Trigger(trigger) => tell::page(self, trigger, answer, progress).await?,
                }
            }
        };
        if saved {
            self.next.version += 1;
            self.poll = self.next.clone();
        }
        Ok(saved)
    }

    /// A new run begins where the one before ended.
    fn begin(&mut self) -> Progress {
        let next = &mut self.next;
        (next.created, next.updated, next.deleted, next.rejected, next.rejection) = (0, 0, 0, 0, None);
        next.pass += 1;
        next.started_at = Some(self.node.clock.now());
        Progress { highest: next.cursor.clone(), ..Progress::default() }
    }

    /// The run goes on from there.
    pub fn go_on(&mut self, progress: &Progress) {
        self.next.progress = serde_json::to_value(progress).ok();
        self.well();
    }

    /// The run is over, and the next one has its time.
    pub fn finish(&mut self, progress: &Progress, now: DateTime<Utc>) {
        let declared = Declared::find(&self.app, &self.next).map(|declared| declared.poll().every.clone());
        let began = self.next.started_at.unwrap_or(now);
        let interval = declared.and_then(|every| Interval::parse(&every).ok());
        let next = &mut self.next;
        next.next_at = interval.map_or(now + PARKED, |interval| interval.next(began, now));
        next.cursor.clone_from(&progress.highest);
        next.progress = None;
        next.seeded = true;
        next.deletions_confirmed = false;
        (next.ended_at, next.succeeded_at) = (Some(now), Some(now));
        self.well();
    }

    fn well(&mut self) {
        let next = &mut self.next;
        next.failures = 0;
        (next.error_code, next.error_category, next.error_message, next.error_run) = (None, None, None, None);
    }

    /// Notes a failure, and returns when the poll is looked at again.
    async fn fail(&mut self, declared: &Declared<'_>, failure: Failure) -> Result<DateTime<Utc>, Failure> {
        let now = self.node.clock.now();
        let next = &mut self.next;
        *next = self.poll.clone();
        next.failures = next.failures.saturating_add(1);
        let pause = TimeDelta::from_std(failure.pause(next.failures, rand::random())).unwrap_or(PARKED);
        next.next_at = now + pause;
        if next.progress.is_none() {
            next.started_at = Some(now);
        }
        next.ended_at = Some(now);
        if failure.is_about_cursor() && (next.cursor.is_some() || next.progress.is_some()) {
            // From the beginning, and soon.
            (next.cursor, next.progress) = (None, None);
            next.next_at = now;
        } else if failure.category == ErrorCategory::Validation {
            // The page's value may be too old.
            next.progress = None;
        }
        if failure.stops() {
            "stopped".clone_into(&mut next.status);
        }
        next.error_code = Some(failure.code);
        next.error_category = Some(failure.category.as_str().to_owned());
        next.error_message = Some(failure.message.chars().filter(|character| *character != '\0').take(MESSAGE).collect());
        next.error_run = failure.run;
        let stopped = next.status != "active";
        tracing::info!(poll.id = %next.id, poll.name = declared.poll().name, app.id = %self.app.id, stopped, "poll.fail");
        metrics::counter!("weft_poll_failures_total").increment(1);
        let saved = store::save(&mut *self.node.pool.acquire().await?, next, now).await?;
        let again = if stopped { now + PARKED } else { self.next.next_at };
        Ok(if saved { again } else { now })
    }
}
