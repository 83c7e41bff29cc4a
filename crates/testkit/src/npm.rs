//! A small package registry that speaks npm's own wire format: packuments, full and abbreviated, and tarballs.
//!
//! It listens on 127.0.0.1, holds what a test publishes, and remembers what it was asked. As with the original, only the full
//! packument says since when a version is out.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use tokio::{net::TcpListener, task::JoinHandle};
use weft_server::Clock;

use crate::api::archive;

/// What marks a client that makes do with less.
const ABBREVIATED: &str = "application/vnd.npm.install-v1+json";

/// A registry that stops when dropped.
#[derive(Debug)]
pub struct FakeRegistry {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<io::Result<()>>,
}

/// A version about to be published. What it exports is its name and version as one text, unless it is given code.
#[derive(Debug, Clone)]
pub struct Release {
    name: String,
    version: String,
    age: Duration,
    manifest: Map<String, Value>,
    tarballs: Option<String>,
    code: String,
}

#[derive(Debug, Default)]
struct Shelf {
    packages: BTreeMap<String, Vec<Published>>,
    requests: Vec<String>,
    tells_time: bool,
}

#[derive(Debug)]
struct Published {
    version: String,
    since: DateTime<Utc>,
    manifest: Value,
    tarball: Vec<u8>,
}

type Shared = Arc<Mutex<Shelf>>;

impl Release {
    /// A version that has been out for years.
    pub fn new(name: &str, version: &str) -> Self {
        let code = format!("module.exports = {};", json!(format!("{name}@{version}")));
        let (name, version, age) = (name.to_owned(), version.to_owned(), Duration::days(1000));
        Self { name, version, age, manifest: Map::new(), tarballs: None, code }
    }

    #[must_use]
    pub fn out_for(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// Adds a member to its package.json, such as `scripts` or `dependencies`.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.manifest.insert(member.to_owned(), value);
        self
    }

    #[must_use]
    pub fn with_code(self, code: &str) -> Self {
        Self { code: code.to_owned(), ..self }
    }

    /// Has the packument say that the tarball lies on another host.
    #[must_use]
    pub fn with_tarball_on(self, base: &str) -> Self {
        Self { tarballs: Some(base.to_owned()), ..self }
    }
}

impl FakeRegistry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Shared::new(Mutex::new(Shelf { tells_time: true, ..Shelf::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Its host and port.
    pub fn place(&self) -> String {
        self.address.to_string()
    }

    pub fn publish(&self, release: &Release) {
        let manifest = release.package_json(&self.url());
        let tarball = archive(&[("package/package.json", &manifest.to_string()), ("package/index.js", &release.code)]);
        let since = Clock::default().now() - release.age;
        let published = Published { version: release.version.clone(), since, manifest, tarball };
        lock(&self.shared).packages.entry(release.name.clone()).or_default().push(published);
    }

    /// From now on packuments do not say since when versions are out.
    pub fn forget_times(&self) {
        lock(&self.shared).tells_time = false;
    }

    /// A `bun.lock` for a project named `app` that asks for `wanted` of a package and has it pinned to a version.
    pub fn bun_lock(&self, name: &str, wanted: &str, version: &str) -> String {
        let (integrity, place) = self.pin(name, version);
        let packages = json!({ name: [format!("{name}@{version}"), place, {}, integrity] });
        let workspaces = json!({ "": { "name": "app", "dependencies": { name: wanted } } });
        json!({ "lockfileVersion": 1, "workspaces": workspaces, "packages": packages }).to_string()
    }

    /// The same as npm's `package-lock.json`.
    pub fn npm_lock(&self, name: &str, wanted: &str, version: &str) -> String {
        let (integrity, place) = self.pin(name, version);
        let root = json!({ "name": "app", "dependencies": { name: wanted } });
        let package = json!({ "version": version, "resolved": place, "integrity": integrity });
        let packages = json!({ "": root, format!("node_modules/{name}"): package });
        json!({ "name": "app", "lockfileVersion": 3, "requires": true, "packages": packages }).to_string()
    }

    /// The digest of a published version and where its tarball lies.
    fn pin(&self, name: &str, version: &str) -> (Value, Value) {
        let document = lock(&self.shared)
            .packages
            .get(name)
            .and_then(|releases| releases.iter().find(|release| release.version == version).map(Published::document));
        let dist = document.unwrap_or_else(|| panic!("{name}@{version} is published")).get("dist").cloned().unwrap_or_default();
        (dist["integrity"].clone(), dist["tarball"].clone())
    }

    /// The paths that were asked for, in order.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared).requests.clone()
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Release {
    fn package_json(&self, base: &str) -> Value {
        let mut manifest = self.manifest.clone();
        let file = self.name.rsplit('/').next().unwrap_or_default();
        let base = self.tarballs.as_deref().unwrap_or(base);
        let tarball = format!("{base}{}/-/{file}-{}.tgz", self.name, self.version);
        manifest.insert("name".to_owned(), json!(self.name));
        manifest.insert("version".to_owned(), json!(self.version));
        manifest.insert("main".to_owned(), json!("index.js"));
        manifest.insert("dist".to_owned(), json!({ "tarball": tarball }));
        Value::Object(manifest)
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/').replace("%2f", "/").replace("%2F", "/");
    let mut shelf = lock(&shared);
    shelf.requests.push(format!("/{path}"));
    let wanted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let found = match path.split_once("/-/") {
        Some((name, file)) => shelf.tarball(name, file).map(IntoResponse::into_response),
        None => shelf.packument(&path, wanted.starts_with(ABBREVIATED)).map(|document| Json(document).into_response()),
    };
    found.unwrap_or_else(|| (StatusCode::NOT_FOUND, Json(json!({ "error": "not_found" }))).into_response())
}

impl Shelf {
    fn tarball(&self, name: &str, file: &str) -> Option<Vec<u8>> {
        let version = file.strip_suffix(".tgz")?.strip_prefix(name.rsplit('/').next()?)?.strip_prefix('-')?;
        let published = self.packages.get(name)?.iter().find(|published| published.version == version)?;
        Some(published.tarball.clone())
    }

    fn packument(&self, name: &str, abbreviated: bool) -> Option<Value> {
        let releases = self.packages.get(name)?;
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let versions: Map<_, _> = releases.iter().map(|release| (release.version.clone(), release.document())).collect();
        let latest = releases.last().map(|release| release.version.as_str());
        let mut document = json!({ "name": name, "dist-tags": { "latest": latest }, "versions": versions });
        let times: Map<_, _> = releases.iter().map(|release| (release.version.clone(), json!(text(release.since)))).collect();
        if !abbreviated && self.tells_time {
            document["time"] = Value::Object(times);
        }
        Some(document)
    }
}

impl Published {
    /// The version as packuments have it, with the digest of its tarball.
    fn document(&self) -> Value {
        let mut document = self.manifest.clone();
        document["dist"]["integrity"] = json!(format!("sha512-{}", STANDARD.encode(Sha512::digest(&self.tarball))));
        document
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Shelf> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
