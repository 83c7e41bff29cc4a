//! Why a call came to nothing, in the words of the domain; `routes` turns it into HTTP, `record` into the run's row.

use weft_model::{AppId, Fault, RunId, run::ErrorCategory};
use weft_workers::{CallError, Failure};

use super::{
    admission::{Left, Refused, Vendor},
    record::Failed,
};
use crate::{
    apps, connections,
    db::group::NotWritten,
    integrations,
    secrets::{self, Masks},
};

/// Why nothing came of it, with the run that records it if it got that far.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Error {
    pub run: Option<RunId>,
    pub cause: Cause,
    /// What was left of the vendor's budget, where there is one and the call went out.
    pub left: Option<Box<Left>>,
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("integration '{0}'")]
    UnknownIntegration(AppId),
    #[error("integration '{provider}' has no action '{action}'; it has: {known}")]
    UnknownAction { provider: AppId, action: String, known: String },
    #[error("{0}")]
    Denied(String),
    #[error("the header x-app-id names '{0}', which is no installed app")]
    UnknownCallingApp(AppId),
    #[error("the input breaks the action's schema")]
    InvalidInput(Vec<Fault>),
    #[error("the result breaks the action's outputSchema")]
    InvalidOutput(Vec<Fault>),
    #[error("the integration is not configured: {} missing", .0.join(", "))]
    NotConfigured(Vec<String>),
    #[error("integration '{0}' has no block http in its manifest, so nothing can be sent to its vendor directly")]
    NoProxy(AppId),
    #[error("an Idempotency-Key is 1 to 255 visible ASCII characters")]
    InvalidKey,
    #[error("a request with this Idempotency-Key is still running: try again in a moment")]
    InProgress,
    #[error("this Idempotency-Key was used for another input or another connection: use a new key for a new request")]
    KeyMismatch,
    #[error(
        "the first request with this Idempotency-Key broke off, and whether it took effect is not known: look, then use a new key"
    )]
    Interrupted,
    #[error("the webhook was removed before its request could be handled")]
    WebhookRemoved,
    #[error("{}", .0.message)]
    Failed(Box<Failure>),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    App(#[from] apps::Error),
    #[error(transparent)]
    Connection(#[from] connections::Error),
    #[error(transparent)]
    Integration(#[from] integrations::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    #[error("{0}")]
    Internal(String),
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self { run: None, cause, left: None }
    }
}

impl Error {
    /// The same with what was left of the vendor's budget.
    #[must_use]
    pub fn with_left(self, left: Option<Left>) -> Self {
        Self { left: left.map(Box::new), ..self }
    }

    /// What is left of the vendor's budget, as far as it is known.
    pub fn left(&self) -> Option<Left> {
        match &self.cause {
            Cause::Refused(refused) => refused.left(),
            _ => self.left.as_deref().copied(),
        }
    }

    /// The error as a backend sees it that made the call.
    pub fn into_failure(self) -> Failure {
        match self.cause {
            Cause::Failed(failure) => *failure,
            Cause::App(apps::Error::Call(error)) => error.into_failure(),
            cause => {
                let failed = cause.failed();
                let category = match failed.category {
                    ErrorCategory::Transient => weft_workers::Category::Transient,
                    ErrorCategory::RateLimited => weft_workers::Category::RateLimited,
                    ErrorCategory::Auth => weft_workers::Category::Auth,
                    ErrorCategory::Validation => weft_workers::Category::Validation,
                    ErrorCategory::Poison => weft_workers::Category::Poison,
                };
                let mut failure = Failure::new(failed.message).with_code(failed.code).with_category(category);
                if let Cause::Refused(refused) = &cause {
                    failure.retry_after = Some(refused.wait());
                }
                failure.details = match cause {
                    Cause::InvalidInput(faults) | Cause::InvalidOutput(faults) => serde_json::to_value(faults).ok(),
                    Cause::Connection(error) => error.reconnect_url().map(|url| serde_json::json!({ "reconnectUrl": url })),
                    _ => None,
                };
                failure
            }
        }
    }
}

impl Cause {
    /// How the run's record tells it.
    pub fn failed(&self) -> Failed {
        let (code, category) = match self {
            Self::Failed(failure) => return failure.as_ref().into(),
            Self::App(apps::Error::Call(error)) => return (&error.clone().into_failure()).into(),
            Self::InvalidInput(_) => ("invalid_input", ErrorCategory::Validation),
            Self::InvalidOutput(_) => ("invalid_output", ErrorCategory::Poison),
            Self::NotConfigured(_) => ("not_configured", ErrorCategory::Auth),
            Self::Refused(Refused::OverBudget { .. }) => ("rate_limited", ErrorCategory::RateLimited),
            Self::Refused(Refused::NotAnswering { .. }) => ("not_answering", ErrorCategory::Transient),
            Self::Connection(error) => error.in_runs(),
            Self::Denied(_) => ("denied", ErrorCategory::Validation),
            Self::UnknownIntegration(_) => ("unknown_integration", ErrorCategory::Validation),
            Self::UnknownAction { .. } => ("unknown_action", ErrorCategory::Validation),
            Self::WebhookRemoved => ("webhook_removed", ErrorCategory::Validation),
            Self::NoProxy(_) => ("no_proxy", ErrorCategory::Validation),
            Self::UnknownCallingApp(_) | Self::InvalidKey | Self::KeyMismatch => ("invalid_request", ErrorCategory::Validation),
            Self::App(apps::Error::NotDeployed(_)) => ("not_deployed", ErrorCategory::Validation),
            Self::App(apps::Error::NotComingUp { .. }) => ("start_failed", ErrorCategory::Poison),
            Self::App(_)
            | Self::Integration(_)
            | Self::Secrets(_)
            | Self::NotWritten(_)
            | Self::InProgress
            | Self::Interrupted => ("unavailable", ErrorCategory::Transient),
            Self::Internal(_) => ("internal", ErrorCategory::Poison),
        };
        // What may hold the database's own words stays out of the record.
        let message = match self {
            Self::Connection(error) if error.is_internal() => "the server could not carry it out".to_owned(),
            Self::Integration(_) | Self::Secrets(_) | Self::Internal(_) => "the server could not carry it out".to_owned(),
            other => other.to_string(),
        };
        Failed::new(code, category, message)
    }

    /// The same without secrets in what the backend says.
    pub(super) fn masked(self, masks: &Masks) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(Box::new(masks.failure(*failure))),
            Self::App(apps::Error::Call(error)) => Self::App(apps::Error::Call(masks.call_error(error))),
            other => other,
        }
    }

    /// What it says of the vendor; nothing, where the call did not get as far.
    pub(super) fn of_vendor(&self) -> Option<Vendor> {
        match self {
            Self::Failed(failure) if failure.category == weft_workers::Category::Transient => Some(Vendor::Silent),
            Self::App(apps::Error::Call(CallError::Timeout(_))) => Some(Vendor::Silent),
            Self::Failed(_) | Self::InvalidOutput(_) => Some(Vendor::Answered),
            _ => None,
        }
    }

    /// Whether it is certain that nothing happened outside, so that trying again is safe.
    pub(super) fn had_no_effect(&self) -> bool {
        match self {
            Self::Failed(failure) => failure_had_no_effect(failure),
            Self::App(apps::Error::Call(error)) => {
                use CallError::{Busy, DoesNotStart, NotReady, NotRunning, TooLarge, UnknownMethod};
                matches!(
                    error,
                    NotRunning { .. } | NotReady { .. } | DoesNotStart(_) | Busy { .. } | TooLarge { .. } | UnknownMethod { .. }
                )
            }
            Self::InvalidOutput(_) => false,
            _ => true,
        }
    }
}

fn failure_had_no_effect(failure: &Failure) -> bool {
    use weft_workers::Category::{Auth, RateLimited, Validation};
    matches!(failure.category, Auth | RateLimited | Validation)
}
