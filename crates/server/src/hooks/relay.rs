//! From events to jobs: the consumer of the outbox that hooks are.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;
use weft_data::{Condition, Entity};
use weft_model::{AppId, TenantId, UserId, fault};
use weft_queue::NewMessage;

use super::{
    filter::{Change, asks_for},
    store::{self, Hook},
};
use crate::{
    apps::{self, App},
    data,
    events::{self, Event},
    jobs::{self, Caused},
    node::Node,
};

/// The name of the consumer.
pub const CONSUMER: &str = "hooks";
/// How often is looked whether there is something that nobody told of.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Reactions in a row that are taken for a loop.
const MOST_HOPS: i16 = 8;
/// Bytes of JSON of one payload. A larger one comes without the record.
const LARGEST: usize = 8 * 1024 * 1024;
/// Bytes of jobs that go to the queue in one statement.
const STATEMENT: usize = 8 * 1024 * 1024;

/// Hands events to hooks until the node stops.
pub async fn run(node: Arc<Node>) {
    while !node.stopping.is_cancelled() {
        tokio::select! {
            () = node.stopping.cancelled() => return,
            _ = tokio::time::timeout(PATIENCE, node.hooks.bell.notified()) => {}
        }
        while !node.stopping.is_cancelled() {
            match relay(&node).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot hand changes of records to hooks");
                    let _ = tokio::time::timeout(PAUSE, node.stopping.cancelled()).await;
                    break;
                }
            }
        }
    }
}

/// Hands on one batch: the place moves and the jobs are in the queue, or neither. Whether there may be more.
async fn relay(node: &Node) -> sqlx::Result<bool> {
    let mut transaction = node.pool.begin().await?;
    let Some(batch) = events::take(&mut transaction, CONSUMER).await? else { return Ok(false) };
    let due = due(node, &mut transaction, &batch.events).await?;
    let now = node.clock.now();
    for some in slices(&due.jobs) {
        weft_queue::send(&mut transaction, now, some).await?;
    }
    weft_queue::bury(&mut transaction, now, &due.dead).await?;
    batch.finish(&mut transaction).await?;
    transaction.commit().await?;
    metrics::counter!("weft_hook_jobs_total").increment(u64::try_from(due.jobs.len()).unwrap_or(0));
    Ok(batch.has_more)
}

/// Messages in portions that a statement takes.
fn slices(mut messages: &[NewMessage]) -> impl Iterator<Item = &[NewMessage]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |message: &&NewMessage| {
            bytes += message.body.len();
            bytes <= STATEMENT
        };
        let count = messages.iter().take_while(fits).count().max(1).min(messages.len());
        let (some, rest) = messages.split_at_checked(count)?;
        messages = rest;
        (!some.is_empty()).then_some(some)
    })
}

/// What a batch of events leads to.
#[derive(Default)]
struct Due {
    jobs: Vec<NewMessage>,
    /// With the reasons.
    dead: Vec<(NewMessage, String)>,
}

/// A change together with a hook that is about it.
struct Hit<'a> {
    hook: &'a Hook,
    event: &'a Event,
    change: &'a Change<'a>,
}

async fn due(node: &Node, connection: &mut PgConnection, events: &[Event]) -> sqlx::Result<Due> {
    let subjects: BTreeSet<String> = events.iter().map(|event| event.subject.clone()).collect();
    let hooks = store::list_active(connection, &Vec::from_iter(subjects)).await?;
    let changes: Vec<_> = events.iter().filter_map(|event| Some((event, read(event)?))).collect();
    let mut hits = Vec::new();
    for (event, change) in &changes {
        let about = hooks.iter().filter(|hook| is_about(hook, event) && asks_for(hook, event, change));
        hits.extend(about.map(|hook| Hit { hook, event, change }));
    }
    let mut known = Known::default();
    let hits = known.admitted(node, hits).await?;
    let unmet = unmet(&known, connection, &hits).await?;
    let mut due = Due::default();
    for (place, hit) in hits.iter().enumerate() {
        if let Some(why) = known.broken(hit.hook) {
            due.dead.push((hit.job(&known, node)?, why.to_owned()));
            continue;
        }
        match unmet.get(&place) {
            Some(Unmet::Otherwise) => {}
            Some(Unmet::Unknown(reason)) => due.dead.push((hit.job(&known, node)?, reason.clone())),
            None if hit.event.hops >= MOST_HOPS => due.dead.push((hit.job(&known, node)?, LOOP.to_owned())),
            None => due.jobs.push(hit.job(&known, node)?),
        }
    }
    Ok(due)
}

const LOOP: &str = "a loop: this change is the eighth in a row that a hook's job has made, so no further job is done for it. Let the hook ask \
                    for fewer changes (changed_fields, where), or write only what is different";

