//! The callers: what each asks for is drawn from its seed, and whatever happens to it is recorded.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    apps::{APP, INTEGRATIONS},
    client::Client,
    history::{Attempt, Operation, Outcome, micros},
    site::pause,
};

/// Between two looks for a server, or two attempts at one wish.
const BREATH: Duration = Duration::from_millis(25);
/// How long a wish with a key may stay without a known outcome once everything runs again.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often a caller changes records instead of calling something.
const STORIES: f64 = 0.2;

type Address = Arc<Mutex<Option<String>>>;

/// Where callers go and how they get there.
#[derive(Clone)]
pub struct Door {
    pub client: Client,
    pub nodes: Vec<Address>,
    pub webhooks: Vec<String>,
    pub begun: Instant,
}

/// One caller.
#[derive(Clone)]
pub struct Caller {
    pub number: usize,
    pub token: String,
}

/// Everything about one request but its outcome.
struct Wish {
    operation: Operation,
    nonce: String,
    integration: usize,
    ms: u64,
}

impl Door {
    fn url(&self, node: usize) -> Option<String> {
        self.nodes.get(node)?.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls until told to stop, and sees to the end what it began.
    pub async fn traffic(self, caller: Caller, (round, seed): (u64, u64), mut stop: watch::Receiver<bool>) -> Vec<Attempt> {
        let mut rng = StdRng::seed_from_u64(seed ^ (u64::try_from(caller.number).unwrap_or_default() << 32));
        let mut attempts = Vec::new();
        for number in 0.. {
            if *stop.borrow_and_update() {
                break;
            }
            let nonce = format!("{round}-{}-{number}", caller.number);
            if rng.random_bool(STORIES) {
                let told = self.story(&caller, round, &nonce, &mut rng).await;
                if told.is_empty() {
                    pause(BREATH).await;
                }
                attempts.extend(told);
                continue;
            }
            let wish = draw(&mut rng, &nonce);
            let node = rng.random_range(0..self.nodes.len());
            if matches!(wish.operation, Operation::Once | Operation::Enqueue) {
                self.insist(&caller, round, node, &wish, &mut attempts, &stop).await;
            } else if let Some(attempt) = self.attempt(&caller, round, node, &wish).await {
                attempts.push(attempt);
            } else {
                pause(BREATH).await;
            }
        }
        attempts
    }

    /// Repeats a wish with its key, at whatever node, until its outcome is known.
    async fn insist(
        &self,
        caller: &Caller,
        round: u64,
        first: usize,
        wish: &Wish,
        attempts: &mut Vec<Attempt>,
        stop: &watch::Receiver<bool>,
    ) {
        let mut stopped: Option<Instant> = None;
        for turn in first.. {
            if let Some(attempt) = self.attempt(caller, round, turn % self.nodes.len(), wish).await {
                let known = is_known(&attempt.outcome);
                attempts.push(attempt);
                if known {
                    return;
                }
            }
            if *stop.borrow() && stopped.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return;
            }
            pause(BREATH).await;
        }
    }

    /// One request; nothing if the server is known to be away.
    async fn attempt(&self, caller: &Caller, round: u64, node: usize, wish: &Wish) -> Option<Attempt> {
        let request = |url: &str| self.request(caller, url, wish, &trace(&wish.nonce));
        self.send((caller, round, node), (wish.operation, &wish.nonce), request).await
    }

    /// Sends a request to a server; nothing if that is known to be away.
    pub async fn send(
        &self,
        (caller, round, node): (&Caller, u64, usize),
        (operation, nonce): (Operation, &str),
        request: impl FnOnce(&str) -> RequestBuilder,
    ) -> Option<Attempt> {
        let (trace, request) = (trace(nonce), request(&self.url(node)?));
        let invoked = micros(self.begun.elapsed());
        let outcome = self.client.attempt(request).await;
        let ended = micros(self.begun.elapsed());
        let (caller, nonce) = (caller.number, nonce.to_owned());
        Some(Attempt { round, invoked, ended, caller, node, operation, nonce, trace, outcome })
    }

