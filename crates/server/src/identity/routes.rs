//! `/api/v1/auth/*` and `/api/v1/users`.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{PrincipalKind, Secret, TenantId, UserId};

use super::{
    ClientNetwork, Error, NewMember, accounts, delivery, links, oidc, roles, service::Login, store, throttle::TooMany, token,
};
use crate::{
    http::{
        Message, Problems,
        extract::{Authorized, Caller, Json, Path, Query, rights, same_tenant},
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(switch))
        .routes(routes!(change_password))
        .routes(routes!(me))
        .routes(routes!(mode))
        .routes(routes!(list_users, create_user))
        .routes(routes!(get_user, delete_user))
        .routes(routes!(disable_user))
        .routes(routes!(enable_user))
        .merge(roles::router())
        .merge(accounts::router())
        .merge(oidc::router())
        .merge(links::router())
        .merge(delivery::router())
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Registration {
    email: String,
    /// At least 10 characters with an upper-case letter, a lower-case letter and a digit.
    #[schema(value_type = String, format = Password)]
    password: Secret<String>,
    #[serde(alias = "display_name")]
    display_name: Option<String>,
}

#[derive(Deserialize, ToSchema)]
struct Credentials {
    email: String,
    #[schema(value_type = String, format = Password)]
    password: Secret<String>,
    /// The tenant to work in; the one used last when absent.
    tenant: Option<TenantId>,
}

#[derive(Deserialize, ToSchema)]
struct Switch {
    tenant: TenantId,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PasswordChange {
    #[schema(value_type = String, format = Password)]
    current_password: Secret<String>,
    /// At least 10 characters with an upper-case letter, a lower-case letter and a digit.
    #[schema(value_type = String, format = Password)]
    new_password: Secret<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RefreshToken {
    #[schema(value_type = String)]
    refresh_token: Secret<String>,
}

/// A person with an account.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    id: UserId,
    email: String,
    display_name: Option<String>,
    created_at: DateTime<Utc>,
}

impl From<store::User> for User {
    fn from(user: store::User) -> Self {
        Self { id: user.id, email: user.email, display_name: user.display_name, created_at: user.created_at }
    }
}

/// The caller.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Me {
    #[serde(flatten)]
    user: User,
    /// `user`, `service_account` or `agent`.
    kind: PrincipalKind,
    /// The tenant of the token.
    tenant: TenantId,
    /// The tenants that the caller is a member of, the one used last first.
    memberships: Vec<Membership>,
}

/// A tenant that somebody is a member of.
#[derive(Serialize, ToSchema)]
struct Membership {
    tenant: TenantId,
    name: String,
    /// Whether one can log in to it: neither the tenant nor the member is switched off.
    usable: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewUser {
    email: String,
    display_name: Option<String>,
    /// For a new account; one is made and shown once when absent.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Secret<String>>,
    #[serde(default)]
    roles: Vec<String>,
    /// Only the caller's own.
    tenant_id: Option<TenantId>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedUser {
    user: User,
    /// The password of a new account, when none was given. This is the only time that it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_password: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Registered {
    user: User,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    access_token: String,
    refresh_token: String,
    /// Seconds until the access token expires.
    expires_in: i64,
    user: User,
    /// The tenant that the tokens are for.
    tenant: TenantId,
}

impl From<Login> for Tokens {
    fn from(login: Login) -> Self {
        Self {
            access_token: login.access_token,
            refresh_token: login.refresh_token,
            expires_in: token::ACCESS.num_seconds(),
            user: login.user.into(),
            tenant: login.tenant,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccessToken {
    pub access_token: String,
    /// Seconds until the access token expires.
    pub expires_in: i64,
}

/// How one can log in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the shape is the API's")]
struct Mode {
    auth_required: bool,
    /// Nobody has registered yet; the first to do so becomes administrator.
    setup_required: bool,
    password_login_enabled: bool,
    magic_link_enabled: bool,
    /// The providers of single sign-on.
    providers: Vec<oidc::Summary>,
}

/// Register a new user
///
/// The first user becomes administrator. No tokens are returned: log in next.
#[utoipa::path(post, path = "/api/v1/auth/register", tag = "auth", security(()), request_body = Registration,
    responses((status = 201, body = Registered), Problems))]
async fn register(
    State(node): State<Arc<Node>>,
    from: ClientNetwork,
    Json(body): Json<Registration>,
) -> Result<(StatusCode, Body<Registered>), Problem> {
    node.identity.knock(from)?;
    let user = node.identity.register(&body.email, body.password, body.display_name).await?;
    Ok((StatusCode::CREATED, Body(Registered { user: user.into() })))
}

/// Log in with e-mail and password
///
/// A member of several tenants names the one to work in, or gets the one used last. Guessing is slowed: 429 says in `Retry-After`
/// how long to wait.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "auth", security(()), request_body = Credentials,
    responses((status = 200, body = Tokens), Problems))]
async fn login(
    State(node): State<Arc<Node>>,
    from: ClientNetwork,
    Json(body): Json<Credentials>,
) -> Result<Body<Tokens>, Problem> {
    node.identity.knock(from)?;
    Ok(Body(node.identity.login(&body.email, body.password, body.tenant.as_ref(), from).await?.into()))
}

/// Go on in another tenant
///
/// Starts a session there and returns its tokens; the one at hand stays. Not for logins that are good for one tenant only.
#[utoipa::path(post, path = "/api/v1/auth/switch", tag = "auth", request_body = Switch,
    responses((status = 200, body = Tokens), Problems))]
