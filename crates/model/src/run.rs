//! Runs: what kinds there are, how they end and how failures are sorted.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:tt),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),* }

        impl $name {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    other => Err(format!("'{other}' is not one of {}", [$($word),*].join(", "))),
                }
            }
        }
    };
}

pub(crate) use words;

words! {
    /// What was executed.
    RunKind {
        /// An action of an integration.
        Action = "action",
        /// A method of an app's backend.
        Rpc = "rpc",
        /// The handler of an inbound webhook.
        Webhook = "webhook",
        /// An attempt at a job.
        Job = "job",
    }
}

words! {
    /// Where a run stands.
    RunStatus {
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
    }
}

words! {
    /// Why a run failed, in the terms that decide what to do next.
    ErrorCategory {
        /// May work later: the vendor or the network was unavailable.
        Transient = "Transient",
        /// The vendor asks to slow down.
        RateLimited = "RateLimited",
        /// The vendor refuses the credential.
        Auth = "Auth",
        /// The request is wrong and stays wrong.
        Validation = "Validation",
        /// A fault in the backend's own code; trying again does not help.
        Poison = "Poison",
    }
}