fn read(event: &Event) -> Option<Change<'_>> {
    if event.kind != events::RECORD {
        return None;
    }
    let change = Change::read(event);
    change.map_err(|error| tracing::error!(%error, event.id, "an event cannot be read, so no hook hears of it")).ok()
}

fn is_about(hook: &Hook, event: &Event) -> bool {
    event.subject.split_once('/') == Some((hook.app_id.as_str(), hook.entity.as_str()))
}

/// An app, as far as hooks need it.
enum Installed {
    Yes(Arc<App>),
    /// It is gone, and its hooks with it.
    No,
    /// Its manifest cannot be read, for this reason.
    Broken(String),
}

/// What is looked up once per batch.
#[derive(Default)]
struct Known {
    apps: HashMap<String, Installed>,
    /// Whether whoever a hook acts for sees the records of others.
    managers: HashMap<Uuid, bool>,
}

impl Known {
    /// Leaves out what is about apps that are gone, and records of others that whoever the hook acts for may not see.
    async fn admitted<'a>(&mut self, node: &Node, hits: Vec<Hit<'a>>) -> sqlx::Result<Vec<Hit<'a>>> {
        let mut admitted = Vec::with_capacity(hits.len());
        for hit in hits {
            if !self.apps.contains_key(&hit.hook.app_id) {
                let app = app(node, hit.hook).await?;
                self.apps.insert(hit.hook.app_id.clone(), app);
            }
            if self.broken(hit.hook).is_some() {
                admitted.push(hit);
                continue;
            }
            let Some(entity) = self.entity(hit.hook) else { continue };
            if !entity.is_owned() || hit.is_of_owner() || self.manages(node, hit.hook).await? {
                admitted.push(hit);
            }
        }
        Ok(admitted)
    }

    fn entity(&self, hook: &Hook) -> Option<&Entity> {
        match self.apps.get(&hook.app_id)? {
            Installed::Yes(app) => app.entities.get(&hook.entity),
            Installed::No | Installed::Broken(_) => None,
        }
    }

    /// Why nothing can be told of a hook's app.
    fn broken(&self, hook: &Hook) -> Option<&str> {
        match self.apps.get(&hook.app_id)? {
            Installed::Broken(why) => Some(why),
            Installed::Yes(_) | Installed::No => None,
        }
    }

    async fn manages(&mut self, node: &Node, hook: &Hook) -> sqlx::Result<bool> {
        if let Some(known) = self.managers.get(&hook.id) {
            return Ok(*known);
        }
        let Ok(tenant) = hook.tenant_id.parse::<TenantId>() else { return Ok(false) };
        let standing = node.identity.standing(&tenant, UserId::from(hook.created_by)).await;
        // Not known now is no reason to leave something out for good.
        let standing = standing.map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
        let key = manage_key(hook);
        let manages = standing.is_some_and(|principal| principal.permissions.allows(&key));
        self.managers.insert(hook.id, manages);
        Ok(manages)
    }
}

/// The app of a hook. Whether the entity is still there is looked at for each hook.
async fn app(node: &Node, hook: &Hook) -> sqlx::Result<Installed> {
    let (Ok(tenant), Ok(id)) = (hook.tenant_id.parse::<TenantId>(), hook.app_id.parse::<AppId>()) else {
        return Ok(Installed::No);
    };
    for attempt in 0..2 {
        match node.apps.get(&tenant, &id).await {
            // The notification of a new manifest may still be on its way.
            Ok(app) if attempt == 0 && !app.entities.contains_key(&hook.entity) => node.apps.forget(),
            Ok(app) => return Ok(Installed::Yes(app)),
            Err(apps::Error::Unknown(_)) => return Ok(Installed::No),
            Err(apps::Error::Database(error)) => return Err(error),
            Err(error) => return Ok(Installed::Broken(format!("the app's manifest cannot be read: {error}"))),
        }
    }
    Ok(Installed::No)
}

fn manage_key(hook: &Hook) -> String {
    format!("app:{}:{}.manage", hook.app_id, hook.entity)
}

/// Why a hook's condition does not let a change through.
enum Unmet {
    Otherwise,
    /// It cannot be told.
    Unknown(String),
}

