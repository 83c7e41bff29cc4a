//! `weft connections`: the accounts at vendors that calls are made with.

use clap::{Args, Subcommand};
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Context;
use super::connect::connections;
use super::ways;
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::input;
use crate::output::{Paint, moment, printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List your connections to an integration, and those of the tenant
    #[command(alias = "ls")]
    List {
        #[arg(value_parser = input::identifier)]
        integration: String,
    },
    /// List the ways to connect an integration, and what each still lacks
    Ways {
        #[arg(value_parser = input::identifier)]
        integration: String,
    },
    /// Give a connection another label
    Rename {
        #[command(flatten)]
        which: One,
        label: String,
    },
    /// Delete a connection with its credentials, and take the tokens back at the vendor
    #[command(alias = "rm")]
    Delete {
        #[command(flatten)]
        which: One,
    },
    /// Look whether a connection serves; say what is wrong and what to do
    Check {
        #[command(flatten)]
        which: One,
    },
}

#[derive(Args)]
struct One {
    #[arg(value_parser = input::identifier)]
    integration: String,
    /// Its label or its id
    connection: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    pub id: String,
    pub label: Option<String>,
    pub kind: String,
    pub shared: bool,
    /// The name of the way that it was made by, where it is known.
    #[serde(default)]
    pub way: Option<String>,
    pub status: String,
    pub status_message: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

#[derive(Deserialize)]
pub struct Checked {
    ok: bool,
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Deserialize, Serialize)]
pub struct Finding {
    what: String,
    pub ok: bool,
    detail: String,
    cure: Option<String>,
}

impl Finding {
    pub fn good(what: &str, detail: &str) -> Self {
        Self { what: what.to_owned(), ok: true, detail: detail.to_owned(), cure: None }
    }

    pub fn bad(what: &str, detail: String, cure: String) -> Self {
        Self { what: what.to_owned(), ok: false, detail, cure: Some(cure) }
    }
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    match &arguments.command {
        Command::List { integration } => list(context, &client, integration).await,
        Command::Ways { integration } => ways::list(context, &client, integration).await,
        Command::Rename { which, label } => {
            let url = find(&client, which).await?;
            let answer = client.send(Method::PATCH, url, &json!({ "label": label })).await?;
            context.output.show(&answer, || format!("Renamed to {}", printable(label)))
        }
        Command::Delete { which } => {
            let answer = client.delete(find(&client, which).await?).await?;
            let detail = answer["detail"].as_str().unwrap_or_default().to_owned();
            context.output.show(&answer, || format!("Deleted; {}", printable(&detail)))
        }
        Command::Check { which } => {
            let (answer, checked) = check(&client, find(&client, which).await?).await?;
            let lines = || checked.findings.iter().map(|finding| shown(context, finding)).collect::<Vec<_>>().join("\n");
            context.output.show(&answer, lines)?;
            if checked.ok { Ok(()) } else { Err(CliError::failed("the connection does not serve")) }
        }
    }
}

async fn list(context: &Context, client: &Client, integration: &str) -> Result<()> {
    let answer = client.list(client.api(&["integrations", integration, "connections"])).await?.into();
    let connections: Vec<Connection> = decode(&answer)?;
    if connections.is_empty() && !context.output.is_json() {
        context.output.note(&format!("No connections; run `weft connect {integration}`"));
        return Ok(());
    }
    context.output.show(&answer, || {
        let rows: Vec<_> = connections.iter().map(row).collect();
        table(["LABEL", "KIND", "STATUS", "SINCE", "ID"], &rows)
    })
}

fn row(connection: &Connection) -> [String; 5] {
    let kind = if connection.shared { "shared" } else { connection.kind.as_str() };
    let kind = connection.way.as_ref().map_or_else(|| kind.to_owned(), |way| format!("{kind}, {}", printable(way)));
    let status = match &connection.status_message {
        Some(message) => format!("{}: {message}", connection.status),
        None => connection.status.clone(),
    };
    let label = connection.label.clone().unwrap_or_else(|| "-".to_owned());
    [printable(&label), kind, printable(&status), moment(Some(&connection.created_at)), connection.id.clone()]
}

/// The address of the connection with this id or label.
async fn find(client: &Client, which: &One) -> Result<Url> {
    let integration = which.integration.as_str();
    let connections = connections(client, integration).await?;
    let is_it =
        |connection: &&Connection| connection.id == which.connection || connection.label.as_ref() == Some(&which.connection);
    let found: Vec<_> = connections.iter().filter(is_it).collect();
    match found.as_slice() {
        [one] => Ok(client.api(&["integrations", integration, "connections", &one.id])),
        [] => Err(CliError::failed(format!("you have no connection {:?} to {integration}", which.connection))
            .with_hint(format!("`weft connections list {integration}` shows those there are"))),
        _ => {
            Err(CliError::usage(format!("several connections are called {:?}", which.connection)).with_hint("name one by its id"))
        }
    }
}

/// Has the server look whether the connection at this address serves.
pub async fn check(client: &Client, mut connection: Url) -> Result<(Value, Checked)> {
    if let Ok(mut path) = connection.path_segments_mut() {
        path.push("check");
    }
    let answer = client.send(Method::POST, connection, &json!({})).await?;
    let checked = decode(&answer)?;
    Ok((answer, checked))
}

/// What was looked at, in a line, and below it what to do.
pub fn shown(context: &Context, finding: &Finding) -> String {
    let (mark, paint) = if finding.ok { ("ok", Paint::Good) } else { ("no", Paint::Bad) };
    let cure = finding.cure.as_ref().map_or_else(String::new, |cure| format!("\n    {}", printable(cure)));
    format!("{} {}: {}{cure}", context.output.paint(paint, mark), finding.what, printable(&finding.detail))
}
