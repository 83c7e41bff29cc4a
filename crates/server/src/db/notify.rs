//! Invalidation between nodes: whoever changes something that others cache says so in the same transaction.
//!
//! The names that notifications go by end in something that nobody can guess: SQL of apps may notify whomever it can name.
//!
//! A node keeps one connection that listens. The same connection holds the advisory lock that proves that the node lives, a
//! fresh one for each connection: the database may not have noticed yet that the one before is lost. After a lost connection
//! everything is dropped from the caches, because notifications may have been missed.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{
    PgConnection, PgPool,
    postgres::{PgListener, PgNotification},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_model::{AppId, ConnectionId, TenantId};
use weft_queue::Ready;

use crate::events;

/// How its name begins.
const CHANNEL: &str = "weft_changes";
/// Between two attempts to listen. Others must not take a node for dead that needs no longer than this to return.
pub const RECONNECT: Duration = Duration::from_millis(500);

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Users, sessions, roles or assignments.
    Identity,
    /// An app's manifest, deployment or worker, or an integration's configuration.
    App(AppId),
    /// The credentials or the status of a connection.
    Connection(ConnectionId),
    /// Which connections there are in a tenant, or what is bound to them; and the transaction that changed it.
    Connections(TenantId, Option<TransactionId>),
    /// Platform secrets.
    Secrets,
    /// The secrets of an app, which its worker gets when it starts.
    AppSecrets(AppId),
    /// The vault's keys.
    Vault,
    /// The keys that the server signs with.
    SigningKeys,
    /// Which nodes there are, or by which roll they work.
    Nodes,
    /// Messages became ready in the queue.
    Ready(Ready),
    /// Something happened that consumers of events may want to hear of.
    Events,
    /// Unknown: drop everything.
    Everything,
}

/// A transaction of the database. A node knows by it the word of its own changes when that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(u64);

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => formatter.write_str("identity"),
            Self::App(app) => write!(formatter, "app {app}"),
            Self::Connection(id) => write!(formatter, "connection {id}"),
            Self::Connections(tenant, None) => write!(formatter, "connections {tenant}"),
            Self::Connections(tenant, Some(TransactionId(id))) => write!(formatter, "connections {tenant} {id}"),
            Self::Secrets => formatter.write_str("secrets"),
            Self::AppSecrets(app) => write!(formatter, "secrets {app}"),
            Self::Vault => formatter.write_str("vault"),
            Self::SigningKeys => formatter.write_str("signing-keys"),
            Self::Nodes => formatter.write_str("nodes"),
            // Said on channels of their own.
            Self::Ready(_) | Self::Events | Self::Everything => formatter.write_str("everything"),
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
            None if text == "signing-keys" => Self::SigningKeys,
            None if text == "nodes" => Self::Nodes,
            Some(("connection", id)) => id.parse().map_or(Self::Everything, Self::Connection),
            Some(("connections", what)) => {
                let (tenant, by) = what.split_once(' ').unwrap_or((what, ""));
                tenant.parse().map_or(Self::Everything, |tenant| Self::Connections(tenant, by.parse().ok().map(TransactionId)))
            }
            Some(("app", id)) => id.parse().map_or(Self::Everything, Self::App),
            Some(("secrets", id)) => id.parse().map_or(Self::Everything, Self::AppSecrets),
            _ => Self::Everything,
        })
    }
}

/// Tells every node, once the transaction of `connection` is committed.
pub async fn announce(connection: &mut PgConnection, change: &Change) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify(weft_channel($1), $2)", CHANNEL, change.to_string()).fetch_one(connection).await?;
    Ok(())
}

/// The transaction that `connection` is in, for which the database tells of what it changes.
pub async fn transaction_id(connection: &mut PgConnection) -> sqlx::Result<TransactionId> {
    let id = sqlx::query_scalar!("select pg_current_xact_id()::text as \"id!\"").fetch_one(connection).await?;
    id.parse().map(TransactionId).map_err(|error: std::num::ParseIntError| sqlx::Error::Decode(error.into()))
}