async fn switch(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    Json(body): Json<Switch>,
) -> Result<Body<Tokens>, Problem> {
    Ok(Body(node.identity.switch_tenant(&caller, &body.tenant).await?.into()))
}

/// Change my password
///
/// Ends all my other sessions.
#[utoipa::path(put, path = "/api/v1/auth/password", tag = "auth", request_body = PasswordChange,
    responses((status = 200, body = Message), Problems))]
async fn change_password(
    State(node): State<Arc<Node>>,
    Caller(caller): Caller,
    from: ClientNetwork,
    Json(body): Json<PasswordChange>,
) -> Result<Body<Message>, Problem> {
    node.identity.change_password(&caller, (body.current_password, body.new_password), from).await?;
    Ok(Message::new("password changed"))
}

/// Get a new access token for a refresh token
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "auth", security(()), request_body = RefreshToken,
    responses((status = 200, body = AccessToken), Problems))]
async fn refresh(State(node): State<Arc<Node>>, Json(body): Json<RefreshToken>) -> Result<Body<AccessToken>, Problem> {
    let (access_token, expires_in) = node.identity.refresh(body.refresh_token.expose()).await?;
    Ok(Body(AccessToken { access_token, expires_in }))
}

/// End the session of a refresh token
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "auth", security(()), request_body = RefreshToken,
    responses((status = 200, body = Message), Problems))]
async fn logout(State(node): State<Arc<Node>>, Json(body): Json<RefreshToken>) -> Result<Body<Message>, Problem> {
    node.identity.logout(body.refresh_token.expose()).await?;
    Ok(Message::new("logged out"))
}

/// Who am I
#[utoipa::path(get, path = "/api/v1/auth/me", tag = "auth", responses((status = 200, body = Me), Problems))]
async fn me(State(node): State<Arc<Node>>, Caller(caller): Caller) -> Result<Body<Me>, Problem> {
    let user = node.identity.member(&caller.tenant, caller.id).await?.into();
    let memberships = node.identity.memberships(&caller).await?.into_iter();
    let memberships = memberships.map(|store::Membership { tenant, name, usable }| Membership { tenant, name, usable });
    Ok(Body(Me { user, kind: caller.kind, tenant: caller.tenant.clone(), memberships: memberships.collect() }))
}

/// How one can log in here
#[utoipa::path(get, path = "/api/v1/auth/mode", tag = "auth", security(()), params(oidc::OfTenant),
    responses((status = 200, body = Mode), Problems))]
async fn mode(State(node): State<Arc<Node>>, Query(query): Query<oidc::OfTenant>) -> Result<Body<Mode>, Problem> {
    Ok(Body(Mode {
        auth_required: true,
        setup_required: node.identity.setup_required().await?,
        password_login_enabled: node.identity.password_login_enabled().await?,
        magic_link_enabled: true,
        providers: oidc::summaries(&node, &query.tenant()).await?,
    }))
}

