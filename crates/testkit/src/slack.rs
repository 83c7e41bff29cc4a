//! A fake Slack: the part of its Web API that the demo and the server's tests use, with Slack's own wire format.
//!
//! It listens on 127.0.0.1, remembers every request, and can be told to refuse the next ones. It must not know anything of the
//! platform: whatever talks to `slack.com/api/` can talk to it. Like the original it answers errors with status 200
//! and `ok: false`, except rate limits (429) and outages.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Slack's limit for the text of a message, in characters.
const MAX_TEXT: usize = 40_000;
const TEAM: &str = "T0000000001";
const BOT_USER: &str = "U0000000001";
const BOT: &str = "B0000000001";

/// A running fake; it stops when dropped.
#[derive(Debug)]
pub struct FakeSlack {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<io::Result<()>>,
}

/// One request to the Web API, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// For example `chat.postMessage`.
    pub method: String,
    /// The bearer token, or the field `token`.
    pub token: Option<String>,
    /// Form fields or JSON members; members that are no text appear as JSON.
    pub fields: BTreeMap<String, String>,
}

/// What happens to a request instead of an answer.
#[derive(Debug)]
enum Trouble {
    RateLimit { retry_after: u32 },
    Outage { status: u16 },
}

#[derive(Debug)]
struct Workspace {
    tokens: Vec<String>,
    /// Names without `#`, to ids.
    channels: BTreeMap<String, String>,
    troubles: VecDeque<Trouble>,
    requests: Vec<Recorded>,
    posted: u32,
}

type Shared = Arc<Mutex<Workspace>>;

impl FakeSlack {
    /// The token that is known from the start.
    pub const TOKEN: &str = "xoxb-fake";
    /// The id of the channel `#general`, which exists from the start.
    pub const GENERAL: &str = "C0000000001";

    /// Starts a fake on a free port.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(0).await
    }

    /// Starts a fake on a port; 0 chooses a free one.
    pub async fn start_on(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Shared::new(Mutex::new(Workspace::new()));
        let app = router(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, shared, server })
    }

    /// What to configure as `apiUrl`, with the final slash.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}/api/", self.address)
    }

    /// Accepts one more token.
    pub fn add_token(&self, token: &str) {
        lock(&self.shared).tokens.push(token.to_owned());
    }

    /// Makes requests with this token fail with `invalid_auth` from now on.
    pub fn revoke_token(&self, token: &str) {
        lock(&self.shared).tokens.retain(|known| known != token);
    }

    /// Adds a channel; `name` is without `#`.
    pub fn add_channel(&self, name: &str, id: &str) {
        lock(&self.shared).channels.insert(name.to_owned(), id.to_owned());
    }

    /// Refuses the next `count` requests with 429 and `Retry-After`, in seconds.
    pub fn rate_limit_next(&self, count: usize, retry_after: u32) {
        let troubles = (0..count).map(|_| Trouble::RateLimit { retry_after });
        lock(&self.shared).troubles.extend(troubles);
    }

    /// Answers the next `count` requests with a bare status, such as 503.
    pub fn fail_next(&self, count: usize, status: u16) {
        let troubles = (0..count).map(|_| Trouble::Outage { status });
        lock(&self.shared).troubles.extend(troubles);
    }

    /// Every request so far, refused ones included, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared).requests.clone()
    }

    /// Serves until the process ends.
    pub async fn run(mut self) -> io::Result<()> {
        (&mut self.server).await?
    }
}

impl Drop for FakeSlack {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The header `X-Slack-Signature` of a webhook request; the timestamp goes into `X-Slack-Request-Timestamp`.
#[must_use]
#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
pub fn sign(signing_secret: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(signing_secret.as_bytes()).expect("HMAC takes keys of every length");
    mac.update(format!("v0:{timestamp}:").as_bytes());
    mac.update(body);
    format!("v0={}", hex::encode(mac.finalize().into_bytes()))
}

impl Workspace {
    fn new() -> Self {
        Self {
            tokens: vec![FakeSlack::TOKEN.to_owned()],
            channels: BTreeMap::from([("general".to_owned(), FakeSlack::GENERAL.to_owned())]),
            troubles: VecDeque::new(),
            requests: Vec::new(),
            posted: 0,
        }
    }

