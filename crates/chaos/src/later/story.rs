//! What callers ask for to be done later, and how they change records.

use rand::{RngExt, rngs::StdRng};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::APP;
use crate::{
    history::{Attempt, Operation, Outcome},
    traffic::{Caller, Door},
};

impl Door {
    /// Makes a record, changes it some times and perhaps removes it, each at any of the servers. Nothing is tried again: whether a
    /// change without an answer was made is what the books have to say.
    pub async fn story(&self, caller: &Caller, round: u64, nonce: &str, rng: &mut StdRng) -> Vec<Attempt> {
        let items = format!("/api/v1/apps/{APP}/collections/items");
        let mut told = Vec::new();
        let record = json!({ "nonce": nonce, "step": 0 });
        let Some(created) = self.change(caller, round, (Operation::Create, nonce), rng, (Method::POST, &items, &record)).await
        else {
            return told;
        };
        let id = match &created.outcome {
            Outcome::Ok { body, .. } => body.get("id").and_then(Value::as_str).map(str::to_owned),
            _ => None,
        };
        told.push(created);
        let Some(id) = id else { return told };
        let path = format!("{items}/{id}");
        for step in 1..rng.random_range(2..7) {
            let change = json!({ "step": step });
            told.extend(self.change(caller, round, (Operation::Update, nonce), rng, (Method::PATCH, &path, &change)).await);
        }
        if rng.random_bool(0.3) {
            // All or none: the second of them is there already.
            let (new, many) = (format!("{nonce}-refused"), format!("{items}/bulk"));
            let pair = json!([{ "nonce": new, "step": 0 }, { "nonce": nonce, "step": 0 }]);
            told.extend(self.change(caller, round, (Operation::Refused, &new), rng, (Method::POST, &many, &pair)).await);
        }
        if rng.random_bool(0.3) {
            told.extend(self.change(caller, round, (Operation::Delete, nonce), rng, (Method::DELETE, &path, &Value::Null)).await);
        }
        told
    }

    async fn change(
        &self,
        caller: &Caller,
        round: u64,
        (operation, nonce): (Operation, &str),
        rng: &mut StdRng,
        (method, path, body): (Method, &str, &Value),
    ) -> Option<Attempt> {
        let node = rng.random_range(0..self.nodes.len());
        let request = |url: &str| {
            let request = self.client.request(method, url, path).bearer_auth(&caller.token);
            if body.is_null() { request } else { request.json(body) }
        };
        self.send((caller, round, node), (operation, nonce), request).await
    }

    /// A job with a key, so that it may be asked for until there is an answer.
    pub fn enqueue(&self, caller: &Caller, url: &str, (nonce, ms): (&str, u64)) -> RequestBuilder {
        let job = json!({ "payload": { "nonce": nonce, "ms": ms / 4 }, "max_attempts": 100 });
        let request = self.client.request(Method::POST, url, &format!("/api/v1/apps/{APP}/jobs"));
        request.json(&job).bearer_auth(&caller.token).header("idempotency-key", nonce)
    }
}
