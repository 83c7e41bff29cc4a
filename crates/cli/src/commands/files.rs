//! `weft files`: the files of apps.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use futures::StreamExt;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::input;
use crate::output::{human_bytes, moment, printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the files of an app, newest first
    #[command(alias = "ls")]
    List {
        #[arg(value_parser = input::identifier)]
        app: String,
        /// How many at most
        #[arg(long)]
        limit: Option<u32>,
        /// Go on behind an earlier page
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Upload a file
    Upload {
        #[arg(value_parser = input::identifier)]
        app: String,
        file: PathBuf,
    },
    /// Download a file
    Download {
        #[command(flatten)]
        file: One,
        /// Where to write it; stdout when absent
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make an address from which anybody can download a file once, within five minutes
    Link(One),
    /// Delete a file
    Rm(One),
}

#[derive(Args)]
struct One {
    #[arg(value_parser = input::identifier)]
    app: String,
    /// Its id
    file: String,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "file_id")]
    id: String,
    name: String,
    content_type: String,
    size: u64,
    created_at: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    match &arguments.command {
        Command::List { app, limit, cursor } => list(context, &client, app, (*limit, cursor.as_deref())).await,
        Command::Upload { app, file } => {
            let url = client.api(&["apps", app, "storage", "upload"]);
            // Read again when the request is repeated with a fresh token.
            let answer = client.fetch(|http| Ok(http.post(url.clone()).multipart(form(file)?))).await?;
            context.output.show(&answer, || answer["file_id"].as_str().unwrap_or_default().to_owned())
        }
        Command::Download { file, output } => download(&client, file, output.as_deref()).await,
        Command::Link(file) => {
            let url = client.api(&["apps", &file.app, "storage", &file.file, "download-url"]);
            let answer = client.send(Method::POST, url, &json!({})).await?;
            context.output.show(&answer, || answer["url"].as_str().unwrap_or_default().to_owned())
        }
        Command::Rm(file) => {
            let answer = client.delete(client.api(&["apps", &file.app, "storage", &file.file])).await?;
            context.output.show(&answer, || format!("Deleted {}", file.file))
        }
    }
}

fn form(path: &Path) -> Result<Form> {
    let unreadable = |error: std::io::Error| CliError::usage(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let content = Body::wrap_stream(tokio_util::io::ReaderStream::new(tokio::fs::File::from_std(file)));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Form::new().part("file", Part::stream_with_length(content, size).file_name(name)))
}

async fn download(client: &Client, file: &One, output: Option<&Path>) -> Result<()> {
    let url = client.api(&["apps", &file.app, "storage", &file.file]);
    let response = client.execute(|http| Ok(http.get(url.clone()))).await?;
    let mut stream = response.bytes_stream();
    let mut target: Box<dyn Write + Send> = match output {
        Some(path) => {
            let unwritable = |error| CliError::usage(format!("cannot write {}: {error}", path.display()));
            Box::new(std::fs::File::create(path).map_err(unwritable)?)
        }
        None => Box::new(std::io::stdout()),
    };
    while let Some(bytes) = stream.next().await {
        target.write_all(&bytes.map_err(|error| client.transport(&error))?)?;
    }
    Ok(target.flush()?)
}

async fn list(context: &Context, client: &Client, app: &str, (limit, cursor): (Option<u32>, Option<&str>)) -> Result<()> {
    let mut url = client.api(&["apps", app, "storage"]);
    for (name, value) in [("limit", limit.map(|limit| limit.to_string())), ("cursor", cursor.map(str::to_owned))] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    let answer: Value = client.get(url).await?;
    let files: Vec<File> = decode(&answer["data"])?;
    if files.is_empty() && !context.output.is_json() {
        context.output.note("No files");
        return Ok(());
    }
    context.output.show(&answer, || {
        let rows: Vec<_> = files.iter().map(File::row).collect();
        let table = table(["UPLOADED (UTC)", "NAME", "TYPE", "SIZE", "ID"], &rows);
        match answer["nextCursor"].as_str() {
            Some(cursor) => format!("{table}\nMore: --cursor {cursor}"),
            None => table,
        }
    })
}

impl File {
    fn row(&self) -> [String; 5] {
        let at = moment(self.created_at.as_deref());
        [at, printable(&self.name), printable(&self.content_type), human_bytes(self.size), self.id.clone()]
    }
}
