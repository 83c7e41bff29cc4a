//! A vendor with OAuth 2 and an API behind it, played to the letter where it hurts: refresh tokens are good once, and using one
//! twice ends the account's access. Tests tell it to wait, to break off, to refuse and to count.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Form, Json, Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

/// A running vendor; it stops when dropped.
pub struct FakeVendor {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<io::Result<()>>,
}

type Shared = Arc<Mutex<Office>>;

/// What happens to the next token request, after the vendor has done its part.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// The tokens are changed, and the line breaks before the answer.
    BreakOff,
    /// The answer waits until somebody says so.
    Hold(Arc<Notify>),
    /// Nothing is changed, and the answer is this status with this body.
    Answer(u16, Value),
}

#[derive(Default)]
struct Office {
    counter: u32,
    lifetime: Option<u64>,
    /// Of each account, the refresh token that is good now.
    refresh: BTreeMap<String, String>,
    /// Access tokens that are good, with their accounts.
    access: BTreeMap<String, String>,
    codes: BTreeMap<String, String>,
    troubles: VecDeque<Trouble>,
    requests: Vec<BTreeMap<String, String>>,
    revoked: Vec<String>,
}

impl FakeVendor {
    pub const CLIENT: &str = "weft-client";
    pub const SECRET: &str = "the-vendors-client-secret";

    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Shared::default();
        lock(&shared).lifetime = Some(3600);
        let routes = Router::new()
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .route("/me", get(me))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, shared, server }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The `userAuth` of a manifest for it.
    pub fn user_auth(&self) -> Value {
        json!({
            "type": "oauth2",
            "authorizeUrl": self.url("/authorize"),
            "tokenUrl": self.url("/token"),
            "revokeUrl": self.url("/revoke"),
            "scopes": ["mail.read", "mail.send"],
        })
    }

    /// Lets an account in by its name and this key, as a user name and a password.
    pub fn key(&self, account: &str, key: &str) {
        lock(&self.shared).access.insert(format!("{account}:{key}"), account.to_owned());
    }

    /// How long tokens last from now on, in seconds; `None`: it does not say.
    pub fn lifetime(&self, seconds: Option<u64>) {
        lock(&self.shared).lifetime = seconds;
    }

    pub fn trouble(&self, trouble: Trouble) {
        lock(&self.shared).troubles.push_back(trouble);
    }

    /// Does not take the access tokens that are out any more. Refresh tokens stay good.
    pub fn expire_access(&self) {
        lock(&self.shared).access.clear();
    }

    /// Ends all access of an account, as somebody does in the vendor's settings.
    pub fn forget(&self, account: &str) {
        let mut office = lock(&self.shared);
        office.refresh.remove(account);
        office.access.retain(|_, owner| owner != account);
    }

    /// The token requests of a kind: `authorization_code`, `refresh_token` or `client_credentials`.
    pub fn requests(&self, grant: &str) -> Vec<BTreeMap<String, String>> {
        let is_it = |request: &&BTreeMap<String, String>| request.get("grant_type").is_some_and(|given| given == grant);
        lock(&self.shared).requests.iter().filter(is_it).cloned().collect()
    }

    /// The tokens that were taken back.
    pub fn revoked(&self) -> Vec<String> {
        lock(&self.shared).revoked.clone()
    }

    /// The refresh token of an account that is good now.
    pub fn refresh_token(&self, account: &str) -> Option<String> {
        lock(&self.shared).refresh.get(account).cloned()
    }
}

impl Drop for FakeVendor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Office> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Office {
    fn issue(&mut self, account: &str, with_refresh: bool) -> Value {
        self.counter += 1;
        let access = format!("access-{account}-{}", self.counter);
        self.access.insert(access.clone(), account.to_owned());
        let mut answer =
            json!({ "access_token": access, "token_type": "Bearer", "scope": "mail.read mail.send", "email": account });
        if let Some(lifetime) = self.lifetime {
            answer["expires_in"] = lifetime.into();
        }
        if with_refresh {
            let refresh = format!("refresh-{account}-{}", self.counter);
            self.refresh.insert(account.to_owned(), refresh.clone());
            answer["refresh_token"] = refresh.into();
        }
        answer
    }

    fn grant(&mut self, form: &BTreeMap<String, String>) -> Result<Value, &'static str> {
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if field("client_id") != FakeVendor::CLIENT || field("client_secret") != FakeVendor::SECRET {
            return Err("invalid_client");
        }
        match field("grant_type") {
            "authorization_code" => {
                let account = self.codes.remove(field("code")).ok_or("invalid_grant")?;
                if field("code_verifier").is_empty() {
                    return Err("invalid_request");
                }
                Ok(self.issue(&account, true))
            }
            "refresh_token" => {
                let given = field("refresh_token");
                let known = self.refresh.iter().find(|(_, token)| *token == given).map(|(account, _)| account.clone());
                if let Some(account) = known {
                    return Ok(self.issue(&account, true));
                }
                // Used before: somebody has stolen it, so all access of the account ends.
                let account = given.split('-').nth(1).unwrap_or_default().to_owned();
                self.refresh.remove(&account);
                Err("invalid_grant")
            }
            "client_credentials" => Ok(self.issue("the-client", false)),
            _ => Err("unsupported_grant_type"),
        }
    }
}

/// Everybody agrees at once; the account is the `login_hint`.
async fn authorize(State(shared): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let account = query.get("login_hint").cloned().unwrap_or_else(|| "alice@vendor.example".to_owned());
    let (Some(back), Some(state)) = (query.get("redirect_uri"), query.get("state")) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let code = {
        let mut office = lock(&shared);
        office.counter += 1;
        let code = format!("code-{}", office.counter);
        office.codes.insert(code.clone(), account);
        code
    };
    Redirect::temporary(&format!("{back}?code={code}&state={state}")).into_response()
}

async fn token(State(shared): State<Shared>, Form(form): Form<BTreeMap<String, String>>) -> Response {
    let trouble = {
        let mut office = lock(&shared);
        office.requests.push(form.clone());
        office.troubles.pop_front()
    };
    if let Some(Trouble::Answer(status, body)) = &trouble {
        return (StatusCode::from_u16(*status).unwrap_or_default(), Json(body.clone())).into_response();
    }
    let granted = lock(&shared).grant(&form);
    match trouble {
        Some(Trouble::BreakOff) => return broken(),
        Some(Trouble::Hold(release)) => release.notified().await,
        _ => {}
    }
    match granted {
        Ok(answer) => Json(answer).into_response(),
        Err(code) => (StatusCode::BAD_REQUEST, Json(json!({ "error": code }))).into_response(),
    }
}

/// An answer that ends before it is complete.
fn broken() -> Response {
    let body = Body::from_stream(futures::stream::once(async { Err::<Vec<u8>, _>(io::Error::other("the line broke")) }));
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn revoke(State(shared): State<Shared>, Form(form): Form<BTreeMap<String, String>>) -> StatusCode {
    let token = form.get("token").cloned().unwrap_or_default();
    lock(&shared).revoked.push(token);
    StatusCode::OK
}

/// Whose token or key it is; 401 for one that is not good.
async fn me(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let pair = given.strip_prefix("Basic ").and_then(|pair| String::from_utf8(STANDARD.decode(pair).ok()?).ok());
    let token = pair.unwrap_or_else(|| given.strip_prefix("Bearer ").unwrap_or_default().to_owned());
    match lock(&shared).access.get(&token) {
        Some(account) => Json(json!({ "account": account })).into_response(),
        None => (StatusCode::UNAUTHORIZED, Json(json!({ "error": "invalid_token" }))).into_response(),
    }
}
