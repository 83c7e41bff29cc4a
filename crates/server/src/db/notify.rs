//! Invalidation between nodes: whoever changes something that others cache says so in the same transaction.
//!
//! A node keeps one connection that listens. The same connection holds the advisory lock that proves that the node lives.
//! After a lost connection everything is dropped from the caches, because notifications may have been missed.

use std::{fmt, str::FromStr, time::Duration};

use sqlx::{PgConnection, PgPool, postgres::PgListener};
use tokio_util::sync::CancellationToken;
use weft_model::AppId;

const CHANNEL: &str = "weft_changes";

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Users, sessions, roles or assignments.
    Identity,
    /// An app's manifest, deployment or worker, or an integration's configuration.
    App(AppId),
    /// Platform secrets.
    Secrets,
    /// The secrets of an app, which its worker gets when it starts.
    AppSecrets(AppId),
    /// The vault's keys.
    Vault,
    /// Unknown: drop everything.
    Everything,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => formatter.write_str("identity"),
            Self::App(app) => write!(formatter, "app {app}"),
            Self::Secrets => formatter.write_str("secrets"),
            Self::AppSecrets(app) => write!(formatter, "secrets {app}"),
            Self::Vault => formatter.write_str("vault"),
            Self::Everything => formatter.write_str("everything"),
        }
    }
}

impl FromStr for Change {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(' ') {
            None if text == "identity" => Self::Identity,
            None if text == "secrets" => Self::Secrets,
            None if text == "vault" => Self::Vault,
            Some(("app", id)) => id.parse().map_or(Self::Everything, Self::App),
            Some(("secrets", id)) => id.parse().map_or(Self::Everything, Self::AppSecrets),
            _ => Self::Everything,
        })
    }
}

/// Tells every node, once the transaction of `connection` is committed.
pub async fn announce(connection: &mut PgConnection, change: &Change) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify($1, $2)", CHANNEL, change.to_string()).fetch_one(connection).await?;
    Ok(())
}

/// Listens until `stop`; calls `apply` for each change, and with [`Change::Everything`] for each fresh connection.
pub async fn listen(pool: PgPool, lock_key: i64, stop: CancellationToken, apply: impl Fn(Change)) {
    while !stop.is_cancelled() {
        match connect(&pool, lock_key).await {
            Ok(mut listener) => {
                // What was remembered while nobody listened may be out of date.
                apply(Change::Everything);
                receive(&mut listener, &stop, &apply).await;
            }
            Err(error) => tracing::warn!(%error, "cannot listen for changes"),
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), stop.cancelled()).await;
    }
}

async fn connect(pool: &PgPool, lock_key: i64) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    sqlx::query!("select pg_try_advisory_lock($1)", lock_key).fetch_one(&mut listener).await?;
    Ok(listener)
}

async fn receive(listener: &mut PgListener, stop: &CancellationToken, apply: &impl Fn(Change)) {
    loop {
        let notification = tokio::select! {
            () = stop.cancelled() => return,
            notification = listener.try_recv() => notification,
        };
        match notification {
            Ok(Some(notification)) => match notification.payload().parse() {
                Ok(change) => apply(change),
                Err(never) => match never {},
            },
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_survive_the_wire_and_the_unknown_drops_everything() {
        let app = || "slack".parse().expect("a name");
        for change in [Change::Identity, Change::Secrets, Change::Vault, Change::App(app()), Change::AppSecrets(app())] {
            assert_eq!(change.to_string().parse(), Ok(change));
        }
        assert_eq!("something newer".parse(), Ok(Change::Everything));
    }
}
