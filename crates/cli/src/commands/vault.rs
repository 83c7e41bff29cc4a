//! `weft vault`: upkeep of the encryption keys. The running server does the work, so nothing stops meanwhile.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::Context;
use crate::error::{CliError, Result};
use crate::input;
use crate::output::printable;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replace the master key and wrap every data key with the new one
    RotateKey {
        /// The key to change to, 64 hexadecimal digits: `-` for stdin, `@path` for a file [default: the server makes one]
        #[arg(long, value_name = "SOURCE")]
        new_key: Option<String>,
    },
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let Command::RotateKey { new_key } = &arguments.command;
    let body = new_key.as_deref().map_or_else(|| Ok(json!({})), rotation)?;
    let client = context.authorized()?;
    let answer = client.send(Method::POST, client.api(&["vault", "rotate-key"]), &body).await?;
    let message = answer.get("message").and_then(Value::as_str).unwrap_or("master key replaced");
    context.output.show(&answer, || printable(message))
}

fn rotation(source: &str) -> Result<Value> {
    let key = input::indirect(source)?.ok_or_else(|| {
        CliError::usage("a key is not taken from the command line, because shells keep their history")
            .with_hint("pass `-` to read it from stdin, or @path to read it from a file")
    })?;
    Ok(json!({ "newMasterKey": key }))
}
