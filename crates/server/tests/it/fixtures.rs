//! Manifests and small helpers that several modules share.

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
pub use weft_testkit::eventually;
use weft_testkit::{Answer, Api};

/// An integration whose actions take and return anything.
pub fn integration(id: &str, actions: &[&str]) -> Value {
    let actions: Vec<_> = actions.iter().map(|action| json!({ "id": action, "name": action })).collect();
    json!({ "appId": id, "name": id, "version": "1.0.0", "type": "integration", "actions": actions })
}

/// An app that is no integration.
pub fn app(id: &str) -> Value {
    json!({ "appId": id, "name": id, "version": "1.0.0" })
}

/// `base` with the members of `more` in it.
pub fn with(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

/// The paths of a problem's faults, sorted.
pub fn fault_paths(answer: &Answer) -> Vec<String> {
    let faults = answer.value("/errors").as_array().cloned().unwrap_or_default();
    let mut paths: Vec<_> = faults.iter().map(|fault| fault["path"].as_str().unwrap_or_default().to_owned()).collect();
    paths.sort_unstable();
    paths
}

/// Somebody who calls the action `version` of an integration over and over, and notes what comes back.
pub struct Calling {
    task: JoinHandle<Vec<Value>>,
    stop: CancellationToken,
}

impl Calling {
    /// Begins; the first answer has come when this returns.
    pub async fn start(api: &Api, integration: &'static str) -> Self {
        let (api, stop, begun) = (api.clone(), CancellationToken::new(), CancellationToken::new());
        let (stopped, first) = (stop.clone(), begun.clone());
        let task = tokio::spawn(async move {
            // Told even when the first call fails, so that nobody waits for it in vain.
            let first = first.drop_guard();
            let mut seen = vec![api.call(integration, "version", json!({})).await.expect(200).json];
            drop(first);
            while !stopped.is_cancelled() {
                seen.push(api.call(integration, "version", json!({})).await.expect(200).json);
            }
            seen.dedup();
            seen
        });
        begun.cancelled().await;
        Self { task, stop }
    }

    /// What came back, each once in a row.
    pub async fn stop(self) -> Vec<Value> {
        self.stop.cancel();
        self.task.await.expect("every call is answered")
    }
}
