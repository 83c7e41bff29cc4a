//! The HTTP side of every command: addresses, the bearer token, one refresh when it has expired, errors as data.
//!
//! Knows paths but not what the answers mean. A token from the login file goes only to the server it was issued by.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::config::{Login, Store};
use crate::error::{CliError, Problem, Result};

/// Names where the next page of a list begins.
const NEXT_CURSOR: &str = "x-weft-next-cursor";
/// The address when none is given anywhere.
pub const DEFAULT_URL: &str = "http://localhost:9100";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RUN_ID_HEADER: &str = "x-weft-run-id";

/// A connection to one server.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    session: Mutex<Session>,
}

/// Who the requests are made as. Deliberately without `Debug`: it holds tokens.
pub enum Session {
    Anonymous,
    /// A token from the environment: used as it is.
    Token(String),
    /// A stored login: refreshed when it expires.
    Stored(Login, Store),
}

impl Session {
    fn bearer(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Token(token) => Some(token),
            Self::Stored(login, _) => Some(&login.access_token),
        }
    }

    /// What to do when the server does not accept this session.
    fn remedy(&self, url: &str) -> Option<String> {
        match self {
            Self::Anonymous => None,
            Self::Token(_) => Some("the token in WEFT_TOKEN (or --token) is not accepted: get a new one, or unset it".into()),
            Self::Stored(..) => Some(format!("run `weft login {url}`")),
        }
    }
}

impl Client {
    pub fn new(url: &str, session: Session) -> Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("weft-cli/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| CliError::failed(format!("cannot prepare HTTPS: {error}")))?;
        Ok(Self { http, base: server_url(url)?, session: Mutex::new(session) })
    }

    /// The server's address without a trailing slash, as people write it.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// An address under the server's root; each segment is escaped.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// An address under `/api/v1`.
    pub fn api(&self, segments: &[&str]) -> Url {
        self.url(&[&["api", "v1"], segments].concat())
    }

    /// What a path in an answer (`/api/v1/hooks/…`) is as a full address; full addresses stay.
    pub fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { format!("{}{path}", self.base()) } else { path.to_owned() }
    }

    pub async fn get(&self, url: Url) -> Result<Value> {
        self.fetch(|http| Ok(http.get(url.clone()))).await
    }

    /// A whole list, page after page.
    pub async fn list(&self, url: Url) -> Result<Vec<Value>> {
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = with_query(url.clone(), [("cursor", cursor.as_deref())]);
            let answer = self.execute(|http| Ok(http.get(page.clone()))).await?;
            cursor = answer.headers().get(NEXT_CURSOR).and_then(|value| value.to_str().ok()).map(str::to_owned);
            match self.read_json(answer).await? {
                Value::Array(more) => all.extend(more),
                other => all.push(other),
            }
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    pub async fn delete(&self, url: Url) -> Result<Value> {
        self.fetch(|http| Ok(http.delete(url.clone()))).await
    }

    /// Sends a JSON body and returns the JSON answer.
    pub async fn send(&self, method: Method, url: Url, body: &Value) -> Result<Value> {
        self.fetch(|http| Ok(http.request(method.clone(), url.clone()).json(body))).await
    }

    /// Runs a request and reads its JSON answer; an empty one is null.
    pub async fn fetch(&self, build: impl Fn(&reqwest::Client) -> Result<RequestBuilder>) -> Result<Value> {
        self.read_json(self.execute(build).await?).await
    }

    /// Runs a request that `build` can make again, because an expired token costs a second attempt.
    pub async fn execute(&self, build: impl Fn(&reqwest::Client) -> Result<RequestBuilder>) -> Result<Response> {
        let first = self.attempt(build(&self.http)?).await?;
        if first.status() != StatusCode::UNAUTHORIZED || !self.refresh().await? {
            return self.accept(first).await;
        }
        self.accept(self.attempt(build(&self.http)?).await?).await
    }

    async fn attempt(&self, request: RequestBuilder) -> Result<Response> {
        let request = match self.session.lock().await.bearer() {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.map_err(|error| self.transport(&error))
    }

    /// Renews a stored login, or the one that has taken its place since; false when there is nothing to renew with.
    async fn refresh(&self) -> Result<bool> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Renewed {
            access_token: String,
        }
        let mut session = self.session.lock().await;
        let Session::Stored(login, store) = &mut *session else { return Ok(false) };
        let stored = store.load()?.filter(|stored| server_url(&stored.url).is_ok_and(|url| url == self.base));
        if let Some(stored) = &stored {
            login.clone_from(stored);
        }
        let request = self.http.post(self.api(&["auth", "refresh"])).json(&json!({ "refreshToken": login.refresh_token }));
        let response = request.send().await.map_err(|error| self.transport(&error))?;
        if response.status().is_client_error() {
            return Err(CliError::failed("the login has expired").with_hint(format!("run `weft login {}`", self.base())));
        }
        let response = refusal(response).await.map_err(CliError::Problem)?;
        let renewed: Renewed = decode(&self.read_json(response).await?)?;
        login.access_token = renewed.access_token;
        // Whoever logged out meanwhile, or in to another server, keeps that.
        if stored.is_some() {
            store.save(login)?;
        }
        Ok(true)
    }

    async fn accept(&self, response: Response) -> Result<Response> {
        let mut problem = match refusal(response).await {
            Ok(response) => return Ok(response),
            Err(problem) => problem,
        };
        if problem.status == StatusCode::UNAUTHORIZED.as_u16() && problem.hint.is_none() {
            problem.hint = self.session.lock().await.remedy(self.base());
        }
        Err(CliError::Problem(problem))
    }

    async fn read_json(&self, response: Response) -> Result<Value> {
        let body = response.bytes().await.map_err(|error| self.transport(&error))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| not_understood(&error))
    }

    /// A failure below HTTP, told as what the person can act on.
    pub fn transport(&self, error: &reqwest::Error) -> CliError {
        let cause = root_cause(error);
        if error.is_connect() {
            return CliError::NoServer { url: self.base().to_owned(), cause };
        }
        CliError::failed(format!("the connection to {} broke: {cause}", self.base()))
            .with_hint("the request may or may not have been carried out: check before repeating it")
    }
}

