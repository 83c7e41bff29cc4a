//! A provider as administrators write it, as it is stored, and as it is shown: without its secret, which is in the vault.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A single sign-on provider, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SignOnProvider)]
pub struct Provider {
    /// Part of the address that logins begin at: letters, digits, `-`, `_` and `.`.
    pub id: String,
    pub display_name: String,
    /// Where `/.well-known/openid-configuration` is found: HTTPS, except on this machine.
    pub issuer_url: String,
    pub client_id: String,
    /// What is asked for; `openid` always is.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// Whether whoever the provider knows gets an account here.
    #[serde(default = "yes")]
    pub auto_register: bool,
    /// The role of a new account when the claim names none that exists.
    #[serde(default = "default_role")]
    pub default_role: String,
    /// A claim with the roles of a new account, a text or an array of texts; dots lead into objects (`realm_access.roles`).
    pub role_claim: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

fn default_role() -> String {
    "base".to_owned()
}

fn default_scopes() -> Vec<String> {
    ["openid", "email", "profile"].map(str::to_owned).to_vec()
}