/// List users
#[utoipa::path(get, path = "/api/v1/users", tag = "users", responses((status = 200, body = Vec<User>), Problems))]
async fn list_users(State(node): State<Arc<Node>>, Caller(caller): Caller) -> Result<Body<Vec<User>>, Problem> {
    Ok(Body(node.identity.users(&caller.tenant).await?.into_iter().map(User::from).collect()))
}

/// Add a person to the tenant
///
/// With an account that exists the person becomes a member; otherwise an account is made.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", request_body = NewUser,
    responses((status = 201, body = CreatedUser), Problems))]
async fn create_user(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
    Json(new): Json<NewUser>,
) -> Result<(StatusCode, Body<CreatedUser>), Problem> {
    same_tenant(&caller, new.tenant_id.as_ref())?;
    let new = NewMember { email: new.email, display_name: new.display_name, password: new.password, roles: new.roles };
    let added = node.identity.create_user(&caller, new).await?;
    let initial_password = added.initial_password.map(|password| password.expose().clone());
    Ok((StatusCode::CREATED, Body(CreatedUser { user: added.user.into(), initial_password })))
}

/// Get a user
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users", params(("id" = UserId, Path)),
    responses((status = 200, body = User), Problems))]
async fn get_user(State(node): State<Arc<Node>>, Caller(caller): Caller, Path(id): Path<UserId>) -> Result<Body<User>, Problem> {
    Ok(Body(node.identity.user(&caller.tenant, id).await?.into()))
}

/// Remove a user from the tenant
///
/// With the last membership the account goes. The last administrator cannot be removed.
#[utoipa::path(delete, path = "/api/v1/users/{id}", tag = "users", params(("id" = UserId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn delete_user(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
    Path(id): Path<UserId>,
) -> Result<Body<Message>, Problem> {
    node.identity.delete_user(&caller, id).await?;
    Ok(Message::new("user deleted"))
}

/// Switch a user off
///
/// Sessions in this tenant end at once. The last administrator cannot be switched off.
#[utoipa::path(post, path = "/api/v1/users/{id}/disable", tag = "users", params(("id" = UserId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn disable_user(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
    Path(id): Path<UserId>,
) -> Result<Body<Message>, Problem> {
    node.identity.set_user_disabled(&caller, id, true).await?;
    Ok(Message::new("user disabled"))
}

/// Switch a user on again
#[utoipa::path(post, path = "/api/v1/users/{id}/enable", tag = "users", params(("id" = UserId, Path)),
    responses((status = 200, body = Message), Problems))]
async fn enable_user(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Administrator>,
    Path(id): Path<UserId>,
) -> Result<Body<Message>, Problem> {
    node.identity.set_user_disabled(&caller, id, false).await?;
    Ok(Message::new("user enabled"))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(faults) => Self::new(Code::ValidationFailed, summary(&faults)).with_faults(faults),
            Error::EmailTaken(_) | Error::RoleNotDefined(_) => Self::new(Code::ValidationFailed, message),
            Error::RegistrationClosed
            | Error::PasswordRegistrationOff
            | Error::PasswordLoginOff
            | Error::NotAMember(_)
            | Error::BoundToTenant(_)
            | Error::PeopleOnly => Self::new(Code::Forbidden, message),
            Error::TooMany(TooMany(wait)) => Self::new(Code::RateLimited, message).with_retry_after(Some(wait)),
            Error::OwnsAccounts | Error::AlreadyMember(_) => Self::new(Code::Conflict, message),
            Error::InvalidCredentials | Error::Token(_) | Error::UnknownNonce | Error::SessionEnded | Error::CredentialEnded => {
                Self::new(Code::Unauthenticated, message)
            }
            Error::Authority(cause) => cause.into(),
            Error::UnknownUser => Self::not_found(message),
            Error::LastAdministrator(_) => Self::new(Code::LastAdministrator, message),
            Error::Database(cause) => cause.into(),
        }
    }
}

/// The faults of a document in one line.
pub(super) fn summary(faults: &[weft_model::Fault]) -> String {
    let list: Vec<_> = faults.iter().map(|fault| format!("{} {}", fault.path.trim_start_matches("$."), fault.message)).collect();
    list.join("; ")
}
