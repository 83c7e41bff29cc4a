//! The loop that fires what is due.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{manifest::OverlapPolicy, schedule::Schedule};
use weft_queue::Sent;

use super::{
    service::{message, tag},
    store::{self, Cron, Firing},
};
use crate::node::Node;

/// How often is looked whether something is due.
const PAUSE: Duration = Duration::from_millis(250);
/// Crons that one transaction fires.
const BATCH: i64 = 500;
/// A tick that was missed is made up for, once, when it is no older than this.
const WINDOW: TimeDelta = TimeDelta::hours(1);
/// How far back is looked, but for now and then: what was not fired is found, and what vacuum cannot remove is not walked over.
const BEHIND: TimeDelta = TimeDelta::minutes(5);
const FROM_THE_BEGINNING: Duration = Duration::from_secs(30);

/// Fires crons until the node stops.
pub async fn run(node: Arc<Node>) {
    let (mut since, mut began) = (DateTime::UNIX_EPOCH, Instant::now());
    loop {
        tokio::select! { () = node.stopping.cancelled() => return, () = tokio::time::sleep(PAUSE) => {} }
        if began.elapsed() >= FROM_THE_BEGINNING {
            (since, began) = (DateTime::UNIX_EPOCH, Instant::now());
        }
        let now = node.clock.now();
        match fire_all(&node, since.min(now - BEHIND), now).await {
            Ok(()) => since = now - BEHIND,
            Err(error) => tracing::warn!(%error, "cannot fire crons"),
        }
    }
}

async fn fire_all(node: &Node, since: DateTime<Utc>, now: DateTime<Utc>) -> sqlx::Result<()> {
    while fire_batch(node, since, now).await? >= usize::try_from(BATCH).unwrap_or(usize::MAX) {}
    Ok(())
}

/// Fires a batch of what is due, each tick together with its job and with the tick that follows. Returns how many there were.
async fn fire_batch(node: &Node, since: DateTime<Utc>, now: DateTime<Utc>) -> sqlx::Result<usize> {
    let mut transaction = node.pool.begin().await?;
    let due = store::claim_due(&mut transaction, (since, now), BATCH).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let pending = pending(&mut transaction, &due).await?;
    let (mut firings, mut next) = (Vec::with_capacity(due.len()), Vec::with_capacity(due.len()));
    for cron in &due {
        let decided = decide(cron, &pending, now);
        let refusal = if decided.outcome == "enqueued" { refusal(node, cron).await } else { None };
        let (outcome, reason) = refusal.map_or((decided.outcome, decided.note), |reason| ("refused", Some(reason)));
        let tenant = cron.tenant_id.clone();
        firings.push(Firing { tenant, cron: cron.id, tick: Some(decided.tick), outcome, message: None, note: reason });
        next.push((cron.id, decided.next));
    }
    let noted: HashSet<Uuid> = store::insert_firings(&mut transaction, &firings, now).await?.into_iter().collect();
    let crons: HashMap<Uuid, &Cron> = due.iter().map(|cron| (cron.id, cron)).collect();
    let (mut messages, mut fired) = (Vec::new(), Vec::new());
    for firing in firings.iter().filter(|firing| firing.outcome == "enqueued" && noted.contains(&firing.cron)) {
        let message = crons.get(&firing.cron).map_or(Ok(None), |cron| message(cron, now))?;
        if let Some((message, tick)) = message.zip(firing.tick) {
            messages.push(message);
            fired.push((firing.cron, tick));
        }
    }
    let sent = weft_queue::send(&mut transaction, now, &messages).await?;
    let fired: Vec<_> = fired.into_iter().zip(sent).map(|((cron, tick), sent)| (cron, tick, Sent::id(sent))).collect();
    store::update_messages(&mut transaction, &fired).await?;
    store::update_ticks(&mut transaction, &next).await?;
    transaction.commit().await?;
    metrics::counter!("weft_cron_ticks_total").increment(u64::try_from(due.len()).unwrap_or(0));
    Ok(due.len())
}

