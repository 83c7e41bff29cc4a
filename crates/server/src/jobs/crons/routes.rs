//! `/api/v1/crons` and `/api/v1/apps/{app_id}/crons`.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{AppId, CronId, Principal, TenantId, UserId, manifest::OverlapPolicy};
use weft_queue::{Message as QueueMessage, State as JobState};

use super::{
    service::{Changes, Error, NewCron, Zone},
    store::{Cron as Stored, Fired},
};
use crate::{
    apps::{self, TAKES_NO_JOBS},
    http::{
        Message, Problems,
        extract::{Authorized, Caller, Json, Path, Query, rights},
        page,
        problem::{Code, Problem},
    },
    jobs::{routes::read_note, service::OnBehalf},
    node::Node,
};

const MAX_LIMIT: i64 = 1000;
const MAX_RUNS: i64 = 500;
const DEFAULT_RUNS: i64 = 50;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list_all))
        .routes(routes!(list, create))
        .routes(routes!(change, remove))
        .routes(routes!(runs))
        .routes(routes!(trigger))
}

/// Something that is done again and again, by the clock.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Cron {
    id: Uuid,
    app_id: String,
    name: String,
    schedule: String,
    /// A name of the IANA database; UTC when null.
    timezone: Option<String>,
    /// What `onJob` gets, with `cron_id` besides.
    #[schema(value_type = Object)]
    payload: Value,
    #[schema(value_type = OverlapPolicy)]
    overlap_policy: String,
    enabled: bool,
    /// Whether the app's manifest declares it.
    declared: bool,
    /// A new number whenever it is scheduled anew; null while it is disabled.
    pg_job_id: Option<i64>,
    /// As whom its jobs are done; null after they were deleted.
    created_by: Option<Uuid>,
    /// Null while it is disabled.
    next_run_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Why nothing comes of it, when that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

impl Cron {
    /// As it is shown, with what it lacks.
    async fn shown(node: &Node, tenant: &TenantId, cron: Stored) -> Result<Self, Problem> {
        let app = match cron.app_id.parse() {
            Ok(id) => node.apps.get(tenant, &id).await,
            Err(_) => return Ok(Self::new(cron, None)),
        };
        match app {
            Ok(app) => Ok(Self::new(cron, node.apps.takes_no_jobs(&app).then_some(TAKES_NO_JOBS))),
            // It was uninstalled this very moment.
            Err(apps::Error::Unknown(_)) => Ok(Self::new(cron, None)),
            Err(error) => Err(error.into()),
        }
    }

