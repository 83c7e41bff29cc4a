//! `/api/v1/tenants*`, for those who look after the server as a whole.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{Secret, TenantId, UserId};

use super::{service::Error, store};
use crate::{
    http::{
        Message, Problems,
        extract::{Authorized, Json, Path, Query, rights},
        problem::{Code, Problem},
    },
    identity::NewMember,
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, delete))
        .routes(routes!(disable))
        .routes(routes!(enable))
}

/// Whom everything else belongs to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Tenant {
    id: TenantId,
    name: String,
    status: TenantStatus,
    created_at: DateTime<Utc>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TenantStatus {
    Active,
    /// Nobody gets in and nothing runs; everything is kept.
    Disabled,
    /// Its keys are destroyed and its rows are going.
    Deleting,
}

impl From<store::Tenant> for Tenant {
    fn from(tenant: store::Tenant) -> Self {
        let status = match (tenant.disabled_at, tenant.deleted_at) {
            (_, Some(_)) => TenantStatus::Deleting,
            (Some(_), None) => TenantStatus::Disabled,
            (None, None) => TenantStatus::Active,
        };
        Self { id: tenant.id, name: tenant.name, status, created_at: tenant.created_at }
    }
}

#[derive(Deserialize, ToSchema)]
struct NewTenant {
    /// 1 to 63 lower-case letters, digits and underscores, beginning with a letter. It stays.
    id: TenantId,
    /// For people; the id when absent.
    name: Option<String>,
    administrator: NewAdministrator,
}

/// The first administrator. An account that exists becomes a member; otherwise one is made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewAdministrator {
    email: String,
    display_name: Option<String>,
    /// For a new account; one is made and shown once when absent.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Secret<String>>,
}

#[derive(Serialize, ToSchema)]
struct CreatedTenant {
    tenant: Tenant,
    administrator: CreatedAdministrator,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedAdministrator {
    id: UserId,
    email: String,
    /// The password of a new account, when none was given. This is the only time that it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_password: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Confirmation {
    /// The id of the tenant once more.
    confirm: Option<String>,
}

/// List tenants
#[utoipa::path(get, path = "/api/v1/tenants", tag = "tenants", responses((status = 200, body = Vec<Tenant>), Problems))]
async fn list(State(node): State<Arc<Node>>, _: Authorized<rights::ManageTenants>) -> Result<Body<Vec<Tenant>>, Problem> {
    Ok(Body(node.tenants.list().await?.into_iter().map(Tenant::from).collect()))
}

/// Create a tenant
///
/// With its first administrator, who runs it from then on.
#[utoipa::path(post, path = "/api/v1/tenants", tag = "tenants", request_body = NewTenant,
    responses((status = 201, body = CreatedTenant), Problems))]
async fn create(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageTenants>,
    Json(new): Json<NewTenant>,
) -> Result<(StatusCode, Body<CreatedTenant>), Problem> {
    let NewAdministrator { email, display_name, password } = new.administrator;
    let administrator = NewMember { email, display_name, password, roles: Vec::new() };
    let name = new.name.unwrap_or_else(|| new.id.to_string());
    let (tenant, added) = node.tenants.create(&node.identity, &caller, (new.id, name), administrator).await?;
    let administrator = CreatedAdministrator {
        id: added.user.id,
        email: added.user.email,
        initial_password: added.initial_password.map(|password| password.expose().clone()),
    };
    Ok((StatusCode::CREATED, Body(CreatedTenant { tenant: tenant.into(), administrator })))
}

/// Get a tenant
#[utoipa::path(get, path = "/api/v1/tenants/{tenant_id}", tag = "tenants", params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = Tenant), Problems))]
async fn get(
    State(node): State<Arc<Node>>,
    _: Authorized<rights::ManageTenants>,
    Path(id): Path<TenantId>,
) -> Result<Body<Tenant>, Problem> {
    Ok(Body(node.tenants.get(&id).await?.into()))
}

/// Switch a tenant off
///
/// Its members are refused from now on, its workers stop, its webhooks answer 404. Everything is kept.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant_id}/disable", tag = "tenants", params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn disable(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageTenants>,
    Path(id): Path<TenantId>,
) -> Result<Body<Message>, Problem> {
    node.tenants.set_disabled(&node.identity, &caller, &id, true).await?;
    Ok(Message::new(format!("tenant '{id}' disabled")))
}

/// Switch a tenant on again
#[utoipa::path(post, path = "/api/v1/tenants/{tenant_id}/enable", tag = "tenants", params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn enable(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageTenants>,
    Path(id): Path<TenantId>,
) -> Result<Body<Message>, Problem> {
    node.tenants.set_disabled(&node.identity, &caller, &id, false).await?;
    let starting = Arc::clone(&node);
    node.background.spawn(async move { starting.apps.start_kept().await });
    Ok(Message::new(format!("tenant '{id}' enabled")))
}

/// Delete a tenant for good
///
/// Its data keys are destroyed at once, after which nobody can read what was sealed for it. Apps, files and rows go in the
/// background. Accounts that are members of other tenants stay.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant_id}", tag = "tenants",
    params(("tenant_id" = TenantId, Path), Confirmation), responses((status = 202, body = Message), Problems))]
async fn delete(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageTenants>,
    Path(id): Path<TenantId>,
    Query(confirmation): Query<Confirmation>,
) -> Result<(StatusCode, Body<Message>), Problem> {
    node.tenants.delete(&node.identity, &caller, &id, confirmation.confirm.as_deref()).await?;
    let erasing = Arc::clone(&node);
    node.background.spawn(async move {
        // What is left then goes with the next round of tidying up.
        if let Err(error) = erasing.tenants.erase().await {
            tracing::warn!(%error, "cannot erase a deleted tenant yet");
        }
    });
    Ok((StatusCode::ACCEPTED, Message::new(format!("tenant '{id}' is being deleted; its keys are destroyed"))))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Unknown(_) => Self::not_found(message),
            Error::Exists(_) | Error::Protected | Error::Deleting(_) => Self::new(Code::Conflict, message),
            Error::InvalidName | Error::NotConfirmed(_) => Self::new(Code::ValidationFailed, message),
            Error::Identity(cause) => cause.into(),
            Error::Secrets(cause) => cause.into(),
            Error::Apps(cause) => cause.into(),
            Error::Database(cause) => cause.into(),
        }
    }
}
