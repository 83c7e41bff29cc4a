//! `/api/v1/apps/{app_id}/secrets`, `/api/v1/platform/secrets` and the rotation of the master key.

use std::sync::Arc;

use axum::{Json as Body, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{AppId, Fault, Principal, Secret};
use weft_vault::MasterKey;

use super::service::{Error, RotationFailed, Scope};
use crate::{
    audit::{self, Action, Event},
    db::notify::{self, Change},
    http::{
        Message, Problems,
        extract::{Authorized, Json, Path, rights},
        problem::{Code, Problem},
    },
    node::Node,
};

/// Names that a backend's environment must keep to itself.
const RESERVED: [&str; 4] = ["PATH", "HOME", "TMPDIR", "IFS"];
const RESERVED_PREFIXES: [&str; 7] = ["WEFT_", "ROOTCX_", "LD_", "DYLD_", "BUN_", "NODE_", "NPM_"];
/// In bytes. An environment variable has to take it: the system allows 128 KiB for one.
const LONGEST_VALUE: usize = 64 * 1024;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(list_app_secrets, set_app_secret))
        .routes(routes!(delete_app_secret))
        .routes(routes!(list_platform_secrets, set_platform_secret))
        .routes(routes!(delete_platform_secret))
        .routes(routes!(rotate_key))
}

#[derive(Deserialize, ToSchema)]
struct NewSecret {
    /// Letters, digits and underscores, not starting with a digit.
    key: String,
    #[schema(value_type = String, format = Password)]
    value: Secret<String>,
}

#[derive(Serialize, ToSchema)]
struct PlatformMessage {
    message: String,
    /// Always 0: platform secrets travel with each call, so no worker has to start again.
    workers_restarted: u32,
}

/// List the names of an app's secrets
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/secrets", tag = "secrets", params(("app_id" = AppId, Path)),
    responses((status = 200, body = Vec<String>), Problems))]
async fn list_app_secrets(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageSecrets>,
    Path(app): Path<AppId>,
) -> Result<Body<Vec<String>>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    names(&node, &caller, &Scope::App(app)).await
}

/// Set a secret of an app
///
/// The app's backend gets it as an environment variable and in `ctx.credentials`; it is started again when it runs.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/secrets", tag = "secrets", params(("app_id" = AppId, Path)),
    request_body = NewSecret, responses((status = 200, body = Message), Problems))]
async fn set_app_secret(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageSecrets>,
    Path(app): Path<AppId>,
    Json(secret): Json<NewSecret>,
) -> Result<Body<Message>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    let reserved =
        RESERVED.contains(&secret.key.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| secret.key.starts_with(prefix));
    if reserved {
        return Err(Error::InvalidName("this name is reserved for the backend's own environment").into());
    }
    set(&node, &caller, &Scope::App(app.clone()), &secret).await?;
    Ok(Message::new(format!("secret '{}' set", secret.key)))
}

/// Delete a secret of an app
#[utoipa::path(delete, path = "/api/v1/apps/{app_id}/secrets/{key}", tag = "secrets",
    params(("app_id" = AppId, Path), ("key" = String, Path)), responses((status = 200, body = Message), Problems))]
async fn delete_app_secret(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageSecrets>,
    Path((app, key)): Path<(AppId, String)>,
) -> Result<Body<Message>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    delete(&node, &caller, &Scope::App(app.clone()), &key).await?;
    Ok(Message::new(format!("secret '{key}' deleted")))
}

/// List the names of the platform's secrets
#[utoipa::path(get, path = "/api/v1/platform/secrets", tag = "secrets", responses((status = 200, body = Vec<String>), Problems))]
async fn list_platform_secrets(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageSecrets>,
) -> Result<Body<Vec<String>>, Problem> {
    names(&node, &caller, &Scope::Platform).await
}

/// Set a secret that integrations share
#[utoipa::path(post, path = "/api/v1/platform/secrets", tag = "secrets", request_body = NewSecret,
    responses((status = 200, body = PlatformMessage), Problems))]
async fn set_platform_secret(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageSecrets>,
    Json(secret): Json<NewSecret>,
) -> Result<Body<PlatformMessage>, Problem> {
    set(&node, &caller, &Scope::Platform, &secret).await?;
    Ok(Body(PlatformMessage { message: format!("platform secret '{}' set", secret.key), workers_restarted: 0 }))
}

/// Delete a secret that integrations share
#[utoipa::path(delete, path = "/api/v1/platform/secrets/{key}", tag = "secrets", params(("key" = String, Path)),
    responses((status = 200, body = PlatformMessage), Problems))]
async fn delete_platform_secret(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ManageSecrets>,
    Path(key): Path<String>,
) -> Result<Body<PlatformMessage>, Problem> {
    delete(&node, &caller, &Scope::Platform, &key).await?;
    Ok(Body(PlatformMessage { message: format!("platform secret '{key}' deleted"), workers_restarted: 0 }))
}

