//! Brings the state of a project to the server: the backend, together with the manifest when it differs from what was installed.
//!
//! A state that is live already is not sent again: editors touch files without changing them.

use std::path::Path;

use bytes::Bytes;
use reqwest::Method;
use reqwest::multipart::Part;
use serde_json::Value;

use crate::archive::Plan;
use crate::client::Client;
use crate::commands::{deploy::release_form, types};
use crate::error::Result;
use crate::manifest::Manifest;

/// What a release came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Release {
    Live,
    Unchanged,
}

pub struct Releaser<'a> {
    client: &'a Client,
    folder: &'a Path,
    installed: Option<Value>,
    /// The manifest and the archive that serve.
    live: Option<(Value, Bytes)>,
    /// What the last attempt was about; a failure is not repeated for the same state.
    tried: Option<(Value, Bytes)>,
}

impl<'a> Releaser<'a> {
    pub fn new(client: &'a Client, folder: &'a Path) -> Self {
        Self { client, folder, installed: None, live: None, tried: None }
    }

    /// Whether a version of this session serves.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub async fn release(&mut self) -> Result<Release> {
        let manifest = Manifest::load(self.folder)?;
        types::write(self.folder, &manifest.document)?;
        let plan = Plan::of(self.folder, &manifest)?;
        let archive = plan.as_ref().map(Plan::pack).transpose()?.map(Bytes::from);
        let state = (manifest.document.clone(), archive.clone().unwrap_or_default());
        if self.tried.as_ref() == Some(&state) {
            return Ok(Release::Unchanged);
        }
        self.tried = Some(state.clone());
        let new = (self.installed.as_ref() != Some(&manifest.document)).then_some(&manifest.document);
        match (archive, new) {
            (Some(archive), new) => self.deploy(&manifest.app_id, new, &archive).await?,
            (None, Some(new)) => _ = self.client.send(Method::POST, self.client.api(&["apps"]), new).await?,
            (None, None) => {}
        }
        self.installed = Some(manifest.document);
        self.live = Some(state);
        Ok(Release::Live)
    }

    async fn deploy(&self, app: &str, manifest: Option<&Value>, archive: &Bytes) -> Result<()> {
        let mut url = self.client.api(&["apps", app, "deploy"]);
        url.query_pairs_mut().append_pair("dev", "true");
        let form = || release_form(manifest.map(Value::to_string), Part::stream(archive.clone()));
        self.client.fetch(|http| Ok(http.post(url.clone()).multipart(form()?))).await?;
        Ok(())
    }
}