/// The address with those parameters that have a value.
pub fn with_query<const COUNT: usize>(mut url: Url, parameters: [(&str, Option<&str>); COUNT]) -> Url {
    for (name, value) in parameters {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    url
}

/// Reads an answer into a type.
pub fn decode<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T> {
    T::deserialize(value).map_err(|error| not_understood(&error))
}

fn not_understood(error: &serde_json::Error) -> CliError {
    CliError::failed(format!("the server's answer is not understood: {error}"))
        .with_hint("is this a Weft server, and of the same version as this command? `weft status` shows both")
}

async fn refusal(response: Response) -> std::result::Result<Response, Box<Problem>> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let run_id = response.headers().get(RUN_ID_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let text = response.text().await.unwrap_or_default();
    Err(Box::new(Problem::parse(status, &text, run_id)))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Reads a server address; `localhost:9100` without a scheme means http.
pub fn server_url(text: &str) -> Result<Url> {
    let complete = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed = Url::parse(&complete).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let mut url = parsed.ok_or_else(|| {
        CliError::usage(format!("{text:?} is not a server address")).with_hint(format!("write it like {DEFAULT_URL}"))
    })?;
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_a_path_prefix_and_escape_segments() {
        let client = Client::new("http://host/weft/", Session::Anonymous).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(client.api(&["apps", "a/b"]).as_str(), "http://host/weft/api/v1/apps/a%2Fb");
        assert_eq!(client.absolute("/hooks/1"), "http://host/weft/hooks/1");
    }

    #[test]
    fn only_web_addresses_are_servers() {
        let host = |text| server_url(text).map(|url| url.to_string()).ok();
        assert_eq!(host("localhost:9100").as_deref(), Some("http://localhost:9100/"));
        assert_eq!(host("https://weft.example.com").as_deref(), Some("https://weft.example.com/"));
        assert_eq!(host("ftp://x"), None);
        assert_eq!(host(""), None);
    }
}
