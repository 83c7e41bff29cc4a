//! `/api/v1/namespaces*`.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{DepartmentId, NamespaceId, UserId};

use super::{
    service::{Change, Error, Place, Scope},
    store,
};
use crate::{
    http::{
        Message, Problems,
        extract::{Authorized, Caller, Json, Path, rights},
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, rename, delete))
        .routes(routes!(scope))
        .routes(routes!(list_departments, add_department))
        .routes(routes!(change_department, delete_department))
        .routes(routes!(list_members))
        .routes(routes!(add_member, remove_member))
}

/// A part of a tenant with departments and plugins of its own.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Namespace {
    id: NamespaceId,
    name: String,
    created_at: DateTime<Utc>,
}

impl From<store::Namespace> for Namespace {
    fn from(namespace: store::Namespace) -> Self {
        Self { id: namespace.id, name: namespace.name, created_at: namespace.created_at }
    }
}

#[derive(Deserialize, ToSchema)]
struct NewNamespace {
    /// 1 to 63 lower-case letters, digits and underscores, beginning with a letter. It stays, as a part of permission keys.
    id: NamespaceId,
    /// For people; the id when absent.
    name: Option<String>,
}

#[derive(Deserialize, ToSchema)]
struct NamespaceName {
    name: String,
}

/// How much of a namespace the caller acts for.
#[derive(Serialize, ToSchema)]
struct NamespaceScope {
    /// Whether it is all of it.
    everything: bool,
    /// Otherwise the caller's departments and those below them.
    departments: Vec<DepartmentId>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Department {
    id: DepartmentId,
    name: String,
    /// The department that it is below; absent at the top.
    parent_id: Option<DepartmentId>,
}

impl From<store::Department> for Department {
    fn from(department: store::Department) -> Self {
        Self { id: department.id, name: department.name, parent_id: department.parent }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewDepartment {
    /// Unique among those of the same parent.
    name: String,
    parent_id: Option<DepartmentId>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DepartmentChange {
    name: Option<String>,
    /// Where to move it, with all below it; null is the top.
    #[serde(default, deserialize_with = "place")]
    #[schema(value_type = Option<DepartmentId>)]
    parent_id: Place,
}

/// Tells a null from a member that is not there.
fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Place, D::Error> {
    Ok(Option::deserialize(deserializer)?.map_or(Place::Top, Place::Below))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DepartmentMember {
    user_id: UserId,
    email: String,
    added_at: DateTime<Utc>,
}

/// List namespaces
///
/// Those of which the caller belongs to a department, and those that it manages.
#[utoipa::path(get, path = "/api/v1/namespaces", tag = "namespaces", responses((status = 200, body = Vec<Namespace>), Problems))]
async fn list(State(node): State<Arc<Node>>, Caller(caller): Caller) -> Result<Body<Vec<Namespace>>, Problem> {
    Ok(Body(node.namespaces.list(&caller).await?.into_iter().map(Namespace::from).collect()))
}

/// Create a namespace
///
/// The keys `namespace:<id>:manage` (canManageNamespaces) and `namespace:<id>:plugins.manage` (canManagePlugins) come with it:
/// they are limited to it, where `namespaces:manage` and `namespaces:plugins.manage` are good for every one.
#[utoipa::path(post, path = "/api/v1/namespaces", tag = "namespaces", request_body = NewNamespace,
    responses((status = 201, body = Namespace), Problems))]
async fn create(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageNamespaces>,
    Json(new): Json<NewNamespace>,
) -> Result<(StatusCode, Body<Namespace>), Problem> {
    let name = new.name.unwrap_or_else(|| new.id.to_string());
    let namespace = node.namespaces.create(&caller, new.id, &name).await?;
    Ok((StatusCode::CREATED, Body(namespace.into())))
}

/// Get a namespace
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace_id}", tag = "namespaces", params(("namespace_id" = NamespaceId, Path)),
    responses((status = 200, body = Namespace), Problems))]
async fn get(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<NamespaceId>,
) -> Result<Body<Namespace>, Problem> {
    Ok(Body(node.namespaces.get(&caller, &id).await?.into()))
}

/// Rename a namespace
///
/// Its id stays.
#[utoipa::path(patch, path = "/api/v1/namespaces/{namespace_id}", tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path)), request_body = NamespaceName, responses((status = 200, body = Message), Problems))]
async fn rename(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageNamespace>,
    Path(id): Path<NamespaceId>,
    Json(body): Json<NamespaceName>,
) -> Result<Body<Message>, Problem> {
    node.namespaces.rename(&caller, &id, &body.name).await?;
    Ok(Message::new(format!("namespace '{id}' renamed")))
}

/// Delete a namespace
///
/// It must have no departments any more.
#[utoipa::path(delete, path = "/api/v1/namespaces/{namespace_id}", tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path)), responses((status = 200, body = Message), Problems))]
async fn delete(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageNamespace>,
    Path(id): Path<NamespaceId>,
) -> Result<Body<Message>, Problem> {
    node.namespaces.delete(&caller, &id).await?;
    Ok(Message::new(format!("namespace '{id}' deleted")))
}

