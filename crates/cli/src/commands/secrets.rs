//! `weft secrets`: names of secrets go out, values only in, and never through the command line.

use clap::{Args, Subcommand};
use reqwest::{Method, Url};
use serde_json::json;

use super::Context;
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::input::{self, Question};
use crate::output::printable;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set a secret: asked for, or read from `-` (stdin) or `@path`
    Set {
        #[arg(value_parser = input::identifier)]
        key: String,
        /// `-` for stdin, `@path` for a file
        source: Option<String>,
        #[command(flatten)]
        scope: Scope,
    },
    /// List the names of the secrets
    List {
        #[command(flatten)]
        scope: Scope,
    },
    /// Delete a secret
    Rm {
        #[arg(value_parser = input::identifier)]
        key: String,
        #[command(flatten)]
        scope: Scope,
    },
}

#[derive(Args)]
struct Scope {
    /// Secrets of this app, instead of the platform's
    #[arg(long, value_name = "APP", value_parser = input::identifier)]
    app: Option<String>,
}

impl Scope {
    fn url(&self, client: &Client) -> Url {
        match &self.app {
            Some(app) => client.api(&["apps", app, "secrets"]),
            None => client.api(&["platform", "secrets"]),
        }
    }

    fn key_url(&self, client: &Client, key: &str) -> Url {
        match &self.app {
            Some(app) => client.api(&["apps", app, "secrets", key]),
            None => client.api(&["platform", "secrets", key]),
        }
    }
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::Set { key, source, scope } => set(context, key, source.as_deref(), scope).await,
        Command::List { scope } => list(context, scope).await,
        Command::Rm { key, scope } => {
            let client = context.authorized()?;
            let answer = client.delete(scope.key_url(&client, key)).await?;
            context.output.show(&answer, || format!("Deleted {key}"))
        }
    }
}

async fn set(context: &Context, key: &str, source: Option<&str>, scope: &Scope) -> Result<()> {
    let client = context.authorized()?;
    let value = value_from(source)?;
    let answer = client.send(Method::POST, scope.url(&client), &json!({ "key": key, "value": value })).await?;
    context.output.show(&answer, || format!("Saved {key}"))
}

fn value_from(source: Option<&str>) -> Result<String> {
    let Some(source) = source else {
        let instead = "pass `-` to read it from stdin, or @path to read it from a file";
        return input::prompt_secret(&Question { text: "Value", subject: "the value", instead });
    };
    input::indirect(source)?.ok_or_else(|| {
        CliError::usage("a secret is not taken from the command line, because shells keep their history")
            .with_hint("leave it out to be asked, or pass `-` for stdin or @path for a file")
    })
}

async fn list(context: &Context, scope: &Scope) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(scope.url(&client)).await?;
    let keys: Vec<String> = decode(&answer)?;
    if keys.is_empty() && !context.output.is_json() {
        context.output.note("No secrets");
        return Ok(());
    }
    context.output.show(&answer, || printable(&keys.join("\n")))
}
