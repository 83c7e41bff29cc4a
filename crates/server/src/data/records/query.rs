//! `/query` and `/aggregate`: records by condition, and figures over them.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_data::read::{Aggregate, Query};
use weft_model::AppId;

use super::{collection::Collection, routes::json};
use crate::{
    data::Error,
    http::{
        Problems,
        extract::{Authorized, Json, Path, rights},
        problem::Problem,
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(query)).routes(routes!(aggregate))
}

/// What to find.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body in the API reference; it is read against the entity's fields")]
pub struct QueryOptions {
    /// Conditions: `{"stage": "open", "amount": {"$gt": 100}, "$or": [...]}`.
    #[schema(value_type = Option<Object>)]
    r#where: Option<Value>,
    /// A field; `created_at` when absent.
    order_by: Option<String>,
    /// `asc` or `desc`; descending when absent.
    order: Option<String>,
    /// 1 to 1000; 100 when absent.
    limit: Option<i64>,
    offset: Option<i64>,
    /// The `nextCursor` of the page before, with the same order.
    cursor: Option<String>,
    /// Whether to say how many there are in all; true when absent.
    total: Option<bool>,
    /// Words that the fields named by the entity's `search` hold.
    search: Option<String>,
    /// Only these fields.
    select: Option<Vec<String>>,
    /// Fields whose records come along as `_expanded`.
    expand: Option<Vec<String>>,
    /// `true`, or a list of apps: what these know about the same identity comes along as `_linked`.
    #[schema(value_type = Option<Object>)]
    linked: Option<Value>,
}

/// What was found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    #[schema(value_type = Vec<Object>)]
    pub data: Box<RawValue>,
    /// How many there are in all, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// Pass as `cursor` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl Found {
    /// Around data that PostgreSQL made.
    pub fn response(data: String, total: Option<i64>, next_cursor: Option<String>) -> Result<Response, Error> {
        Ok(json(StatusCode::OK, Self::text(data, total, next_cursor)?))
    }

    /// The same as text.
    pub fn text(data: String, total: Option<i64>, next_cursor: Option<String>) -> Result<String, Error> {
        let data = RawValue::from_string(data).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(serde_json::to_string(&Self { data, total, next_cursor }).map_err(|error| sqlx::Error::Decode(error.into()))?)
    }
}

/// Find records
///
/// Counting all of them costs more the more there are: `total: false` leaves it out, and `cursor` goes on without it.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/collections/{entity}/query", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path)), request_body = QueryOptions,
    responses((status = 200, body = Found), Problems))]
async fn query(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let query = Query::parse(collection.entity()?, &body).map_err(Error::from)?;
    let shapes = collection.view(&query).await?;
    let page = collection.page(query, &shapes).await?;
    Ok(Found::response(page.data, page.total, page.next)?)
}

/// What to work out.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body in the API reference; it is read against the entity's fields")]
struct AggregateOptions {
    /// Conditions, as in a query.
    #[schema(value_type = Option<Object>)]
    r#where: Option<Value>,
    /// Fields whose equal values make a group; everything is one group when absent.
    group_by: Option<Vec<String>>,
    /// Names with what they stand for: `{"n": {"count": "*"}, "sum": {"sum": "amount"}}`. One of count, sum, avg, min, max each.
    #[schema(value_type = Object)]
    aggregates: Value,
    /// A group or a figure by name.
    order_by: Option<String>,
    order: Option<String>,
    /// 1 to 1000 groups.
    limit: Option<i64>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer in the API reference")]
struct Figures {
    /// One object per group.
    #[schema(value_type = Vec<Object>)]
    data: Value,
}

/// Count, add up and compare records
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/collections/{entity}/aggregate", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path)), request_body = AggregateOptions,
    responses((status = 200, body = Figures), Problems))]
async fn aggregate(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let wanted = Aggregate::parse(collection.entity()?, &body).map_err(Error::from)?;
    Ok(Found::response(collection.aggregate(&wanted).await?, None, None)?)
}
