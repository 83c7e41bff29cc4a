//! `/api/v1/runs` and how failed runs look to a caller.

use std::{sync::Arc, time::Duration};

use axum::{
    Json as Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{
    RunId,
    run::{ErrorCategory, RunKind, RunStatus},
};
use weft_workers::{CallError, Category, Failure};

use super::{
    admission::{Left, Refused},
    error::{Cause, Error},
    service::Runs,
    store::{Filter, Row},
};
use crate::{
    apps,
    http::{
        Problems,
        extract::{Caller, Path, Query, denied},
        page,
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// One execution of an action, an RPC method or a webhook handler.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Run {
    id: Uuid,
    #[schema(value_type = RunKind)]
    kind: String,
    /// `provider.action`.
    operation: String,
    /// The integration or app that executed it.
    provider: String,
    action: String,
    /// The app on whose behalf it was called.
    app_id: Option<String>,
    /// Who called; absent for webhooks.
    principal: Option<RunPrincipal>,
    connection_id: Option<Uuid>,
    /// The run that this one is part of.
    parent_id: Option<Uuid>,
    #[schema(value_type = RunStatus)]
    status: String,
    attempts: i32,
    started_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
    /// From start to end in milliseconds, with microseconds as decimals.
    duration_ms: Option<f64>,
    input_bytes: i64,
    output_bytes: Option<i64>,
    error: Option<RunError>,
    /// The hosts that the backend connected to while this run was its only call, as `host:port`.
    hosts: Vec<String>,
    trace_id: String,
}

#[derive(Serialize, ToSchema)]
struct RunPrincipal {
    id: Uuid,
    kind: String,
    email: String,
}

#[derive(Serialize, ToSchema)]
struct RunError {
    code: String,
    #[schema(value_type = ErrorCategory)]
    category: String,
    message: String,
}

/// A page of runs, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RunPage {
    data: Vec<Run>,
    /// Pass as `cursor` to get the next page; absent on the last one.
    next_cursor: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListFilter {
    /// Only runs of this integration or app.
    provider: Option<String>,
    /// Only runs of this action or method.
    action: Option<String>,
    /// Only runs on behalf of this app.
    app_id: Option<String>,
    kind: Option<RunKind>,
    status: Option<RunStatus>,
    /// Only failures of this category.
    category: Option<ErrorCategory>,
    trace_id: Option<String>,
    /// Only runs that started at this time or later.
    since: Option<DateTime<Utc>>,
    /// Only runs that started before this time.
    until: Option<DateTime<Utc>>,
    /// How many, 1 to 200; 50 when absent.
    limit: Option<i64>,
    cursor: Option<String>,
}

impl From<Row> for Run {
    fn from(row: Row) -> Self {
        let principal = row.principal_id.zip(row.principal_kind).zip(row.principal_email);
        let error = row.error_code.zip(row.error_category).zip(row.error_message);
        Self {
            id: row.id,
            kind: row.kind,
            operation: format!("{}.{}", row.provider, row.action),
            provider: row.provider,
            action: row.action,
            app_id: row.app_id,
            principal: principal.map(|((id, kind), email)| RunPrincipal { id, kind, email }),
            connection_id: row.connection_id,
            parent_id: row.parent_id,
            status: row.status,
            attempts: row.attempts,
            started_at: row.started_at,
            completed_at: row.completed_at,
            duration_ms: row.duration_us.and_then(|us| i32::try_from(us).ok()).map(|us| f64::from(us) / 1000.0),
            input_bytes: row.input_bytes,
            output_bytes: row.output_bytes,
            error: error.map(|((code, category), message)| RunError { code, category, message }),
            hosts: row.hosts,
            trace_id: row.trace_id,
        }
    }
}

/// List runs, newest first
///
/// One's own, or everybody's with the permission `admin:runs.read`.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(ListFilter), responses((status = 200, body = RunPage), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Query(filter): Query<ListFilter>,
) -> Result<Body<RunPage>, Problem> {
    let limit = page::limit(filter.limit)?;
    let filter = Filter {
        tenant: caller.tenant.to_string(),
        principal: Runs::sees_own_only(&caller).then_some(caller.id),
        provider: filter.provider,
        action: filter.action,
        app: filter.app_id,
        kind: filter.kind.map(|kind| kind.as_str().to_owned()),
        status: filter.status.map(|status| status.as_str().to_owned()),
        category: filter.category.map(|category| category.as_str().to_owned()),
        trace: filter.trace_id,
        since: filter.since,
        until: filter.until,
        before: filter.cursor.map(|cursor| page::read(&cursor).map(|key| Uuid::from_bytes(key).into())).transpose()?,
        limit: limit + page::ONE_MORE,
    };
    let mut rows = node.runs.list(&filter).await?;
    let next_cursor = page::cut(&mut rows, limit, |row| row.id.into_bytes());
    Ok(Body(RunPage { data: rows.into_iter().map(Run::from).collect(), next_cursor }))
}

/// Get a run
#[utoipa::path(get, path = "/api/v1/runs/{run_id}", tag = "runs", params(("run_id" = RunId, Path)),
    responses((status = 200, body = Run), Problems))]
