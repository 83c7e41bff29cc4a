//! Putting a poll's question to the vendor: a call of the integration's action, like any other.

use std::sync::Arc;

use serde_json::{Value, value::RawValue};
use weft_model::{ConnectionId, Principal, RunId, UserId, manifest, run::ErrorCategory};

use super::{
    backoff::Failure,
    cursor::{self, Misread, Page, Progress},
    store::Poll,
};
use crate::{
    apps::App,
    connections::Chosen,
    data,
    http::trace::TraceId,
    node::Node,
    runs::{self, Invocation},
};

/// An answer, and the run that it is of.
pub struct Answer {
    pub page: Page,
    pub trace: TraceId,
}

/// Asks for the page that comes next, as whoever the poll acts for and with its connection.
pub async fn ask(
    node: &Arc<Node>,
    (app, declared): (&App, &manifest::Poll),
    poll: &Poll,
    progress: &Progress,
) -> Result<Answer, Failure> {
    let principal = principal(node, app, poll).await?;
    let input = cursor::input(declared, &poll.input, poll.cursor.as_ref(), progress.page.as_ref());
    let trace = TraceId::generate();
    let invocation = Invocation {
        principal,
        provider: app.id.clone(),
        action: declared.action.clone(),
        input: serde_json::value::to_raw_value(&input).map_err(internal)?,
        calling_app: None,
        idempotency_key: None,
        trace,
        parent: None,
        depth: 0,
        connection: poll.connection_id.map(|id| Chosen::Asked(ConnectionId::from(id))),
        hops: 0,
    };
    let outcome = runs::invoke(node, invocation).await.map_err(failed)?;
    read(declared, progress, &outcome.output)
        .map(|page| Answer { page, trace })
        .map_err(|failure| Failure { run: Some(outcome.run.as_uuid()), ..failure })
}

async fn principal(node: &Node, app: &App, poll: &Poll) -> Result<Arc<Principal>, Failure> {
    let standing = node.identity.standing(&app.tenant, UserId::from(poll.user_id)).await;
    let gone = "whoever it acts for was switched off or is gone: connect again, or install the integration again";
    standing.map_err(internal)?.ok_or_else(|| Failure::new("owner_gone", ErrorCategory::Auth, gone))
}

fn read(declared: &manifest::Poll, progress: &Progress, output: &RawValue) -> Result<Page, Failure> {
    if let Some(refusal) = runs::refusal(output) {
        let code = refusal.code.unwrap_or_else(|| "refused".to_owned());
        let category = match code.as_str() {
            "INSUFFICIENT_PERMISSIONS" | "MISCONFIGURED" => ErrorCategory::Auth,
            "TEMPORARY_ERROR" => ErrorCategory::Transient,
            _ => ErrorCategory::Validation,
        };
        let message = refusal.message.unwrap_or_else(|| "the integration did not do what it was asked for".to_owned());
        return Err(Failure::new(&code, category, message));
    }
    let result: Value = serde_json::from_str(output.get()).map_err(internal)?;
    cursor::read(declared, progress, &result).map_err(Failure::from)
}

impl From<Misread> for Failure {
    fn from(misread: Misread) -> Self {
        Self::new("unexpected_result", ErrorCategory::Poison, misread.to_string())
    }
}

fn failed(error: runs::Error) -> Failure {
    let told = error.cause.failed();
    let run = error.run.map(RunId::as_uuid);
    let retry_after = error.into_failure().retry_after;
    Failure { code: told.code, category: told.category, message: told.message, retry_after, run }
}

/// What is the server's own trouble is told in its log alone.
pub fn internal(error: impl std::fmt::Display) -> Failure {
    tracing::warn!(%error, "a poll came to nothing");
    Failure::new("unavailable", ErrorCategory::Transient, "the server could not carry it out")
}

impl From<data::Error> for Failure {
    fn from(error: data::Error) -> Self {
        match error {
            data::Error::Busy | data::Error::Moved | data::Error::TooSlow => {
                Self::new("records_busy", ErrorCategory::Transient, error.to_string())
            }
            data::Error::Conflict(_) | data::Error::Invalid(_) | data::Error::UnknownEntity { .. } => {
                Self::new("records_refused", ErrorCategory::Validation, error.to_string())
            }
            other => internal(other),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        internal(error)
    }
}
