//! `/api/v1/audit/events` and `/api/v1/audit/export`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json as Body,
    body::Body as RawBody,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_attest::Link;
use weft_model::{CredentialId, UserId};

use super::{
    event::Action,
    service::Error,
    store::{Filter, StoredEvent},
};
use crate::{
    http::{
        Problems,
        extract::{Authorized, Query, rights},
        page,
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export))
}

/// Something that was done, as it stands in the log.
#[derive(Serialize)]
struct Listed {
    hash: Link,
    #[serde(flatten)]
    entry: BTreeMap<String, Box<RawValue>>,
}

/// Something that was done.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the answer in the API reference; the answer itself is the text that was hashed")]
struct AuditEvent {
    /// The tenant whose log it is.
    chain: String,
    /// Counts from 1 per tenant, without gaps.
    seq: i64,
    at: DateTime<Utc>,
    action: Action,
    /// Who did it; absent when that is not known.
    actor: Option<AuditActor>,
    /// The person who answers for the service account that did it.
    on_behalf_of: Option<AuditActor>,
    /// What it was done to.
    target: Option<AuditTarget>,
    /// Where the request came from.
    address: Option<String>,
    trace_id: String,
    /// How often, when several were counted together; 1 when absent.
    count: Option<u32>,
    #[schema(value_type = Option<Object>)]
    details: Option<Value>,
    /// Over this event and the one before.
    hash: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer in the API reference")]
struct AuditActor {
    id: UserId,
    /// `user`, `service_account` or `agent`.
    kind: String,
    /// The e-mail address at that time.
    name: String,
    /// The key of a service account that it used.
    credential: Option<CredentialId>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer in the API reference")]
struct AuditTarget {
    /// For example `user`, `role`, `secret`, `app`.
    kind: String,
    id: String,
}

/// A page of events, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuditPage {
    #[schema(value_type = Vec<AuditEvent>)]
    data: Vec<Listed>,
    /// Pass as `cursor` to get the next page; absent on the last one.
    next_cursor: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct EventFilter {
    /// Only events of this action, for example `role.assigned`.
    action: Option<Action>,
    /// Only what this user or service account did.
    actor: Option<UserId>,
    /// Only what was done to this, as `kind:id`, for example `role:sales`.
    target: Option<String>,
    trace_id: Option<String>,
    /// Only events of this time or later.
    since: Option<DateTime<Utc>>,
    /// Only events before this time.
    until: Option<DateTime<Utc>>,
    /// How many, 1 to 200; 50 when absent.
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ExportRange {
    /// The first event; 1 when absent. An export that goes on where an earlier one ended begins with the event after its last.
    from: Option<i64>,
}

/// List what was done, newest first
///
/// Logins, and every change of accounts, roles, secrets, configurations, apps, tenants and keys.
#[utoipa::path(get, path = "/api/v1/audit/events", tag = "audit", params(EventFilter),
    responses((status = 200, body = AuditPage), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadAudit>,
    Query(filter): Query<EventFilter>,
) -> Result<Body<AuditPage>, Problem> {
    let limit = page::limit(filter.limit)?;
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let filter = Filter {
        action: filter.action.map(|action| action.as_str().to_owned()),
        actor: filter.actor.map(|actor| actor.to_string()),
        target: filter.target,
        trace: filter.trace_id,
        since: filter.since.map(time),
        until: filter.until.map(time),
        before: filter.cursor.map(|cursor| page::read(&cursor).map(i64::from_be_bytes)).transpose()?,
        limit: limit + page::ONE_MORE,
    };
    let mut rows = node.audit.list(&caller.tenant, &filter).await?;
    let next_cursor = page::cut(&mut rows, limit, |row| row.seq.to_be_bytes());
    Ok(Body(AuditPage { data: rows.iter().map(listed).collect::<Result<_, _>>()?, next_cursor }))
}

fn listed(row: &StoredEvent) -> Result<Listed, Problem> {
    Ok(Listed { hash: row.hash, entry: serde_json::from_str(&row.entry).map_err(Problem::internal)? })
}

/// Export the log
///
/// One JSON document per line: a header, the events in their order with the checkpoints among them, and an end that is signed
/// over all of it. `weft audit verify` checks such a file without the server.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit", params(ExportRange),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), Problems))]
async fn export(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadAudit>,
    Query(range): Query<ExportRange>,
) -> Result<Response, Problem> {
    let export = node.audit.begin_export(&caller.tenant, range.from.unwrap_or(1)).await?;
    let name = format!("attachment; filename=\"audit-{}.ndjson\"", caller.tenant);
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, RawBody::from_stream(Arc::clone(&node.audit).export(export))).into_response())
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::WrongStart(_) => Self::new(Code::InvalidRequest, message),
            Error::Authority(cause) => cause.into(),
            Error::Database(cause) => cause.into(),
        }
    }
}
