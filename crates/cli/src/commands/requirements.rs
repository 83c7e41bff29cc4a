//! What configuration an integration still lacks, for the commands that tell the person what to do next.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::client::{Client, decode};
use crate::error::Result;

/// An integration's configuration as the server lists it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirements {
    id: String,
    #[serde(default)]
    pub configured: bool,
    #[serde(default)]
    config_schema: Option<ConfigSchema>,
    /// Fields without which it does not work; empty once configured.
    #[serde(skip)]
    pub missing: Vec<String>,
}

#[derive(Default, Deserialize)]
struct ConfigSchema {
    #[serde(default)]
    properties: BTreeMap<String, Property>,
    #[serde(default)]
    required: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Property {
    platform_secret: Option<String>,
}

impl Requirements {
    /// Looks an integration up; `None` when the server does not list it.
    pub async fn of(client: &Client, integration: &str) -> Result<Option<Self>> {
        let listed = client.get(client.api(&["integrations"])).await?;
        let all: Vec<Self> = decode(&listed)?;
        let Some(mut found) = all.into_iter().find(|item| item.id == integration) else { return Ok(None) };
        if !found.configured {
            found.missing = found.lacking(&stored_secrets(client).await);
        }
        Ok(Some(found))
    }

    fn lacking(&self, stored: &[String]) -> Vec<String> {
        let Some(schema) = &self.config_schema else { return Vec::new() };
        let secret = |field: &String| schema.properties.get(field).and_then(|property| property.platform_secret.as_ref());
        let wanted: Vec<&String> =
            if schema.required.is_empty() { schema.properties.keys().collect() } else { schema.required.iter().collect() };
        let is_stored = |field: &String| secret(field).is_some_and(|key| stored.contains(key));
        wanted.into_iter().filter(|field| !is_stored(field)).cloned().collect()
    }
}

/// The command that would supply the missing fields.
pub fn config_command(integration: &str, missing: &[String]) -> String {
    let fields: Vec<String> = missing.iter().map(|field| format!("{field}=…")).collect();
    format!("weft config {integration} {}", fields.join(" ")).trim_end().to_owned()
}

/// Names of the platform's secrets; none when this user may not list them, which only makes the advice longer.
async fn stored_secrets(client: &Client) -> Vec<String> {
    let listed = client.get(client.api(&["platform", "secrets"])).await.unwrap_or_default();
    decode(&listed).unwrap_or_default()
}