    fn new(cron: Stored, note: Option<&'static str>) -> Self {
        Self {
            id: cron.id,
            app_id: cron.app_id,
            name: cron.name,
            schedule: cron.schedule,
            timezone: cron.timezone,
            payload: cron.payload,
            overlap_policy: cron.overlap_policy,
            enabled: cron.enabled,
            declared: cron.declared,
            pg_job_id: cron.number,
            created_by: cron.created_by,
            next_run_at: cron.next_tick,
            created_at: cron.created_at,
            updated_at: cron.updated_at,
            note,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreateRequest {
    /// 1 to 64 letters, digits, `_` or `-`; one of a kind in the app.
    name: String,
    /// Minute, hour, day of the month (`$`: the last), month, day of the week (0 to 7, Sunday twice); or `N seconds`, 1 to 59.
    schedule: String,
    #[serde(default)]
    timezone: Option<String>,
    /// An object.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    payload: Option<Value>,
    #[serde(default)]
    overlap_policy: OverlapPolicy,
    #[serde(default)]
    enabled: Option<bool>,
    /// As whom its jobs are done: somebody whom the caller may act as. The caller when absent.
    #[serde(default)]
    run_as: Option<UserId>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChangeRequest {
    #[serde(default)]
    schedule: Option<String>,
    /// Null: UTC.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    timezone: Option<Zone>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    payload: Option<Value>,
    #[serde(default)]
    overlap_policy: Option<OverlapPolicy>,
    #[serde(default)]
    enabled: Option<bool>,
}

/// Tells null, which is a value, from what is absent.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Zone>, D::Error> {
    Option::deserialize(deserializer).map(Zone).map(Some)
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Triggered {
    msg_id: i64,
}

/// A tick, or what somebody fired by hand, and what came of it.
#[derive(Serialize, ToSchema)]
struct CronRun {
    runid: i64,
    /// Always null.
    #[serde(rename = "jobPid")]
    job_pid: Option<i32>,
    /// `starting` (queued), `running`, `succeeded`, `failed`; without a job `skipped`, `refused` or `missed`; `unknown` when the job is
    /// not kept any more.
    status: &'static str,
    #[serde(rename = "returnMessage")]
    return_message: Option<String>,
    #[serde(rename = "startTime")]
    start_time: DateTime<Utc>,
    #[serde(rename = "endTime")]
    end_time: Option<DateTime<Utc>>,
    /// For which moment of the schedule; null when it was fired by hand.
    tick: Option<DateTime<Utc>>,
    #[serde(rename = "msgId")]
    msg_id: Option<i64>,
}

impl CronRun {
    fn new((fired, job): (Fired, Option<QueueMessage>)) -> Self {
        let status = match (fired.outcome.as_str(), job.as_ref().map(|job| job.state)) {
            ("skipped", _) => "skipped",
            ("refused", _) => "refused",
            ("missed", _) => "missed",
            (_, Some(JobState::Ready | JobState::Waiting | JobState::HeldBack)) => "starting",
            (_, Some(JobState::Leased)) => "running",
            (_, Some(JobState::Completed)) => "succeeded",
            (_, Some(JobState::Dead | JobState::Cancelled)) => "failed",
            (_, None) => "unknown",
        };
        let (ended_at, said) = match job {
            Some(job) if job.state == JobState::Completed => (job.ended_at, job.result),
            Some(job) => (job.ended_at, read_note(job.note, false).0),
            None => (Some(fired.at), None),
        };
        Self {
            runid: fired.id,
            job_pid: None,
            status,
            return_message: fired.note.or(said),
            start_time: fired.at,
            end_time: ended_at,
            tick: fired.tick,
            msg_id: fired.message_id,
        }
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListFilter {
    /// How many, 1 to 1000; 1000 when absent.
    limit: Option<i64>,
    /// Only crons behind this one: the name of the last one of the page before, in the list of all apps `app/name`.
    after: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RunsFilter {
    /// How many, 1 to 500; 50 when absent.
    limit: Option<i64>,
}

/// List crons of all apps
///
/// Of the apps whose crons the caller may read: its own, and with the permission `app:{app_id}:cron.manage_others` everybody's.
#[utoipa::path(get, path = "/api/v1/crons", tag = "crons", params(ListFilter), responses((status = 200, body = Vec<Cron>), Problems))]
async fn list_all(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Query(filter): Query<ListFilter>,
) -> Result<Body<Vec<Cron>>, Problem> {
    let apps = node.apps.list_ids(&caller.tenant, None).await?.into_iter().map(String::from);
    let apps = apps.filter(|app| caller.permissions.allows(&format!("app:{app}:cron.read"))).collect();
    let after = filter.after.as_deref().unwrap_or_default();
    listed(&node, &caller, apps, after.split_once('/').unwrap_or((after, "")), filter.limit).await
}

/// List the crons of an app
///
/// One's own, and with the permission `app:{app_id}:cron.manage_others` everybody's.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/crons", tag = "crons", params(("app_id" = AppId, Path), ListFilter),
    responses((status = 200, body = Vec<Cron>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadCrons>,
    Path(app): Path<AppId>,
    Query(filter): Query<ListFilter>,
) -> Result<Body<Vec<Cron>>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    let after = filter.after.as_deref().unwrap_or_default();
    listed(&node, &caller, vec![app.to_string()], (app.as_str(), after), filter.limit).await
}

async fn listed(
    node: &Node,
    caller: &Principal,
    apps: Vec<String>,
    after: (&str, &str),
    limit: Option<i64>,
) -> Result<Body<Vec<Cron>>, Problem> {
    let limit = page::limit_within(limit, MAX_LIMIT, MAX_LIMIT)?;
    let crons = node.crons.list(caller, apps, after, limit).await?;
    let mut shown = Vec::with_capacity(crons.len());
    for cron in crons {
        shown.push(Cron::shown(node, &caller.tenant, cron).await?);
    }
    Ok(Body(shown))
}

/// Create a cron
///
/// Its jobs are done as the caller, or as `runAs`, by what holds at that time.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/crons", tag = "crons", params(("app_id" = AppId, Path)),
    request_body = CreateRequest, responses((status = 201, body = Cron), Problems))]
async fn create(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteCrons>,
    Path(app): Path<AppId>,
    Json(request): Json<CreateRequest>,
) -> Result<(StatusCode, Body<Cron>), Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    let caller = Arc::clone(caller.principal());
    let acting_as = match request.run_as {
        Some(target) => node.identity.act_as(&caller, target).await?,
        None => Arc::clone(&caller),
    };
    let new = NewCron {
        name: request.name,
        schedule: request.schedule,
        timezone: request.timezone,
        payload: request.payload.unwrap_or_else(|| json!({})),
        overlap_policy: request.overlap_policy,
        enabled: request.enabled.unwrap_or(true),
    };
    let tenant = caller.tenant.clone();
    let cron = node.crons.create(&app, &OnBehalf { caller, acting_as }, new).await?;
    Ok((StatusCode::CREATED, Body(Cron::shown(&node, &tenant, cron).await?)))
}

/// Change a cron
///
/// One's own, or anybody's with the permission `app:{app_id}:cron.manage_others`. Whatever changes, it is scheduled anew.
#[utoipa::path(patch, path = "/api/v1/apps/{app_id}/crons/{cron_id}", tag = "crons",
    params(("app_id" = AppId, Path), ("cron_id" = CronId, Path)), request_body = ChangeRequest,
    responses((status = 200, body = Cron), Problems))]
async fn change(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteCrons>,
    Path((app, id)): Path<(AppId, CronId)>,
    Json(request): Json<ChangeRequest>,
) -> Result<Body<Cron>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    let ChangeRequest { schedule, timezone, payload, overlap_policy, enabled } = request;
    let changes = Changes { schedule, timezone, payload, overlap_policy, enabled };
    let cron = node.crons.change(&caller, &app, id, changes).await?;
    Ok(Body(Cron::shown(&node, &caller.tenant, cron).await?))
}

/// Delete a cron
///
/// Jobs that it has enqueued stay. One's own, or anybody's with the permission `app:{app_id}:cron.manage_others`.
#[utoipa::path(delete, path = "/api/v1/apps/{app_id}/crons/{cron_id}", tag = "crons",
    params(("app_id" = AppId, Path), ("cron_id" = CronId, Path)), responses((status = 200, body = Message), Problems))]
