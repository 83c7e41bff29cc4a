//! The app that does things later: what it keeps, its crons and its hooks.

use serde_json::{Value, json};

use crate::client::Client;

pub const APP: &str = "later";
const BACKEND: &str = include_str!("backend.ts");
/// Intervals of different lengths, in seconds, so that ticks come at all moments.
pub const EVERY: [u64; 5] = [3, 4, 5, 6, 7];
/// The cron of which no tick may be lost at all: a server that was away makes up for the last one.
pub const MINUTELY: &str = "minutely";

/// Deploys the app and makes its hooks.
pub async fn install(client: &Client, url: &str, token: &str) -> anyhow::Result<()> {
    client.post(url, "/api/v1/apps", Some(token), &manifest()).await?;
    client.deploy(url, token, APP, crate::apps::archive(BACKEND)?).await?;
    for operation in ["INSERT", "UPDATE", "DELETE"] {
        let hook = json!({ "entity": "items", "operation": operation, "action_type": "job" });
        client.post(url, &format!("/api/v1/apps/{APP}/hooks"), Some(token), &hook).await?;
    }
    Ok(())
}

/// What callers need.
pub fn permissions() -> impl Iterator<Item = String> {
    let rights = ["items", "done", "effects"].into_iter().flat_map(|entity| {
        ["create", "read", "update", "delete"].into_iter().map(move |right| format!("app:{APP}:{entity}.{right}"))
    });
    rights.chain([format!("app:{APP}:invoke")])
}

fn manifest() -> Value {
    let mut crons: Vec<_> = EVERY
        .iter()
        .map(|seconds| json!({ "name": format!("every{seconds}"), "schedule": format!("{seconds} seconds"), "overlapPolicy": "queue" }))
        .collect();
    crons.push(json!({ "name": MINUTELY, "schedule": "* * * * *", "overlapPolicy": "queue" }));
    let text = |name: &str| json!({ "name": name, "type": "text", "required": true });
    let number = |name: &str| json!({ "name": name, "type": "number" });
    let once = |name: &str| json!({ "name": name, "type": "text", "required": true, "unique": true });
    json!({
        "appId": APP, "name": APP, "version": "1.0.0", "crons": crons,
        "dataContract": [
            { "entityName": "items", "fields": [once("nonce"), number("step")] },
            { "entityName": "done", "fields": [once("job")] },
            { "entityName": "effects", "fields": [text("job"), text("kind"), text("subject"), number("step"), number("previous")] },
        ],
    })
}
