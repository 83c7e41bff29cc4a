//! Which polls there are, and what people do to them by hand.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;
use weft_model::{
    AppId, ConnectionId, Fault, Principal, SyncId, TenantId, UserId,
    manifest::{self, Content},
};
use weft_queue::{NewMessage, Sent};

use super::{
    cursor,
    lane::{Kind, Message, lane},
    store::{self, Declared, Listed, Missing, Poll, Waiting},
    turn::Declared as Declaration,
};
use crate::{
    apps::App,
    audit::{self, Action, Event},
    clock::Clock,
    connections::manages,
};

/// That of jobs that say nothing.
const PRIORITY: i16 = 5;
/// Bytes of JSON that somebody adds to the input of a poll at most: it is stored with each page.
const LARGEST_INPUT: usize = 16 * 1024;
/// Polls that come into the queue in one statement.
const BATCH: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sync '{0}'")]
    Unknown(SyncId),
    #[error("the input does not fit")]
    Invalid(Vec<Fault>),
    #[error("permission denied: {0}")]
    Denied(String),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What somebody wants of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It is due now.
    Run,
    /// The same, and what it does not meet may go, however much that is; once.
    RunConfirmed,
    /// It waits until somebody lets it go on.
    Pause,
    /// It goes on, now.
    Resume,
    /// It forgets how far it was and begins anew, now.
    Reset,
}

/// The polls of all tenants.
pub struct Polls {
    pool: PgPool,
    clock: Clock,
}

impl Polls {
    pub const fn new(pool: PgPool, clock: Clock) -> Self {
        Self { pool, clock }
    }

    /// The polls of an integration that `caller` sees: its own, and everybody's if it looks after the integration.
    pub async fn list(&self, caller: &Principal, app: &AppId, after: Option<SyncId>, limit: i64) -> Result<Vec<Listed>, Error> {
        let of = (!manages(caller, app)).then_some(caller.id);
        Ok(store::list(&mut *self.pool.acquire().await?, (&caller.tenant, app), of, after, limit).await?)
    }

    /// Does what somebody wants of a poll that they see.
    pub async fn wish(&self, caller: &Principal, app: &AppId, id: SyncId, wish: Wish) -> Result<Poll, Error> {
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        let mut poll = seen(&mut transaction, caller, app, id).await?;
        if wish == Wish::Pause {
            "paused".clone_into(&mut poll.status);
        } else {
            if !matches!(wish, Wish::Run | Wish::RunConfirmed) || poll.status == "stopped" {
                "active".clone_into(&mut poll.status);
            }
            poll.deletions_confirmed |= wish == Wish::RunConfirmed;
            poll.next_at = now;
        }
        if wish == Wish::Reset {
            begin_anew(&mut transaction, &mut poll).await?;
        }
        put_back(&mut transaction, (&caller.tenant, app), &mut poll, now).await?;
        let action = match wish {
            Wish::Run | Wish::RunConfirmed => Action::SyncRun,
            Wish::Pause => Action::SyncPaused,
            Wish::Resume => Action::SyncResumed,
            Wish::Reset => Action::SyncReset,
        };
        let event = Event::by(caller, action).on("sync", id).with("integration", app.as_str()).with("name", poll.name.clone());
        let event = if wish == Wish::RunConfirmed { event.with("deletions", "confirmed") } else { event };
        audit::record(&mut transaction, &event, now).await?;
        transaction.commit().await?;
        Ok(poll)
    }

    /// Sets what a poll asks for besides what the manifest says, in place of what was set before. Another question begins anew, now. It is asked as
    /// whoever the poll acts for, so nobody else says what.
    pub async fn ask_for(&self, caller: &Principal, app: &App, id: SyncId, input: Map<String, Value>) -> Result<Poll, Error> {
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        let mut poll = seen(&mut transaction, caller, &app.id, id).await?;
        let declared = Declaration::find(app, &poll).filter(|_| poll.user_id == caller.id.as_uuid()).ok_or(Error::Unknown(id))?;
        if let Some(action) = app.actions.get(&declared.poll().action)
            && !caller.permissions.allows(&action.permission)
        {
            return Err(Error::Denied(action.permission.clone()));
        }
        let faults = faults(app, declared.poll(), &input);
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let names: Vec<String> = input.keys().cloned().collect();
        let input = Value::Object(input);
        if input == poll.input {
            return Ok(poll);
        }
        store::set_input(&mut transaction, poll.id, &input).await?;
        poll.input = input;
        begin_anew(&mut transaction, &mut poll).await?;
        if poll.status == "stopped" {
            "active".clone_into(&mut poll.status);
        }
        poll.next_at = now;
        put_back(&mut transaction, (&caller.tenant, &app.id), &mut poll, now).await?;
        let event = Event::by(caller, Action::SyncInputSaved).on("sync", id).with("integration", app.id.as_str());
        audit::record(&mut transaction, &event.with("name", poll.name.clone()).with("fields", names.join(", ")), now).await?;
        transaction.commit().await?;
        Ok(poll)
    }
}

