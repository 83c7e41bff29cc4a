//! `/api/v1/roles*` and `/api/v1/permissions*`.

use std::sync::Arc;

use axum::{Json as Body, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::UserId;

use super::{
    explain,
    service::{Error, Update},
    store,
};
use crate::{
    http::{
        Message, Problems,
        extract::{Authorized, Caller, Json, Path, denied, rights},
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list_roles, create_role))
        .routes(routes!(update_role, delete_role))
        .routes(routes!(list_assignments))
        .routes(routes!(assign))
        .routes(routes!(revoke))
        .routes(routes!(my_permissions))
        .routes(routes!(available_permissions))
        .merge(explain::router())
        .routes(routes!(permissions_of))
}

/// A named set of permissions.
#[derive(Serialize, Deserialize, ToSchema)]
struct Role {
    name: String,
    description: Option<String>,
    /// Roles whose permissions this one has too.
    #[serde(default)]
    inherits: Vec<String>,
    /// Permission keys, wildcards allowed.
    #[serde(default)]
    permissions: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
struct RoleUpdate {
    description: Option<String>,
    inherits: Option<Vec<String>>,
    permissions: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Assignment {
    user_id: UserId,
    role: String,
    assigned_at: DateTime<Utc>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AssignmentRequest {
    user_id: UserId,
    role: String,
}

/// What somebody may do.
#[derive(Serialize, ToSchema)]
struct Effective {
    /// Held roles, inherited ones included.
    roles: Vec<String>,
    permissions: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct Permission {
    key: String,
    description: String,
}

/// List roles
#[utoipa::path(get, path = "/api/v1/roles", tag = "roles", responses((status = 200, body = Vec<Role>), Problems))]
async fn list_roles(State(node): State<Arc<Node>>, Caller(caller): Caller) -> Result<Body<Vec<Role>>, Problem> {
    let roles = node.identity.roles(&caller.tenant).await?;
    Ok(Body(
        roles
            .into_iter()
            .map(|role| Role {
                name: role.name,
                description: role.description,
                inherits: role.inherits,
                permissions: role.permissions,
            })
            .collect(),
    ))
}

/// Create a role
#[utoipa::path(post, path = "/api/v1/roles", tag = "roles", request_body = Role,
    responses((status = 200, body = Message), Problems))]
async fn create_role(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
    Json(role): Json<Role>,
) -> Result<Body<Message>, Problem> {
    let message = format!("role '{}' created", role.name);
    let role =
        store::Role { name: role.name, description: role.description, inherits: role.inherits, permissions: role.permissions };
    node.identity.create_role(&caller, role).await?;
    Ok(Message::new(message))
}

/// Change a role
///
/// Lists replace what was there.
#[utoipa::path(patch, path = "/api/v1/roles/{role_name}", tag = "roles", params(("role_name" = String, Path)),
    request_body = RoleUpdate, responses((status = 200, body = Message), Problems))]
async fn update_role(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
    Path(name): Path<String>,
    Json(update): Json<RoleUpdate>,
) -> Result<Body<Message>, Problem> {
    let update = Update { description: update.description, inherits: update.inherits, permissions: update.permissions };
    node.identity.update_role(&caller, &name, update).await?;
    Ok(Message::new(format!("role '{name}' updated")))
}

/// Delete a role
#[utoipa::path(delete, path = "/api/v1/roles/{role_name}", tag = "roles", params(("role_name" = String, Path)),
    responses((status = 200, body = Message), Problems))]
async fn delete_role(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
    Path(name): Path<String>,
) -> Result<Body<Message>, Problem> {
    node.identity.delete_role(&caller, &name).await?;
    Ok(Message::new(format!("role '{name}' deleted")))
}

/// List who holds which role
#[utoipa::path(get, path = "/api/v1/roles/assignments", tag = "roles", responses((status = 200, body = Vec<Assignment>), Problems))]
async fn list_assignments(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
) -> Result<Body<Vec<Assignment>>, Problem> {
    let assignments = node.identity.assignments(&caller.tenant).await?;
    Ok(Body(
        assignments
            .into_iter()
            .map(|assignment| Assignment { user_id: assignment.user, role: assignment.role, assigned_at: assignment.assigned_at })
            .collect(),
    ))
}

/// Give a role to a user
#[utoipa::path(post, path = "/api/v1/roles/assign", tag = "roles", request_body = AssignmentRequest,
    responses((status = 200, body = Message), Problems))]
async fn assign(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
    Json(request): Json<AssignmentRequest>,
) -> Result<Body<Message>, Problem> {
    node.identity.assign_role(&caller, request.user_id, &request.role).await?;
    Ok(Message::new(format!("role '{}' assigned", request.role)))
}

/// Take a role from a user
#[utoipa::path(post, path = "/api/v1/roles/revoke", tag = "roles", request_body = AssignmentRequest,
    responses((status = 200, body = Message), Problems))]
async fn revoke(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
    Json(request): Json<AssignmentRequest>,
) -> Result<Body<Message>, Problem> {
    node.identity.revoke_role(&caller, request.user_id, &request.role).await?;
    Ok(Message::new(format!("role '{}' revoked", request.role)))
}

/// What I may do
#[utoipa::path(get, path = "/api/v1/permissions", tag = "roles", responses((status = 200, body = Effective), Problems))]
async fn my_permissions(Caller(caller): Caller) -> Body<Effective> {
    Body(Effective { roles: caller.roles.clone(), permissions: caller.permissions.iter().map(str::to_owned).collect() })
}

/// Permission keys that I hold, with their meaning
#[utoipa::path(get, path = "/api/v1/permissions/available", tag = "roles", responses((status = 200, body = Vec<Permission>), Problems))]
async fn available_permissions(State(node): State<Arc<Node>>, Caller(caller): Caller) -> Result<Body<Vec<Permission>>, Problem> {
    let permissions = node.identity.available_permissions(&caller).await?;
    Ok(Body(
        permissions
            .into_iter()
            .map(|permission| Permission { key: permission.key, description: permission.description })
            .collect(),
    ))
}

/// What a user may do
///
/// Oneself, or anybody for an administrator.
#[utoipa::path(get, path = "/api/v1/permissions/{user_id}", tag = "roles", params(("user_id" = UserId, Path)),
    responses((status = 200, body = Effective), Problems))]
async fn permissions_of(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Path(user): Path<UserId>,
) -> Result<Body<Effective>, Problem> {
    if caller.id != user && !caller.permissions.is_administrator() {
        return Err(denied("*"));
    }
    node.identity.member(&caller.tenant, user).await?;
    let effective = node.identity.effective(&caller.tenant, user).await?;
    Ok(Body(Effective { roles: effective.roles, permissions: effective.permissions }))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Unknown(_) | Error::NotAssigned { .. } => Self::not_found(message),
            Error::Identity(cause) => cause.into(),
            Error::InvalidName
            | Error::Protected
            | Error::Exists(_)
            | Error::InvalidKey(_)
            | Error::Cycle(_)
            | Error::NothingToUpdate
            | Error::NotDefined(_) => Self::new(Code::ValidationFailed, message),
        }
    }
}
