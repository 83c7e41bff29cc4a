//! What backends do with data while they work on a call: records of collections, SQL and transactions, as whoever called.
//!
//! Collections go the way of the REST routes, so rights, ownership and audit are theirs. SQL runs under a database role of the app's own,
//! which PostgreSQL keeps to the app's tables; who calls is signed for each transaction, and the policies of the tables go by it (ADR 56).
//! Must not know how messages travel. Fails with [`Error`], of which the backend is told what it can mend.

mod access;
mod collections;
mod connections;
mod error;
mod identity;
mod migrate;
mod role;
mod rows;
mod statement;
mod store;
mod transaction;

use std::sync::Arc;

use serde_json::value::RawValue;
use weft_model::{AppId, PermissionSet, Principal, PrincipalKind, Proof, TenantId, UserId};

use crate::{http::trace::TraceId, node::Node};

pub use access::{BackendSql, Limits};
pub use error::Error;
pub use migrate::{Failed as MigrationFailed, read as read_migrations};
pub use store::drop_roles;
pub use transaction::Transactions;

/// On whose behalf a backend asks.
pub struct Asker {
    pub app: AppId,
    pub caller: Arc<Principal>,
    pub trace: TraceId,
    /// How many reactions to changes of records led here.
    pub hops: u8,
    /// Those of the call.
    pub transactions: Arc<Transactions>,
}

/// An app that acts as itself, because nobody called it: it may do everything with its own data, and nothing else.
pub fn app_itself(tenant: &TenantId, app: &AppId) -> Principal {
    Principal {
        tenant: tenant.clone(),
        id: UserId::from_uuid(uuid::Uuid::nil()),
        kind: PrincipalKind::Agent,
        email: String::new(),
        roles: Vec::new(),
        permissions: std::iter::once(format!("app:{app}:*")).collect::<PermissionSet>(),
        proof: Proof::Standing,
    }
}

/// Who is recorded for a change: nobody, where an app acts as itself.
pub fn actor(caller: &Principal) -> Option<UserId> {
    (!caller.id.as_uuid().is_nil()).then_some(caller.id)
}

/// Does what a message of the backend asks for.
pub async fn answer(node: &Arc<Node>, asker: &Asker, kind: &str, message: &RawValue) -> Result<Box<RawValue>, Error> {
    match kind {
        "collection_op" => collections::perform(node, asker, message).await,
        "sql_query" => transaction::query(&node.sql, asker, message).await,
        "sql_begin" => transaction::begin(&node.sql, asker).await,
        "sql_exec" => transaction::execute(&node.sql, asker, message).await,
        "sql_commit" => transaction::end(asker, message, transaction::End::Commit).await,
        "sql_rollback" => transaction::end(asker, message, transaction::End::Rollback).await,
        other => Err(Error::Invalid(format!("unknown message '{other}'"))),
    }
}

fn read<'a, T: serde::Deserialize<'a>>(message: &'a RawValue) -> Result<T, Error> {
    serde_json::from_str(message.get()).map_err(|error| Error::Invalid(format!("the message cannot be read: {error}")))
}

fn written(value: &impl serde::Serialize) -> Result<Box<RawValue>, Error> {
    serde_json::value::to_raw_value(value).map_err(|error| Error::Invalid(error.to_string()))
}
