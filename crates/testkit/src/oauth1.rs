//! A vendor with OAuth 1.0a, in a process of its own: the package `oauth-1.0a` from npm checks every signature.

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{peer::Peer, sign_on::FOLDER};

/// A vendor on this machine with one client.
pub struct SigningVendor {
    base: String,
    peer: Mutex<Peer>,
}

impl SigningVendor {
    pub const KEY: &str = "weft & co";
    pub const SECRET: &str = "the consumer's secret/+";

    /// One that takes signatures of this method.
    pub async fn start(method: &str) -> Self {
        let settings = json!({ "key": Self::KEY, "secret": Self::SECRET, "method": method });
        let (peer, first) = Peer::start(FOLDER, "oauth1.mjs", &settings.to_string()).await;
        Self { base: first["url"].as_str().expect("an address").to_owned(), peer: Mutex::new(peer) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Why requests were refused so far.
    pub async fn refused(&self) -> Value {
        self.peer.lock().await.ask(&json!({ "refused": true })).await["result"].take()
    }

    /// Does not take the tokens that are out any more.
    pub async fn revoke(&self) {
        self.peer.lock().await.ask(&json!({ "revoke": true })).await;
    }
}