/// A poll that `caller` may steer, for as long as the transaction lasts.
async fn seen(connection: &mut PgConnection, caller: &Principal, app: &AppId, id: SyncId) -> Result<Poll, Error> {
    let found = store::lock(connection, (&caller.tenant, app), id).await?;
    found.filter(|poll| poll.user_id == caller.id.as_uuid() || manages(caller, app)).ok_or(Error::Unknown(id))
}

/// Lets a poll forget how far it has read.
async fn begin_anew(connection: &mut PgConnection, poll: &mut Poll) -> sqlx::Result<()> {
    (poll.cursor, poll.progress, poll.seeded) = (None, None, false);
    // That was said of another run.
    poll.deletions_confirmed = false;
    // What a sync has met is what it may have to delete.
    if poll.kind == Kind::Trigger.as_str() {
        store::forget_all(connection, poll.id).await?;
    }
    Ok(())
}

/// Stores a poll that was changed by hand, and puts it into the queue for now where it is active.
async fn put_back(
    connection: &mut PgConnection,
    place: (&TenantId, &AppId),
    poll: &mut Poll,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    if poll.status == "active" {
        let waiting = Waiting {
            id: poll.id,
            kind: poll.kind.clone(),
            name: poll.name.clone(),
            connection_id: poll.connection_id,
            message_id: poll.message_id,
        };
        poll.message_id = renew(connection, place, &waiting, now).await?;
    }
    store::save(connection, poll, now).await?;
    Ok(())
}

/// What is wrong with what somebody wants to ask for.
fn faults(app: &App, declared: &manifest::Poll, own: &Map<String, Value>) -> Vec<Fault> {
    if own.iter().map(|(name, value)| name.len() + value.to_string().len()).sum::<usize>() > LARGEST_INPUT {
        return vec![Fault::new("$", format!("is larger than {} KiB", LARGEST_INPUT / 1024))];
    }
    let taken = cursor::filled_in(declared).filter(|name| own.contains_key(*name));
    let taken: Vec<_> = taken.map(|name| Fault::new(format!("$.{name}"), "is filled in from what the vendor answers")).collect();
    if !taken.is_empty() {
        return taken;
    }
    let whole = Value::Object(cursor::input(declared, &Value::Object(own.clone()), None, None));
    let schema = app.actions.get(&declared.action).and_then(|action| action.input.as_ref());
    schema.map(|schema| schema.faults(&whole)).unwrap_or_default()
}

/// Makes the polls of an integration those of its manifest. Those that are of no connection act for whoever installs it.
pub async fn declare(connection: &mut PgConnection, by: &Principal, content: &Content, now: DateTime<Utc>) -> sqlx::Result<()> {
    let (place, declared) = ((&by.tenant, &content.app_id), declared(content));
    store::delete_undeclared(connection, place, &declared).await?;
    if declared.names.is_empty() {
        return Ok(());
    }
    store::update_user(connection, place, by.id).await?;
    enrol(connection, place, &declared, (None, by.id), now).await?;
    go_on(connection, place, None, now).await
}

/// A connection was made, or made good: its polls begin, or go on.
pub async fn connected(
    connection: &mut PgConnection,
    by: &Principal,
    content: &Content,
    id: ConnectionId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (place, declared) = ((&by.tenant, &content.app_id), declared(content));
    if declared.names.is_empty() {
        return Ok(());
    }
    enrol(connection, place, &declared, (Some(id), by.id), now).await?;
    go_on(connection, place, Some(id), now).await
}

