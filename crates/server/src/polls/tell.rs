//! What a trigger does with a page: what was not there before becomes events and jobs, in the transaction in which it becomes known.

use std::{cmp::Ordering, collections::HashSet};

use serde::Serialize;
use serde_json::{Value, value::RawValue};
use sqlx::PgConnection;
use weft_model::{AppId, ConnectionId, UserId, manifest::Trigger};
use weft_queue::NewMessage;

use super::{
    ask::{Answer, internal},
    backoff::Failure,
    cursor::{self, Progress},
    store,
    turn::Turn,
};
use crate::{
    events,
    jobs::{self, Caused, Standing},
};

/// Things that a trigger remembers besides those of the last answer.
const REMEMBERED: i64 = 10_000;
/// Jobs that go to the queue in one statement.
const MESSAGES: usize = 500;

/// Tells of what is new in a page, and moves on. False when somebody else has changed the poll meanwhile: then nothing was told.
pub async fn page(turn: &mut Turn, trigger: &Trigger, answer: Answer, mut progress: Progress) -> Result<bool, Failure> {
    let (mut page, now) = (answer.page, turn.node.clock.now());
    let mut transaction = turn.node.pool.begin().await?;
    if !store::lock_version(&mut transaction, (turn.poll.id, turn.poll.version)).await? {
        return Ok(false);
    }
    let ids: Vec<String> = page.records.iter().map(|(id, _)| id.clone()).collect();
    let place = (turn.poll.id, turn.next.pass);
    let fresh: HashSet<String> = store::meet(&mut transaction, place, &ids).await?.into_iter().collect();
    // The first run learns what is there already.
    if turn.poll.seeded {
        page.records.retain(|(id, _)| fresh.contains(id));
        in_order(trigger, &mut page.records);
        announce(turn, &mut transaction, trigger, &page.records).await?;
        turn.next.created += i64::try_from(page.records.len()).unwrap_or(i64::MAX);
    }
    turn.next.rejected += i64::try_from(page.nameless).unwrap_or(i64::MAX);
    if page.nameless > 0 && turn.next.rejection.is_none() {
        turn.next.rejection = Some(format!("{} items have no identifier at '{}'", page.nameless, trigger.poll.id));
    }
    (progress.page, progress.highest) = (page.next, page.highest);
    if progress.page.is_some() {
        turn.go_on(&progress);
    } else {
        turn.finish(&progress, now);
        if !fresh.is_empty() {
            store::forget_oldest(&mut transaction, place, REMEMBERED).await?;
        }
    }
    let saved = store::save(&mut transaction, &turn.next, now).await?;
    transaction.commit().await?;
    Ok(saved)
}

/// By what the cursor goes by, where it is in the records; else as they came.
fn in_order(trigger: &Trigger, records: &mut [(String, Value)]) {
    let field = trigger.poll.cursor.as_ref().and_then(|cursor| cursor.field.as_ref());
    if let Some(field) = field {
        records.sort_by(|(_, left), (_, right)| match (left.pointer(field), right.pointer(field)) {
            (Some(left), Some(right)) => cursor::order(left, right),
            _ => Ordering::Equal,
        });
    }
}

/// What `onJob` gets, and what is in the event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    r#type: &'static str,
    integration: &'a str,
    trigger: &'a str,
    item: &'a Value,
    connection_id: Option<ConnectionId>,
    user_id: UserId,
}

async fn announce(
    turn: &Turn,
    connection: &mut PgConnection,
    trigger: &Trigger,
    records: &[(String, Value)],
) -> Result<(), Failure> {
    let (app, poll, now) = (&turn.app, &turn.poll, turn.node.clock.now());
    let mut bodies: Vec<Box<RawValue>> = Vec::with_capacity(records.len());
    for (_, item) in records {
        let told = Told {
            r#type: "trigger",
            integration: app.id.as_str(),
            trigger: &poll.name,
            item,
            connection_id: poll.connection_id.map(ConnectionId::from),
            user_id: UserId::from(poll.user_id),
        };
        bodies.push(serde_json::value::to_raw_value(&told).map_err(internal)?);
    }
    if bodies.is_empty() {
        return Ok(());
    }
    let subject = format!("{}/{}", app.id, poll.name);
    let texts: Vec<String> = bodies.iter().map(|body| body.get().to_owned()).collect();
    events::tell(connection, &app.tenant, (events::TRIGGER, &subject), &texts, now).await?;
    let mut hearing: Vec<AppId> = Vec::new();
    // Without a backend nobody would ever take the jobs.
    hearing.extend(app.deployment.as_ref().map(|_| app.id.clone()));
    let bound = store::list_hearing(connection, (&app.tenant, &app.id), &poll.name, poll.connection_id).await?;
    hearing.extend(bound.into_iter().filter_map(|id| id.parse().ok()));
    let needs = vec![format!("integration:{}:{}", app.id, trigger.poll.action)];
    let job = |(to, payload): (&AppId, &RawValue)| {
        let caused = Caused {
            standing: Standing { user: UserId::from(poll.user_id), by: None, only: None },
            needs: needs.clone(),
            hops: 0,
            order: poll.id.to_string(),
            payload: payload.to_owned(),
        };
        jobs::caused((&app.tenant, to), caused, now)
    };
    let all = hearing.iter().flat_map(|to| bodies.iter().map(move |body| (to, &**body)));
    let messages: Vec<NewMessage> = all.map(job).collect::<sqlx::Result<_>>()?;
    for some in messages.chunks(MESSAGES) {
        weft_queue::send(connection, now, some).await?;
    }
    Ok(())
}
