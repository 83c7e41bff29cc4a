//! Why there is no connection, or why it cannot be used, in the words of the domain.

use weft_model::{AppId, ConnectionId, Fault, connection::ConnectionStatus, run::ErrorCategory};

use crate::{apps, integrations, secrets};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connection '{0}'")]
    Unknown(ConnectionId),
    #[error("not your connection")]
    NotYours,
    #[error("integration '{0}' works without accounts of its users: there is nothing to connect")]
    NothingToConnect(AppId),
    #[error("integration '{integration}' is connected by {way}: use POST /api/v1/integrations/{integration}/auth/start{instead}")]
    OtherWay { integration: AppId, way: &'static str, instead: String },
    #[error("integration '{integration}' has no way '{way}' to connect; it has: {known}")]
    UnknownWay { integration: AppId, way: String, known: String },
    #[error("the integration does not offer the way '{way}' any more; it offers: {known}")]
    WayRemoved { way: String, known: String },
    #[error("the credentials have faults")]
    Invalid(Vec<Fault>),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("another connection has the label '{0}'")]
    LabelTaken(String),
    #[error("{0}")]
    Denied(String),

    #[error("you are not connected to '{integration}': run `weft connect {integration}`, or POST {connect_url}")]
    NotConnected { integration: AppId, connect_url: String },
    #[error("the connection to '{integration}' does not work any more: {reason}. Connect again: `weft connect {integration}`")]
    Dead { integration: AppId, connection: ConnectionId, reason: String, reconnect_url: String },
    #[error("the delegation was good until {0}: ask whoever made it for another one")]
    DelegationOver(chrono::DateTime<chrono::Utc>),
    #[error("the delegation has no calls left: ask whoever made it for another one")]
    DelegationUsedUp,
    #[error("the delegation does not cover the action '{action}'; it covers: {covered}")]
    ActionNotDelegated { action: String, covered: String },
    #[error("you must connect this integration first")]
    NothingToDelegate,

    #[error("the configuration has no '{0}', which connecting needs: an administrator saves it with `weft config`")]
    NoClient(String),
    #[error("'{0}' in the manifest is no address that tokens can be sent to: it has to be https, or on this machine")]
    InsecureAddress(String),
    #[error("the vendor cannot be asked for a token: {0}")]
    Unreachable(String),
    #[error("the vendor refuses this server's client ({0}): an administrator has to check the configuration")]
    ClientRefused(String),
    #[error("the vendor did not give a token: {0}")]
    NoToken(String),

    #[error("this address was used before, or was never given out. Connect again")]
    InvalidState,
    #[error("connecting has to be finished within 10 minutes. Begin again")]
    StateExpired,
    #[error("the vendor says: {}{}", explain(.code), .description.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused { code: String, description: Option<String> },
    #[error("the vendor sent neither a code nor an error")]
    NoCode,
    #[error("the vendor sent no '{0}': was the installation finished there?")]
    NotSent(String),
    #[error("the integration's {method} handler {problem}")]
    Backend { method: &'static str, problem: String },

    #[error(transparent)]
    App(#[from] apps::Error),
    #[error(transparent)]
    Integration(#[from] integrations::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Error {
    /// How the record of a run tells it.
    pub const fn in_runs(&self) -> (&'static str, ErrorCategory) {
        match self {
            Self::NotConnected { .. } => ("not_connected", ErrorCategory::Auth),
            Self::Dead { .. } | Self::WayRemoved { .. } => ("reconnect_required", ErrorCategory::Auth),
            Self::NoClient(_) | Self::InsecureAddress(_) | Self::ClientRefused(_) => ("not_configured", ErrorCategory::Auth),
            Self::NoToken(_) | Self::Refused { .. } | Self::NoCode | Self::NotSent(_) => ("connect_failed", ErrorCategory::Auth),
            Self::Unknown(_) => ("unknown_connection", ErrorCategory::Validation),
            Self::Denied(_) | Self::NotYours => ("denied", ErrorCategory::Validation),
            Self::DelegationOver(_) | Self::DelegationUsedUp | Self::ActionNotDelegated { .. } => {
                ("not_delegated", ErrorCategory::Validation)
            }
            Self::Unreachable(_) => ("vendor_unavailable", ErrorCategory::Transient),
            Self::App(_) | Self::Integration(_) | Self::Secrets(_) | Self::Database(_) => {
                ("unavailable", ErrorCategory::Transient)
            }
            _ => ("invalid_request", ErrorCategory::Validation),
        }
    }

    /// Whether its words are the server's own business.
    pub const fn is_internal(&self) -> bool {
        matches!(self, Self::App(_) | Self::Integration(_) | Self::Secrets(_) | Self::Database(_))
    }

    /// Where connecting begins, which would help.
    pub fn reconnect_url(&self) -> Option<&str> {
        match self {
            Self::NotConnected { connect_url: url, .. } | Self::Dead { reconnect_url: url, .. } => Some(url),
            _ => None,
        }
    }
}

/// What the codes of RFC 6749 mean to a person.
fn explain(code: &str) -> String {
    let words = match code {
        "access_denied" => "access was not granted",
        "invalid_scope" => "it does not know a scope that the integration asks for",
        "unauthorized_client" | "invalid_client" => "it does not know this server's OAuth client",
        "redirect_uri_mismatch" => "the callback address of this server is not registered there",
        "server_error" => "it has a fault of its own; try again later",
        "temporarily_unavailable" => "it is busy; try again later",
        other => return other.to_owned(),
    };
    format!("{words} [{code}]")
}

/// Why a connection with this status does not serve, where nothing more is known.
pub const fn reason(status: ConnectionStatus) -> &'static str {
    match status {
        ConnectionStatus::Active => "it serves",
        ConnectionStatus::Expired => "the vendor does not accept its credentials any more",
        ConnectionStatus::Revoked => "access was taken back at the vendor",
        ConnectionStatus::Error => "it failed",
    }
}

/// Somebody else's text, fit to be shown.
pub fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}