/// The configuration was saved: what stopped may go on.
pub async fn configured(
    connection: &mut PgConnection,
    tenant: &TenantId,
    content: &Content,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    if content.syncs.is_empty() && content.triggers.is_empty() {
        return Ok(());
    }
    go_on(connection, (tenant, &content.app_id), None, now).await
}

/// Removes the messages of an integration that is gone; the rows go with it.
pub async fn remove(connection: &mut PgConnection, tenant: &TenantId, app: &AppId) -> sqlx::Result<()> {
    weft_queue::remove_lane(connection, &lane(tenant, app)).await
}

fn declared(content: &Content) -> Declared {
    let mut declared = Declared::default();
    let syncs = content.syncs.iter().map(|sync| (Kind::Sync, &sync.poll));
    for (kind, poll) in syncs.chain(content.triggers.iter().map(|trigger| (Kind::Trigger, &trigger.poll))) {
        declared.kinds.push(kind.as_str().to_owned());
        declared.names.push(poll.name.clone());
        declared.per_connection.push(content.is_per_connection(poll));
        declared.auto_start.push(poll.auto_start);
    }
    declared
}

async fn enrol(
    connection: &mut PgConnection,
    place: (&TenantId, &AppId),
    declared: &Declared,
    (of, by): (Option<ConnectionId>, UserId),
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let missing = store::list_missing(connection, place, declared, of, by).await?;
    for some in missing.chunks(BATCH) {
        let ids: Vec<Uuid> = some.iter().map(|_| SyncId::generate(now).as_uuid()).collect();
        let message = |(id, poll): (&Uuid, &Missing)| message(place, *id, (&poll.kind, &poll.name, poll.connection_id), now);
        let messages = ids.iter().zip(some).map(message).collect::<sqlx::Result<Vec<_>>>()?;
        let sent = weft_queue::send(connection, now, &messages).await?;
        let placed: Vec<_> = ids.into_iter().zip(sent.into_iter().map(Sent::id)).collect();
        store::insert(connection, place, some, &placed, now).await?;
    }
    Ok(())
}

fn message(
    (tenant, app): (&TenantId, &AppId),
    id: Uuid,
    (kind, name, connection): (&str, &str, Option<Uuid>),
    now: DateTime<Utc>,
) -> sqlx::Result<NewMessage> {
    let kind = Kind::parse(kind).unwrap_or(Kind::Sync);
    let body = Message { poll: id, kind, name: name.to_owned(), connection };
    Ok(NewMessage {
        lane: lane(tenant, app),
        priority: PRIORITY,
        visible_at: now,
        tag: None,
        key: None,
        order: None,
        body: serde_json::to_string(&body).map_err(|error| sqlx::Error::Encode(error.into()))?,
    })
}

async fn go_on(
    connection: &mut PgConnection,
    place: (&TenantId, &AppId),
    of: Option<ConnectionId>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let waiting = store::resume_stopped(connection, place, of, now).await?;
    for some in waiting.chunks(BATCH) {
        let message = |poll: &Waiting| message(place, poll.id, (&poll.kind, &poll.name, poll.connection_id), now);
        let messages = some.iter().map(message).collect::<sqlx::Result<Vec<_>>>()?;
        // The messages before stand for nothing from here on, and end when their time comes.
        let sent = weft_queue::send(connection, now, &messages).await?;
        let placed: Vec<_> = some.iter().map(|poll| poll.id).zip(sent.into_iter().map(Sent::id)).collect();
        store::update_messages(connection, &placed).await?;
    }
    Ok(())
}

/// Puts another message for a poll into the queue, for now. The one before may be at work at this moment, and would not hear of it.
async fn renew(
    connection: &mut PgConnection,
    place: (&TenantId, &AppId),
    poll: &Waiting,
    now: DateTime<Utc>,
) -> sqlx::Result<i64> {
    weft_queue::cancel(connection, &lane(place.0, place.1), poll.message_id, now).await?;
    let message = message(place, poll.id, (&poll.kind, &poll.name, poll.connection_id), now)?;
    let sent = weft_queue::send(connection, now, &[message]).await?;
    sent.first().copied().map(Sent::id).ok_or(sqlx::Error::RowNotFound)
}
