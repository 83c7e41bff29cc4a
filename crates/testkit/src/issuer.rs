//! A vendor that gives tokens in other ways than OAuth's code: for an assertion (RFC 7523, as Google has it), for the installation of
//! an app (as GitHub has it), for a login. It verifies what is signed and takes no assertion twice.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Form, Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use chrono::DateTime;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

/// A running vendor; it stops when dropped.
pub struct FakeIssuer {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<io::Result<()>>,
}

type Shared = Arc<Mutex<Office>>;

#[derive(Default)]
struct Office {
    counter: u32,
    /// Where people are sent back after an installation.
    setup_url: String,
    /// What assertions have to ask for.
    scope: String,
    installations: BTreeSet<String>,
    /// Identifiers of assertions that were taken.
    taken: BTreeSet<String>,
    /// Tokens that are good, with whom they are for.
    access: BTreeMap<String, String>,
    requests: Vec<String>,
    password: String,
    /// Answers that wait until somebody says so.
    holds: VecDeque<Arc<Notify>>,
}

impl FakeIssuer {
    pub const RSA_KEY: &str = include_str!("../keys/rsa-private.pem");
    pub const EC_KEY: &str = include_str!("../keys/ec-private.pem");
    pub const ROBOT: &str = "robot@project.vendor.example";
    pub const APP: &str = "4711";
    pub const INSTALLATION: &str = "42";

    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Shared::default();
        lock(&shared).installations.insert(Self::INSTALLATION.to_owned());
        "correct horse".clone_into(&mut lock(&shared).password);
        "files".clone_into(&mut lock(&shared).scope);
        let routes = Router::new()
            .route("/oauth/token", post(assertion))
            .route("/apps/weft/installations/new", get(install))
            .route("/app/installations/{id}/access_tokens", post(installation))
            .route("/login", post(login))
            .route("/me", any(me))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, shared, server }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where people are sent back after they have installed the app.
    pub fn setup_url(&self, url: &str) {
        url.clone_into(&mut lock(&self.shared).setup_url);
    }

    /// What assertions have to ask for from now on.
    pub fn scope(&self, scope: &str) {
        scope.clone_into(&mut lock(&self.shared).scope);
    }

    /// Does not take the tokens that are out any more.
    pub fn expire_access(&self) {
        lock(&self.shared).access.clear();
    }

    /// Ends what tokens are given for: installations, and the password.
    pub fn revoke_all(&self) {
        let mut office = lock(&self.shared);
        office.access.clear();
        office.installations.clear();
        "changed".clone_into(&mut office.password);
    }

    /// Lets the next answer to a request for a token wait.
    pub fn hold(&self, release: &Arc<Notify>) {
        lock(&self.shared).holds.push_back(Arc::clone(release));
    }

    /// How many requests for tokens came: `assertion`, `installation` or `login`.
    pub fn requests(&self, kind: &str) -> usize {
        lock(&self.shared).requests.iter().filter(|request| *request == kind).count()
    }
}

impl Drop for FakeIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Office> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Office {
    fn issue(&mut self, account: &str) -> String {
        self.counter += 1;
        let token = format!("token-{account}-{}", self.counter);
        self.access.insert(token.clone(), account.to_owned());
        token
    }
}

async fn begun(shared: &Shared, kind: &str) {
    let hold = {
        let mut office = lock(shared);
        office.requests.push(kind.to_owned());
        office.holds.pop_front()
    };
    if let Some(release) = hold {
        release.notified().await;
    }
}

/// What was signed with the key that belongs to this public one, if it was, and for no longer than that.
fn verified(token: &str, (algorithm, key): (Algorithm, &DecodingKey), audience: Option<&str>, longest: i64) -> Option<Value> {
    // The clock of a test's server is its own.
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = audience.is_some();
    if let Some(audience) = audience {
        validation.set_audience(&[audience]);
    }
    let claims = jsonwebtoken::decode::<Value>(token, key, &validation).ok()?.claims;
    let lasts = claims["exp"].as_i64()? - claims["iat"].as_i64()?;
    (1..=longest).contains(&lasts).then_some(claims)
}

fn rsa() -> DecodingKey {
    DecodingKey::from_rsa_pem(include_bytes!("../keys/rsa-public.pem")).expect("a key")
}

