//! `/api/v1/auth/magic-link/*`.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::Secret;

use super::{
    Error,
    service::{Opened, Wanted},
};
use crate::{
    http::{
        Problems,
        extract::{Authorized, Json, Query, rights},
        problem::{Code, Problem},
        visit::Visit,
    },
    identity::{
        delivery::{self, Delivery},
        routes::{User, summary},
        service::Login,
        token::ACCESS,
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(generate)).routes(routes!(follow, consume))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewMagicLink)]
struct Generate {
    /// Who is let in. An account is made when nobody has the address.
    email: String,
    /// Roles that whoever opens the link gets besides those they have; at most 32.
    #[serde(default)]
    roles: Vec<String>,
    /// Where the browser goes on to: any http or https address. Absent: the link answers with tokens.
    redirect_uri: Option<String>,
    /// Seconds until the link expires, from 60 to 86400; 900 when absent.
    expires_in_seconds: Option<i64>,
    /// `nonce`: the address gets `auth_nonce`, to be exchanged at `/api/v1/auth/nonce-exchange`. Otherwise it gets the tokens.
    token_delivery: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MagicLink)]
struct Generated {
    /// The link. It is shown this once.
    magic_link_url: String,
    expires_at: DateTime<Utc>,
}

#[derive(Deserialize, ToSchema, IntoParams)]
#[schema(as = MagicLinkToken)]
struct Token {
    /// The token of the link.
    #[schema(value_type = String)]
    #[param(value_type = String)]
    token: Secret<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MagicLinkLogin)]
struct Consumed {
    access_token: String,
    refresh_token: String,
    /// Seconds until the access token expires.
    expires_in: i64,
    user: User,
    /// Where the link wanted its user to go.
    redirect_uri: Option<String>,
}

/// Make a link that logs somebody in
///
/// Who is no administrator confers only roles of their own, and the link lets nobody in who may do more than its maker may
/// when it is opened. The answer is the same whether or not somebody has the e-mail address.
#[utoipa::path(post, path = "/api/v1/auth/magic-link/generate", tag = "auth", request_body = Generate,
    responses((status = 201, body = Generated), Problems))]
async fn generate(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::Invite>,
    Json(body): Json<Generate>,
) -> Result<(StatusCode, Body<Generated>), Problem> {
    let wanted = Wanted {
        email: body.email,
        roles: body.roles,
        redirect_uri: body.redirect_uri,
        expires_in: body.expires_in_seconds,
        delivery: Delivery::asked(body.token_delivery.as_deref()),
    };
    let made = node.identity.make_link(&caller, wanted).await?;
    let magic_link_url = node.url(&format!("/api/v1/auth/magic-link/consume?token={}", made.token));
    Ok((StatusCode::CREATED, Body(Generated { magic_link_url, expires_at: made.expires_at })))
}

/// Open a link in a browser
///
/// Works once. Answers with a redirect when the link has one, else with tokens.
#[utoipa::path(get, path = "/api/v1/auth/magic-link/consume", tag = "auth", security(()), params(Token),
    responses((status = 200, body = Consumed), (status = 307, description = "On to the address of the link"), Problems))]
async fn follow(State(node): State<Arc<Node>>, visit: Visit, Query(query): Query<Token>) -> Response {
    match node.identity.open_link(query.token.expose(), false).await {
        Ok(opened) => answer(opened),
        Err(error) => visit.refuse(error.into()),
    }
}

/// Exchange the token of a link
///
/// Works once.
#[utoipa::path(post, path = "/api/v1/auth/magic-link/consume", tag = "auth", security(()), request_body = Token,
    responses((status = 200, body = Consumed), Problems))]
async fn consume(State(node): State<Arc<Node>>, Json(body): Json<Token>) -> Result<Response, Problem> {
    Ok(answer(node.identity.open_link(body.token.expose(), true).await?))
}

fn answer(Opened { delivered, redirect_uri }: Opened) -> Response {
    delivery::respond(delivered, |Login { access_token, refresh_token, user, .. }| Consumed {
        access_token,
        refresh_token,
        expires_in: ACCESS.num_seconds(),
        user: user.into(),
        redirect_uri: redirect_uri.map(String::from),
    })
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(faults) => Self::new(Code::ValidationFailed, summary(&faults)).with_faults(faults),
            Error::NotHeld(_) => Self::new(Code::Forbidden, message),
            Error::Malformed | Error::Gone => Self::new(Code::Unauthenticated, message),
            Error::Identity(cause) => cause.into(),
        }
    }
}
