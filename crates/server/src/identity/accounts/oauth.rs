//! `POST /oauth/token`, `POST /api/v1/auth/token` and the server's OAuth metadata.
//!
//! Both token endpoints are one: the grant `client_credentials` of RFC 6749, the client named by HTTP Basic or in the form.
//! Errors have the fields of RFC 6749 besides those that every problem has.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use axum::{
    Json as Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{Secret, scope};

use super::{service::Error, token::MachineToken};
use crate::{
    http::{
        OauthProblems,
        extract::body_bytes,
        problem::{Code, Problem},
    },
    node::Node,
};

const GRANT: &str = "client_credentials";
const BASIC: &str = "Basic realm=\"weft\"";

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(oauth_token)).routes(routes!(auth_token)).routes(routes!(metadata))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form in the API reference")]
struct TokenForm {
    /// Always `client_credentials`.
    grant_type: String,
    /// The id of the service account, unless it comes with HTTP Basic.
    client_id: Option<String>,
    /// A key of the service account, unless it comes with HTTP Basic.
    client_secret: Option<String>,
    /// What the token may be used for, separated by spaces; all that the account may do when absent.
    scope: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct TokenAnswer {
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds until the token expires.
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// What clients need to know of this authorization server (RFC 8414).
#[derive(Serialize, ToSchema)]
struct Metadata {
    issuer: String,
    token_endpoint: String,
    jwks_uri: String,
    response_types_supported: [&'static str; 0],
    grant_types_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 2],
    /// The scopes with names of their own; permission keys are scopes too.
    scopes_supported: Vec<&'static str>,
    service_documentation: String,
}

/// Get a token for a service account
///
/// OAuth 2.0, grant `client_credentials`. The token is a JWT that other services can check with `/.well-known/jwks.json`.
#[utoipa::path(post, path = "/oauth/token", tag = "auth", security(()),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = TokenAnswer), OauthProblems))]
async fn oauth_token(State(node): State<Arc<Node>>, request: Request) -> Response {
    answer(&node, request).await
}

/// Get a token for a service account
///
/// The same as `/oauth/token`.
#[utoipa::path(post, path = "/api/v1/auth/token", tag = "auth", security(()),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = TokenAnswer), OauthProblems))]
async fn auth_token(State(node): State<Arc<Node>>, request: Request) -> Response {
    answer(&node, request).await
}

/// What OAuth clients need to know of this server
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", tag = "auth", security(()),
    responses((status = 200, body = Metadata)))]
async fn metadata(State(node): State<Arc<Node>>) -> Body<Metadata> {
    Body(Metadata {
        issuer: node.url(""),
        token_endpoint: node.url("/oauth/token"),
        jwks_uri: node.url("/.well-known/jwks.json"),
        response_types_supported: [],
        grant_types_supported: [GRANT],
        token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
        scopes_supported: scope::NAMED.iter().map(|(name, _)| *name).collect(),
        service_documentation: node.url("/docs"),
    })
}

async fn answer(node: &Arc<Node>, request: Request) -> Response {
    let mut response = match token(node, request).await {
        Ok(MachineToken { token, expires_in, scope }) => {
            Body(TokenAnswer { access_token: token, token_type: "Bearer", expires_in, scope }).into_response()
        }
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn token(node: &Arc<Node>, request: Request) -> Result<MachineToken, Problem> {
    let basic = basic(request.headers())?;
    let uses_basic = basic.is_some();
    let mut form = form(request).await?;
    let mut field = |name: &str| form.remove(name).filter(|value| !value.is_empty());
    match field("grant_type").as_deref() {
        Some(GRANT) => {}
        Some(_) => {
            let message = format!("The only grant here is {GRANT}.");
            return Err(refusal("unsupported_grant_type", Code::InvalidRequest, message));
        }
        None => return Err(malformed("grant_type is missing.")),
    }
    let (client, key) = match (basic, field("client_id"), field("client_secret")) {
        (Some(_), _, Some(_)) => return Err(malformed("Send the key in the header or in the form, not in both.")),
        (Some((client, _)), Some(other), None) if client != other => {
            return Err(malformed("The header and the form name different clients."));
        }
        (Some((client, key)), _, None) | (None, Some(client), Some(key)) => (client, key),
        (None, ..) => return Err(unknown_client("client_id or client_secret is missing.".to_owned(), false)),
    };
    let issued = node.identity.issue_token(&client, &Secret::new(key), field("scope").as_deref()).await;
    issued.map_err(|error| refuse(error, uses_basic))
}

fn refuse(error: Error, uses_basic: bool) -> Problem {
    let message = error.to_string();
    match error {
        Error::InvalidClient => unknown_client(message, uses_basic),
        Error::Scope(_) | Error::ScopeNotHeld(_) => refusal("invalid_scope", Code::InvalidRequest, message),
        other => {
            let problem = Problem::from(other);
            let code = if problem.code() == Code::Unavailable { "temporarily_unavailable" } else { "server_error" };
            problem.with_oauth(code)
        }
    }
}

fn refusal(oauth: &'static str, code: Code, message: impl Into<String>) -> Problem {
    Problem::new(code, message).with_oauth(oauth)
}

fn malformed(message: &str) -> Problem {
    refusal("invalid_request", Code::InvalidRequest, message)
}

fn unknown_client(message: String, uses_basic: bool) -> Problem {
    let problem = refusal("invalid_client", Code::Unauthenticated, message);
    if uses_basic { problem.with_challenge(BASIC) } else { problem }
}

/// The client's id and key from an `Authorization: Basic` header (RFC 6749, 2.3.1: both are form-encoded before).
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let unreadable = || unknown_client("The Authorization header is no valid HTTP Basic.".to_owned(), true);
    let text = value.to_str().map_err(|_| unreadable())?;
    // Clients that send their old token along with everything do not authenticate by it here.
    let Some((_, encoded)) = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")) else {
        return Ok(None);
    };
    let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unreadable)?;
    let (client, key) = decoded.split_once(':').ok_or_else(unreadable)?;
    Ok(Some((form_decoded(client), form_decoded(key))))
}

fn form_decoded(text: &str) -> String {
    url::form_urlencoded::parse(text.as_bytes()).next().map_or_else(String::new, |(name, _)| name.into_owned())
}

/// Bytes of a form: its parameters are short.
const FORM_LIMIT: usize = 16 * 1024;

/// The fields of the form, each of which may come once.
async fn form(request: Request) -> Result<BTreeMap<String, String>, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        return Err(malformed("Send the parameters as application/x-www-form-urlencoded."));
    }
    let body = body_bytes(request, FORM_LIMIT).await.map_err(|problem| problem.with_oauth("invalid_request"))?;
    let mut fields = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(&body) {
        if fields.insert(Cow::into_owned(name), value.into_owned()).is_some() {
            return Err(malformed("A parameter came twice."));
        }
    }
    Ok(fields)
}
