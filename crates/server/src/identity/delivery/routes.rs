//! `/api/v1/auth/nonce-exchange`, and the answer that every sign-on ends with.

use std::sync::Arc;

use axum::{
    Json as Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::Secret;

use super::Delivered;
use crate::{
    http::{Problems, extract::Json, problem::Problem},
    identity::{service::Login, token::ACCESS},
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(exchange))
}

/// The tokens of a new session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SignedOn)]
pub struct Tokens {
    access_token: String,
    refresh_token: String,
    /// Seconds until the access token expires.
    expires_in: i64,
}

impl From<Login> for Tokens {
    fn from(login: Login) -> Self {
        Self { access_token: login.access_token, refresh_token: login.refresh_token, expires_in: ACCESS.num_seconds() }
    }
}

#[derive(Deserialize, ToSchema)]
struct Nonce {
    /// The `auth_nonce` of the address that a sign-on led to.
    #[schema(value_type = String)]
    nonce: Secret<String>,
}

/// Exchange the nonce of a sign-on for tokens
///
/// Works once, within 30 seconds.
#[utoipa::path(post, path = "/api/v1/auth/nonce-exchange", tag = "auth", security(()), request_body = Nonce,
    responses((status = 200, body = Tokens), Problems))]
async fn exchange(State(node): State<Arc<Node>>, Json(body): Json<Nonce>) -> Result<Response, Problem> {
    let login = node.identity.exchange_nonce(body.nonce.expose()).await?;
    Ok(private(Body(Tokens::from(login))))
}

/// The answer to a browser that signed on: it goes on, or gets `here` of the tokens.
pub fn respond<T: Serialize>(delivered: Delivered, here: impl FnOnce(Login) -> T) -> Response {
    match delivered {
        Delivered::Here(login) => private(Body(here(login))),
        Delivered::Redirect(address) => private(Redirect::temporary(address.as_str())),
    }
}

/// Keeps an answer out of caches, and its address out of what the next page learns.
pub fn private(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
