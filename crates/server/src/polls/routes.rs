//! `/api/v1/integrations/{integration_id}/syncs`.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::HeaderMap};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{AppId, SyncId, run::ErrorCategory};

use super::{
    lane::Kind,
    service::{Error, Wish},
    store::{Listed, Poll},
};
use crate::{
    http::{
        Problems,
        extract::{Caller, Json, Path, Query, denied},
        page::{self, Paging},
        problem::Problem,
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(run))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(reset))
        .routes(routes!(ask_for))
}

/// How it is with a sync or a trigger.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SyncStatus)]
#[expect(dead_code, reason = "for the document: the words come from the database")]
enum Status {
    /// It runs when it is due.
    Active,
    /// Somebody paused it, or has not let it begin yet.
    Paused,
    /// It cannot go on until somebody does what `error` says.
    Stopped,
}

/// A sync or a trigger of an integration, at one connection.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Sync {
    id: Uuid,
    integration_id: String,
    #[schema(value_type = Kind)]
    kind: String,
    name: String,
    /// Absent: it asks with the integration's own configuration.
    connection_id: Option<Uuid>,
    connection_label: Option<String>,
    /// As whom it asks: whoever the connection belongs to; of a connection of the tenant, whoever made it.
    user_id: Uuid,
    #[schema(value_type = Status)]
    status: String,
    /// Whether a run has begun that is not over.
    running: bool,
    /// When it is due; absent while it is paused or stopped.
    next_run_at: Option<DateTime<Utc>>,
    /// When the last run began and ended, and when the last one ended well.
    started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    succeeded_at: Option<DateTime<Utc>>,
    /// Runs that were begun.
    runs: i64,
    counts: Counts,
    /// What it asks for besides what the manifest says.
    #[schema(value_type = Object)]
    input: Value,
    /// From where the next run asks.
    #[schema(value_type = Option<Object>)]
    cursor: Option<Value>,
    /// Failures in a row.
    failures: i32,
    error: Option<Failed>,
}

/// What the last run did, or the one that is not over has done.
#[derive(Serialize, ToSchema)]
#[schema(as = SyncCounts)]
struct Counts {
    /// Records that were new; of a trigger, what it told of.
    created: i64,
    updated: i64,
    deleted: i64,
    /// Records that were left out, and why, of the first one.
    rejected: i64,
    rejection: Option<String>,
}

/// Why the last run came to nothing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SyncError)]
struct Failed {
    code: String,
    #[schema(value_type = ErrorCategory)]
    category: String,
    message: String,
    run_id: Option<Uuid>,
}

impl Sync {
    fn new(poll: Poll, label: Option<String>) -> Self {
        let error = poll.error_code.map(|code| Failed {
            code,
            category: poll.error_category.unwrap_or_default(),
            message: poll.error_message.unwrap_or_default(),
            run_id: poll.error_run,
        });
        Self {
            id: poll.id,
            integration_id: poll.app_id,
            kind: poll.kind,
            name: poll.name,
            connection_id: poll.connection_id,
            connection_label: label,
            user_id: poll.user_id,
            running: poll.progress.is_some(),
            next_run_at: (poll.status == "active").then_some(poll.next_at),
            status: poll.status,
            started_at: poll.started_at,
            ended_at: poll.ended_at,
            succeeded_at: poll.succeeded_at,
            runs: poll.pass,
            counts: Counts {
                created: poll.created,
                updated: poll.updated,
                deleted: poll.deleted,
                rejected: poll.rejected,
                rejection: poll.rejection,
            },
            input: poll.input,
            cursor: poll.cursor,
            failures: poll.failures,
            error,
        }
    }
}

