//! The other side of a sign-on: an OpenID provider and a browser. Both are real (`oidc-provider` from npm, the system's
//! Chromium), each in a process of its own that takes commands as lines of JSON and ends when its input does.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::peer::Peer;

/// The scripts and their packages.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sign-on");

/// An OpenID provider on this machine with one client, `weft`.
pub struct Provider {
    pub issuer: String,
    peer: Mutex<Peer>,
}

impl Provider {
    pub const CLIENT: &str = "weft";
    pub const SECRET: &str = "the client's secret";

    /// A provider that sends browsers back to the server at `base`.
    pub async fn start(base: &str) -> Self {
        let (peer, first) = Peer::start(FOLDER, "provider.mjs", &format!("{base}/api/v1/auth/oidc/callback")).await;
        Self { issuer: first["issuer"].as_str().expect("an issuer").to_owned(), peer: Mutex::new(peer) }
    }

    /// How a server is told of it, under an id.
    pub fn configuration(&self, id: &str) -> Value {
        json!({
            "id": id,
            "displayName": "The provider",
            "issuerUrl": self.issuer,
            "clientId": Self::CLIENT,
            "clientSecret": Self::SECRET,
        })
    }

    async fn command(&self, command: Value) -> Value {
        self.peer.lock().await.ask(&command).await["result"].take()
    }

    /// Lets somebody log in, with these claims.
    pub async fn account(&self, claims: Value) {
        self.command(json!({ "account": claims })).await;
    }

    /// Replaces the signing key. The old one is gone.
    pub async fn rotate(&self) {
        self.command(json!({ "rotate": true })).await;
    }

    /// Changes every ID token from now on; null ends it.
    pub async fn tamper(&self, changes: Value) {
        self.command(json!({ "tamper": changes })).await;
    }

    /// An ID token for the client, with these changes to its claims and header.
    pub async fn sign(&self, changes: Value) -> String {
        self.command(json!({ "sign": changes })).await.as_str().expect("a token").to_owned()
    }

    /// Leaves e-mail and name to the userinfo endpoint.
    pub async fn keep_tokens_plain(&self) {
        self.command(json!({ "plain": true })).await;
    }

    /// How often its keys were fetched.
    pub async fn key_fetches(&self) -> u64 {
        self.command(json!({ "count": "jwks" })).await.as_u64().expect("a number")
    }
}

/// A browser with a profile of its own.
pub struct Browser {
    peer: Mutex<Peer>,
}

/// Where a browser ended.
#[derive(Debug)]
pub struct Page {
    pub url: String,
    pub status: u64,
    pub text: String,
    /// The addresses it went through.
    pub visited: Vec<String>,
    /// What the last of them was told of the one before.
    pub referer: Option<String>,
}

impl Browser {
    pub async fn start() -> Self {
        let program = find_chromium();
        let (peer, _) = Peer::start(FOLDER, "browser.mjs", &program.to_string_lossy()).await;
        Self { peer: Mutex::new(peer) }
    }

    /// Goes to an address and to wherever that leads.
    pub async fn open(&self, url: &str) -> Page {
        self.go(json!({ "open": url })).await
    }

    /// The same, and logs in as `account` at the provider, unless it still knows who is there.
    pub async fn log_in(&self, url: &str, account: &str) -> Page {
        self.go(json!({ "open": url, "login": account })).await
    }

    /// The same, and refuses to log in at the provider.
    pub async fn cancel(&self, url: &str) -> Page {
        self.go(json!({ "open": url, "cancel": true })).await
    }

    /// Opens an address and does what a user would: `["fill", label, text]`, `["press", name]`, `["see", text]`.
    pub async fn act(&self, url: &str, steps: &Value) -> Page {
        self.go(json!({ "open": url, "steps": steps })).await
    }

    /// Forgets all cookies, like a browser of somebody else.
    pub async fn forget(&self) {
        self.peer.lock().await.ask(&json!({ "forget": true })).await;
    }

    async fn go(&self, command: Value) -> Page {
        let answer = self.peer.lock().await.ask(&command).await;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let requests = answer["requests"].as_array().unwrap_or_else(|| panic!("the browser fails: {answer}"));
        Page {
            url: text(&answer["url"]).expect("an address"),
            status: answer["status"].as_u64().expect("a status"),
            text: text(&answer["text"]).expect("a text"),
            visited: requests.iter().filter_map(|request| text(&request["url"])).collect(),
            referer: requests.last().and_then(|request| text(&request["referer"])),
        }
    }
}

impl Page {
    /// A parameter of the address's query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let url = reqwest::Url::parse(&self.url).expect("an address");
        url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    }
}

fn find_chromium() -> PathBuf {
    let named = std::env::var_os("WEFT_CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let on_path = std::env::split_paths(&path).flat_map(|folder| programs.map(|program| folder.join(program)));
    let mac = PathBuf::from("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome");
    let mut candidates = named.into_iter().chain(on_path).chain([mac]);
    candidates.find(|program| program.is_file()).expect("Chromium is installed: see scripts/require-browser.sh")
}
