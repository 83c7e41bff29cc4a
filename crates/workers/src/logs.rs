//! The live log of one app: everything its processes say and what the host says about them. Nothing is stored; a subscriber that
//! is too slow loses the oldest lines. The feed belongs to the app, not to a process, so it survives restarts and deployments.
//! What a backend causes beyond its quota is dropped and counted; what the host says is never dropped.

use crate::{Death, Limits, Platform, flood::Quota};
use serde::Serialize;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::broadcast, time::Instant};

const CAPACITY: usize = 256;
/// The longest message, in bytes; the rest is cut off.
pub(crate) const MESSAGE_LIMIT: usize = 8192;

/// One entry. The time is the platform's to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    pub level: Level,
    pub message: Arc<str>,
}

/// Where an entry comes from and how serious its author finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    /// Something the backend emitted, as `name: data`.
    Event,
    /// A line on stdout that is not a message.
    Stdout,
    Stderr,
    /// The host about the process.
    System,
}

impl Level {
    /// A level that a backend may choose; anything unknown counts as `info`.
    pub(crate) fn from_worker(name: Option<&str>) -> Self {
        match name {
            Some("debug") => Self::Debug,
            Some("warn") => Self::Warn,
            Some("error") => Self::Error,
            _ => Self::Info,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Event => "event",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        })
    }
}

/// Writes an app's log.
pub(crate) struct Journal<P> {
    app: Arc<str>,
    platform: Arc<P>,
    feed: broadcast::Sender<LogLine>,
    quota: Mutex<Quota>,
}

impl<P: Platform> Journal<P> {
    pub(crate) fn new(app: Arc<str>, platform: Arc<P>, limits: &Limits) -> Self {
        let quota = Quota::new(limits.log_lines_per_second, limits.log_burst, Instant::now());
        Self { app, platform, feed: broadcast::Sender::new(CAPACITY), quota: Mutex::new(quota) }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<LogLine> {
        self.feed.subscribe()
    }

    /// Logs what the backend says or causes, within its quota.
    pub(crate) fn write(&self, level: Level, message: &str, context: Option<&Arc<P::Context>>) {
        if self.quota().admit(Instant::now()) {
            self.put(level, message, context);
        }
    }

    /// Tells how many lines were dropped, at most once a second.
    pub(crate) fn report_dropped(&self) {
        let dropped = self.quota().report(Instant::now());
        self.tell_dropped(dropped);
    }

    /// The same at the end of a process.
    pub(crate) fn settle_dropped(&self) {
        let dropped = self.quota().settle();
        self.tell_dropped(dropped);
    }

    fn tell_dropped(&self, dropped: Option<u64>) {
        if let Some(count) = dropped {
            self.system(&format!("{count} log lines dropped: the backend writes more than is kept"));
        }
    }

    fn quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, level: Level, message: &str, context: Option<&Arc<P::Context>>) {
        let line = LogLine { level, message: cut(message).into() };
        self.platform.log(&self.app, context, &line);
        // Fails only when nobody listens.
        let _ = self.feed.send(line);
    }

    pub(crate) fn system(&self, message: &str) {
        self.put(Level::System, message, None);
    }

    /// Tells the app's log and the platform of an end that nobody asked for.
    pub(crate) fn died(&self, death: &Death) {
        self.system(&format!("worker crashed: {death}"));
        self.platform.died(&self.app, death);
    }

    pub(crate) fn warn(&self, message: &str) {
        self.write(Level::Warn, message, None);
    }
}

/// At most [`MESSAGE_LIMIT`] bytes, never half a character.
fn cut(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MESSAGE_LIMIT)).unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        let message = format!("a{}", "é".repeat(5000));
        assert_eq!(cut(&message).len(), MESSAGE_LIMIT - 1);
        assert_eq!(cut("short"), "short");
    }
}