async fn remove(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteCrons>,
    Path((app, id)): Path<(AppId, CronId)>,
) -> Result<Body<Message>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    node.crons.delete(&caller, &app, id).await?;
    Ok(Message::new("cron deleted"))
}

/// List what a cron did
///
/// Newest first: every tick, and every time that somebody fired it by hand.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/crons/{cron_id}/runs", tag = "crons",
    params(("app_id" = AppId, Path), ("cron_id" = CronId, Path), RunsFilter),
    responses((status = 200, body = Vec<CronRun>), Problems))]
async fn runs(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadCrons>,
    Path((app, id)): Path<(AppId, CronId)>,
    Query(filter): Query<RunsFilter>,
) -> Result<Body<Vec<CronRun>>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    let limit = page::limit_within(filter.limit, DEFAULT_RUNS, MAX_RUNS)?;
    let runs = node.crons.runs(&caller, &app, id, limit).await?;
    Ok(Body(runs.into_iter().map(CronRun::new).collect()))
}

/// Fire a cron now
///
/// Besides its schedule, also when it is disabled or a job of an earlier tick is not done.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/crons/{cron_id}/trigger", tag = "crons",
    params(("app_id" = AppId, Path), ("cron_id" = CronId, Path)), responses((status = 200, body = Triggered), Problems))]
async fn trigger(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::TriggerCrons>,
    Path((app, id)): Path<(AppId, CronId)>,
) -> Result<Body<Triggered>, Problem> {
    let of = node.apps.get(&caller.tenant, &app).await?;
    node.apps.ensure_takes_jobs(&of)?;
    Ok(Body(Triggered { msg_id: node.crons.trigger(&caller, &app, id).await? }))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(faults) => Self::invalid(&message, faults),
            Error::Exists { .. } | Error::NoOwner => Self::new(Code::Conflict, message),
            Error::Unknown(_) => Self::not_found(message),
            Error::Database(cause) => cause.into(),
        }
    }
}
