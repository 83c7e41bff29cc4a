//! `weft data`: the records of an app, one by one and as files of JSON lines.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use futures::StreamExt;
use reqwest::{Body, Method};
use serde_json::{Value, json};

use super::Context;
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::input;
use crate::output::pretty;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Which records.
#[derive(Args)]
struct Collection {
    /// App that keeps the records
    #[arg(value_parser = input::identifier)]
    app: String,
    /// Entity, as its manifest names it
    #[arg(value_parser = input::identifier)]
    entity: String,
}

#[derive(Subcommand)]
enum Command {
    /// List records, newest first
    List {
        #[command(flatten)]
        collection: Collection,
        /// Conditions as JSON, such as '{"stage": "lead"}'
        #[arg(long = "where", value_name = "JSON")]
        condition: Option<String>,
        /// How many, 1 to 1000
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show one record
    Get {
        #[command(flatten)]
        collection: Collection,
        #[arg(value_parser = input::identifier)]
        id: String,
    },
    /// Create a record
    Create {
        #[command(flatten)]
        collection: Collection,
        /// Its fields as JSON; `-` reads them from stdin
        record: String,
    },
    /// Create a record from each line of a file
    Import {
        #[command(flatten)]
        collection: Collection,
        /// File with a line of JSON per record
        file: PathBuf,
        /// Fields that tell records apart: those that are there already are changed
        #[arg(long, value_name = "FIELD,…")]
        on: Option<String>,
    },
    /// Write every record as a line of JSON to stdout
    Export {
        #[command(flatten)]
        collection: Collection,
    },
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    let client = context.authorized()?;
    let at = |collection: &Collection, rest: &[&str]| {
        client.api(&[&["apps", &collection.app, "collections", &collection.entity], rest].concat())
    };
    let answer = match &arguments.command {
        Command::List { collection, condition, limit } => {
            let condition = input::json(condition.as_deref(), None)?;
            let body = json!({ "where": condition, "limit": limit });
            client.send(Method::POST, at(collection, &["query"]), &body).await?
        }
        Command::Get { collection, id } => client.get(at(collection, &[id])).await?,
        Command::Create { collection, record } => {
            client.send(Method::POST, at(collection, &[]), &input::json(Some(record), None)?).await?
        }
        Command::Import { collection, file, on } => {
            let mut url = at(collection, &["import"]);
            if let Some(on) = on {
                url.query_pairs_mut().append_pair("on", on);
            }
            import(&client, url, file).await?
        }
        Command::Export { collection } => return export(&client, at(collection, &["export"])).await,
    };
    context.output.show(&answer, || pretty(answer.get("data").unwrap_or(&answer)))
}

async fn import(client: &Client, url: reqwest::Url, path: &std::path::Path) -> Result<Value> {
    // Read again when the request is repeated with a fresh token.
    client
        .fetch(|http| {
            let file =
                std::fs::File::open(path).map_err(|error| CliError::usage(format!("cannot read {}: {error}", path.display())))?;
            let lines = tokio_util::io::ReaderStream::new(tokio::fs::File::from_std(file));
            Ok(http.post(url.clone()).header("content-type", "application/x-ndjson").body(Body::wrap_stream(lines)))
        })
        .await
}

async fn export(client: &Client, url: reqwest::Url) -> Result<()> {
    let response = client.execute(|http| Ok(http.get(url.clone()))).await?;
    let mut stream = response.bytes_stream();
    let mut stdout = std::io::stdout().lock();
    while let Some(bytes) = stream.next().await {
        stdout.write_all(&bytes.map_err(|error| client.transport(&error))?)?;
    }
    Ok(stdout.flush()?)
}