    fn answer(&mut self, request: &Recorded) -> Response {
        match self.troubles.pop_front() {
            Some(Trouble::RateLimit { retry_after }) => rate_limited(retry_after),
            Some(Trouble::Outage { status }) => outage(status),
            None => Json(self.call(request).unwrap_or_else(refusal)).into_response(),
        }
    }

    fn call(&mut self, request: &Recorded) -> Result<Value, &'static str> {
        let token = request.token.as_ref().ok_or("not_authed")?;
        if !self.tokens.contains(token) {
            return Err("invalid_auth");
        }
        match request.method.as_str() {
            "chat.postMessage" => self.post_message(&request.fields),
            "auth.test" => Ok(auth_test()),
            _ => Err("unknown_method"),
        }
    }

    fn post_message(&mut self, fields: &BTreeMap<String, String>) -> Result<Value, &'static str> {
        let channel = self.channel(fields.get("channel")).ok_or("channel_not_found")?;
        let text = fields.get("text").filter(|text| !text.is_empty()).ok_or("no_text")?;
        if text.chars().count() > MAX_TEXT {
            return Err("msg_too_long");
        }
        self.posted += 1;
        let ts = format!("1700000000.{:06}", self.posted);
        let mut message = json!({
            "type": "message", "user": BOT_USER, "bot_id": BOT, "team": TEAM, "app_id": "A0000000001", "text": text, "ts": ts,
        });
        if let (Some(thread), Some(members)) = (fields.get("thread_ts"), message.as_object_mut()) {
            members.insert("thread_ts".to_owned(), json!(thread));
        }
        Ok(json!({ "ok": true, "channel": channel, "ts": ts, "message": message }))
    }

    fn channel(&self, given: Option<&String>) -> Option<String> {
        let given = given?;
        let by_name = self.channels.get(given.trim_start_matches('#'));
        by_name.or_else(|| self.channels.values().find(|id| *id == given)).cloned()
    }
}

fn router(shared: Shared) -> Router {
    Router::new().route("/api/{method}", post(receive)).route("/_requests", get(list)).with_state(shared)
}

async fn receive(State(shared): State<Shared>, Path(method): Path<String>, request: Request) -> Response {
    let bearer = bearer(request.headers());
    let Some(fields) = fields(request).await else {
        return Json(refusal("invalid_arguments")).into_response();
    };
    let token = bearer.or_else(|| fields.get("token").cloned());
    let recorded = Recorded { method, token, fields };
    let mut workspace = lock(&shared);
    let response = workspace.answer(&recorded);
    workspace.requests.push(recorded);
    response
}

async fn list(State(shared): State<Shared>) -> Json<Vec<Recorded>> {
    Json(lock(&shared).requests.clone())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

async fn fields(request: Request) -> Option<BTreeMap<String, String>> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|value| value.starts_with("application/json")) {
        let Json(members) = Json::<BTreeMap<String, Value>>::from_request(request, &()).await.ok()?;
        return Some(members.into_iter().map(|(name, value)| (name, as_text(value))).collect());
    }
    if content_type.is_none() {
        return Some(BTreeMap::new());
    }
    Form::from_request(request, &()).await.ok().map(|Form(fields)| fields)
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn auth_test() -> Value {
    json!({
        "ok": true, "url": "https://fake.slack.com/", "team": "Fake", "user": "fake-bot",
        "team_id": TEAM, "user_id": BOT_USER, "bot_id": BOT, "is_enterprise_install": false,
    })
}

fn refusal(error: &str) -> Value {
    json!({ "ok": false, "error": error })
}

fn rate_limited(retry_after: u32) -> Response {
    let headers = [(header::RETRY_AFTER, retry_after.to_string())];
    (StatusCode::TOO_MANY_REQUESTS, headers, Json(refusal("ratelimited"))).into_response()
}

fn outage(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, "upstream connect error").into_response()
}

fn lock(shared: &Shared) -> MutexGuard<'_, Workspace> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
