//! Taking tokens back at the vendor when somebody disconnects (RFC 7009): best effort, and what came of it is said.

use std::fmt;

use axum::http::{Method, Request, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use url::form_urlencoded::Serializer;
use weft_model::{
    AppId, ConnectionId, TenantId,
    manifest::user_auth::{TokenRequestAuth, Way},
};

use super::client::{LIMITS, Vendor};
use crate::connections::{error::Error, service::Connections, ways};

/// What became of the tokens at the vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// The vendor has taken them back.
    Revoked,
    /// The vendor offers no way; they end by themselves, or somebody ends them there.
    NotOffered,
    /// There was nothing of a vendor's to take back.
    NothingToRevoke,
    /// The vendor could not be told, or did not agree.
    Failed(String),
}

impl Revocation {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::NotOffered => "not_offered",
            Self::NothingToRevoke => "nothing_to_revoke",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked => formatter.write_str("the vendor has taken the tokens back"),
            Self::NotOffered => {
                formatter.write_str("the vendor offers no way to take tokens back: remove the access in its settings too")
            }
            Self::NothingToRevoke => formatter.write_str("there was nothing to take back at the vendor"),
            Self::Failed(cause) => {
                write!(formatter, "the vendor has not taken the tokens back ({cause}): remove the access in its settings")
            }
        }
    }
}

impl Connections {
    pub(in crate::connections) async fn revoke(&self, tenant: &TenantId, integration: &AppId, id: ConnectionId) -> Revocation {
        match self.try_revoke(tenant, integration, id).await {
            Ok(revocation) => revocation,
            Err(error) => {
                tracing::warn!(connection.id = %id, %error, "connection.revoke");
                Revocation::Failed(match error {
                    Error::Integration(_) | Error::Secrets(_) | Error::Database(_) | Error::App(_) => {
                        "the server could not open them".to_owned()
                    }
                    other => other.to_string(),
                })
            }
        }
    }

    async fn try_revoke(&self, tenant: &TenantId, integration: &AppId, id: ConnectionId) -> Result<Revocation, Error> {
        let app = self.integrations.get(tenant, integration).await?;
        if app.manifest.content.user_auth.is_none() {
            return Ok(Revocation::NothingToRevoke);
        }
        let connection = self.open(tenant, id).await?;
        let oauth = match ways::of(&app, &connection.credential)? {
            Way::Oauth2(oauth) => oauth,
            Way::Token(_) | Way::Oauth1(_) => return Ok(Revocation::NotOffered),
            Way::Redirect | Way::Credentials { .. } => return Ok(Revocation::NothingToRevoke),
        };
        let Some(template) = &oauth.revoke_url else { return Ok(Revocation::NotOffered) };
        let vendor = self.vendor(&app, oauth, self.callback_url(), connection.credential.origin.configuration).await?;
        let access = connection.content.values.get("accessToken").and_then(serde_json::Value::as_str);
        // With the refresh token the vendor ends what was made with it, too.
        let (token, hint) = match (&connection.refresh_token, access) {
            (Some(token), _) => (token.expose().as_str(), "refresh_token"),
            (None, Some(token)) => (token, "access_token"),
            (None, None) => return Ok(Revocation::NothingToRevoke),
        };
        let request = request(&vendor, template, oauth.token_request_auth, (token, hint))?;
        let answer = self.outbound.send(request, LIMITS).await.map_err(|error| Error::Unreachable(error.to_string()))?;
        if answer.status().is_success() {
            return Ok(Revocation::Revoked);
        }
        Ok(Revocation::Failed(format!("it answered {}", answer.status())))
    }
}

fn request(
    vendor: &Vendor<'_>,
    template: &str,
    place: TokenRequestAuth,
    (token, hint): (&str, &str),
) -> Result<Request<Vec<u8>>, Error> {
    let (id, secret) = (vendor.client_id()?, vendor.client_secret());
    let mut form = Serializer::new(String::new());
    form.append_pair("token", token).append_pair("token_type_hint", hint);
    let mut request = Request::builder().method(Method::POST).uri(vendor.address(template)?.as_str());
    request =
        request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").header(header::ACCEPT, "application/json");
    match (place, &secret) {
        (TokenRequestAuth::Basic, Some(secret)) => {
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encode(&id), encode(secret.expose())));
            request = request.header(header::AUTHORIZATION, format!("Basic {pair}"));
        }
        (_, secret) => {
            form.append_pair("client_id", &id);
            if let Some(secret) = secret {
                form.append_pair("client_secret", secret.expose());
            }
        }
    }
    request.body(form.finish().into_bytes()).map_err(|_| Error::InsecureAddress(template.to_owned()))
}