/// Asks the database once per hook with a condition which of its changes do not meet it, by their place in the list.
async fn unmet(known: &Known, connection: &mut PgConnection, hits: &[Hit<'_>]) -> sqlx::Result<HashMap<usize, Unmet>> {
    let mut of_hooks: HashMap<Uuid, Vec<usize>> = HashMap::new();
    for (place, hit) in hits.iter().enumerate().filter(|(_, hit)| hit.hook.condition.is_some()) {
        of_hooks.entry(hit.hook.id).or_default().push(place);
    }
    let mut unmet = HashMap::new();
    for places in of_hooks.into_values() {
        let group: Vec<_> = places.iter().filter_map(|place| hits.get(*place)).collect();
        let judged = judged(known, connection, &group).await?;
        unmet.extend(places.into_iter().zip(judged).filter_map(|(place, why)| Some((place, why?))));
    }
    Ok(unmet)
}

/// What keeps each of a hook's changes out, if anything does.
async fn judged(known: &Known, connection: &mut PgConnection, group: &[&Hit<'_>]) -> sqlx::Result<Vec<Option<Unmet>>> {
    match met(known, connection, group).await {
        Ok(met) => Ok((0..group.len()).map(|index| (!met.contains(&index)).then_some(Unmet::Otherwise)).collect()),
        Err(Failed::Database(error)) => Err(error),
        // One that cannot be told says nothing of the others.
        Err(Failed::Condition(_)) if group.len() > 1 => {
            let mut all = Vec::with_capacity(group.len());
            for hit in group {
                all.extend(Box::pin(judged(known, connection, &[*hit])).await?);
            }
            Ok(all)
        }
        Err(Failed::Condition(why)) => {
            Ok(vec![Some(Unmet::Unknown(format!("the hook's condition does not fit the record or the entity: {why}")))])
        }
    }
}

enum Failed {
    Database(sqlx::Error),
    Condition(String),
}

/// Which changes of one hook meet its condition, by their place in the group.
async fn met(known: &Known, connection: &mut PgConnection, group: &[&Hit<'_>]) -> Result<HashSet<usize>, Failed> {
    let Some(hit) = group.first() else { return Ok(HashSet::new()) };
    let (Some(entity), Some(clause)) = (known.entity(hit.hook), &hit.hook.condition) else { return Ok(HashSet::new()) };
    let condition = Condition::parse(entity, clause, "where").map_err(|faults| Failed::Condition(fault::listed(&faults)))?;
    let record = |hit: &&Hit<'_>| hit.change.shown().map_or_else(|| "{}".to_owned(), |record| record.get().to_owned());
    let records = group.iter().map(record).collect();
    let places = data::matching(connection, entity, &condition, records).await.map_err(|error| match error {
        sqlx::Error::Database(said) if is_of_data(&*said) => Failed::Condition(said.message().to_owned()),
        other => Failed::Database(other),
    })?;
    Ok(places.into_iter().collect())
}

/// Whether the database objects to the data or the condition, rather than having trouble of its own.
fn is_of_data(said: &dyn sqlx::error::DatabaseError) -> bool {
    said.code().is_some_and(|code| code.starts_with("22") || code.starts_with("42"))
}

/// What `onJob` gets.
#[derive(Serialize)]
struct Payload<'a> {
    _hook: bool,
    hook_id: Uuid,
    entity: &'a str,
    operation: &'a str,
    record_id: &'a RawValue,
    record: Option<&'a RawValue>,
    old_record: Option<&'a RawValue>,
    action_type: &'a str,
    action_config: &'a serde_json::Value,
    /// Both records were too large to come along: the handler reads the record by its id.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    records_left_out: bool,
}

impl Hit<'_> {
    /// Whether the record is that of whoever the hook acts for.
    fn is_of_owner(&self) -> bool {
        self.change.is_of(self.hook.created_by)
    }

    fn job(&self, known: &Known, node: &Node) -> sqlx::Result<NewMessage> {
        let (hook, change) = (self.hook, self.change);
        let encode = |error: serde_json::Error| sqlx::Error::Encode(error.into());
        let mut payload = Payload {
            _hook: true,
            hook_id: hook.id,
            entity: &hook.entity,
            operation: &hook.operation,
            record_id: change.record_id,
            record: change.record,
            old_record: change.old_record,
            action_type: &hook.action_type,
            action_config: &hook.action_config,
            records_left_out: false,
        };
        if [change.record, change.old_record].iter().flatten().map(|record| record.get().len()).sum::<usize>() > LARGEST {
            (payload.record, payload.old_record, payload.records_left_out) = (None, None, true);
        }
        let mut needs = vec![format!("app:{}:{}.read", hook.app_id, hook.entity)];
        if known.entity(hook).is_some_and(Entity::is_owned) && !self.is_of_owner() {
            needs.push(manage_key(hook));
        }
        let decode = |error: weft_model::InvalidName| sqlx::Error::Decode(error.into());
        let place: (TenantId, AppId) = (hook.tenant_id.parse().map_err(decode)?, hook.app_id.parse().map_err(decode)?);
        let caused = Caused {
            standing: hook.standing(),
            needs,
            hops: u8::try_from(self.event.hops).unwrap_or(u8::MAX).saturating_add(1),
            order: format!("{} {}", hook.id, change.record_id.get()),
            payload: serde_json::value::to_raw_value(&payload).map_err(encode)?,
        };
        jobs::caused((&place.0, &place.1), caused, node.clock.now())
    }
}
