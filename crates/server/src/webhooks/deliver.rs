//! From a request to the backend's handler, once, or again when a server died before the first attempt was over.
//!
//! Nothing is handed over that is not on disk, and whatever was stored ends with a run that says what came of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use weft_model::{AppId, RunId, TenantId, run::RunKind};

use super::{
    service::{Error, Incoming},
    store::Unanswered,
};
use crate::{
    background::outlive,
    http::trace::{self, TraceId},
    node::Node,
    runs::{self, Cause, Outcome, Record, WebhookCall},
};

/// How long a backend may take over a webhook.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many webhooks of dead servers are handed over at the same time.
const REPEATED_AT_ONCE: usize = 4;
/// Between two attempts to read one of them.
const PAUSE: Duration = Duration::from_secs(1);

/// What the backend's `__webhook` handler gets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookParams<'a> {
    name: &'a str,
    headers: &'a BTreeMap<String, String>,
    /// The body as JSON when it is JSON, else as text.
    body: Value,
    /// The body's very bytes, in base64, for signatures.
    raw_body: String,
    config: &'a RawValue,
    /// The same whenever the same request is handed over.
    delivery_id: RunId,
    /// 1, or more when a server died over it.
    attempt: i32,
}

/// Stores a request, hands it over and returns what the handler answered. Goes on when the sender hangs up.
pub async fn receive(node: &Arc<Node>, token: String, incoming: Incoming) -> Result<Outcome, Error> {
    let (shared, trace) = (Arc::clone(node), trace::current());
    let work = async move {
        let target = shared.webhooks.find(&token).await?;
        let record = begin(&shared, (&target.tenant, &target.app), &target.name, (&incoming, trace));
        if let Err(error) = shared.webhooks.keep(&target, &incoming, record.clone()).await {
            let Error::NotWritten(not_written) = error else { return Err(error) };
            // It may be on disk all the same, when only the word of it was lost. The sender is told to send it again.
            return Ok(runs::finish(&shared, record, Err(not_written.into())).await?);
        }
        Ok(hand_over(&shared, record, &target.method, &incoming).await?)
    };
    outlive(&node.background, work).await
}

fn begin(node: &Node, (tenant, app): (&TenantId, &AppId), name: &str, (incoming, trace): (&Incoming, TraceId)) -> Record {
    let begun = Record::begin((RunKind::Webhook, name), (tenant, app), trace, node.clock.now());
    Record { input_bytes: incoming.body.len(), announced: true, ..begun }
}

async fn hand_over(node: &Node, record: Record, method: &str, incoming: &Incoming) -> Result<Outcome, runs::Error> {
    let prepared = async {
        let app = node.apps.get(&record.tenant, &record.provider).await?;
        let config = node.integrations.config(&app).await?;
        let params = WebhookParams {
            name: &record.action,
            headers: &incoming.headers,
            body: read_body(&incoming.body),
            raw_body: STANDARD.encode(&incoming.body),
            config: config.json(),
            delivery_id: record.id,
            attempt: record.attempts,
        };
        let params = serde_json::value::to_raw_value(&params).map_err(|error| Cause::Internal(error.to_string()))?;
        Ok((app, params))
    };
    match prepared.await {
        Ok((app, params)) => {
            let call = WebhookCall { app, record, method: method.to_owned(), params, timeout: TIMEOUT };
            runs::call_webhook(node, call).await
        }
        Err(cause) => runs::finish(node, record, Err(cause)).await,
    }
}

fn read_body(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

/// Hands over again what dead servers left unanswered. What is not begun when this server stops is left to the next one.
pub async fn repeat(node: &Arc<Node>, runs: Vec<RunId>) {
    let repeats = runs.into_iter().map(|run| async move {
        tokio::select! {
            () = node.stopping.cancelled() => {}
            () = repeat_one(node, run) => {}
        }
    });
    futures::stream::iter(repeats).for_each_concurrent(REPEATED_AT_ONCE, |repeat| repeat).await;
}

async fn repeat_one(node: &Arc<Node>, run: RunId) {
    while let Err(error) = try_repeat(node, run).await {
        tracing::warn!(run.id = %run, %error, "cannot read a webhook that was not answered: trying again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Fails only while the database does not answer.
async fn try_repeat(node: &Arc<Node>, run: RunId) -> sqlx::Result<()> {
    let (unanswered, incoming) = match node.webhooks.find_unanswered(run).await {
        Ok(Some(found)) => found,
        Ok(None) => return node.runs.interrupt(run).await,
        Err(Error::Database(error)) => return Err(error),
        Err(error) => {
            tracing::error!(run.id = %run, %error, "a webhook that was not answered cannot be read");
            return node.runs.interrupt(run).await;
        }
    };
    let shared = Arc::clone(node);
    match outlive(&node.background, async move { repeat_stored(&shared, unanswered, &incoming).await }).await {
        Ok(_) => tracing::info!(run.id = %run, "webhook.repeat"),
        Err(error) => tracing::warn!(run.id = %run, %error, "a webhook that was handed over again failed"),
    }
    Ok(())
}

async fn repeat_stored(node: &Node, unanswered: Unanswered, incoming: &Incoming) -> Result<Outcome, runs::Error> {
    let Unanswered { delivery, attempts, target } = unanswered;
    let name = target.as_ref().map_or("", |(name, _)| name);
    let mut record = begin(node, (&delivery.tenant, &delivery.app), name, (incoming, TraceId::generate()));
    record.id = delivery.run;
    record.started_at = delivery.received_at;
    record.attempts = attempts;
    match target {
        Some((_, method)) => hand_over(node, record, &method, incoming).await,
        None => runs::finish(node, record, Err(Cause::WebhookRemoved)).await,
    }
}
