//! How a call and a start can fail, in words a person can act on. No HTTP words: the platform maps these.

use crate::{Death, DeathKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use thiserror::Error;

/// Why a call has no result.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// No backend was started for this app, or it was stopped on purpose.
    #[error("the backend of app `{app}` is not running; start or deploy it first")]
    NotRunning { app: Arc<str> },
    /// The whole time of the call is over. The handler may still be at work; its reply will be dropped.
    #[error("the backend did not answer within {0:?}")]
    Timeout(Duration),
    /// The process was lost before, and its successor did not come up within the whole time of the call. Nothing was sent.
    #[error("the backend of app `{app}` is not back yet{}; nothing was sent, try again in a moment", After(death))]
    NotReady { app: Arc<str>, death: Option<Death> },
    /// It could not be brought up again. Nothing was sent.
    #[error("the backend does not come up: {0}")]
    DoesNotStart(Death),
    /// The process ended before it answered.
    #[error("the backend stopped before it answered: {0}")]
    Died(Death),
    /// As many calls are at work as may be, and no more may wait, or the whole time of the call went by waiting. Nothing was sent.
    #[error("the backend of app `{app}` has more calls at work and waiting than it can take; try again in a moment")]
    Busy { app: Arc<str> },
    /// Nothing was sent.
    #[error("the request has {bytes} bytes, more than the {limit} a backend accepts; send less or pass a file")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the backend has no handler {}", described(method))]
    UnknownMethod { method: String },
    /// The handler answered with an error.
    #[error("{0}")]
    Failed(Box<Failure>),
}

/// The methods of an integration are the platform's; people know them by what they write for them.
fn described(method: &str) -> String {
    match method {
        "__integration" => "for actions: it does not call `defineIntegration`".to_owned(),
        "__webhook" => "for webhooks: no `webhooks` in `defineIntegration`, and no method `__webhook`".to_owned(),
        other => format!("named `{other}`"),
    }
}

impl CallError {
    /// When it makes sense to try again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { .. } | Self::NotReady { .. } => Some(Duration::from_secs(1)),
            Self::Failed(failure) => failure.retry_after,
            _ => None,
        }
    }

    /// The same error in the form that travels to a backend, so that nested calls fail like direct ones.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let (code, category) = match &self {
            Self::NotRunning { .. } | Self::NotReady { .. } => ("not_running", Category::Transient),
            Self::Timeout(_) => ("timeout", Category::Transient),
            Self::DoesNotStart(death) | Self::Died(death) => (death.kind.code(), Category::Transient),
            Self::Busy { .. } => ("worker_busy", Category::Transient),
            Self::TooLarge { .. } => ("too_large", Category::Validation),
            Self::UnknownMethod { .. } => ("unknown_method", Category::Validation),
            Self::Failed(_) => ("failed", Category::Poison),
        };
        match self {
            Self::Failed(failure) => *failure,
            other => {
                let mut failure = Failure::new(other.to_string()).with_code(code).with_category(category);
                failure.retry_after = other.retry_after();
                failure
            }
        }
    }
}

/// What happened before, as part of a sentence.
struct After<'a>(&'a Option<Death>);

impl fmt::Display for After<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |death| write!(f, " after it was lost ({death})"))
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// An error as a backend reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub message: String,
    /// The vendor's or the integration's own short name, for example `channel_not_found`.
    pub code: Option<String>,
    pub category: Category,
    /// When it makes sense to try again.
    pub retry_after: Option<Duration>,
    pub details: Option<Value>,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: None, category: Category::default(), retry_after: None, details: None }
    }

    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    #[must_use]
    pub fn with_category(mut self, category: Category) -> Self {
        self.category = category;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} ({code})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

/// What kind of failure it is, and with it whether trying again can help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Category {
    Transient,
    RateLimited,
    Auth,
    Validation,
    /// A fault in the backend: the same call will fail the same way.
    #[default]
    Poison,
}

/// Why a process did not come up. Whatever served before keeps serving.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("cannot run `{}`: {source}; check that Bun, the app's folder and the worker account exist", program.display())]
    Spawn { program: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Jail(#[from] weft_jail::Error),
    /// A jail is required, and this machine does not offer one.
    #[error("this server starts no worker without its jail, and a part of that is missing here: {missing}")]
    NotConfined { missing: String },
    /// The prelude reported that the entry point cannot be loaded.
    #[error("the entry point cannot be loaded: {message}")]
    Fatal { message: String },
    #[error("the process ended before it was ready: {death}{}", Tail(stderr))]
    Exited { death: Death, stderr: Vec<String> },
    #[error(
        "the process was not ready within {after:?}: does the entry point wait for something at its top level?{}",
        Tail(stderr)
    )]
    Timeout { after: Duration, stderr: Vec<String> },
    #[error("the process speaks version {found} of the worker protocol, the server only up to {}", crate::frame::PROTOCOL)]
    Protocol { found: u64 },
    /// A stop arrived while the process was coming up.
    #[error("the app was stopped before its new process was ready")]
    Stopped,
    #[error("the worker host is shutting down")]
    HostGone,
}

impl StartError {
    /// The same as the end of a process, for those who wait for it.
    pub(crate) fn as_death(&self) -> Death {
        let kind = match self {
            Self::Exited { death: Death { kind: DeathKind::OutOfMemory, .. }, .. } => DeathKind::OutOfMemory,
            _ => DeathKind::StartFailed,
        };
        Death::new(kind, self.to_string())
    }
}

/// The last lines a process wrote to stderr, as the end of a message.
struct Tail<'a>(&'a [String]);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}
