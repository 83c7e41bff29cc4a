//! `/api/v1/audit`: the changes of records.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::HeaderMap, response::IntoResponse};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::store::{self, Bound, Column, Comparison, Condition, Filter, Row};
use crate::{
    http::{
        Problems,
        extract::{Authorized, Query, rights},
        page::NEXT_CURSOR,
        problem::{Code, Problem},
    },
    node::Node,
};

/// Changes in one answer at most, and when nobody says how many.
const MOST: i64 = 1000;
const USUAL: i64 = 100;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A change of a record.
#[derive(Serialize, ToSchema)]
struct RecordChange {
    id: i64,
    /// The app.
    table_schema: String,
    /// The entity.
    table_name: String,
    record_id: String,
    /// `INSERT`, `UPDATE` or `DELETE`.
    operation: String,
    #[schema(value_type = Option<Object>)]
    old_record: Option<Value>,
    #[schema(value_type = Option<Object>)]
    new_record: Option<Value>,
    /// Who did it; absent for what no request caused.
    actor_uid: Option<Uuid>,
    /// On whose behalf, when that was somebody else.
    delegator_uid: Option<Uuid>,
    /// By which way: `api` for a request to the collections.
    trigger_ref: Option<String>,
    /// The trace of the request that did it.
    trace_id: Option<String>,
    changed_at: DateTime<Utc>,
}

impl From<Row> for RecordChange {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            table_schema: row.app_id,
            table_name: row.entity,
            record_id: row.record_id,
            operation: row.operation,
            old_record: row.old_record,
            new_record: row.new_record,
            actor_uid: row.actor_id,
            delegator_uid: row.delegator_id,
            trigger_ref: row.trigger_ref,
            trace_id: row.trace_id,
            changed_at: row.changed_at,
        }
    }
}

/// For the document; the parameters are read by hand, because their names are many.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters in the API reference")]
struct Parameters {
    /// Only this app. The same as `table_schema`.
    app_id: Option<String>,
    /// Only this entity. The same as `table_name`.
    entity: Option<String>,
    /// Only this record. As every filter: with `__neq`, `__contains`, `__gte` or `__lte` after the name, other comparisons.
    record_id: Option<String>,
    /// `INSERT`, `UPDATE` or `DELETE`.
    operation: Option<String>,
    /// Who did it.
    actor_uid: Option<Uuid>,
    /// On whose behalf it was done.
    delegator_uid: Option<Uuid>,
    /// By which way.
    trigger_ref: Option<String>,
    /// When, usually with `__gte` or `__lte`.
    changed_at: Option<DateTime<Utc>>,
    /// Only changes with a smaller id: the last one of the page before.
    before: Option<i64>,
    /// Only changes with a greater id, for following them in order.
    after: Option<i64>,
    /// How many, 1 to 1000; 100 when absent.
    limit: Option<i64>,
    /// `table_schema`, `table_name`, `record_id`, `operation` or `changed_at`; when absent, the order in which it happened.
    order_by: Option<String>,
    /// `asc` or `desc`; newest first when absent.
    order: Option<String>,
}

/// List changes of records, newest first
///
/// Every change of every record of every app, whatever made it, with the record before and after. When there may be more in the order in
/// which it happened, the header `x-weft-next-cursor` holds the value for `before`, or for `after` when sorted ascending.
#[utoipa::path(get, path = "/api/v1/audit", tag = "data", params(Parameters), responses((status = 200, body = Vec<RecordChange>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadAudit>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<impl IntoResponse, Problem> {
    let filter = filter(&parameters)?;
    let mut connection = node.pool.acquire().await?;
    let rows = store::list(&mut connection, &caller.tenant, &filter).await?;
    let mut headers = HeaderMap::new();
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == filter.limit);
    // An id leads on only in the order of ids.
    if let (true, Column::Id, Some(last)) = (is_full, filter.order, rows.last()) {
        headers.insert(NEXT_CURSOR, last.id.into());
    }
    Ok((headers, Body(rows.into_iter().map(RecordChange::from).collect::<Vec<_>>())))
}

fn filter(parameters: &[(String, String)]) -> Result<Filter, Problem> {
    let mut filter =
        Filter { conditions: Vec::new(), before: None, after: None, order: Column::Id, ascending: false, limit: USUAL };
    for (name, value) in parameters {
        match name.as_str() {
            "before" => filter.before = Some(number(name, value)?),
            "after" => filter.after = Some(number(name, value)?),
            "limit" => filter.limit = number(name, value)?.clamp(1, MOST),
            "order" => {
                filter.ascending = match value.as_str() {
                    "asc" => true,
                    "desc" => false,
                    _ => return Err(wrong("order must be asc or desc.")),
                };
            }
            "order_by" => {
                filter.order = column(value).ok_or_else(|| wrong(format!("order_by cannot be '{value}'.")))?;
            }
            name => filter.conditions.push(condition(name, value)?),
        }
    }
    Ok(filter)
}

fn condition(name: &str, value: &str) -> Result<Condition, Problem> {
    let (plain, comparison) = match name.rsplit_once("__") {
        None => (name, Comparison::Is),
        Some((plain, "neq")) => (plain, Comparison::IsNot),
        Some((plain, "contains")) => (plain, Comparison::Contains),
        Some((plain, "gte")) => (plain, Comparison::From),
        Some((plain, "lte")) => (plain, Comparison::Until),
        Some((_, other)) => return Err(wrong(format!("'{other}' is none of neq, contains, gte and lte."))),
    };
    let column = column(plain).ok_or_else(|| wrong(format!("'{name}' is no parameter of this list.")))?;
    let value = match column {
        Column::ChangedAt if comparison == Comparison::Contains => return Err(wrong("changed_at holds no text.")),
        Column::ChangedAt => {
            let time = value.parse::<DateTime<Utc>>().map_err(|_| wrong(format!("{name} must be a time with its offset.")))?;
            Bound::Time(time)
        }
        Column::Actor | Column::Delegator => {
            let id = value.parse::<Uuid>().map_err(|_| wrong(format!("{name} must be a UUID.")))?;
            Bound::Text(id.to_string())
        }
        _ => Bound::Text(value.to_owned()),
    };
    Ok(Condition { column, comparison, value })
}

fn column(name: &str) -> Option<Column> {
    Some(match name {
        "app_id" | "table_schema" => Column::App,
        "entity" | "table_name" => Column::Entity,
        "record_id" => Column::Record,
        "operation" => Column::Operation,
        "actor_uid" => Column::Actor,
        "delegator_uid" => Column::Delegator,
        "trigger_ref" => Column::Trigger,
        "changed_at" => Column::ChangedAt,
        _ => return None,
    })
}

fn number(name: &str, value: &str) -> Result<i64, Problem> {
    value.parse().map_err(|_| wrong(format!("{name} must be a whole number.")))
}

fn wrong(message: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, message)
}
