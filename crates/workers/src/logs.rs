//! The live log of one app: everything its processes say and what the host says about them. Nothing is stored; a subscriber that
//! is too slow loses the oldest lines. The feed belongs to the app, not to a process, so it survives restarts and deployments.

use crate::Platform;
use serde::Serialize;
use std::{fmt, sync::Arc};
use tokio::sync::broadcast;

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
}

impl<P: Platform> Journal<P> {
    pub(crate) fn new(app: Arc<str>, platform: Arc<P>) -> Self {
        Self { app, platform, feed: broadcast::Sender::new(CAPACITY) }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<LogLine> {
        self.feed.subscribe()
    }

    pub(crate) fn write(&self, level: Level, message: &str, context: Option<&Arc<P::Context>>) {
        let line = LogLine { level, message: cut(message).into() };
        self.platform.log(&self.app, context, &line);
        // Fails only when nobody listens.
        let _ = self.feed.send(line);
    }

    pub(crate) fn system(&self, message: &str) {
        self.write(Level::System, message, None);
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
