//! `/api/v1/service-accounts*`.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{CredentialId, TenantId, UserId};

use super::{
    service::Error,
    store::{self, Account},
};
use crate::{
    http::{
        Message, Problems,
        extract::{Authorized, Json, Path, rights, same_tenant},
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(delete))
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(transfer))
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke_key))
        .routes(routes!(list_actors, grant_act_as, revoke_act_as))
}

/// An account of a machine.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ServiceAccount {
    /// Also the `client_id` at the token endpoints.
    id: UserId,
    slug: String,
    email: String,
    display_name: Option<String>,
    disabled: bool,
    /// The person who answers for it.
    owner_of_record: UserId,
    created_at: DateTime<Utc>,
}

impl From<Account> for ServiceAccount {
    fn from(account: Account) -> Self {
        Self {
            id: account.user.id,
            slug: account.slug,
            email: account.user.email,
            display_name: account.user.display_name,
            disabled: account.disabled,
            owner_of_record: account.owner,
            created_at: account.user.created_at,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewAccount {
    /// 1 to 48 lower-case letters, digits, `_` and `-`; unique within the tenant.
    slug: String,
    display_name: Option<String>,
    /// Only the caller's own.
    tenant_id: Option<TenantId>,
}

#[derive(Serialize, ToSchema)]
struct CreatedAccount {
    id: UserId,
    email: String,
}

#[derive(Serialize, ToSchema)]
struct Switched {
    id: UserId,
    disabled: bool,
}

#[derive(Deserialize, ToSchema)]
struct Transfer {
    new_owner: UserId,
}

#[derive(Serialize, ToSchema)]
struct Transferred {
    id: UserId,
    owner_of_record: UserId,
}

/// A key of a service account. The key itself is shown only when it is made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Credential {
    id: CredentialId,
    name: String,
    /// The beginning of the key, to tell keys apart.
    prefix: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    /// To the hour.
    last_used_at: Option<DateTime<Utc>>,
}

impl From<store::Key> for Credential {
    fn from(key: store::Key) -> Self {
        Self {
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewCredential {
    name: String,
    /// 1 to 365; 90 when absent.
    expires_in_days: Option<i64>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedCredential {
    id: CredentialId,
    /// The key. This is the only time that it is shown.
    key: String,
    prefix: String,
    expires_at: DateTime<Utc>,
    note: &'static str,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Actor {
    user_id: UserId,
}

/// Somebody who may act as a service account.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ActAs {
    user_id: UserId,
    granted_at: DateTime<Utc>,
    granted_by: Option<UserId>,
}

/// List service accounts
#[utoipa::path(get, path = "/api/v1/service-accounts", tag = "service accounts",
    responses((status = 200, body = Vec<ServiceAccount>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
) -> Result<Body<Vec<ServiceAccount>>, Problem> {
    Ok(Body(node.identity.accounts(&caller.tenant).await?.into_iter().map(ServiceAccount::from).collect()))
}

/// Create a service account
///
/// It begins without any permission: give it roles as you would a person.
#[utoipa::path(post, path = "/api/v1/service-accounts", tag = "service accounts", request_body = NewAccount,
    responses((status = 201, body = CreatedAccount), Problems))]
async fn create(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Json(new): Json<NewAccount>,
) -> Result<(StatusCode, Body<CreatedAccount>), Problem> {
    same_tenant(&caller, new.tenant_id.as_ref())?;
    let account = node.identity.create_account(&caller, &new.slug, new.display_name).await?;
    Ok((StatusCode::CREATED, Body(CreatedAccount { id: account.user.id, email: account.user.email })))
}

/// Delete a service account
///
/// Its keys and tokens end at once, and so do delegations to it.
#[utoipa::path(delete, path = "/api/v1/service-accounts/{id}", tag = "service accounts", params(("id" = UserId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn delete(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path(id): Path<UserId>,
) -> Result<Body<Message>, Problem> {
    node.identity.delete_account(&caller, id).await?;
    Ok(Message::new("service account deleted"))
}

/// Switch a service account off
///
/// Tokens that exist are refused from now on, and there are no new ones.
#[utoipa::path(post, path = "/api/v1/service-accounts/{id}/disable", tag = "service accounts", params(("id" = UserId, Path)),
    responses((status = 200, body = Switched), Problems))]
async fn disable(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path(id): Path<UserId>,
) -> Result<Body<Switched>, Problem> {
    node.identity.set_account_disabled(&caller, id, true).await?;
    Ok(Body(Switched { id, disabled: true }))
}

/// Switch a service account on again
#[utoipa::path(post, path = "/api/v1/service-accounts/{id}/enable", tag = "service accounts", params(("id" = UserId, Path)),
    responses((status = 200, body = Switched), Problems))]
async fn enable(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path(id): Path<UserId>,
) -> Result<Body<Switched>, Problem> {
    node.identity.set_account_disabled(&caller, id, false).await?;
    Ok(Body(Switched { id, disabled: false }))
}

