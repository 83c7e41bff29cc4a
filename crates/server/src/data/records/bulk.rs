//! Many records in one request: all of them, or none.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json as Body, extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_data::{
    Condition, Entity,
    write::{self, MOST_RECORDS, Values},
};
use weft_model::{AppId, Fault};

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
    OpenApiRouter::new()
        .routes(routes!(create_all))
        .routes(routes!(update_all))
        .routes(routes!(delete_all))
        .routes(routes!(upsert))
}

/// Create many records
///
/// 1 to 1000, all of them or none. The answer has them in the same order.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/collections/{entity}/bulk", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path)), request_body = Vec<Object>,
    responses((status = 201, description = "The records", body = Vec<Object>), Problems))]
async fn create_all(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::CreateRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let records = records(collection.entity()?, &body, "$")?;
    Ok(json(StatusCode::CREATED, collection.create_all(records).await?))
}

/// Reads a list of records to be made. Every fault of every one is reported.
fn records(entity: &Entity, body: &Value, path: &str) -> Result<Vec<Values>, Error> {
    let wrong = |message: String| Error::Invalid(vec![Fault::new(path, message)]);
    let items = body.as_array().ok_or_else(|| wrong("body must be a JSON array".to_owned()))?;
    match items.len() {
        0 => return Err(wrong("array must not be empty".to_owned())),
        size if size > MOST_RECORDS => return Err(wrong(format!("batch size {size} exceeds max {MOST_RECORDS}"))),
        _ => {}
    }
    let (mut records, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
    for (index, item) in items.iter().enumerate() {
        match write::new_values(entity, item, &format!("{path}[{index}]")) {
            Ok(values) => records.push(values),
            Err(more) => faults.extend(more),
        }
    }
    if faults.is_empty() { Ok(records) } else { Err(Error::Invalid(faults)) }
}

/// What to change, and where.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateAll {
    /// Conditions, as in a query; `{}` means every record.
    #[schema(value_type = Object)]
    r#where: Value,
    /// Fields with their new values.
    #[schema(value_type = Object)]
    set: Value,
}

#[derive(Serialize, ToSchema)]
struct Updated {
    /// How many records were changed.
    updated: i64,
}

/// Change every record that meets a condition
///
/// All of them or none. `where` has to be there; `{}` means every record.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/collections/{entity}/bulk/update", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path)), request_body = UpdateAll,
    responses((status = 200, body = Updated), Problems))]
async fn update_all(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::UpdateRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    Json(body): Json<UpdateAll>,
) -> Result<Body<Updated>, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let entity = collection.entity()?;
    let condition = Condition::parse(entity, &body.r#where, "$.where").map_err(Error::from)?;
    let values = write::values(entity, &body.set, "$.set").map_err(Error::from)?;
    Ok(Body(Updated { updated: collection.update_all(&condition, values).await? }))
}

/// What to delete.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeleteAll {
    /// Conditions, as in a query; `{}` means every record.
    #[schema(value_type = Object)]
    r#where: Value,
}

#[derive(Serialize, ToSchema)]
struct Deleted {
    /// How many records were deleted, not counting those that went with them.
    deleted: i64,
}

/// Delete every record that meets a condition
///
/// All of them or none. `where` has to be there; `{}` means every record.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/collections/{entity}/bulk/delete", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path)), request_body = DeleteAll,
    responses((status = 200, body = Deleted), Problems))]
async fn delete_all(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeleteRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    Json(body): Json<DeleteAll>,
) -> Result<Body<Deleted>, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let condition = Condition::parse(collection.entity()?, &body.r#where, "$.where").map_err(Error::from)?;
    Ok(Body(Deleted { deleted: collection.delete_all(&condition).await? }))
}

/// Records to make, or to change where they are there already.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Upsert {
    /// The fields that tell whether a record is there: those of a unique field or index.
    on: Vec<String>,
    /// 1 to 1000 records, all with the same fields.
    #[schema(value_type = Vec<Object>)]
    records: Value,
}

#[derive(Serialize, ToSchema)]
struct Upserted {
    #[schema(value_type = Vec<Object>)]
    data: Box<RawValue>,
    created: i64,
    updated: i64,
}

/// Create records, or change those that are there
///
/// All of them or none. Changing one that is there takes the right to do that too.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/collections/{entity}/upsert", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path)), request_body = Upsert,
    responses((status = 200, body = Upserted), Problems))]
async fn upsert(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::CreateRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    Json(body): Json<Upsert>,
) -> Result<Body<Upserted>, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let entity = collection.entity()?;
    let records = records(entity, &body.records, "$.records")?;
    let on = unique(entity, &body.on, &records)?;
    let (data, created, updated) = collection.upsert(records, &on).await?;
    let data = RawValue::from_string(data).map_err(Problem::internal)?;
    Ok(Body(Upserted { data, created, updated }))
}

/// The fields that tell records apart, if they do, and if every record has them and all the same others.
pub fn unique(entity: &Entity, on: &[String], records: &[Values]) -> Result<Vec<String>, Error> {
    let wrong = |path: &str, message: String| Error::Invalid(vec![Fault::new(path, message)]);
    let mut sorted = on.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted == ["id"] || !entity.unique.contains(&sorted) {
        let known: Vec<_> = entity.unique.iter().filter(|set| **set != ["id"]).map(|set| set.join(" with ")).collect();
        return Err(wrong(
            "$.on",
            format!("no unique field or index of '{}' is that; there is: {}", entity.name(), known.join(", ")),
        ));
    }
    let fields = |values: &Values| values.iter().map(|(name, ..)| name.clone()).collect::<BTreeSet<_>>();
    let first = records.first().map(fields).unwrap_or_default();
    if let Some(index) = records.iter().position(|values| fields(values) != first) {
        return Err(wrong(&format!("$.records[{index}]"), "has other fields than the first record".to_owned()));
    }
    match sorted.iter().find(|name| !first.contains(*name)) {
        Some(name) => Err(wrong("$.records", format!("have no '{name}', which tells them apart"))),
        None => Ok(sorted),
    }
}
