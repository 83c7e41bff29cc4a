//! Identifiers. Records get a UUIDv7 newtype, things that people name get a checked short name.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! record_ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = Uuid)]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier that sorts by `now`.
            pub fn generate(now: DateTime<Utc>) -> Self {
                Self(uuid_at(now))
            }

            /// What no identifier that was generated at `now` or later sorts before.
            pub fn floor(now: DateTime<Utc>) -> Self {
                let mut bytes = *uuid_at(now).as_bytes();
                bytes[6..].fill(0);
                Self(Uuid::from_bytes(bytes))
            }

            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }
    )*};
}

record_ids! {
    /// A user, service account or agent.
    UserId,
    /// One login. Access tokens name it, so that ending it ends them.
    SessionId,
    /// One of the keys of a service account. Tokens made with it name it, so that revoking it ends them.
    CredentialId,
    /// Which connection an app uses an integration with.
    BindingId,
    /// One of several configurations of an integration.
    ConfigurationId,
    /// What a call acts with at a vendor: somebody's account there, or the leave to use somebody else's.
    ConnectionId,
    /// Something that is done again and again, by the clock.
    CronId,
    /// A file of an app.
    FileId,
    /// What is to be done when a record of an app changes.
    HookId,
    /// A folder of a bucket, or what stands for a file in it.
    ObjectId,
    /// One execution of an action, an RPC method, a webhook handler or a job.
    RunId,
    /// A sync or trigger at one connection.
    SyncId,
    /// One uploaded version of an app's backend.
    DeploymentId,
    /// An inbound webhook of an app, with a token URL of its own.
    EndpointId,
    /// One request that arrived at an endpoint.
    DeliveryId,
    /// A part of a namespace to which people belong.
    DepartmentId,
}

fn uuid_at(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, now.timestamp_subsec_nanos()))
}

/// A name that does not follow the rule of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' must be 1 to 63 characters: a lower-case letter, then lower-case letters, digits or underscores")]
pub struct InvalidName {
    pub name: String,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if is_name(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { name: text.chars().take(80).collect() })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    )*};
}

names! {
    /// The company or unit that owns everything else.
    TenantId,
    /// An installed app. Integrations are apps, so this names a provider too.
    AppId,
    /// A part of a tenant with departments and plugins of its own. It is a part of permission keys.
    NamespaceId,
    /// One of the ways in which an integration is connected.
    WayName,
}

impl TenantId {
    /// The tenant that exists from the first start.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// Whether this is the server's own tenant, whose administrators look after the server as a whole.
    pub fn is_default(&self) -> bool {
        self.as_str() == "default"
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 63
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["slack", "a", "google_calendar2"] {
            assert!(good.parse::<AppId>().is_ok(), "{good}");
        }
        for bad in ["", "Slack", "2fa", "a-b", "_x", "a b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<AppId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn identifiers_sort_by_time() {
        let early = DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time");
        let late = early + chrono::Duration::milliseconds(1);
        assert!(RunId::generate(early) < RunId::generate(late));
        assert!(RunId::floor(late) <= RunId::generate(late) && RunId::generate(early) < RunId::floor(late));
    }
}
