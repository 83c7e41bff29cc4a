//! `weft audit`: what was done by way of administration, and proof that nobody changed the record of it since.

mod list;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::Context;
use crate::error::{CliError, Result};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List what was done, newest first
    #[command(alias = "ls")]
    List(list::Filter),
    /// Write the log to a file that can be checked without the server
    Export {
        /// The file to write; it is replaced when the whole log has come
        file: PathBuf,
        /// Begin with this event, to go on where an earlier export ended
        #[arg(long, default_value_t = 1, value_name = "NUMBER")]
        from: u64,
    },
    /// Print the keys that the server signs with, and signed with before: keep them apart from the exports
    Keys,
    /// Check an export, without a server
    Verify(verify::Arguments),
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::List(filter) => list::run(context, filter).await,
        Command::Export { file, from } => export(context, file, *from).await,
        Command::Keys => keys(context).await,
        Command::Verify(arguments) => verify::run(context, arguments),
    }
}

async fn export(context: &Context, file: &Path, from: u64) -> Result<()> {
    let client = context.authorized()?;
    let mut url = client.api(&["audit", "export"]);
    url.query_pairs_mut().append_pair("from", &from.to_string());
    let mut response = client.execute(|http| Ok(http.get(url.clone()))).await?;
    let not_written = |error: std::io::Error| CliError::failed(format!("cannot write {}: {error}", file.display()));
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (written, place) = tempfile::NamedTempFile::new_in(folder).map_err(not_written)?.into_parts();
    let (mut written, mut bytes) = (tokio::fs::File::from_std(written), 0);
    while let Some(chunk) = response.chunk().await.map_err(|error| client.transport(&error))? {
        written.write_all(&chunk).await.map_err(not_written)?;
        bytes += chunk.len();
    }
    written.flush().await.map_err(not_written)?;
    place.persist(file).map_err(|error| not_written(error.error))?;
    let result = json!({ "file": file.display().to_string(), "bytes": bytes });
    context.output.show(&result, || format!("Wrote {}", file.display()))?;
    context.output.note(&format!("Next: weft audit verify {}", file.display()));
    Ok(())
}

async fn keys(context: &Context) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(client.api(&["auth", "signing-keys"])).await?;
    let keys: Vec<&Value> = answer.as_array().into_iter().flatten().filter_map(|key| key.get("jwk")).collect();
    let keys = json!({ "keys": keys });
    context.output.show(&keys, || keys.to_string())
}
