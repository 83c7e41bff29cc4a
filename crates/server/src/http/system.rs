//! Health, status and metrics of the node itself.

use std::{sync::Arc, time::Duration};

use axum::{
    Json as Body,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use sqlx::Connection;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    extract::Caller,
    problem::{Code, Problem},
};
use crate::{apps, config, node::Node};

/// How long the database may take to say that it is there.
const PING: Duration = Duration::from_secs(2);

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(ready)).routes(routes!(status)).routes(routes!(metrics))
}

#[derive(Serialize, ToSchema)]
struct Health {
    status: &'static str,
}

/// Is the process up
#[utoipa::path(get, path = "/health", tag = "system", security(()), responses((status = 200, body = Health)))]
async fn health() -> Body<Health> {
    Body(Health { status: "ok" })
}

/// Can the node serve requests
///
/// 503 while the database does not answer or the node is shutting down.
#[utoipa::path(get, path = "/health/ready", tag = "system", security(()), responses((status = 200, body = Health), Problems))]
async fn ready(State(node): State<Arc<Node>>) -> Result<Body<Health>, Problem> {
    if node.stopping.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "The server is shutting down."));
    }
    if database_answers(&node).await {
        Ok(Body(Health { status: "ready" }))
    } else {
        Err(Problem::new(Code::Unavailable, "The database does not answer."))
    }
}

async fn database_answers(node: &Node) -> bool {
    // To have a connection is not enough: it may have broken since it was used.
    let answer = async { node.pool.acquire().await?.ping().await };
    tokio::time::timeout(PING, answer).await.is_ok_and(|answer| answer.is_ok())
}

/// The parts of the node and how they are.
#[derive(Serialize, ToSchema)]
struct Status {
    runtime: Runtime,
    postgres: Postgres,
    workers: Workers,
    sql: Sql,
}

/// SQL of backends and their migrations.
#[derive(Serialize, ToSchema)]
struct Sql {
    /// `on` or `off`.
    state: &'static str,
    /// Why it is off, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Runtime {
    version: &'static str,
    /// `online`, or `stopping` while the node shuts down.
    state: &'static str,
    /// Seconds since the node started.
    uptime_seconds: i64,
}

#[derive(Serialize, ToSchema)]
struct Postgres {
    /// `online`; `refuses_writes` while what has to be on disk cannot be written, as with a full one; or `offline`.
    state: &'static str,
    /// Whether the server runs the database itself.
    embedded: bool,
}

#[derive(Serialize, ToSchema)]
struct Workers {
    /// Those of the caller's tenant, on this node.
    running: usize,
    limits: Limits,
    /// Which confinement of workers is active on this machine.
    confinement: Confinement,
}

/// What one worker may use.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Limits {
    memory_mib: u64,
    /// Whether this system lets the server see how much memory a worker uses; otherwise that limit is not enforced.
    memory_enforced: bool,
    /// Calls at work at once.
    max_calls: usize,
    /// Calls that may wait beyond those.
    max_queue: usize,
    /// Minutes without a call until it is stopped; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_minutes: Option<f64>,
    /// Whether the server, and workers that take little of the processors, get real-time priority where processors are short.
    real_time: bool,
}

impl From<&config::Settings> for Limits {
    fn from(all: &config::Settings) -> Self {
        let settings = &all.workers;
        Self {
            memory_mib: settings.memory_mib,
            memory_enforced: weft_workers::MEMORY_IS_WATCHED,
            max_calls: settings.max_calls,
            max_queue: settings.max_queue,
            idle_minutes: settings.idle.map(|idle| idle.as_secs_f64() / 60.0),
            real_time: all.precedence.is_some(),
        }
    }
}

/// What keeps workers to themselves on this machine. What is off says why in `missing`.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "a list of what is on, as a person reads it")]
struct Confinement {
    jail: config::Jail,
    /// Workers are kept to the files of their app by the kernel.
    files: bool,
    /// Workers are kept to the hosts of their manifest, and away from inward addresses.
    network: bool,
    /// System calls that a backend does not need are refused.
    system_calls: bool,
    /// Threads, open files and file sizes are bounded; a worker starts no programs.
    resource_limits: bool,
    /// Workers have an empty network and no accounts but their own.
    namespaces: bool,
    /// Workers run under unprivileged accounts of their own.
    separate_account: bool,
    /// Workers start with an emptied environment.
    stripped_environment: bool,
    /// Installing packages is kept to its own files and to the package registry by the kernel.
    packages: bool,
    missing: Vec<Missing>,
}

/// A part that is off, and why.
#[derive(Serialize, ToSchema)]
struct Missing {
    part: String,
    reason: String,
}

impl Confinement {
    fn of(node: &Node) -> Self {
        let (jail, support) = (node.settings.workers.jail, weft_jail::support());
        let on = jail != config::Jail::Off;
        let off = || Missing { part: "jail".to_owned(), reason: "it is switched off by the setting workers.jail".to_owned() };
        let absent = |missing: &weft_jail::Missing| Missing { part: missing.part.to_string(), reason: missing.reason.clone() };
        Self {
            jail,
            files: on && support.landlock.is_some(),
            network: on && support.connect_broker,
            system_calls: on && support.seccomp,
            resource_limits: on && support.resource_limits,
            namespaces: on && support.namespaces,
            packages: on && apps::installing_is_confined(),
            separate_account: node.account.is_some(),
            stripped_environment: true,
            missing: if on { support.missing.iter().map(absent).collect() } else { vec![off()] },
        }
    }
}

/// How the node is
#[utoipa::path(get, path = "/api/v1/status", tag = "system", responses((status = 200, body = Status), Problems))]
async fn status(State(node): State<Arc<Node>>, Caller(caller): Caller) -> Result<Body<Status>, Problem> {
    let state = if node.stopping.is_cancelled() { "stopping" } else { "online" };
    let reports = node.apps.worker_reports(&caller.tenant).await?;
    Ok(Body(Status {
        runtime: Runtime {
            version: env!("CARGO_PKG_VERSION"),
            state,
            uptime_seconds: (node.clock.now() - node.started_at).num_seconds(),
        },
        postgres: Postgres {
            state: match database_answers(&node).await {
                true if node.runs.writes_fail() || node.webhooks.writes_fail() => "refuses_writes",
                true => "online",
                false => "offline",
            },
            embedded: node.settings.database_url.is_none(),
        },
        workers: Workers {
            running: reports.values().filter(|report| report.status == weft_workers::Status::Running).count(),
            limits: (&node.settings).into(),
            confinement: Confinement::of(&node),
        },
        sql: Sql { state: if node.sql.off().is_none() { "on" } else { "off" }, reason: node.sql.off().map(str::to_owned) },
    }))
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "system", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4")], node.metrics.render())
}