async fn names(node: &Node, caller: &Principal, scope: &Scope) -> Result<Body<Vec<String>>, Problem> {
    let mut connection = node.pool.acquire().await?;
    Ok(Body(node.vault.names(&mut connection, &caller.tenant, scope).await?))
}

async fn set(node: &Arc<Node>, caller: &Principal, scope: &Scope, secret: &NewSecret) -> Result<(), Problem> {
    let mut bytes = secret.key.bytes();
    let fits = secret.key.len() <= 128
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !fits {
        return Err(Error::InvalidName("a key is 1 to 128 letters, digits and underscores, not starting with a digit").into());
    }
    if secret.value.expose().len() > LONGEST_VALUE || secret.value.expose().contains('\0') {
        return Err(Error::InvalidValue("a value has at most 65,536 bytes and no character U+0000").into());
    }
    let mut transaction = node.pool.begin().await?;
    node.vault.set(&mut transaction, (&caller.tenant, scope), &secret.key, &secret.value, Some(caller.id)).await?;
    let event = Event::by(caller, Action::SecretSet).on("secret", format!("{scope} {}", secret.key));
    audit::record(&mut transaction, &event, node.clock.now()).await?;
    commit(node, scope, transaction).await
}

async fn delete(node: &Arc<Node>, caller: &Principal, scope: &Scope, key: &str) -> Result<(), Problem> {
    let mut transaction = node.pool.begin().await?;
    if !node.vault.delete(&mut transaction, &caller.tenant, scope, key).await? {
        return Err(Error::Unknown(key.to_owned()).into());
    }
    let event = Event::by(caller, Action::SecretDeleted).on("secret", format!("{scope} {key}"));
    audit::record(&mut transaction, &event, node.clock.now()).await?;
    commit(node, scope, transaction).await
}

async fn commit(node: &Arc<Node>, scope: &Scope, mut transaction: sqlx::Transaction<'_, sqlx::Postgres>) -> Result<(), Problem> {
    // An app's worker starts again when the notification comes back, here as on every other node.
    let change = if let Scope::App(app) = scope { Change::AppSecrets(app.clone()) } else { Change::Secrets };
    notify::announce(&mut transaction, &change).await?;
    transaction.commit().await?;
    node.integrations.forget();
    Ok(())
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Rotation {
    /// The key to change to, 64 hexadecimal digits. Needed where WEFT_MASTER_KEY is set; otherwise one is made.
    #[schema(value_type = Option<String>)]
    new_master_key: Option<Secret<String>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Rotated {
    message: String,
    /// Public name of the key now in use.
    master_key_id: String,
}

/// Replace the master key of the vault
///
/// Data keys are wrapped anew; stored values stay as they are and nothing stops meanwhile.
#[utoipa::path(post, path = "/api/v1/vault/rotate-key", tag = "secrets", request_body = Rotation,
    responses((status = 200, body = Rotated), Problems))]
async fn rotate_key(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::RotateVault>,
    Json(rotation): Json<Rotation>,
) -> Result<Body<Rotated>, Problem> {
    let invalid = |message: String| Problem::new(Code::ValidationFailed, message);
    let from_environment = node.settings.master_key.is_some();
    let new = match rotation.new_master_key {
        Some(text) => MasterKey::from_hex(text.expose()).map_err(|error| invalid(format!("newMasterKey: {error}")))?,
        None if from_environment => {
            return Err(invalid(
                "The master key comes from WEFT_MASTER_KEY. Send the key to change to as newMasterKey, then set the variable \
                 to it before the next start."
                    .to_owned(),
            ));
        }
        None => MasterKey::generate(),
    };
    let file = (!from_environment).then(|| node.keys.master_file());
    let event = Event::by(&caller, Action::VaultKeyRotated).on("master_key", new.id());
    let master_key_id = node.vault.rotate(new, file.as_ref(), &event).await?;
    let next = if from_environment { "Set WEFT_MASTER_KEY to the new key before the next start of any node." } else { "" };
    Ok(Body(Rotated { message: format!("master key replaced. {next}").trim().to_owned(), master_key_id }))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Unknown(_) => Self::not_found(message),
            Error::InvalidName(_) => fault("$.key", message),
            Error::InvalidValue(_) => fault("$.value", message),
            Error::Database(cause) => cause.into(),
            Error::StaleMasterKey => Self::new(Code::Unavailable, message),
            Error::WrongMasterKey { .. } | Error::Damaged { .. } | Error::NoKey(_) => Self::internal(message),
        }
    }
}

fn fault(path: &str, message: String) -> Problem {
    Problem::new(Code::ValidationFailed, message.clone()).with_faults(vec![Fault::new(path, message)])
}

impl From<RotationFailed> for Problem {
    fn from(error: RotationFailed) -> Self {
        match error {
            RotationFailed::Vault(error) => error.into(),
            RotationFailed::NotKept(cause) => Self::internal(cause),
        }
    }
}
