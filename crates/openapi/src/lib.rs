//! An OpenAPI document as an integration of recipes: one action per operation.
//!
//! [`parse`] reads JSON or YAML, [`import`] makes a manifest, [`refresh`] lays a new import over a manifest that people have worked
//! on and says what changes for callers. Pure: whoever calls it reads files and fetches addresses. What cannot be imported is
//! left out and told in [`Import::notes`].

mod difference;
mod document;
mod names;
mod operation;
mod refresh;
mod schema;
mod security;
mod server;

use serde_json::{Map, Value, json};

use document::Document;
pub use document::parse;
pub use refresh::{Change, Refresh, refresh};

/// Why nothing comes of a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the document is neither JSON nor YAML: {0}")]
    Unreadable(String),
    #[error("this is no OpenAPI document of version 3.0 or 3.1: its member openapi says {0}")]
    Version(String),
    #[error("the document names no address of a server: say where the API is with --base-url")]
    NoServer,
    #[error("'{0}' is no address of a server: say where the API is with --base-url https://…")]
    BadServer(String),
    #[error("the document has no operation that can be imported")]
    Empty,
}

/// What the document does not say, or says otherwise than wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The id of the integration; made of the title when absent.
    pub id: Option<String>,
    pub base_url: Option<String>,
    /// Where the document came from, for addresses of servers that are relative to it.
    pub source: Option<url::Url>,
}

/// A manifest, and what was left out of it.
#[derive(Debug, Clone)]
pub struct Import {
    pub manifest: Value,
    pub notes: Vec<String>,
}

/// The id that an integration gets when none is given.
pub fn id(document: &Value) -> String {
    names::identifier(title(document))
}

fn title(document: &Value) -> &str {
    document["info"]["title"].as_str().unwrap_or("API")
}

/// Makes a manifest of a document.
pub fn import(document: &Value, options: &Options) -> Result<Import, Error> {
    let document = Document::new(document)?;
    let mut notes = Vec::new();
    let info = &document.root["info"];
    let id = options.id.clone().unwrap_or_else(|| id(document.root));
    let mut config = Map::new();
    let base_url = server::base_url(&document, options, &mut config)?;
    let security = security::Security::of(&document, &id, &mut config, &mut notes);
    let actions = operation::actions(&document, &security, &mut notes);
    if actions.is_empty() {
        return Err(Error::Empty);
    }
    let mut http = json!({ "baseUrl": base_url });
    if let Some(auth) = security.auth() {
        http["auth"] = auth;
    }
    let description = info["description"].as_str().or(info["summary"].as_str()).unwrap_or_default();
    let required: Vec<_> = security.required().collect();
    let mut manifest = json!({
        "appId": id,
        "name": names::cut(title(document.root), 200),
        "version": "1.0.0",
        "type": "integration",
        "description": names::first_paragraph(description),
        "http": http,
        "actions": actions,
    });
    if let Some(user_auth) = security.user_auth() {
        manifest["userAuth"] = user_auth;
    }
    if !config.is_empty() {
        manifest["configSchema"] = json!({ "type": "object", "properties": config, "required": required });
    }
    Ok(Import { manifest, notes })
}