/// Which of these have jobs that are not done.
async fn pending(connection: &mut PgConnection, due: &[Cron]) -> sqlx::Result<HashSet<String>> {
    let skipping = due.iter().filter(|cron| cron.overlap_policy == OverlapPolicy::Skip.as_str());
    let pairs: Vec<_> = skipping.map(|cron| (format!("{}/{}", cron.tenant_id, cron.app_id), tag(cron.id))).collect();
    Ok(weft_queue::pending(connection, &pairs).await?.into_iter().map(|(_, tag)| tag).collect())
}

/// What becomes of a cron that is due.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    tick: DateTime<Utc>,
    next: Option<DateTime<Utc>>,
    outcome: &'static str,
    note: Option<String>,
}

fn decide(cron: &Cron, pending: &HashSet<String>, now: DateTime<Utc>) -> Decided {
    let due = cron.next_tick.unwrap_or(now);
    let Ok(schedule) = Schedule::parse(&cron.schedule, cron.timezone.as_deref()) else {
        let note = Some("its schedule or time zone is not known to this server any more".to_owned());
        return Decided { tick: due, next: None, outcome: "refused", note };
    };
    // Of several that were missed only the last counts.
    let tick = schedule.latest(due, now);
    let next = schedule.next_after(now);
    let (outcome, note) = if now - tick > WINDOW {
        ("missed", Some(format!("no server was there to fire it in time, and at {} it was too late", now.to_rfc3339())))
    } else if pending.contains(&tag(cron.id)) {
        ("skipped", Some("a job of an earlier tick was not done".to_owned()))
    } else {
        ("enqueued", None)
    };
    Decided { tick, next, outcome, note }
}

/// Why nothing is enqueued for whoever the cron acts for.
async fn refusal(node: &Node, cron: &Cron) -> Option<String> {
    let Some(user) = cron.created_by else { return Some("whoever it acts for was deleted".to_owned()) };
    let tenant = cron.tenant_id.parse().ok()?;
    match node.identity.standing(&tenant, user.into()).await {
        Ok(Some(_)) => None,
        Ok(None) => Some("whoever it acts for was switched off or is gone".to_owned()),
        // Looked at again before the job is done.
        Err(error) => {
            tracing::warn!(%error, "cannot find out for whom a cron acts");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn cron(next_tick: &str) -> Cron {
        Cron {
            id: Uuid::nil(),
            tenant_id: "default".to_owned(),
            app_id: "crm".to_owned(),
            name: "daily".to_owned(),
            schedule: "0 9 * * *".to_owned(),
            timezone: None,
            payload: serde_json::json!({}),
            overlap_policy: "skip".to_owned(),
            enabled: true,
            declared: false,
            created_by: None,
            set_up_by: None,
            only_permissions: None,
            number: Some(1),
            next_tick: Some(at(next_tick)),
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_tick_in_time_is_enqueued_and_the_next_one_follows() {
        let decided = decide(&cron("2024-01-01T09:00:00Z"), &HashSet::new(), at("2024-01-01T09:00:01Z"));
        let next = Some(at("2024-01-02T09:00:00Z"));
        assert_eq!(decided, Decided { tick: at("2024-01-01T09:00:00Z"), next, outcome: "enqueued", note: None });
    }

    #[test]
    fn of_ticks_that_were_missed_the_last_is_made_up_for_within_an_hour() {
        let missed = cron("2024-01-01T09:00:00Z");
        let soon = decide(&missed, &HashSet::new(), at("2024-01-05T09:59:00Z"));
        assert_eq!((soon.tick, soon.outcome), (at("2024-01-05T09:00:00Z"), "enqueued"));
        let late = decide(&missed, &HashSet::new(), at("2024-01-05T10:01:00Z"));
        assert_eq!(
            (late.tick, late.next, late.outcome),
            (at("2024-01-05T09:00:00Z"), Some(at("2024-01-06T09:00:00Z")), "missed")
        );
    }

    #[test]
    fn a_tick_is_skipped_while_an_earlier_job_is_not_done() {
        let pending = HashSet::from([tag(Uuid::nil())]);
        assert_eq!(decide(&cron("2024-01-01T09:00:00Z"), &pending, at("2024-01-01T09:00:01Z")).outcome, "skipped");
    }
}
