//! `/api/v1/federated/{identity_kind}/query`: what every app knows about things of one kind.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde_json::{Map, Value};
use sqlx::Row;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_data::{
    Condition,
    read::{self, Direction, Link, Order, Query},
};
use weft_model::{Fault, contract::Kind};

use super::{
    collection::{of_kind, owner_of, row},
    query::{Found, QueryOptions},
};
use crate::{
    data::Error,
    http::{
        Problems,
        extract::{Caller, Json, Path},
        problem::Problem,
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(federated))
}

/// Find records of one kind of identity in every app
///
/// Only in entities whose records the caller may read. Each record says as `_source` which app and entity it is from. Sorted by
/// the text of the field; a condition has to fit every entity. Takes `where`, `orderBy`, `order`, `limit` and `offset`.
#[utoipa::path(post, path = "/api/v1/federated/{identity_kind}/query", tag = "data",
    params(("identity_kind" = String, Path)), request_body = QueryOptions, responses((status = 200, body = Found), Problems))]
async fn federated(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(kind): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let query = options(&body)?;
    let everything = Value::Object(Map::new());
    let clause = body.get("where").unwrap_or(&everything);
    let apps = of_kind(&node, &caller, &kind).await?;
    let mut sources = Vec::new();
    for (app, name) in &apps {
        let Some(entity) = app.entities.get(name) else { continue };
        let condition = Condition::parse(entity, clause, "$.where").map_err(|faults| in_app(faults, app.id.as_str()))?;
        sources.push((Link { app: app.id.to_string(), entity, owner: owner_of(&caller, &app.id, entity) }, condition));
    }
    if sources.is_empty() {
        return Ok(Found::response("[]".to_owned(), Some(0), None)?);
    }
    let mut connection = node.records.acquire_for_many().await?;
    let row = row(&node, &mut connection, read::federated(&sources, &query)).await?;
    let row = row.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Found::response(row.try_get(0)?, Some(row.try_get(1)?), None)?)
}

fn in_app(faults: Vec<Fault>, app: &str) -> Error {
    Error::Invalid(faults.into_iter().map(|fault| Fault::new(fault.path, format!("{} (app '{app}')", fault.message))).collect())
}

/// The options besides the condition.
fn options(body: &Value) -> Result<Query, Error> {
    let wrong = |path: &str, message: &str| Error::Invalid(vec![Fault::new(path, message)]);
    let members = body.as_object().ok_or_else(|| wrong("$", "must be an object"))?;
    let mut query = Query::default();
    for (key, value) in members {
        let path = format!("$.{key}");
        match (key.as_str(), value) {
            ("where", _) | (_, Value::Null) => {}
            ("orderBy", Value::String(column)) => {
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
                if column.is_empty() || !column.bytes().all(plain) {
                    return Err(wrong(&path, "invalid sort field"));
                }
                query.order = Order { column: column.clone(), kind: Kind::Text, direction: query.order.direction };
            }
            ("order", Value::String(word)) if word.eq_ignore_ascii_case("asc") => query.order.direction = Direction::Ascending,
            ("order", Value::String(word)) if word.eq_ignore_ascii_case("desc") => query.order.direction = Direction::Descending,
            ("limit", Value::Number(number)) => query.limit = number.as_i64().unwrap_or(0).clamp(1, read::LONGEST_PAGE),
            ("offset", Value::Number(number)) => query.offset = number.as_i64().unwrap_or(0).max(0),
            ("orderBy" | "order" | "limit" | "offset", _) => return Err(wrong(&path, "has the wrong type or value")),
            _ => return Err(wrong(&path, "is no option of a federated query")),
        }
    }
    Ok(query)
}