/// Show how much of a namespace one acts for
///
/// Everything with one of its keys, else the own departments and those below them.
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace_id}/scope", tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path)), responses((status = 200, body = NamespaceScope), Problems))]
async fn scope(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<NamespaceId>,
) -> Result<Body<NamespaceScope>, Problem> {
    Ok(Body(match node.namespaces.scope(&caller, &id).await? {
        Scope::Everything => NamespaceScope { everything: true, departments: Vec::new() },
        Scope::Departments(departments) => NamespaceScope { everything: false, departments },
    }))
}

/// List the departments of a namespace that are in one's scope
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace_id}/departments", tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path)), responses((status = 200, body = Vec<Department>), Problems))]
async fn list_departments(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(id): Path<NamespaceId>,
) -> Result<Body<Vec<Department>>, Problem> {
    Ok(Body(node.namespaces.departments(&caller, &id).await?.into_iter().map(Department::from).collect()))
}

/// Add a department
///
/// Departments are a tree, eight levels deep at most.
#[utoipa::path(post, path = "/api/v1/namespaces/{namespace_id}/departments", tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path)), request_body = NewDepartment,
    responses((status = 201, body = Department), Problems))]
async fn add_department(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageNamespace>,
    Path(id): Path<NamespaceId>,
    Json(new): Json<NewDepartment>,
) -> Result<(StatusCode, Body<Department>), Problem> {
    let department = node.namespaces.add_department(&caller, &id, (&new.name, new.parent_id)).await?;
    Ok((StatusCode::CREATED, Body(department.into())))
}

/// Rename or move a department
///
/// What is below it comes along.
#[utoipa::path(patch, path = "/api/v1/namespaces/{namespace_id}/departments/{department_id}", tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path), ("department_id" = DepartmentId, Path)), request_body = DepartmentChange,
    responses((status = 200, body = Department), Problems))]
async fn change_department(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageNamespace>,
    Path((id, department)): Path<(NamespaceId, DepartmentId)>,
    Json(body): Json<DepartmentChange>,
) -> Result<Body<Department>, Problem> {
    let change = Change { name: body.name, place: body.parent_id };
    Ok(Body(node.namespaces.change_department(&caller, &id, (department, change)).await?.into()))
}

/// Delete a department
///
/// There must be none below it any more. Who belonged to it does no longer.
#[utoipa::path(delete, path = "/api/v1/namespaces/{namespace_id}/departments/{department_id}", tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path), ("department_id" = DepartmentId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn delete_department(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageNamespace>,
    Path((id, department)): Path<(NamespaceId, DepartmentId)>,
) -> Result<Body<Message>, Problem> {
    node.namespaces.delete_department(&caller, &id, department).await?;
    Ok(Message::new("department deleted"))
}

/// List who belongs to a department
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace_id}/departments/{department_id}/members", tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path), ("department_id" = DepartmentId, Path)),
    responses((status = 200, body = Vec<DepartmentMember>), Problems))]
async fn list_members(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageNamespace>,
    Path((id, department)): Path<(NamespaceId, DepartmentId)>,
) -> Result<Body<Vec<DepartmentMember>>, Problem> {
    let members = node.namespaces.members(&caller, &id, department).await?.into_iter();
    let shown = |member: store::Member| DepartmentMember { user_id: member.user, email: member.email, added_at: member.added_at };
    Ok(Body(members.map(shown).collect()))
}

/// Let somebody belong to a department
///
/// A person or a service account of the tenant. Doing it again changes nothing.
#[utoipa::path(put, path = "/api/v1/namespaces/{namespace_id}/departments/{department_id}/members/{user_id}",
    tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path), ("department_id" = DepartmentId, Path), ("user_id" = UserId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn add_member(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageNamespace>,
    Path((id, department, user)): Path<(NamespaceId, DepartmentId, UserId)>,
) -> Result<Body<Message>, Problem> {
    node.namespaces.add_member(&caller, &id, (department, user)).await?;
    Ok(Message::new("member added"))
}

/// Let somebody belong to a department no longer
#[utoipa::path(delete, path = "/api/v1/namespaces/{namespace_id}/departments/{department_id}/members/{user_id}",
    tag = "namespaces",
    params(("namespace_id" = NamespaceId, Path), ("department_id" = DepartmentId, Path), ("user_id" = UserId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn remove_member(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageNamespace>,
    Path((id, department, user)): Path<(NamespaceId, DepartmentId, UserId)>,
) -> Result<Body<Message>, Problem> {
    node.namespaces.remove_member(&caller, &id, (department, user)).await?;
    Ok(Message::new("member removed"))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Unknown(_) | Error::UnknownDepartment(_) | Error::UnknownUser(_) => Self::not_found(message),
            Error::Exists(_) | Error::NameTaken(_) | Error::TooMany | Error::HasDepartments(_) | Error::HasChildren => {
                Self::new(Code::Conflict, message)
            }
            Error::InvalidName | Error::Misplaced(_) => Self::new(Code::ValidationFailed, message),
            Error::Database(cause) => cause.into(),
        }
    }
}
