//! `/api/v1/auth/oidc/*`.

use std::sync::Arc;

use axum::{
    Json as Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{Secret, TenantId};

use super::{
    Error,
    flow::{Failed, Returned, Wanted},
    provider::Provider,
};
use crate::{
    http::{
        Message, Problems,
        extract::{Authorized, Json, Path, Query, rights},
        problem::{Code, Problem},
        visit::Visit,
    },
    identity::{
        ClientNetwork,
        cookie::{self, Purpose},
        delivery::{self, Delivery, Tokens},
        routes::{AccessToken, summary},
        token::ACCESS,
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list, save))
        .routes(routes!(get, remove))
        .routes(routes!(authorize))
        .routes(routes!(callback))
        .routes(routes!(exchange))
}

/// A single sign-on provider as one who logs in sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SignOnProviderSummary)]
pub struct Summary {
    id: String,
    display_name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewSignOnProvider)]
struct Save {
    #[serde(flatten)]
    provider: Provider,
    /// Sealed in the vault. Absent: the stored one stays. Empty: removed, for a client without one.
    #[schema(value_type = Option<String>, format = Password)]
    client_secret: Option<Secret<String>>,
}

/// Whose sign-on it is.
#[derive(Deserialize, IntoParams)]
pub struct OfTenant {
    /// The tenant; `default` when absent.
    tenant: Option<TenantId>,
}

impl OfTenant {
    pub fn tenant(self) -> TenantId {
        self.tenant.unwrap_or_else(TenantId::default_tenant)
    }
}

#[derive(Deserialize, IntoParams)]
struct Force {
    /// Unlink the users that are linked to it: present, or `true`.
    force: Option<String>,
}

#[derive(Deserialize, IntoParams)]
struct Begin {
    /// Where the browser goes after the login: this server's own origin, or the machine of whoever logs in, on any port.
    /// Absent: the callback answers with tokens.
    redirect_uri: Option<String>,
    /// `nonce`: the address gets `auth_nonce`, to be exchanged at `/api/v1/auth/nonce-exchange`. Otherwise it gets the tokens.
    token_delivery: Option<String>,
    /// The tenant whose provider it is; `default` when absent.
    tenant: Option<TenantId>,
    /// Set by the server when it leads a browser to its public address.
    #[param(ignore)]
    canonical: Option<String>,
}

#[derive(Deserialize, IntoParams)]
struct Return {
    state: String,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    /// The issuer, from providers that name it.
    iss: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = IdTokenExchange)]
struct Exchange {
    /// The tenant whose provider it is; `default` when absent.
    tenant: Option<TenantId>,
    provider_id: String,
    #[schema(value_type = String)]
    id_token: Secret<String>,
}

/// The providers that may be used, as anybody may know them.
pub async fn summaries(node: &Node, tenant: &TenantId) -> Result<Vec<Summary>, Problem> {
    let providers = node.oidc.providers(tenant).await?;
    let enabled = providers.into_iter().filter(|provider| provider.enabled);
    Ok(enabled.map(|provider| Summary { id: provider.id, display_name: provider.display_name }).collect())
}

/// List the providers one can sign on with
#[utoipa::path(get, path = "/api/v1/auth/oidc/providers", tag = "auth", security(()), params(OfTenant),
    responses((status = 200, body = Vec<Summary>), Problems))]
async fn list(State(node): State<Arc<Node>>, Query(query): Query<OfTenant>) -> Result<Body<Vec<Summary>>, Problem> {
    Ok(Body(summaries(&node, &query.tenant()).await?))
}

/// Create or replace a provider
///
/// The provider's discovery document is fetched, and has to be valid.
#[utoipa::path(post, path = "/api/v1/auth/oidc/providers", tag = "auth", request_body = Save,
    responses((status = 200, body = Message), Problems))]
async fn save(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageSignOn>,
    Json(body): Json<Save>,
) -> Result<Body<Message>, Problem> {
    let id = body.provider.id.clone();
    node.oidc.save(&caller, body.provider, body.client_secret).await?;
    Ok(Message::new(format!("provider '{id}' saved")))
}

/// Get a provider
#[utoipa::path(get, path = "/api/v1/auth/oidc/providers/{id}", tag = "auth", params(("id" = String, Path)),
    responses((status = 200, body = Provider), Problems))]
async fn get(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageSignOn>,
    Path(id): Path<String>,
) -> Result<Body<Provider>, Problem> {
    Ok(Body(node.oidc.provider(&caller.tenant, &id).await?))
}

/// Delete a provider
///
/// Users stay. Those who are linked to it are unlinked, and that only with `force`.
#[utoipa::path(delete, path = "/api/v1/auth/oidc/providers/{id}", tag = "auth", params(("id" = String, Path), Force),
    responses((status = 200, body = Message), Problems))]
async fn remove(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageSignOn>,
    Path(id): Path<String>,
    Query(query): Query<Force>,
) -> Result<Body<Message>, Problem> {
    let force = query.force.is_some_and(|force| matches!(force.as_str(), "" | "true" | "1"));
    node.oidc.delete(&caller, &id, force).await?;
    Ok(Message::new(format!("provider '{id}' deleted")))
}

/// Begin a login in a browser
///
/// Sends the browser to the provider.
#[utoipa::path(get, path = "/api/v1/auth/oidc/{provider_id}/authorize", tag = "auth", security(()),
    params(("provider_id" = String, Path), Begin),
    responses((status = 307, description = "On to the provider"), Problems))]
