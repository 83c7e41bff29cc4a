//! What an installed integration still lacks, for the commands that tell the person what to do next.

use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, decode};
use crate::error::Result;

/// An integration as the server lists it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirements {
    pub id: String,
    pub configured: bool,
    /// Fields of the configuration without which it does not work; empty once configured.
    pub missing: Vec<String>,
    /// Whether there is something to call: a backend was deployed, or none is needed.
    #[serde(default)]
    pub deployed: bool,
    /// How accounts are connected; absent where there are none.
    #[serde(default)]
    pub user_auth: Option<Value>,
}

impl Requirements {
    pub async fn all(client: &Client) -> Result<Vec<Self>> {
        decode(&client.get(client.api(&["integrations"])).await?)
    }

    /// Looks an integration up; `None` when the server does not list it.
    pub async fn of(client: &Client, integration: &str) -> Result<Option<Self>> {
        Ok(Self::all(client).await?.into_iter().find(|item| item.id == integration))
    }
}

/// The command that would supply the missing fields.
pub fn config_command(integration: &str, missing: &[String]) -> String {
    let fields: Vec<String> = missing.iter().map(|field| format!("{field}=…")).collect();
    format!("weft config {integration} {}", fields.join(" ")).trim_end().to_owned()
}
