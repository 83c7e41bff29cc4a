//! Brings the state of a project to the server: the backend, together with the manifest when it differs from what was installed.
//!
//! A state that is live already is not sent again: editors touch files without changing them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use reqwest::Method;
use reqwest::multipart::Part;
use serde::Deserialize;
use serde_json::Value;

use crate::archive::{BACKEND, LOCKFILES, PACKAGE, Plan};
use crate::client::{Client, decode};
use crate::commands::deploy::{release_form, warnings};
use crate::commands::types;
use crate::error::{CliError, Result};
use crate::manifest::{self, Manifest};

/// What a release came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Release {
    Live {
        /// What the server found and nobody is likely to have meant.
        warnings: Vec<String>,
    },
    /// What is to serve does already, and the last that was told is something else.
    Mended,
    /// Nothing but the manifest could be brought to the server.
    NoBackend,
    Unchanged,
}

/// The manifest, and the archive where there is a backend.
type State = (Value, Option<Bytes>);

pub struct Releaser<'a> {
    client: &'a Client,
    folder: &'a Path,
    installed: Option<Value>,
    /// Whether a version of this session serves.
    serving: bool,
    /// What serves, where that is certain.
    live: Option<State>,
    /// What the server gave its last word on.
    settled: Option<State>,
    /// The last version that was brought, where the server has answered.
    last: Option<Brought>,
}

/// A version that the server took.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Brought {
    version: u64,
    #[serde(default)]
    deployment_id: Option<String>,
}

/// What a server that was out of sight for a while makes of the session.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is as it was, or nobody says.
    Kept,
    /// Its version serves, and its calls are not reported any more.
    Forgotten,
    /// Another version serves.
    Replaced,
}

/// How an app's worker is.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    developed: bool,
    deployment_id: Option<String>,
}

impl<'a> Releaser<'a> {
    pub fn new(client: &'a Client, folder: &'a Path) -> Self {
        Self { client, folder, installed: None, serving: false, live: None, settled: None, last: None }
    }

    /// Whether a version of this session serves.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// Asks the server whether it still knows the session. Unless it does, the next release brings everything again.
    pub async fn standing(&mut self) -> Standing {
        let (Some((manifest, Some(_))), Some(last)) = (&self.live, &self.last) else { return Standing::Kept };
        let app = manifest.get("appId").and_then(Value::as_str).unwrap_or_default();
        let asked = self.client.get(self.client.api(&["apps", app, "worker", "status"])).await;
        let Ok(status) = asked.and_then(|answer| decode::<Status>(&answer)) else { return Standing::Kept };
        let (Some(serves), Some(ours)) = (status.deployment_id, &last.deployment_id) else { return Standing::Kept };
        let standing = match (serves == *ours, status.developed) {
            (true, true) => return Standing::Kept,
            (true, false) => Standing::Forgotten,
            (false, _) => Standing::Replaced,
        };
        self.forget();
        standing
    }

    /// What the server has is not known any more.
    fn forget(&mut self) {
        (self.installed, self.live, self.settled, self.last) = (None, None, None, None);
    }

    /// Brings the project's state to the server, after these files were saved. A state that was refused is sent again only if one
    /// of them belongs to it: the reason may have been outside the project.
    pub async fn release(&mut self, saved: &[PathBuf]) -> Result<Release> {
        let settled = self.settled.take();
        let manifest = Manifest::load(self.folder)?;
        types::write(self.folder, &manifest.document)?;
        let plan = Plan::of(self.folder, &manifest)?;
        let archive = plan.as_ref().map(Plan::pack).transpose()?.map(Bytes::from);
        let state = (manifest.document.clone(), archive);
        let (told, is_live) = (settled.as_ref() == Some(&state), self.live.as_ref() == Some(&state));
        if is_live || (told && !saved.iter().any(|path| is_deployed(path))) {
            self.settled = Some(state);
            return Ok(if told { Release::Unchanged } else { Release::Mended });
        }
        let outcome = self.send(&manifest, state.1.as_ref()).await;
        match &outcome {
            Ok(Release::NoBackend) => self.live = None,
            Ok(_) => (self.serving, self.live) = (true, Some(state.clone())),
            Err(CliError::Problem(problem)) if problem.status < 500 => {}
            // Nobody knows what became of it.
            Err(_) => {
                self.forget();
                return outcome;
            }
        }
        self.settled = Some(state);
        outcome
    }

    async fn send(&mut self, manifest: &Manifest, archive: Option<&Bytes>) -> Result<Release> {
        let new = (self.installed.as_ref() != Some(&manifest.document)).then_some(&manifest.document);
        let mut answer = match (archive, new) {
            (Some(archive), new) => self.deploy(&manifest.app_id, new, archive).await?,
            (None, Some(new)) => self.client.send(Method::POST, self.client.api(&["apps"]), new).await?,
            (None, None) => Value::Null,
        };
        let meanwhile = self.meanwhile(&answer);
        if let (Some(archive), Some(_), None) = (archive, &meanwhile, new) {
            // The other's manifest is installed, and this one's code runs with it.
            answer = self.deploy(&manifest.app_id, Some(&manifest.document), archive).await?;
            self.meanwhile(&answer);
        }
        self.installed = Some(manifest.document.clone());
        let is_complete = archive.is_some() || manifest.is_complete_without_backend();
        let warnings = meanwhile.into_iter().chain(warnings(&answer)).collect();
        Ok(if is_complete { Release::Live { warnings } } else { Release::NoBackend })
    }

    /// What to say where somebody else has deployed since the last time: numbers of versions leave no gaps.
    fn meanwhile(&mut self, answer: &Value) -> Option<String> {
        let brought = decode::<Brought>(answer).ok()?;
        let number = brought.version;
        let before = self.last.replace(brought)?.version;
        (number > before + 1)
            .then(|| format!("somebody else deployed version {} meanwhile; it does not serve any more", number - 1))
    }

    async fn deploy(&self, app: &str, manifest: Option<&Value>, archive: &Bytes) -> Result<Value> {
        let mut url = self.client.api(&["apps", app, "deploy"]);
        url.query_pairs_mut().append_pair("dev", "true");
        let form = || release_form(manifest.map(Value::to_string), Part::stream(archive.clone()));
        self.client.fetch(|http| Ok(http.post(url.clone()).multipart(form()?))).await
    }
}

/// Whether a file, relative to the project's folder, is one of those that are sent.
fn is_deployed(path: &Path) -> bool {
    path.starts_with(BACKEND) || [manifest::FILE, PACKAGE].into_iter().chain(LOCKFILES).any(|name| path == Path::new(name))
}
