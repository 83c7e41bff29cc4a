//! `/api/v1/permissions/explain`.

use std::sync::Arc;

use axum::{Json as Body, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{PermissionKey, UserId};

use super::service::{self, Question};
use crate::{
    http::{
        Problems,
        extract::{Caller, Query, denied},
        problem::Problem,
    },
    identity::store::Member,
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(explain))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct Why {
    /// An id or an e-mail address; oneself when absent.
    principal: Option<String>,
    #[param(value_type = String)]
    permission: PermissionKey,
    /// The account that the principal would act as.
    act_as: Option<UserId>,
}

/// Why somebody may or may not do something.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    principal: Named,
    /// The one that it would act as.
    #[serde(skip_serializing_if = "Option::is_none")]
    acting_as: Option<Named>,
    permission: String,
    allowed: bool,
    /// Every grant that covers the permission, and the way to it.
    grants: Vec<Grant>,
    /// What stands in the way; empty when it is allowed.
    obstacles: Vec<String>,
    /// The accounts that the principal has been let act as.
    delegations: Vec<Delegation>,
}

#[derive(Serialize, ToSchema)]
struct Named {
    id: UserId,
    email: String,
    /// `user`, `service_account` or `agent`.
    kind: String,
}

impl From<Member> for Named {
    fn from(member: Member) -> Self {
        Self { id: member.id, email: member.email, kind: member.kind }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Grant {
    /// The role that holds the grant.
    role: String,
    /// The key as the role has it, perhaps with a wildcard.
    key: String,
    /// From the role that is assigned, through those that it inherits from, to the role that holds the grant.
    path: Vec<String>,
    assigned_at: DateTime<Utc>,
    assigned_by: Option<UserId>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Delegation {
    target: Named,
    granted_at: DateTime<Utc>,
    granted_by: Option<UserId>,
    /// Whether the target holds the permission.
    holds: bool,
    /// A permission of the target that the principal lacks: as long as there is one, it may not act as the target.
    lacks: Option<String>,
}

impl From<service::Grant> for Grant {
    fn from(grant: service::Grant) -> Self {
        let service::Grant { role, key, path, assigned_at, assigned_by } = grant;
        Self { role, key, path, assigned_at, assigned_by }
    }
}

impl From<service::Delegation> for Delegation {
    fn from(delegation: service::Delegation) -> Self {
        let service::Delegation { target, granted_at, granted_by, holds, lacks } = delegation;
        Self { target: target.into(), granted_at, granted_by, holds, lacks }
    }
}

/// Why somebody may or may not do something
///
/// Which role grants it, inherited through which, assigned by whom; what stands in the way; whom one may act as. About
/// oneself, or about anybody for an administrator.
#[utoipa::path(get, path = "/api/v1/permissions/explain", tag = "roles", params(Why),
    responses((status = 200, body = Explanation), Problems))]
async fn explain(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Query(why): Query<Why>,
) -> Result<Body<Explanation>, Problem> {
    let administrator = caller.permissions.is_administrator();
    let principal = match node.identity.asked_about(&caller, why.principal.as_deref()).await {
        Ok(principal) if principal.id == caller.id || administrator => principal,
        // Who may not ask does not learn who there is.
        Ok(_) => return Err(denied("*")),
        Err(_) if !administrator => return Err(denied("*")),
        Err(error) => return Err(error.into()),
    };
    let permission = why.permission.to_string();
    let question = Question { principal, permission: why.permission, act_as: why.act_as };
    let explained = node.identity.explain(&caller, question).await?;
    Ok(Body(Explanation {
        principal: explained.principal.into(),
        acting_as: explained.acting_as.map(Named::from),
        permission,
        allowed: explained.allowed,
        grants: explained.grants.into_iter().map(Grant::from).collect(),
        obstacles: explained.obstacles.iter().map(ToString::to_string).collect(),
        delegations: explained.delegations.into_iter().map(Delegation::from).collect(),
    }))
}
