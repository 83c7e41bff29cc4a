//! `/api/v1/apps/{app_id}/collections/{entity}`: records one by one.

use std::sync::Arc;

use axum::{
    Json as Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_data::write;
use weft_model::AppId;

use super::{
    collection::{Collection, Shapes},
    options::{Listing, listing},
    stream,
};
use crate::{
    http::{
        Message, Problems,
        extract::{Authorized, Json, Path, Query, rights},
        page,
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get_record, update, delete))
}

/// For the document: every field of the entity is a parameter besides.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters in the API reference")]
pub struct ListParameters {
    /// How many, 1 to 1000; every record when absent.
    limit: Option<i64>,
    offset: Option<i64>,
    /// A field to sort by; `created_at` when absent.
    sort: Option<String>,
    /// `asc` or `desc`; descending when absent.
    order: Option<String>,
    /// Where the page before ended: its header `x-weft-next-cursor`.
    cursor: Option<String>,
    /// Only these fields, separated by commas.
    select: Option<String>,
    /// Fields whose records come along as `_expanded`, separated by commas.
    expand: Option<String>,
    /// Only records with these words in the fields that the entity's `search` names.
    search: Option<String>,
    /// `true`, or apps separated by commas: what these know about the same identity comes along as `_linked`.
    linked: Option<String>,
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters in the API reference")]
struct RecordParameters {
    /// Only these fields, separated by commas.
    select: Option<String>,
    /// Fields whose records come along as `_expanded`, separated by commas.
    expand: Option<String>,
    /// `true`, or apps separated by commas: what these know about the same identity comes along as `_linked`.
    linked: Option<String>,
}

/// List records, newest first
///
/// Every parameter that is no option is a field: only records with that value. Without `limit` the answer is every record, sent
/// page by page.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/collections/{entity}", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path), ListParameters),
    responses((status = 200, description = "A list of records", body = Vec<Object>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let Listing { query, is_bounded } = listing(collection.entity()?, &parameters)?;
    let shapes = collection.view(&query).await?;
    if !is_bounded {
        return Ok(stream::array(collection, query, shapes).await?);
    }
    let page = collection.page(query, &shapes).await?;
    let mut response = json(StatusCode::OK, page.data);
    if let Some(value) = page.next.as_deref().and_then(|next| HeaderValue::from_str(next).ok()) {
        response.headers_mut().insert(page::NEXT_CURSOR, value);
    }
    Ok(response)
}

/// Create a record
///
/// `id`, `created_at` and `updated_at` are the server's: what a body says of them is left out. Who may not read records is told the
/// new one's id only.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/collections/{entity}", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path)), request_body(content = Object, description = "The record's fields"),
    responses((status = 201, description = "The record", body = Object), Problems))]
async fn create(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::CreateRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let values = write::new_values(collection.entity()?, &body, "$").map_err(crate::data::Error::from)?;
    Ok(tagged(StatusCode::CREATED, collection.create(values).await?))
}

/// Get a record
///
/// The answer's `ETag` stands for the record as it is; a change with `If-Match` happens only if it still is that.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/collections/{entity}/{id}", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path), ("id" = String, Path), RecordParameters),
    responses((status = 200, description = "The record", body = Object), (status = 304, description = "It is still as `If-None-Match` says"), Problems))]
async fn get_record(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadRecords>,
    Path((app, entity, id)): Path<(AppId, String, String)>,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let shapes = if parameters.is_empty() {
        Shapes::default()
    } else {
        let known = parameters.iter().all(|(name, _)| ["select", "expand", "linked"].contains(&name.as_str()));
        if !known {
            return Err(Problem::new(Code::InvalidRequest, "A record takes the parameters select, expand and linked."));
        }
        collection.view(&listing(collection.entity()?, &parameters)?.query).await?
    };
    let record = collection.get(&id, &shapes).await?;
    if !shapes.are_plain() {
        return Ok(json(StatusCode::OK, record));
    }
    let tag = digest(&record);
    if sent(&headers, &header::IF_NONE_MATCH).is_some_and(|known| known == tag) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    Ok(tagged(StatusCode::OK, record))
}

/// Change fields of a record
///
/// What the body does not name stays. With `If-Match` and the `ETag` of a record, nothing happens when somebody else has changed it.
#[utoipa::path(patch, path = "/api/v1/apps/{app_id}/collections/{entity}/{id}", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path), ("id" = String, Path)),
    request_body(content = Object, description = "The fields to change"),
    responses((status = 200, description = "The record", body = Object), Problems))]
async fn update(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::UpdateRecords>,
    Path((app, entity, id)): Path<(AppId, String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Response, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let values = write::values(collection.entity()?, &body, "$").map_err(crate::data::Error::from)?;
    let record = collection.update(&id, values, sent(&headers, &header::IF_MATCH).as_deref()).await?;
    Ok(tagged(StatusCode::OK, record))
}

/// Delete a record
///
/// One that others need is kept and the answer is 409.
#[utoipa::path(delete, path = "/api/v1/apps/{app_id}/collections/{entity}/{id}", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Message), Problems))]
async fn delete(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeleteRecords>,
    Path((app, entity, id)): Path<(AppId, String, String)>,
    headers: HeaderMap,
) -> Result<Body<Message>, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    collection.delete(&id, sent(&headers, &header::IF_MATCH).as_deref()).await?;
    Ok(Message::new(format!("record '{id}' deleted")))
}

/// JSON that PostgreSQL made, passed on as it is.
pub fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

fn tagged(status: StatusCode, record: String) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{}\"", digest(&record)));
    let mut response = json(status, record);
    if let Ok(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn digest(record: &str) -> String {
    hex::encode(Sha256::digest(record))
}

/// The tag that a header names; `*` stands for whatever there is.
fn sent(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (value != "*").then(|| value.trim_start_matches("W/").trim_matches('"').to_owned())
}