async fn authorize(
    State(node): State<Arc<Node>>,
    visit: Visit,
    from: ClientNetwork,
    (uri, headers): (Uri, HeaderMap),
    Path(provider): Path<String>,
    Query(query): Query<Begin>,
) -> Response {
    let public = node.oidc.public_url();
    if let Some(address) = canonical(&uri, &headers, public).filter(|_| visit.is_browser && query.canonical.is_none()) {
        return Redirect::temporary(address.as_str()).into_response();
    }
    let wanted = Wanted {
        redirect_uri: query.redirect_uri.as_deref(),
        delivery: Delivery::asked(query.token_delivery.as_deref()),
        browser: cookie::read(&headers, Purpose::Login, public),
    };
    let tenant = query.tenant.unwrap_or_else(TenantId::default_tenant);
    let begun = match node.identity.knock(from).map_err(Error::from) {
        Ok(()) => node.oidc.begin(&tenant, &provider, wanted).await,
        Err(error) => Err(error),
    };
    match begun {
        Ok(begun) => {
            let mut response = delivery::private(Redirect::temporary(begun.address.as_str()));
            if let Ok(value) = HeaderValue::from_str(&cookie::write(&begun.browser, Purpose::Login, public)) {
                response.headers_mut().insert(header::SET_COOKIE, value);
            }
            response
        }
        Err(error) => visit.refuse(error.into()),
    }
}

/// The same address under the name that the provider will send the browser back to, when it was asked for under another one
/// (`localhost` and `127.0.0.1`): the cookie would be lost. Tried once: a proxy may hide the name that the browser uses.
fn canonical(uri: &Uri, headers: &HeaderMap, public: &Url) -> Option<Url> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let asked = Url::parse(&format!("{}://{host}", public.scheme())).ok()?;
    if asked.origin() == public.origin() {
        return None;
    }
    let mut address = Url::parse(&format!("{}{}", public.as_str().trim_end_matches('/'), uri.path())).ok()?;
    address.set_query(uri.query());
    address.query_pairs_mut().append_pair("canonical", "1");
    Some(address)
}

/// Where a provider sends the browser back to
///
/// Answers with tokens, or leads on to the `redirect_uri` that the login was begun with; there, a failure is told in `error` and
/// `error_description`.
#[utoipa::path(get, path = "/api/v1/auth/oidc/callback", tag = "auth", security(()), params(Return),
    responses((status = 200, body = Tokens), (status = 307, description = "On to the redirect_uri"), Problems))]
async fn callback(State(node): State<Arc<Node>>, visit: Visit, headers: HeaderMap, Query(query): Query<Return>) -> Response {
    let returned = Returned {
        state: query.state,
        code: query.code,
        error: query.error,
        error_description: query.error_description,
        issuer: query.iss,
        browser: cookie::read(&headers, Purpose::Login, node.oidc.public_url()),
        is_browser: visit.is_browser,
    };
    match node.oidc.finish(returned).await {
        Ok(delivered) => delivery::respond(delivered, Tokens::from),
        Err(failed) => refuse(visit, failed),
    }
}

/// Tells the client that waits, by way of the browser; else whoever is there.
fn refuse(visit: Visit, Failed { cause, redirect_uri }: Failed) -> Response {
    cause.log();
    let own_word = if let Error::Refused { code, .. } = &cause { Some(code.clone()) } else { None };
    let problem = Problem::from(cause);
    let Some(mut address) = redirect_uri.filter(|_| visit.goes_on()) else { return visit.refuse(problem) };
    let code = own_word.unwrap_or_else(|| problem.code().as_str().to_owned());
    address.query_pairs_mut().append_pair("error", &code).append_pair("error_description", problem.message());
    delivery::private(Redirect::temporary(address.as_str()))
}

/// Exchange an ID token of a provider for an access token
///
/// For programs that have signed somebody on themselves, with the same client. The access token cannot be refreshed: bring
/// another ID token.
#[utoipa::path(post, path = "/api/v1/auth/oidc/token-exchange", tag = "auth", security(()), request_body = Exchange,
    responses((status = 200, body = AccessToken), Problems))]
async fn exchange(State(node): State<Arc<Node>>, Json(body): Json<Exchange>) -> Result<Body<AccessToken>, Problem> {
    let tenant = body.tenant.unwrap_or_else(TenantId::default_tenant);
    let login = node.oidc.exchange(&tenant, &body.provider_id, body.id_token.expose()).await?;
    Ok(Body(AccessToken { access_token: login.access_token, expires_in: ACCESS.num_seconds() }))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let code = match error {
            Error::Invalid(faults) => return Self::new(Code::ValidationFailed, summary(&faults)).with_faults(faults),
            Error::Unknown(_) => return Self::not_found(message),
            Error::Vault(cause) => return cause.into(),
            Error::Identity(cause) => return cause.into(),
            Error::NotDiscovered(_) => Code::ValidationFailed,
            Error::InUse { .. } => Code::ProviderInUse,
            Error::InvalidRedirect | Error::ForeignRedirect => Code::InvalidRequest,
            Error::InvalidState
            | Error::StateExpired
            | Error::OtherBrowser
            | Error::Refused { .. }
            | Error::NoCode
            | Error::WrongIssuer
            | Error::CodeRefused(_)
            | Error::Token(_)
            | Error::NoEmail => Code::SignOnFailed,
            Error::Unreachable { .. } => Code::VendorUnavailable,
            Error::NotProvisioned(_) | Error::EmailUnverified(_) | Error::LinkedElsewhere(_) | Error::Disabled => {
                Code::NotAdmitted
            }
        };
        Self::new(code, message)
    }
}
