//! `/.well-known/jwks.json` and `/api/v1/auth/signing-keys`.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::header, response::IntoResponse};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_attest::Jwk;

use super::service::{Error, REMEMBERED, Rotation};
use crate::{
    audit::{self, Action, Event},
    http::{
        Problems,
        extract::{Authorized, Caller, Json, rights},
        problem::{Code, Problem},
    },
    node::Node,
};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(key_set)).routes(routes!(list)).routes(routes!(rotate))
}

/// A JSON Web Key Set (RFC 7517).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer in the API reference; its type is the engine's")]
struct PublicKeys {
    #[schema(value_type = Vec<Object>)]
    keys: Vec<Jwk>,
}

/// A key that signs tokens of machines and checkpoints of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Key {
    /// Its thumbprint, the `kid` of what it signed.
    id: String,
    created_at: DateTime<Utc>,
    /// When it begins to sign; it is published before.
    signs_from: DateTime<Utc>,
    /// When its successor took over.
    retired_at: Option<DateTime<Utc>>,
    /// When it was withdrawn: nothing that it signed is accepted.
    revoked_at: Option<DateTime<Utc>>,
    #[schema(value_type = Object)]
    jwk: Jwk,
}

#[derive(Deserialize, ToSchema)]
struct RotateKeys {
    /// Withdraw the keys so far: whatever they signed is refused from now on. For a key that may have leaked.
    #[serde(default)]
    revoke: bool,
}

#[derive(Serialize, ToSchema)]
struct RotatedKeys {
    message: String,
    /// The name of the new key.
    id: String,
}

/// The keys to check tokens of machines with
///
/// A JSON Web Key Set. It may be remembered for five minutes.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "auth", security(()), responses((status = 200, body = PublicKeys)))]
async fn key_set(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let cache = format!("public, max-age={}", REMEMBERED.num_seconds());
    ([(header::CACHE_CONTROL, cache)], Body(node.authority.key_set()))
}

/// List the server's signing keys
///
/// Every key there ever was, newest first: what old ones signed may still have to be checked.
#[utoipa::path(get, path = "/api/v1/auth/signing-keys", tag = "auth", responses((status = 200, body = Vec<Key>), Problems))]
async fn list(State(node): State<Arc<Node>>, _caller: Caller) -> Body<Vec<Key>> {
    let keys = node.authority.keys().into_iter().map(|(stored, jwk)| Key {
        id: stored.id,
        created_at: stored.created_at,
        signs_from: stored.signs_from,
        retired_at: stored.retired_at,
        revoked_at: stored.revoked_at,
        jwk,
    });
    Body(keys.collect())
}

/// Replace the key that signs
///
/// In order: the new key is published now and signs in ten minutes. With `revoke` at once, and older keys are withdrawn.
#[utoipa::path(post, path = "/api/v1/auth/signing-keys/rotate", tag = "auth", request_body = RotateKeys,
    responses((status = 200, body = RotatedKeys), Problems))]
async fn rotate(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::RotateSigningKeys>,
    Json(request): Json<RotateKeys>,
) -> Result<Body<RotatedKeys>, Problem> {
    let (rotation, message) = if request.revoke {
        (Rotation::Revoke, "a new key signs, the ones before are withdrawn")
    } else {
        (Rotation::InOrder, "a new key is published and signs in ten minutes")
    };
    let mut transaction = node.pool.begin().await?;
    let id = node.authority.rotate(&mut transaction, rotation).await?;
    let event = Event::by(&caller, Action::SigningKeyRotated).on("signing_key", &id).with("revoke", request.revoke);
    audit::record(&mut transaction, &event, node.clock.now()).await?;
    transaction.commit().await?;
    node.authority.reload().await?;
    node.identity.forget();
    Ok(Body(RotatedKeys { message: message.to_owned(), id }))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Secrets(cause) => cause.into(),
            Error::Database(cause) => cause.into(),
            Error::Refused(_) => Self::new(Code::Unauthenticated, "the token is not valid"),
            Error::Damaged(_) => Self::internal(message),
        }
    }
}