/// Listens until `stop`; calls `apply` for each change, and with [`Change::Everything`] for each fresh connection. The first
/// connection is made before this returns, so that no work begins on a node that nobody would miss.
pub async fn listen(
    pool: PgPool,
    node: (Uuid, DateTime<Utc>),
    stop: CancellationToken,
    apply: impl Fn(Change) + Send + Sync + 'static,
) -> sqlx::Result<JoinHandle<()>> {
    let first = connect(&pool, node).await?;
    Ok(tokio::spawn(async move {
        let mut connected = Ok(first);
        while !stop.is_cancelled() {
            match connected {
                Ok(mut listener) => {
                    // What was remembered while nobody listened may be out of date.
                    apply(Change::Everything);
                    receive(&mut listener, &stop, &apply).await;
                }
                Err(error) => tracing::warn!(%error, "cannot listen for changes"),
            }
            let _ = tokio::time::timeout(RECONNECT, stop.cancelled()).await;
            connected = connect(&pool, node).await;
        }
    }))
}

/// Listens, takes a lock that nobody else has, and says in the table of nodes that this is the node's.
async fn connect(pool: &PgPool, (node, started_at): (Uuid, DateTime<Utc>)) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    let names = sqlx::query!(
        "select weft_channel($1) as \"ours!\", weft_channel($2) as \"queue!\", weft_channel($3) as \"events!\"",
        CHANNEL,
        weft_queue::CHANNEL,
        events::CHANNEL,
    )
    .fetch_one(&mut listener)
    .await?;
    listener.listen_all([names.ours.as_str(), names.queue.as_str(), names.events.as_str()]).await?;
    let key = sqlx::query_scalar!("select nextval(pg_get_serial_sequence('nodes', 'lock_key')) as \"key!\"")
        .fetch_one(&mut listener)
        .await?;
    sqlx::query!("select pg_try_advisory_lock($1)", key).fetch_one(&mut listener).await?;
    sqlx::query!(
        "insert into nodes (id, lock_key, started_at) values ($1, $2, $3)
         on conflict (id) do update set lock_key = excluded.lock_key",
        node,
        key,
        started_at,
    )
    .execute(&mut listener)
    .await?;
    Ok(listener)
}

async fn receive(listener: &mut PgListener, stop: &CancellationToken, apply: &impl Fn(Change)) {
    loop {
        let notification = tokio::select! {
            () = stop.cancelled() => return,
            notification = listener.try_recv() => notification,
        };
        match notification {
            Ok(Some(notification)) => apply(heard(&notification)),
            Ok(None) | Err(_) => return,
        }
    }
}

/// What a notification says. One that is not understood comes from a newer node.
fn heard(notification: &PgNotification) -> Change {
    let payload = notification.payload();
    if notification.channel().starts_with(weft_queue::CHANNEL) {
        return payload.parse().map_or(Change::Everything, Change::Ready);
    }
    if notification.channel().starts_with(events::CHANNEL) {
        return Change::Events;
    }
    match payload.parse() {
        Ok(change) => change,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_survive_the_wire_and_the_unknown_drops_everything() {
        let app = || "slack".parse().expect("a name");
        let plain = [Change::Identity, Change::Secrets, Change::Vault, Change::SigningKeys];
        let tenant = TenantId::default_tenant();
        let connection = Change::Connection(ConnectionId::from_uuid(Uuid::nil()));
        let by = Some(TransactionId(12_345));
        let connections = [connection, Change::Connections(tenant.clone(), None), Change::Connections(tenant, by)];
        let named = [Change::App(app()), Change::AppSecrets(app())].into_iter().chain(connections);
        for change in plain.into_iter().chain(named) {
            assert_eq!(change.to_string().parse(), Ok(change));
        }
        assert_eq!("something newer".parse(), Ok(Change::Everything));
    }
}