/// Hand a service account over to another person
#[utoipa::path(post, path = "/api/v1/service-accounts/{id}/transfer-ownership", tag = "service accounts",
    params(("id" = UserId, Path)), request_body = Transfer, responses((status = 200, body = Transferred), Problems))]
async fn transfer(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path(id): Path<UserId>,
    Json(transfer): Json<Transfer>,
) -> Result<Body<Transferred>, Problem> {
    node.identity.transfer_account(&caller, id, transfer.new_owner).await?;
    Ok(Body(Transferred { id, owner_of_record: transfer.new_owner }))
}

/// List the keys of a service account
#[utoipa::path(get, path = "/api/v1/service-accounts/{id}/credentials", tag = "service accounts",
    params(("id" = UserId, Path)), responses((status = 200, body = Vec<Credential>), Problems))]
async fn list_keys(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path(id): Path<UserId>,
) -> Result<Body<Vec<Credential>>, Problem> {
    Ok(Body(node.identity.keys(&caller.tenant, id).await?.into_iter().map(Credential::from).collect()))
}

/// Make a key for a service account
///
/// It is shown once and stored as a digest. Several are valid at once, so that one can replace another without a gap. The
/// caller must hold every permission that the account holds.
#[utoipa::path(post, path = "/api/v1/service-accounts/{id}/credentials", tag = "service accounts",
    params(("id" = UserId, Path)), request_body = NewCredential, responses((status = 201, body = CreatedCredential), Problems))]
async fn create_key(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path(id): Path<UserId>,
    Json(new): Json<NewCredential>,
) -> Result<(StatusCode, Body<CreatedCredential>), Problem> {
    let (key, secret) = node.identity.create_key(&caller, id, &new.name, new.expires_in_days).await?;
    let created = CreatedCredential {
        id: key.id,
        key: secret.expose().clone(),
        prefix: key.prefix,
        expires_at: key.expires_at,
        note: "Keep the key now: it is not shown again.",
    };
    Ok((StatusCode::CREATED, Body(created)))
}

/// Revoke a key of a service account
///
/// Tokens that were made with it are refused from now on.
#[utoipa::path(delete, path = "/api/v1/service-accounts/{id}/credentials/{credential_id}", tag = "service accounts",
    params(("id" = UserId, Path), ("credential_id" = CredentialId, Path)), responses((status = 200, body = Message), Problems))]
async fn revoke_key(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path((id, credential)): Path<(UserId, CredentialId)>,
) -> Result<Body<Message>, Problem> {
    node.identity.revoke_key(&caller, id, credential).await?;
    Ok(Message::new("credential revoked"))
}

/// List who may act as a service account
#[utoipa::path(get, path = "/api/v1/service-accounts/{id}/act-as", tag = "service accounts", params(("id" = UserId, Path)),
    responses((status = 200, body = Vec<ActAs>), Problems))]
async fn list_actors(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path(id): Path<UserId>,
) -> Result<Body<Vec<ActAs>>, Problem> {
    let actors = node.identity.actors(&caller, id).await?.into_iter();
    let shown = |delegation: store::Delegation| ActAs {
        user_id: delegation.actor,
        granted_at: delegation.granted_at,
        granted_by: delegation.granted_by,
    };
    Ok(Body(actors.map(shown).collect()))
}

/// Let a person act as a service account
///
/// It takes effect for as long as the person holds every permission of the account.
#[utoipa::path(post, path = "/api/v1/service-accounts/{id}/act-as", tag = "service accounts", params(("id" = UserId, Path)),
    request_body = Actor, responses((status = 200, body = Message), Problems))]
async fn grant_act_as(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path(id): Path<UserId>,
    Json(actor): Json<Actor>,
) -> Result<Body<Message>, Problem> {
    node.identity.grant_act_as(&caller, id, actor.user_id).await?;
    Ok(Message::new("act-as granted"))
}

/// Let a person act as a service account no longer
#[utoipa::path(delete, path = "/api/v1/service-accounts/{id}/act-as", tag = "service accounts", params(("id" = UserId, Path)),
    request_body = Actor, responses((status = 200, body = Message), Problems))]
async fn revoke_act_as(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageServiceAccounts>,
    Path(id): Path<UserId>,
    Json(actor): Json<Actor>,
) -> Result<Body<Message>, Problem> {
    node.identity.revoke_act_as(&caller, id, actor.user_id).await?;
    Ok(Message::new("act-as revoked"))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Unknown | Error::UnknownKey => Self::not_found(message),
            Error::Exceeds(_) | Error::NoDelegation(_) | Error::ActAsExceeds { .. } => Self::new(Code::Forbidden, message),
            Error::InvalidClient => Self::new(Code::Unauthenticated, message),
            Error::Identity(cause) => cause.into(),
            Error::TooManyKeys(_) => Self::new(Code::Conflict, message),
            Error::InvalidSlug
            | Error::Exists(_)
            | Error::NoPerson
            | Error::InvalidKeyName
            | Error::Scope(_)
            | Error::ScopeNotHeld(_) => Self::new(Code::ValidationFailed, message),
        }
    }
}
