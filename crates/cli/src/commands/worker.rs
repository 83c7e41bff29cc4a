//! `weft worker`: starts, stops or inspects the process behind an app.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::Context;
use crate::error::Result;
use crate::input;
use crate::output::printable;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the worker
    Start(App),
    /// Stop the worker
    Stop(App),
    /// Show the worker's state: starting, running, stopping, stopped or crashed
    Status(App),
}

#[derive(Args)]
struct App {
    /// App or integration
    #[arg(value_parser = input::identifier)]
    app: String,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    let answer = match &arguments.command {
        Command::Start(App { app }) => {
            client.send(Method::POST, client.api(&["apps", app, "worker", "start"]), &json!({})).await?
        }
        Command::Stop(App { app }) => client.send(Method::POST, client.api(&["apps", app, "worker", "stop"]), &json!({})).await?,
        Command::Status(App { app }) => client.get(client.api(&["apps", app, "worker", "status"])).await?,
    };
    context.output.show(&answer, || printable(spoken(&answer)))
}

fn spoken(answer: &Value) -> &str {
    answer.get("status").or_else(|| answer.get("message")).and_then(Value::as_str).unwrap_or("done")
}
