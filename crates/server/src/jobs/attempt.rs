//! One attempt at one job: who it is done for, the call, and what follows from how it went.

use std::{sync::Arc, time::Duration};

use weft_model::{AppId, PermissionSet, Principal, TenantId};
use weft_queue::{Leased, Settlement};
use weft_workers::Job;

use super::{
    envelope::{Envelope, owner},
    retry::{self, Attempt, note},
};
use crate::{
    apps,
    node::Node,
    polls,
    runs::{self, JobCall},
};

/// Before a job is looked at again whose circumstances cannot be found out.
const PAUSE: chrono::TimeDelta = chrono::TimeDelta::seconds(5);

/// Works on a leased job and says what becomes of it.
pub async fn make(node: &Arc<Node>, leased: &Leased) -> Settlement {
    if polls::is_lane(&leased.stream.lane) {
        return polls::turn(node, leased).await;
    }
    let envelope: Envelope = match serde_json::from_str(&leased.body) {
        Ok(envelope) => envelope,
        Err(error) => return Settlement::Bury { note: note(&format!("unreadable: this is no job: {error}")) },
    };
    let Some((tenant, app)) = owner(&leased.stream.lane) else {
        return Settlement::Bury { note: "unreadable: this is in no app's queue".to_owned() };
    };
    let attempt = Attempt { number: leased.read_count, most: envelope.max_attempts };
    if attempt.number > attempt.most {
        let reason = format!(
            "given up after {} of {} attempts; the last ones broke off: the worker or the server stopped in the middle each time",
            attempt.number - 1,
            attempt.most
        );
        return Settlement::Bury { note: reason };
    }
    let principal = match principal(node, &tenant, &app, &envelope).await {
        Ok(Ok(principal)) => principal,
        Ok(Err(refusal)) => return Settlement::Bury { note: note(&format!("refused: {refusal}")) },
        Err(()) => return Settlement::Release { at: node.clock.now() + PAUSE, note: None },
    };
    let app = match node.apps.get(&tenant, &app).await {
        Ok(app) => app,
        Err(error) => return retry::after(&runs::Cause::from(error).into(), attempt, node.clock.now(), 0.5),
    };
    let job = Job { id: leased.id, attempt: attempt.number };
    let timeout = Duration::from_secs(envelope.timeout.into());
    let called =
        runs::call_job(node, JobCall { app, principal, job, hops: envelope.hops, payload: envelope.payload, timeout }).await;
    match called {
        Ok(outcome) => {
            let result = String::from(Box::<str>::from(outcome.output));
            Settlement::Complete { result: Some(result), note: Some(format!("[run {}]", outcome.run)) }
        }
        Err(error) => retry::after(&error, attempt, node.clock.now(), rand::random()),
    }
}

/// As whom the job is done, by what holds now; or why it is not done. Fails while the database does not answer.
async fn principal(
    node: &Node,
    tenant: &TenantId,
    app: &AppId,
    envelope: &Envelope,
) -> Result<Result<Arc<Principal>, String>, ()> {
    let standing = async |user| {
        let found = node.identity.standing(tenant, user).await;
        found.map_err(|error| tracing::warn!(%error, "cannot find out for whom a job is"))
    };
    let Some(mut principal) = standing(envelope.user).await? else {
        return Ok(Err("whoever the job acts for was switched off or is gone".to_owned()));
    };
    if let Some(by) = envelope.by {
        let Some(by) = standing(by).await? else {
            return Ok(Err("whoever enqueued the job was switched off or is gone".to_owned()));
        };
        principal = match node.identity.act_as(&by, envelope.user).await {
            Ok(principal) => principal,
            Err(error) => return Ok(Err(error.to_string())),
        };
    }
    if let Some(only) = &envelope.only {
        let only: PermissionSet = only.iter().cloned().collect();
        let mut narrowed = Principal::clone(&principal);
        narrowed.permissions = narrowed.permissions.intersection(&only);
        principal = Arc::new(narrowed);
    }
    let invoke = format!("app:{app}:invoke");
    let missing = std::iter::once(&invoke).chain(&envelope.needs).find(|needed| !principal.permissions.allows(needed));
    Ok(match missing {
        None => Ok(principal),
        Some(needed) => Err(format!("whoever the job acts for has no permission {needed} any more")),
    })
}

/// Whether jobs of a lane can be worked on at all now. What cannot stays in the queue, untouched.
pub async fn is_served(node: &Node, lane: &str) -> bool {
    let Some((tenant, app)) = owner(lane) else { return true };
    match node.apps.get(&tenant, &app).await {
        Ok(app) => app.deployment.is_some() && app.worker_enabled,
        Err(apps::Error::Unknown(_)) => false,
        Err(error) => {
            tracing::warn!(app.id = %app, %error, "cannot find out whether an app takes jobs");
            false
        }
    }
}
