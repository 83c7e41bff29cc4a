//! A store that speaks S3: `s3rver` from npm, on this machine. It checks signatures as the real one does.

use serde_json::{Value, json};
use tokio::sync::Mutex;
use weft_server::ServeArgs;

use crate::peer::Peer;

/// The script and its packages.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/s3");
const BUCKET: &str = "weft";
/// The key that the store knows, and its secret.
const KEY: &str = "S3RVER";

/// A running store with one bucket, `weft`.
pub struct S3 {
    endpoint: String,
    peer: Mutex<Peer>,
}

impl S3 {
    pub async fn start() -> Self {
        let (peer, first) = Peer::start(FOLDER, "store.mjs", BUCKET).await;
        Self { endpoint: first["endpoint"].as_str().expect("an endpoint").to_owned(), peer: Mutex::new(peer) }
    }

    /// The settings of a server that keeps its files here.
    pub fn settings(&self, bucket: &str, prefix: &str) -> String {
        format!("[files.s3]\nendpoint = \"{}\"\nbucket = \"{bucket}\"\nprefix = \"{prefix}\"\n", self.endpoint)
    }

    /// The keys for it.
    pub fn arguments(&self) -> ServeArgs {
        let key = || Some(KEY.to_owned());
        ServeArgs { s3_access_key_id: key(), s3_secret_access_key: key(), ..ServeArgs::default() }
    }

    /// The names of the objects in a bucket.
    pub async fn keys(&self, bucket: &str) -> Vec<String> {
        let answer = self.peer.lock().await.ask(&json!({ "keys": bucket })).await;
        let keys = answer["keys"].as_array().cloned().unwrap_or_default();
        keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Refuses everything with 503 until told otherwise.
    pub async fn pause(&self, paused: bool) {
        self.peer.lock().await.ask(&json!({ "pause": paused })).await;
    }
}
