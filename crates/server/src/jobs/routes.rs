//! `/api/v1/apps/{app_id}/jobs`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json as Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{AppId, UserId};
use weft_queue::{Message, Sent, Which};

use super::{
    envelope::Envelope,
    service::{self, DEFAULT_ATTEMPTS, DEFAULT_PRIORITY, DEFAULT_TIMEOUT, Error, NewJob, OnBehalf},
};
use crate::{
    http::{
        Problems,
        extract::{Authorized, Json, Path, Query, denied, header, rights},
        page,
        problem::{Code, Problem},
    },
    node::Node,
};

/// Jobs per list at most.
const MAX_LIMIT: i64 = 1000;
const DEFAULT_LIMIT: i64 = 100;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(enqueue, list)).routes(routes!(get)).routes(routes!(cancel)).routes(routes!(retry))
}

#[derive(Deserialize, ToSchema)]
struct EnqueueRequest {
    /// What `onJob` gets, 1 MiB at most; `{}` when absent.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    payload: Option<Box<RawValue>>,
    /// As whom it is done: somebody whom the caller may act as. The caller when absent.
    #[serde(default)]
    user_id: Option<UserId>,
    /// How long it waits before it is first tried.
    #[serde(default)]
    delay_seconds: Option<f64>,
    /// 0 to 9, higher comes first; 5 when absent.
    #[serde(default)]
    priority: Option<i16>,
    /// 1 to 100; 5 when absent.
    #[serde(default)]
    max_attempts: Option<i32>,
    /// How long one attempt may take; 900 when absent.
    #[serde(default)]
    timeout_seconds: Option<u32>,
    /// The same as the header `Idempotency-Key`.
    #[serde(default)]
    idempotency_key: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Enqueued {
    msg_id: i64,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document: the words come from the service")]
enum JobStatus {
    /// Nobody works on it yet.
    Queued,
    /// For its time, or for its next attempt.
    Waiting,
    /// For earlier jobs that are about the same.
    HeldBack,
    Running,
    Completed,
    /// It came to nothing; `error` says why. It can be tried again.
    Dead,
    Cancelled,
}

/// A job.
#[derive(Serialize, ToSchema)]
struct Job {
    msg_id: i64,
    app_id: AppId,
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    /// As whom it is done.
    user_id: Option<UserId>,
    /// How often it was tried.
    read_ct: i32,
    enqueued_at: DateTime<Utc>,
    #[schema(value_type = JobStatus)]
    status: &'static str,
    priority: i16,
    max_attempts: i32,
    /// When it is tried next, or, while it is worked on, when it is given up for lost without a sign of life.
    visible_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    /// What `onJob` returned.
    #[schema(value_type = Option<Object>)]
    result: Option<Box<RawValue>>,
    /// Why the last attempt came to nothing.
    error: Option<String>,
    /// The run of the last attempt.
    run_id: Option<Uuid>,
    /// The cron that it comes from.
    cron_id: Option<Uuid>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListFilter {
    /// What is over, instead of what is not.
    #[serde(default)]
    archived: bool,
    /// What came to nothing.
    #[serde(default)]
    dead: bool,
    /// How many, 1 to 1000; 100 when absent.
    limit: Option<i64>,
    /// Only jobs with a lower `msg_id`: the last one of the page before.
    before: Option<i64>,
}

impl Job {
    fn new(app_id: &AppId, message: Message) -> Self {
        let envelope: Option<Envelope> = serde_json::from_str(&message.body).ok();
        let (error, run_id) = read_note(message.note, message.result.is_some());
        let user_id = envelope.as_ref().map(|envelope| envelope.user);
        let max_attempts = envelope.as_ref().map_or(0, |envelope| envelope.max_attempts);
        Self {
            msg_id: message.id,
            app_id: app_id.clone(),
            payload: envelope.map_or_else(|| RawValue::NULL.to_owned(), |envelope| envelope.payload),
            user_id,
            read_ct: message.read_count,
            enqueued_at: message.enqueued_at,
            status: service::word(message.state),
            priority: message.priority,
            max_attempts,
            visible_at: message.visible_at,
            ended_at: message.ended_at,
            result: message.result.and_then(|result| RawValue::from_string(result).ok()),
            error,
            run_id,
            cron_id: message.tag.and_then(|tag| tag.parse().ok()),
        }
    }
}

/// What a note says: the reason, and the run at its end.
pub fn read_note(note: Option<String>, succeeded: bool) -> (Option<String>, Option<Uuid>) {
    let Some(note) = note else { return (None, None) };
    let found = note.rsplit_once("[run ").and_then(|(reason, run)| {
        let run = run.strip_suffix(']')?.parse().ok()?;
        Some((reason.trim_end().to_owned(), run))
    });
    let (reason, run) = found.map_or((note, None), |(reason, run)| (reason, Some(run)));
    ((!succeeded).then_some(reason), run)
}

/// Enqueue a job
///
/// The backend's `onJob` works on it, as the caller. It is done at least once; what fails is tried again with growing pauses, and in
/// the end lies with the dead letters. A backend that has no `onJob` gets none: 409.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/jobs", tag = "jobs",
    params(("app_id" = AppId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key enqueues once within 24 hours")),
    request_body = EnqueueRequest,
    responses((status = 201, body = Enqueued), (status = 200, body = Enqueued, description = "The key was used before"), Problems))]
async fn enqueue(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::InvokeApp>,
    Path(app): Path<AppId>,
    headers: HeaderMap,
    Json(request): Json<EnqueueRequest>,
) -> Result<(StatusCode, Body<Enqueued>), Problem> {
    let to = node.apps.get(&caller.tenant, &app).await?;
    node.apps.ensure_takes_jobs(&to)?;
    let caller = Arc::clone(caller.principal());
    let acting_as = match request.user_id {
        Some(target) => node.identity.act_as(&caller, target).await?,
        None => Arc::clone(&caller),
    };
    let new = NewJob {
        payload: match request.payload {
            Some(payload) => payload,
            None => RawValue::from_string("{}".to_owned()).map_err(Problem::internal)?,
        },
        delay: request.delay_seconds.unwrap_or_default(),
        priority: request.priority.unwrap_or(DEFAULT_PRIORITY),
        max_attempts: request.max_attempts.unwrap_or(DEFAULT_ATTEMPTS),
        timeout: request.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT),
        key: header(&headers, "idempotency-key")?.map(str::to_owned).or(request.idempotency_key),
    };
    let sent = node.jobs.enqueue(&app, &OnBehalf { caller, acting_as }, new).await?;
    let status = if matches!(sent, Sent::New(_)) { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Body(Enqueued { msg_id: sent.id() })))
}

/// List the jobs of an app
///
/// Newest first: those that are not over, or with `archived` those that are, or with `dead` those that came to nothing.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/jobs", tag = "jobs", params(("app_id" = AppId, Path), ListFilter),
    responses((status = 200, body = Vec<Job>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadJobs>,
    Path(app): Path<AppId>,
    Query(filter): Query<ListFilter>,
) -> Result<Body<Vec<Job>>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    let limit = page::limit_within(filter.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let which = match filter {
        ListFilter { dead: true, .. } => Which::Dead,
        ListFilter { archived: true, .. } => Which::Archived,
        _ => Which::Active,
    };
    let messages = node.jobs.list(&caller.tenant, &app, which, (filter.before, limit)).await?;
    Ok(Body(messages.into_iter().map(|message| Job::new(&app, message)).collect()))
}

/// Get a job
///
/// One's own, or anybody's with the permission `app:{app_id}:job.read`.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/jobs/{msg_id}", tag = "jobs",
    params(("app_id" = AppId, Path), ("msg_id" = i64, Path)), responses((status = 200, body = Job), Problems))]
