//! `weft connect`: an account at a vendor, by way of the vendor's page or by entering what the integration asks for.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Context;
use super::connections::Connection;
use super::ways;
use crate::client::{Client, decode, with_query};
use crate::error::{CliError, Result};
use crate::input::{self, Question};
use crate::output::printable;

/// How long the command waits for somebody in a browser, and how often it looks.
const PATIENCE: u32 = 300;
const LOOK: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Arguments {
    /// Integration to connect
    #[arg(value_parser = input::identifier)]
    integration: String,
    /// What to enter where the integration asks for it; a value of `-` is read from stdin, `@path` from a file. `@path` alone is a
    /// JSON file with several values, such as the key of a service account
    #[arg(value_name = "KEY=VALUE")]
    values: Vec<String>,
    /// What to call the connection; one that is called so gets the new credentials
    #[arg(long)]
    label: Option<String>,
    /// Connect for everybody in the tenant
    #[arg(long)]
    shared: bool,
    /// In which of the integration's ways to connect; a terminal is asked when there are several
    #[arg(long, value_name = "NAME", value_parser = input::identifier)]
    way: Option<String>,
    /// Put fresh credentials into this connection
    #[arg(long, value_name = "ID", value_parser = input::identifier)]
    again: Option<String>,
    /// Print the address instead of opening it, and do not wait
    #[arg(long)]
    no_browser: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    #[serde(rename = "type")]
    kind: String,
    url: Option<String>,
    schema: Option<Value>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    let integration = arguments.integration.as_str();
    let way = match &arguments.way {
        Some(way) => Some(way.clone()),
        // A connection that is there keeps its way.
        None if arguments.again.is_some() || !std::io::stdin().is_terminal() => None,
        None => ways::choose(context, &client, integration).await?,
    };
    let start =
        with_query(client.api(&["integrations", integration, "auth", "start"]), [("connection_id", arguments.again.as_deref())]);
    let mut body = json!({ "label": arguments.label, "shared": arguments.shared });
    name_way(&mut body, way.as_deref());
    let answer = client.send(Method::POST, start, &body).await?;
    let started: Started = decode(&answer)?;
    match (started.url, started.schema) {
        (Some(url), _) => go(context, &client, arguments, &url).await,
        (None, Some(schema)) => enter(context, &client, arguments, (way.as_deref(), &schema)).await,
        (None, None) if started.kind == "connected" => context.output.show(&answer, || format!("Connected to {integration}")),
        (None, None) => Err(CliError::failed("the server says neither where to go nor what to enter")),
    }
}

/// Sends the person to the vendor and waits until they are back.
async fn go(context: &Context, client: &Client, arguments: &Arguments, url: &str) -> Result<()> {
    let integration = arguments.integration.as_str();
    if arguments.no_browser || !std::io::stdin().is_terminal() {
        return context.output.show(&json!({ "url": url }), || printable(url));
    }
    let before = connections(client, integration).await?;
    context.output.note(&format!("Opening {}", printable(url)));
    let _ = open::that_detached(url);
    for _ in 0..PATIENCE {
        tokio::time::sleep(LOOK).await;
        let now = connections(client, integration).await?;
        if let Some(fresh) = fresh(&before, &now) {
            let label = fresh.label.clone().unwrap_or_else(|| fresh.id.clone());
            let value = json!({ "connectionId": fresh.id, "label": fresh.label });
            return context.output.show(&value, || format!("Connected to {integration} as {}", printable(&label)));
        }
    }
    Err(CliError::failed("nobody came back from the vendor within five minutes").with_hint("run the command again"))
}

/// Those of the caller, and the tenant's.
pub async fn connections(client: &Client, integration: &str) -> Result<Vec<Connection>> {
    decode(&client.list(client.api(&["integrations", integration, "connections"])).await?.into())
}

/// The connection that was made, or that got fresh credentials, since.
fn fresh<'a>(before: &[Connection], now: &'a [Connection]) -> Option<&'a Connection> {
    let key = |connection: &Connection| (connection.id.clone(), connection.updated_at.clone());
    let known: HashSet<_> = before.iter().map(key).collect();
    now.iter().find(|connection| connection.status == "active" && !known.contains(&key(connection)))
}

/// Asks for what the schema names and is not given.
async fn enter(context: &Context, client: &Client, arguments: &Arguments, (way, schema): (Option<&str>, &Value)) -> Result<()> {
    let integration = arguments.integration.as_str();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let mut credentials = given(&arguments.values, &properties)?;
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in &properties {
        if let Some(text) = credentials.get(name).and_then(Value::as_str) {
            let value = typed(property, text);
            credentials.insert(name.clone(), value);
        } else if !credentials.contains_key(name) && (required.contains(&name.as_str()) || property["secret"] == true) {
            credentials.insert(name.clone(), typed(property, &ask(name, property)?));
        }
    }
    let url = with_query(
        client.api(&["integrations", integration, "auth", "credentials"]),
        [("connection_id", arguments.again.as_deref())],
    );
    let mut body = json!({ "credentials": credentials, "label": arguments.label, "shared": arguments.shared });
    name_way(&mut body, way);
    let answer = client.send(Method::POST, url, &body).await?;
    context.output.show(&answer, || format!("Connected to {integration}"))
}

fn name_way(body: &mut Value, way: Option<&str>) {
    if let Some(way) = way {
        body["way"] = way.into();
    }
}

fn given(values: &[String], properties: &Map<String, Value>) -> Result<Map<String, Value>> {
    let mut given = Map::new();
    for pair in values {
        if let Some(path) = pair.strip_prefix('@') {
            given.extend(from_file(path, properties)?);
            continue;
        }
        let Some((name, value)) = pair.split_once('=') else {
            return Err(CliError::usage(format!("{pair:?} is not KEY=VALUE")));
        };
        let value = input::indirect(value)?.unwrap_or_else(|| value.to_owned());
        given.insert(name.to_owned(), value.into());
    }
    Ok(given)
}

/// Of a JSON file, what the integration asks for: files of vendors hold more.
fn from_file(path: &str, properties: &Map<String, Value>) -> Result<Map<String, Value>> {
    let Value::Object(members) = input::json(None, Some(Path::new(path)))? else {
        return Err(CliError::usage(format!("{path} holds no JSON object")));
    };
    Ok(members.into_iter().filter(|(name, _)| properties.contains_key(name)).collect())
}

fn ask(name: &str, property: &Value) -> Result<String> {
    let text = printable(property["label"].as_str().unwrap_or(name));
    let instead = format!("pass {name}=- to read it from stdin, or {name}=@path to read it from a file");
    let question = Question { text: &text, subject: name, instead: &instead };
    if property["secret"] == true { input::prompt_secret(&question) } else { input::prompt(&question) }
}

/// What was typed, as the schema has it. What does not fit is told by the server, with its place.
fn typed(property: &Value, text: &str) -> Value {
    match property["type"].as_str() {
        Some("integer" | "number" | "boolean") => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_becomes_what_the_schema_has() {
        assert_eq!(typed(&json!({ "type": "integer" }), "993"), json!(993));
        assert_eq!(typed(&json!({ "type": "integer" }), "many"), json!("many"));
        assert_eq!(typed(&json!({ "type": "string" }), "993"), json!("993"));
    }
}
