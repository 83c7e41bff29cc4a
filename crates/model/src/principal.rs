//! Who is calling.

use serde::{Deserialize, Serialize};

use crate::{CredentialId, PermissionSet, SessionId, TenantId, UserId};

/// What kind of caller a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    User,
    ServiceAccount,
    Agent,
}

impl PrincipalKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ServiceAccount => "service_account",
            Self::Agent => "agent",
        }
    }
}

impl std::str::FromStr for PrincipalKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "user" => Ok(Self::User),
            "service_account" => Ok(Self::ServiceAccount),
            "agent" => Ok(Self::Agent),
            other => Err(format!("unknown kind of principal '{other}'")),
        }
    }
}

/// What a caller showed to be let in. When it ends, the principal ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// A person's login.
    Session {
        id: SessionId,
        /// Whether the login proved who somebody is to the whole server, not to one tenant only.
        spans_tenants: bool,
    },
    /// A token made with a key of a service account.
    Credential(CredentialId),
    /// Nothing now: it left a job or a cron that acts for it, as long as it may act itself.
    Standing,
}

/// An authenticated caller with everything that decisions about it need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub tenant: TenantId,
    pub id: UserId,
    pub kind: PrincipalKind,
    pub email: String,
    /// The roles held, inherited ones included, sorted.
    pub roles: Vec<String>,
    /// What the roles grant, narrowed to the scopes of the token when it has some.
    pub permissions: PermissionSet,
    pub proof: Proof,
}
