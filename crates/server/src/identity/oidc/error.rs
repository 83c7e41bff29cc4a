//! Why a sign-on, or a change to a provider, comes to nothing.

use weft_model::Fault;

use super::discovery::NoDiscovery;
use crate::{http::outbound, identity::Error as IdentityError, secrets};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the document has faults")]
    Invalid(Vec<Fault>),
    #[error("failed to fetch discovery document: {0}")]
    NotDiscovered(NoDiscovery),
    #[error("provider '{0}'")]
    Unknown(String),
    #[error("{count} user(s) are linked to the provider '{provider}': delete it with ?force=true to unlink them")]
    InUse { provider: String, count: i64 },
    #[error("invalid redirect_uri: it must be an http or https address without user name and password")]
    InvalidRedirect,
    #[error("redirect_uri must be same-origin, or on the machine of whoever logs in (127.0.0.1, [::1], localhost)")]
    ForeignRedirect,

    #[error("invalid or expired state: this login was finished before, or was never begun. Begin it again")]
    InvalidState,
    #[error("state expired: a login has to be finished within 10 minutes. Begin it again")]
    StateExpired,
    #[error("this login was begun in another browser. Begin it again in this one")]
    OtherBrowser,
    #[error("the provider refused: {code}{}", .description.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused { code: String, description: Option<String> },
    #[error("the provider sent neither a code nor an error")]
    NoCode,
    #[error("the answer came from another provider than the one that was asked")]
    WrongIssuer,
    #[error("the provider '{provider}' cannot be asked: {cause}")]
    Unreachable { provider: String, cause: String },
    #[error("token exchange failed: {0}")]
    CodeRefused(String),
    #[error("the ID token is not accepted: {0}")]
    Token(String),
    #[error("id_token missing email claim: ask for the scope `email`, and let the provider put it into the ID token")]
    NoEmail,

    #[error("user not provisioned: there is no account for {0}, and the provider may not make one. Ask an administrator")]
    NotProvisioned(String),
    #[error("{0} cannot be used to sign on here, because the provider has not verified that it is yours")]
    EmailUnverified(String),
    #[error("the account of {0} is linked to another sign-on: use that one")]
    LinkedElsewhere(String),
    #[error("the account is disabled")]
    Disabled,

    #[error(transparent)]
    Vault(#[from] secrets::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Error {
    pub fn unreachable(provider: &str, cause: &outbound::Error) -> Self {
        Self::Unreachable { provider: provider.to_owned(), cause: cause.to_string() }
    }

    /// Why somebody is not let in, in words that nobody outside chose. Absent when it says nothing about who came.
    pub const fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Refused { .. } => Some("the provider refused"),
            Self::NoCode | Self::WrongIssuer | Self::CodeRefused(_) | Self::Token(_) | Self::NoEmail => {
                Some("what the provider sent is not accepted")
            }
            Self::StateExpired => Some("begun too long ago"),
            Self::NotProvisioned(_) => Some("not provisioned"),
            Self::EmailUnverified(_) => Some("the address is not verified"),
            Self::LinkedElsewhere(_) => Some("linked to another sign-on"),
            Self::Disabled => Some("disabled"),
            _ => None,
        }
    }

    /// Writes down why somebody was not let in, but not who.
    pub fn log(&self) {
        let reason = match self {
            Self::NotProvisioned(_) => "not provisioned".to_owned(),
            Self::EmailUnverified(_) => "the address is not verified".to_owned(),
            Self::LinkedElsewhere(_) => "linked to another sign-on".to_owned(),
            // Logged where it becomes a problem, if it is worth it.
            Self::Identity(_) | Self::Vault(_) => return,
            other => other.to_string(),
        };
        tracing::warn!(reason, "oidc.sign_on: refused");
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Identity(error.into())
    }
}
