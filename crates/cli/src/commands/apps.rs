//! `weft apps`: what is installed, and removing it.

use std::io::IsTerminal;

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::Context;
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::input::{self, Question};
use crate::output::{printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List what is installed (the default)
    #[command(alias = "ls")]
    List,
    /// Uninstall an app or integration with its secrets, jobs and files
    Rm {
        #[arg(value_parser = input::identifier)]
        app: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Deserialize)]
struct App {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    status: String,
    #[serde(default, rename = "type")]
    kind: String,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    match arguments.command.unwrap_or(Command::List) {
        Command::List => list(context).await,
        Command::Rm { app, yes } => remove(context, &app, yes).await,
    }
}

async fn list(context: &Context) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(client.api(&["apps"])).await?;
    let apps: Vec<App> = decode(&answer)?;
    if apps.is_empty() && !context.output.is_json() {
        context.output.note("Nothing is installed. Next: weft init <name>, then weft deploy");
        return Ok(());
    }
    context.output.show(&answer, || {
        let rows: Vec<_> = apps.into_iter().map(|app| [app.id, app.kind, app.version, app.status, app.name]).collect();
        table(["ID", "TYPE", "VERSION", "STATUS", "NAME"], &rows)
    })
}

/// Whoever is about to be asked sees first what it is about.
async fn show_removal(context: &Context, client: &Client, app: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    let mut url = client.api(&["apps", app]);
    url.query_pairs_mut().append_pair("dryRun", "true");
    let answer = client.delete(url).await?;
    let parts = answer.get("removes").and_then(serde_json::Value::as_array).into_iter().flatten();
    let parts: Vec<_> = parts.filter_map(|part| part.as_str()).map(|part| format!("  - {}", printable(part))).collect();
    if !parts.is_empty() {
        context.output.note(&format!("This removes:\n{}", parts.join("\n")));
    }
    Ok(())
}

async fn remove(context: &Context, app: &str, yes: bool) -> Result<()> {
    let client = context.authorized()?;
    if !yes {
        show_removal(context, &client, app).await?;
        let text = format!("Remove {app} from {} with its data, secrets and files? Type its id to confirm", client.base());
        let instead = "pass --yes to remove without being asked";
        if input::prompt(&Question { text: &text, subject: "the confirmation", instead })? != app {
            return Err(CliError::failed("nothing was removed: that is not the id"));
        }
    }
    let answer = client.delete(client.api(&["apps", app])).await?;
    context.output.show(&answer, || format!("Removed {app}"))
}