fn ec() -> DecodingKey {
    DecodingKey::from_ec_pem(include_bytes!("../keys/ec-public.pem")).expect("a key")
}

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split_once(' ').map(|(_, token)| token).unwrap_or_default()
}

/// RFC 7523: a service account asks for itself, or for somebody of its domain.
async fn assertion(State(shared): State<Shared>, headers: HeaderMap, Form(form): Form<BTreeMap<String, String>>) -> Response {
    begun(&shared, "assertion").await;
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let refused = |code: &str, text: String| {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": code, "error_description": text }))).into_response()
    };
    if field("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return refused("unsupported_grant_type", String::new());
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let audience = format!("http://{host}/oauth/token");
    let claims = verified(field("assertion"), (Algorithm::RS256, &rsa()), Some(&audience), 3600);
    let scope = lock(&shared).scope.clone();
    let Some(claims) = claims.filter(|claims| claims["iss"] == FakeIssuer::ROBOT && claims["scope"] == scope) else {
        return refused("invalid_grant", format!("Invalid JWT Signature: {}", field("assertion")));
    };
    let mut office = lock(&shared);
    if claims["jti"].as_str().is_some_and(|id| !office.taken.insert(id.to_owned())) {
        return refused("invalid_grant", "the assertion was used before".to_owned());
    }
    let account = claims["sub"].as_str().unwrap_or(FakeIssuer::ROBOT).to_owned();
    if account.starts_with("nobody") {
        return refused("invalid_grant", format!("no such person: {account}"));
    }
    let token = office.issue(&account);
    Json(json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" })).into_response()
}

/// Everybody installs at once.
async fn install(State(shared): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let state = query.get("state").cloned().unwrap_or_default();
    let back = lock(&shared).setup_url.clone();
    let id = FakeIssuer::INSTALLATION;
    Redirect::temporary(&format!("{back}?installation_id={id}&setup_action=install&state={state}")).into_response()
}

async fn installation(State(shared): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    begun(&shared, "installation").await;
    let claims = verified(bearer(&headers), (Algorithm::RS256, &rsa()), None, 600);
    let Some(claims) = claims.filter(|claims| claims["iss"] == FakeIssuer::APP) else {
        let told = json!({ "message": "A JSON web token could not be decoded", "status": "401" });
        return (StatusCode::UNAUTHORIZED, Json(told)).into_response();
    };
    let mut office = lock(&shared);
    if !office.installations.contains(&id) {
        return (StatusCode::NOT_FOUND, Json(json!({ "message": "Not Found", "status": "404" }))).into_response();
    }
    let token = office.issue(&format!("installation-{id}"));
    let until = claims["iat"].as_i64().and_then(|at| DateTime::from_timestamp(at + 3630, 0)).unwrap_or_default();
    let until = until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let told = json!({ "token": token, "expires_at": until, "permissions": { "contents": "read" } });
    (StatusCode::CREATED, Json(told)).into_response()
}

async fn login(State(shared): State<Shared>, Json(body): Json<Value>) -> Response {
    begun(&shared, "login").await;
    let mut office = lock(&shared);
    if body["password"] != office.password {
        let told = json!({ "code": "BAD_LOGIN", "message": format!("the password {} is wrong", body["password"]) });
        return (StatusCode::UNAUTHORIZED, Json(told)).into_response();
    }
    let token = office.issue(body["user"].as_str().unwrap_or_default());
    Json(json!({ "data": { "session": token, "ttl": "1200" }, "ok": true })).into_response()
}

/// Whose token it is, and what was sent with it. A token may also be what somebody signed with the key that is known here.
async fn me(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let token = bearer(&headers);
    let signed = || verified(token, (Algorithm::ES256, &ec()), Some("vendor"), 300)?["iss"].as_str().map(str::to_owned);
    let account = lock(&shared).access.get(token).cloned().or_else(signed);
    let Some(account) = account else {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "invalid_token" }))).into_response();
    };
    let sent = String::from_utf8_lossy(&body).into_owned();
    let told = json!({ "account": account, "sent": sent }).to_string();
    ([(header::CONTENT_TYPE, "application/json")], Body::from(told)).into_response()
}
