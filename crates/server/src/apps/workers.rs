//! `/api/v1/workers`: how the workers of this node are.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json as Body, extract::State};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_workers::WorkerReport;

use crate::{
    http::{
        Problems,
        extract::{Authorized, rights},
        problem::Problem,
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The workers that this node has started since it came up, by app.
#[derive(Serialize, ToSchema)]
struct WorkerList {
    workers: BTreeMap<String, Worker>,
}

/// How a worker is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Worker {
    /// `starting`, `running`, `stopping`, `stopped` or `crashed`. A worker without calls is stopped; the next call starts it.
    status: String,
    /// Memory in use, while it runs and where the system tells.
    memory_mib: Option<u64>,
    calls_in_flight: usize,
    /// Whom the running process contacted so far, as `host:port`; known where it is in a jail.
    hosts: Vec<String>,
    /// Why the last process was lost that nobody stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_death: Option<LastDeath>,
}

#[derive(Serialize, ToSchema)]
struct LastDeath {
    /// `out_of_memory`, `signal`, `exit`, `unresponsive`, `start_failed`, `crash_loop` or `unknown`.
    kind: String,
    reason: String,
    at: DateTime<Utc>,
}

/// How the workers of this node are
///
/// Apps whose worker was not needed since the node came up are not listed.
#[utoipa::path(get, path = "/api/v1/workers", tag = "workers", responses((status = 200, body = WorkerList), Problems))]
async fn list(State(node): State<Arc<Node>>, caller: Authorized<rights::DeployApps>) -> Result<Body<WorkerList>, Problem> {
    let (reports, now) = (node.apps.worker_reports(&caller.tenant).await?, node.clock.now());
    let workers = reports.into_iter().map(|(id, report)| (id.to_string(), worker(report, now))).collect();
    Ok(Body(WorkerList { workers }))
}

fn worker(report: WorkerReport, now: DateTime<Utc>) -> Worker {
    let last_death = report.last_death.map(|(death, ago)| LastDeath {
        kind: death.kind.to_string(),
        reason: death.reason.to_string(),
        at: now - TimeDelta::from_std(ago).unwrap_or_default(),
    });
    Worker {
        status: report.status.to_string(),
        memory_mib: report.memory.map(|bytes| bytes / 1024 / 1024),
        calls_in_flight: report.calls_in_flight,
        hosts: report.contacted,
        last_death,
    }
}
