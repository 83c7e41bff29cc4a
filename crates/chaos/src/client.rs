//! The API as a caller uses it. Tells an answer apart from silence, after which nobody knows what was done.

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{
    Method, RequestBuilder,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

use crate::history::Outcome;

const PASSWORD: &str = "Str0ngPass!x";
/// Longer than the server lets any call take.
const PATIENCE: Duration = Duration::from_secs(45);

/// A user with its tokens.
#[derive(Debug, Clone)]
pub struct Login {
    pub user: String,
    pub access: String,
    pub refresh: String,
}

/// Sends requests to any server.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    pub fn new() -> anyhow::Result<Self> {
        // A connection to a server that was killed would only be found broken by the next request.
        Ok(Self(reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(PATIENCE).build()?))
    }

    pub fn request(&self, method: Method, url: &str, path: &str) -> RequestBuilder {
        self.0.request(method, format!("{url}{path}"))
    }

    /// Sends a request and says what came of it.
    pub async fn attempt(&self, request: RequestBuilder) -> Outcome {
        match answer(request).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Unknown { error: format!("{:#}", anyhow::Error::from(error)) },
        }
    }

    pub async fn get(&self, url: &str, path: &str, token: &str) -> anyhow::Result<Value> {
        self.expect(path, self.request(Method::GET, url, path).bearer_auth(token)).await
    }

    pub async fn post(&self, url: &str, path: &str, token: Option<&str>, body: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, url, path).json(body);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        self.expect(path, request).await
    }

    pub async fn deploy(&self, url: &str, token: &str, app: &str, archive: Vec<u8>) -> anyhow::Result<()> {
        let path = format!("/api/v1/apps/{app}/deploy");
        let part = Part::bytes(archive).file_name("backend.tar.gz").mime_str("application/gzip")?;
        let request = self.request(Method::POST, url, &path).bearer_auth(token).multipart(Form::new().part("archive", part));
        self.expect(&path, request).await.map(|_| ())
    }

    /// Registers a user and logs in.
    pub async fn register(&self, url: &str, name: &str) -> anyhow::Result<Login> {
        let email = format!("{name}@example.com");
        let account = json!({ "email": email, "password": PASSWORD });
        self.post(url, "/api/v1/auth/register", None, &account).await?;
        let tokens = self.post(url, "/api/v1/auth/login", None, &account).await?;
        let text =
            |pointer: &str| tokens.pointer(pointer).and_then(Value::as_str).map(str::to_owned).context("a login answers it");
        Ok(Login { user: text("/user/id")?, access: text("/accessToken")?, refresh: text("/refreshToken")? })
    }

    /// A new access token.
    pub async fn refresh(&self, url: &str, login: &Login) -> anyhow::Result<String> {
        let answer = self.post(url, "/api/v1/auth/refresh", None, &json!({ "refreshToken": login.refresh })).await?;
        Ok(answer.pointer("/accessToken").and_then(Value::as_str).context("an access token")?.to_owned())
    }

    async fn expect(&self, path: &str, request: RequestBuilder) -> anyhow::Result<Value> {
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

async fn answer(request: RequestBuilder) -> reqwest::Result<Outcome> {
    let answer = request.send().await?;
    let status = answer.status();
    let run = answer.headers().get("x-weft-run-id").and_then(|run| run.to_str().ok()).map(str::to_owned);
    // An answer counts once it is there as a whole.
    let bytes = answer.bytes().await?;
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(if status.is_success() {
        Outcome::Ok { status: status.as_u16(), body, run }
    } else {
        Outcome::Fail { status: status.as_u16(), code: text("code"), error: text("error") }
    })
}
