//! Why a request did not get an answer, in words that name the host and nothing else of the address.

use std::time::Duration;

use super::resolve::Nowhere;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the address is no http or https URL without user name and password, or longer than 65,534 bytes")]
    Address,
    #[error(
        "{host} is not on the public internet; in development, the setting egress_allow (WEFT_EGRESS_ALLOW) opens such addresses"
    )]
    Inward { host: String },
    #[error("the name {host} cannot be looked up")]
    Unresolved { host: String },
    /// `connected`: the other side may have got some of the request, or all of it.
    #[error("{host} cannot be reached: {cause}")]
    Unreachable { host: String, cause: String, connected: bool },
    #[error("{host} did not answer within {} s", .after.as_secs_f32())]
    Timeout { host: String, after: Duration },
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge { host: String, limit: usize },
    #[error("{host} redirects too often, from https to http, or nowhere")]
    Redirect { host: String },
}

impl Error {
    /// Whether it is certain that nobody got the request.
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Address | Self::Inward { .. } | Self::Unresolved { .. } => true,
            Self::Unreachable { connected, .. } => !connected,
            Self::Timeout { .. } | Self::TooLarge { .. } | Self::Redirect { .. } => false,
        }
    }

    /// Whether the same request may succeed in a while.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unresolved { .. } | Self::Unreachable { .. } | Self::Timeout { .. })
    }

    /// What the HTTP library reports, by its innermost cause.
    pub(super) fn transport(host: &str, error: &(dyn std::error::Error + 'static), connected: bool) -> Self {
        let host = host.to_owned();
        let mut cause = error;
        loop {
            match cause.downcast_ref::<Nowhere>() {
                Some(Nowhere::Inward) => return Self::Inward { host },
                Some(Nowhere::Unresolved) => return Self::Unresolved { host },
                None => {}
            }
            match cause.source() {
                Some(deeper) => cause = deeper,
                None => return Self::Unreachable { host, cause: cause.to_string(), connected },
            }
        }
    }
}