async fn get(State(node): State<Arc<Node>>, Caller(caller): Caller, Path(id): Path<RunId>) -> Result<Body<Run>, Problem> {
    let row = node.runs.find(&caller, id).await?;
    row.map(|row| Body(row.into())).ok_or_else(|| Problem::not_found(format!("run '{id}'")))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (run, left) = (error.run, error.left());
        let mut problem = Self::from(error.cause);
        if let Some(left) = left {
            let mut headers = HeaderMap::new();
            budget_headers(&mut headers, left);
            problem = problem.with_headers(headers);
        }
        match run {
            Some(run) => problem.with_run(run),
            None => problem,
        }
    }
}

/// Says what is left of a vendor's budget, unless the vendor has said so itself. As draft-ietf-httpapi-ratelimit-headers has it.
pub fn budget_headers(headers: &mut HeaderMap, left: Left) {
    let names = [HeaderName::from_static("ratelimit-policy"), HeaderName::from_static("ratelimit")];
    if names.iter().any(|name| headers.contains_key(name)) {
        return;
    }
    let policy = format!("\"vendor\";q={};w={}", left.requests, left.seconds);
    let limit = format!("\"vendor\";r={};t={}", left.at_once, left.whole_in);
    for (name, value) in names.into_iter().zip([policy, limit]) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

impl From<Cause> for Problem {
    fn from(cause: Cause) -> Self {
        let message = cause.to_string();
        match cause {
            Cause::UnknownIntegration(_) => Self::not_found(message),
            Cause::UnknownAction { .. } => Self::new(Code::UnknownAction, message),
            Cause::Denied(key) => denied(&key),
            Cause::WebhookRemoved | Cause::NoProxy(_) => Self::new(Code::NotFound, message),
            Cause::UnknownCallingApp(_) | Cause::InvalidKey => Self::new(Code::InvalidRequest, message),
            Cause::InvalidInput(faults) => Self::new(Code::ValidationFailed, with_faults(&message, &faults)).with_faults(faults),
            Cause::InvalidOutput(faults) => Self::new(Code::OutputInvalid, with_faults(&message, &faults)).with_faults(faults),
            Cause::NotConfigured(_) => Self::new(
                Code::NotConfigured,
                format!("{message}. An administrator saves it with `weft config` or PUT /api/v1/integrations/<id>/config."),
            ),
            Cause::Refused(refused) => {
                let code = match refused {
                    Refused::OverBudget { .. } => Code::RateLimited,
                    Refused::NotAnswering { .. } => Code::VendorUnavailable,
                };
                Self::new(code, message).with_retry_after(Some(refused.wait()))
            }
            Cause::InProgress => Self::new(Code::IdempotencyInProgress, message),
            Cause::KeyMismatch => Self::new(Code::IdempotencyMismatch, message),
            Cause::Interrupted => Self::new(Code::Conflict, message),
            Cause::Failed(failure) => (*failure).into(),
            Cause::App(apps::Error::Call(error)) => error.into(),
            Cause::App(error) => error.into(),
            Cause::Connection(error) => error.into(),
            Cause::Integration(error) => error.into(),
            Cause::Secrets(error) => error.into(),
            Cause::NotWritten(_) => {
                Self::new(Code::Unavailable, "The database does not take writes, so nothing was started. Try again in a moment.")
                    .with_retry_after(Some(Duration::from_secs(1)))
            }
            Cause::Internal(cause) => Self::internal(cause),
        }
    }
}

fn with_faults(message: &str, faults: &[weft_model::Fault]) -> String {
    let list: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    format!("{message}: {}", list.join("; "))
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let code = match failure.category {
            Category::Transient => Code::VendorUnavailable,
            Category::RateLimited => Code::RateLimited,
            Category::Auth => Code::VendorAuth,
            Category::Validation if failure.code.as_deref() == Some("unknown_action") => Code::UnknownAction,
            Category::Validation => Code::ActionRejected,
            Category::Poison => Code::ActionFailed,
        };
        Self::new(code, failure.message).with_retry_after(failure.retry_after).with_vendor_code(failure.code)
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let (message, retry_after) = (error.to_string(), error.retry_after());
        match error {
            CallError::NotRunning { .. } | CallError::NotReady { .. } => {
                Self::new(Code::WorkerNotRunning, message).with_retry_after(retry_after)
            }
            CallError::DoesNotStart(_) => Self::new(Code::StartFailed, message),
            CallError::Timeout(_) => Self::new(Code::Timeout, message),
            CallError::Busy { .. } => Self::new(Code::WorkerBusy, message).with_retry_after(retry_after),
            CallError::TooLarge { .. } => Self::new(Code::PayloadTooLarge, message),
            CallError::UnknownMethod { .. } => Self::new(Code::UnknownMethod, message),
            CallError::Failed(failure) => (*failure).into(),
            _ => Self::new(Code::ActionFailed, message),
        }
    }
}