/// List the syncs and triggers of an integration
///
/// One for each that the manifest declares at each connection: one's own, and everybody's for who may manage the integration.
/// `x-weft-next-cursor` names the next page, if there is one.
#[utoipa::path(get, path = "/api/v1/integrations/{integration_id}/syncs", tag = "syncs",
    params(("integration_id" = AppId, Path), Paging), responses((status = 200, body = Vec<Sync>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<AppId>,
    Query(paging): Query<Paging>,
) -> Result<(HeaderMap, Body<Vec<Sync>>), Problem> {
    node.integrations.get(&caller.tenant, &id).await?;
    let (limit, after) = paging.read()?;
    let mut rows = node.polls.list(&caller, &id, after.map(SyncId::from), limit + page::ONE_MORE).await?;
    let headers = page::next(page::cut(&mut rows, limit, |row| row.poll.id.into_bytes()));
    Ok((headers, Body(rows.into_iter().map(|Listed { poll, label }| Sync::new(poll, label)).collect())))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RunOptions {
    /// Of a full sync with deletions: let this run, or the one that it is at, delete what the vendor's answer lacks, also where that is most of
    /// what is there. Counts once.
    #[serde(default, rename = "confirmDeletions")]
    confirm_deletions: bool,
}

/// Run a sync or a trigger now
///
/// Besides its schedule. One that is at work finishes that run and begins no other. One that stopped goes on; one that is paused
/// stays so. One that stopped with `too_many_deletions` wants `confirmDeletions` if the vendor's answer is right.
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/syncs/{sync_id}/run", tag = "syncs",
    params(("integration_id" = AppId, Path), ("sync_id" = SyncId, Path), RunOptions), responses((status = 200, body = Sync), Problems))]
async fn run(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((app, id)): Path<(AppId, SyncId)>,
    Query(options): Query<RunOptions>,
) -> Result<Body<Sync>, Problem> {
    let wish = if options.confirm_deletions { Wish::RunConfirmed } else { Wish::Run };
    Ok(Body(Sync::new(node.polls.wish(&caller, &app, id, wish).await?, None)))
}

/// Pause a sync or a trigger
///
/// What it is at is broken off after the page at hand, and goes on from there.
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/syncs/{sync_id}/pause", tag = "syncs",
    params(("integration_id" = AppId, Path), ("sync_id" = SyncId, Path)), responses((status = 200, body = Sync), Problems))]
async fn pause(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((app, id)): Path<(AppId, SyncId)>,
) -> Result<Body<Sync>, Problem> {
    Ok(Body(Sync::new(node.polls.wish(&caller, &app, id, Wish::Pause).await?, None)))
}

/// Let a sync or a trigger go on
///
/// One that was paused, that stopped, or that does not begin by itself. It runs at once.
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/syncs/{sync_id}/resume", tag = "syncs",
    params(("integration_id" = AppId, Path), ("sync_id" = SyncId, Path)), responses((status = 200, body = Sync), Problems))]
async fn resume(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((app, id)): Path<(AppId, SyncId)>,
) -> Result<Body<Sync>, Problem> {
    Ok(Body(Sync::new(node.polls.wish(&caller, &app, id, Wish::Resume).await?, None)))
}

/// Let a sync or a trigger begin anew
///
/// It forgets how far it has read, and runs at once. A sync reads everything again; its records stay. A trigger learns again what is there, and tells of
/// what comes after that.
#[utoipa::path(post, path = "/api/v1/integrations/{integration_id}/syncs/{sync_id}/reset", tag = "syncs",
    params(("integration_id" = AppId, Path), ("sync_id" = SyncId, Path)), responses((status = 200, body = Sync), Problems))]
async fn reset(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((app, id)): Path<(AppId, SyncId)>,
) -> Result<Body<Sync>, Problem> {
    Ok(Body(Sync::new(node.polls.wish(&caller, &app, id, Wish::Reset).await?, None)))
}

/// Say what a sync or a trigger asks for
///
/// Members of the action's input, besides those that the manifest gives it, or in their place: which channel, which folder. They take the place of what was set
/// before. Another question begins anew, as after `reset`; one that is paused waits. A full sync with deletions takes what only the question before gave for what the
/// vendor does not have any more. Whoever the sync or trigger acts for may do this, with the permission to call the action.
#[utoipa::path(put, path = "/api/v1/integrations/{integration_id}/syncs/{sync_id}/input", tag = "syncs",
    params(("integration_id" = AppId, Path), ("sync_id" = SyncId, Path)), request_body = Object,
    responses((status = 200, body = Sync), Problems))]
async fn ask_for(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path((app, id)): Path<(AppId, SyncId)>,
    Json(input): Json<Map<String, Value>>,
) -> Result<Body<Sync>, Problem> {
    let app = node.apps.get(&caller.tenant, &app).await?;
    Ok(Body(Sync::new(node.polls.ask_for(&caller, &app, id, input).await?, None)))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Unknown(_) => Self::not_found(message),
            Error::Invalid(faults) => Self::invalid(&message, faults),
            Error::Denied(key) => denied(&key),
            Error::Database(cause) => cause.into(),
        }
    }
}
