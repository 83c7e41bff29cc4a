//! The project's `manifest.json`, as far as deploying needs it: the server judges the rest.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{CliError, Result};
use crate::input::parse_json;

/// The file's name in a project folder.
pub const FILE: &str = "manifest.json";

/// What a project says about itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub app_id: String,
    #[serde(default)]
    pub version: String,
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Image path relative to the project.
    pub icon: Option<String>,
    #[serde(default)]
    pub actions: Vec<Action>,
    /// What the actions' recipes have in common.
    #[serde(default)]
    http: Option<Value>,
    /// The file's whole content: what is sent.
    #[serde(skip)]
    pub document: Value,
}

/// One action, for the hint after a deployment.
#[derive(Debug, Deserialize)]
pub struct Action {
    pub id: String,
    #[serde(default)]
    recipe: Option<Value>,
}

impl Manifest {
    /// Reads the manifest of the project in `folder`.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let shown = path.display().to_string();
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&shown, &error))?;
        let document = parse_json(&text, &shown)?;
        let manifest = Self::deserialize(&document).map_err(|error| {
            CliError::usage(format!("{shown}: {error}")).with_hint("a manifest needs at least appId, name and version")
        })?;
        Ok(Self { document, ..manifest })
    }

    /// Whether the server carries everything out by itself, so that there is no backend to miss.
    pub fn is_complete_without_backend(&self) -> bool {
        self.http.is_some() && self.actions.iter().all(|action| action.recipe.is_some())
    }

    pub fn is_integration(&self) -> bool {
        self.kind == "integration"
    }
}

fn unreadable(shown: &str, error: &std::io::Error) -> CliError {
    if error.kind() == ErrorKind::NotFound {
        return CliError::usage(format!("there is no {shown}"))
            .with_hint("run this in a project folder, or name one; `weft init <name>` makes a new one");
    }
    CliError::failed(format!("cannot read {shown}: {error}"))
}
