//! `ctx.sql` and `ctx.transaction`: one statement in a transaction of its own, or several that take effect together.
//!
//! A transaction belongs to the call that began it. With the call it ends: nobody holds it any more, its connection is closed, and
//! PostgreSQL undoes what was not committed.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::{Asker, BackendSql, Error, connections::Lease, identity::Identity, read, statement, store, written};

/// The transaction of a call, while it has one.
#[derive(Default)]
pub struct Transactions(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    None,
    Open(Box<Open>),
    /// Its time was over, which was so long.
    Expired(String, Duration),
}

struct Open {
    id: String,
    lease: Lease,
    identity: Identity,
    /// Whether a statement failed, so that nothing can be kept.
    spoiled: bool,
    _room: OwnedSemaphorePermit,
}

impl fmt::Debug for Transactions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Transactions")
    }
}

#[derive(Deserialize)]
struct Statement {
    sql: String,
    #[serde(default)]
    params: Vec<Value>,
}

#[derive(Deserialize)]
struct InTransaction {
    tx_id: String,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
}

/// Runs one statement by itself.
pub async fn query(sql: &BackendSql, asker: &Asker, message: &RawValue) -> Result<Box<RawValue>, Error> {
    let wanted: Statement = read(message)?;
    sql.count(&asker.app)?;
    let (mut lease, identity) = sql.begin(asker, "app_sql").await?;
    let outcome = match bounded(&mut lease, &identity, &wanted).await {
        Ok(answer) => commit(&mut lease, &identity).await.map(|()| answer),
        Err(error) => Err(error),
    };
    if !outcome.as_ref().is_err_and(Error::leaves_work) {
        lease.give_back().await;
    }
    outcome
}

/// Opens the transaction of a call.
pub async fn begin(sql: &BackendSql, asker: &Asker) -> Result<Box<RawValue>, Error> {
    let mut state = asker.transactions.0.lock().await;
    if matches!(*state, State::Open(_)) {
        return Err(Error::AlreadyOpen);
    }
    let room = sql.transaction()?;
    let (lease, identity) = sql.begin(asker, "app_tx").await?;
    let id = hex::encode(rand::random::<[u8; 8]>());
    let answer = written(&json!({ "txId": id }))?;
    tokio::spawn(expire(Arc::downgrade(&asker.transactions), id.clone(), sql.limits.transaction));
    *state = State::Open(Box::new(Open { id, lease, identity, spoiled: false, _room: room }));
    Ok(answer)
}

/// Ends a transaction whose time is over.
async fn expire(transactions: Weak<Transactions>, id: String, limit: Duration) {
    tokio::time::sleep(limit).await;
    let Some(transactions) = transactions.upgrade() else { return };
    let mut state = transactions.0.lock().await;
    if matches!(&*state, State::Open(open) if open.id == id) {
        *state = State::Expired(id, limit);
    }
}

/// Runs a statement in the transaction of the call.
pub async fn execute(sql: &BackendSql, asker: &Asker, message: &RawValue) -> Result<Box<RawValue>, Error> {
    let (wanted, place): (Statement, InTransaction) = (read(message)?, read(message)?);
    sql.count(&asker.app)?;
    let mut state = asker.transactions.0.lock().await;
    let open = state.open(&place.tx_id)?;
    if open.spoiled {
        return Err(Error::Spoiled);
    }
    let outcome = bounded(&mut open.lease, &open.identity, &wanted).await;
    if let Err(error) = &outcome {
        open.spoiled = true;
        if error.leaves_work() {
            *state = State::None;
        }
    }
    outcome
}

/// Ends the transaction of the call.
pub async fn end(asker: &Asker, message: &RawValue, end: End) -> Result<Box<RawValue>, Error> {
    let place: InTransaction = read(message)?;
    let mut state = asker.transactions.0.lock().await;
    state.open(&place.tx_id)?;
    let State::Open(mut open) = std::mem::take(&mut *state) else { return Err(Error::NotOpen) };
    let outcome = match end {
        End::Commit if open.spoiled => Err(Error::Spoiled),
        End::Commit => commit(&mut open.lease, &open.identity).await,
        End::Rollback => Ok(()),
    };
    if !outcome.as_ref().is_err_and(Error::leaves_work) {
        open.lease.give_back().await;
    }
    outcome.map(|()| RawValue::NULL.to_owned())
}

impl State {
    fn open(&mut self, id: &str) -> Result<&mut Open, Error> {
        match self {
            Self::None => Err(Error::NotOpen),
            Self::Expired(expired, limit) if expired == id => Err(Error::Expired(limit.as_secs())),
            Self::Open(open) if open.id == id => Ok(open),
            Self::Expired(..) | Self::Open(_) => Err(Error::OtherTransaction),
        }
    }
}

/// Runs a statement as the caller, no longer than a statement may take: what an app made can stop PostgreSQL's own clock.
async fn bounded(lease: &mut Lease, identity: &Identity, wanted: &Statement) -> Result<Box<RawValue>, Error> {
    let connection = lease.connection()?;
    let work = async {
        store::tell(connection, identity.settings()).await.map_err(Error::of_statement)?;
        statement::run(connection, &wanted.sql, &wanted.params).await
    };
    match tokio::time::timeout(identity.patience(), work).await {
        Ok(outcome) => written(&outcome?),
        Err(_) => Err(Error::TooSlow),
    }
}

/// Ends a transaction so that all of it is kept. That runs code of the app, too: triggers that were put off to the end.
async fn commit(lease: &mut Lease, identity: &Identity) -> Result<(), Error> {
    let connection = lease.connection()?;
    let work = async {
        store::tell(connection, identity.settings()).await?;
        store::commit(connection).await
    };
    match tokio::time::timeout(identity.patience(), work).await {
        Ok(outcome) => outcome.map_err(Error::of_statement),
        Err(_) => Err(Error::TooSlow),
    }
}