async fn get(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::SeeJob>,
    Path((app, id)): Path<(AppId, i64)>,
) -> Result<Body<Job>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    Ok(Body(Job::new(&app, node.jobs.find(&caller, &app, id).await?)))
}

/// Cancel a job
///
/// One that is being worked on cannot be cancelled. One's own, or anybody's with the permission `app:{app_id}:job.manage`.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/jobs/{msg_id}/cancel", tag = "jobs",
    params(("app_id" = AppId, Path), ("msg_id" = i64, Path)), responses((status = 200, body = Job), Problems))]
async fn cancel(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ChangeJob>,
    Path((app, id)): Path<(AppId, i64)>,
) -> Result<Body<Job>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    Ok(Body(Job::new(&app, node.jobs.cancel(&caller, &app, id).await?)))
}

/// Try a job again
///
/// A dead one gets all its attempts again; one that waits is tried now. One's own, or anybody's with the permission
/// `app:{app_id}:job.manage`.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/jobs/{msg_id}/retry", tag = "jobs",
    params(("app_id" = AppId, Path), ("msg_id" = i64, Path)), responses((status = 200, body = Job), Problems))]
async fn retry(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ChangeJob>,
    Path((app, id)): Path<(AppId, i64)>,
) -> Result<Body<Job>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    Ok(Body(Job::new(&app, node.jobs.retry(&caller, &app, id).await?)))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(faults) => Self::invalid(&message, faults),
            Error::TooLarge(_) => Self::new(Code::PayloadTooLarge, message),
            Error::KeyMismatch => Self::new(Code::IdempotencyMismatch, message),
            Error::Unknown(_) => Self::not_found(message),
            Error::NotYours(app) => denied(&format!("app:{app}:job.manage")),
            Error::WrongState { .. } => Self::new(Code::Conflict, message),
            Error::NotWritten(_) => {
                Self::new(Code::Unavailable, "The database does not take writes, so nothing was enqueued. Try again in a moment.")
                    .with_retry_after(Some(Duration::from_secs(1)))
            }
            Error::Database(cause) => cause.into(),
        }
    }
}