    fn request(&self, caller: &Caller, url: &str, wish: &Wish, trace: &str) -> RequestBuilder {
        let input = json!({ "nonce": wish.nonce, "ms": wish.ms });
        let this = INTEGRATIONS.get(wish.integration).copied().unwrap_or_default();
        let other = INTEGRATIONS.iter().find(|id| **id != this).copied().unwrap_or_default();
        let action = |name: &str| format!("/api/v1/integrations/{this}/actions/{name}");
        let post = |path: &str, body: &Value| {
            let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
            self.client.request(Method::POST, url, path).json(body).header("traceparent", traceparent)
        };
        match wish.operation {
            Operation::Webhook => post(self.webhooks.get(wish.integration).map_or("", String::as_str), &input),
            Operation::Rpc => {
                let body = json!({ "method": "echo", "params": input });
                post(&format!("/api/v1/apps/{APP}/rpc"), &body).bearer_auth(&caller.token)
            }
            Operation::Echo | Operation::Probe => post(&action("echo"), &input).bearer_auth(&caller.token),
            Operation::Forbidden => post(&action("secret"), &input).bearer_auth(&caller.token),
            Operation::Destroy => post(&action("destroy"), &input).bearer_auth(&caller.token),
            Operation::Nested => {
                let input = json!({ "nonce": wish.nonce, "ms": wish.ms, "other": other });
                post(&action("nested"), &input).bearer_auth(&caller.token)
            }
            Operation::Enqueue => self.enqueue(caller, url, (&wish.nonce, wish.ms)),
            // Parts of stories: they make their requests themselves.
            Operation::Create | Operation::Update | Operation::Delete | Operation::Refused => post("", &input),
            Operation::Once => post(&action("once"), &input).bearer_auth(&caller.token).header("idempotency-key", &wish.nonce),
        }
    }

    /// Calls every kind of backend at every node until it answers; the attempts, and what never worked.
    pub async fn probe(&self, caller: &Caller, round: u64) -> (Vec<Attempt>, Vec<String>) {
        let (mut attempts, mut silent) = (Vec::new(), Vec::new());
        for node in 0..self.nodes.len() {
            for integration in 0..INTEGRATIONS.len() {
                let nonce = format!("{round}-{}-probe-{node}-{integration}", caller.number);
                let wish = Wish { operation: Operation::Probe, nonce, integration, ms: 0 };
                let begun = Instant::now();
                loop {
                    let attempt = self.attempt(caller, round, node, &wish).await;
                    let works = attempt.as_ref().is_some_and(|attempt| matches!(attempt.outcome, Outcome::Ok { .. }));
                    attempts.extend(attempt);
                    if works {
                        break;
                    }
                    if begun.elapsed() > PATIENCE {
                        silent.push(format!("node {node} does not call integration {integration} again after {PATIENCE:?}"));
                        break;
                    }
                    pause(BREATH).await;
                }
            }
        }
        (attempts, silent)
    }
}

fn draw(rng: &mut StdRng, nonce: &str) -> Wish {
    let operation = match rng.random_range(0..100) {
        0..15 => Operation::Echo,
        15..30 => Operation::Enqueue,
        30..40 => Operation::Nested,
        40..50 => Operation::Rpc,
        50..65 => Operation::Once,
        65..77 => Operation::Destroy,
        77..95 => Operation::Webhook,
        _ => Operation::Forbidden,
    };
    let ms = if rng.random_bool(0.4) { rng.random_range(1..200) } else { 0 };
    Wish { operation, nonce: nonce.to_owned(), integration: rng.random_range(0..INTEGRATIONS.len()), ms }
}

/// Whether repeating the same request can bring nothing new.
fn is_known(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Ok { .. } => true,
        Outcome::Unknown { .. } => false,
        // Overload, a database that is away and a first request that is still at work pass; a kept failure stays.
        Outcome::Fail { status, code, .. } => *status != 503 && code != "idempotency_in_progress",
    }
}

/// A trace id that belongs to one wish.
fn trace(nonce: &str) -> String {
    let half = |number: u8| {
        let mut hasher = DefaultHasher::new();
        (number, nonce).hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}
