//! `weft call`: calls an action of an integration and prints its result.

use std::path::PathBuf;

use clap::Args;
use reqwest::RequestBuilder;

use super::Context;
use crate::error::Result;
use crate::input;
use crate::output::pretty;

#[derive(Args)]
pub struct Arguments {
    /// Integration that offers the action
    #[arg(value_parser = input::identifier)]
    integration: String,
    /// Action to call
    #[arg(value_parser = input::identifier)]
    action: String,
    /// Input as JSON; `-` reads it from stdin [default: {}]
    #[arg(conflicts_with = "file")]
    input: Option<String>,
    /// Read the input from a file
    #[arg(long)]
    file: Option<PathBuf>,
    /// Call with the connection that this app is bound to
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Make repeated calls with the same key happen once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let input = input::json(arguments.input.as_deref(), arguments.file.as_deref())?;
    let client = context.authorized()?;
    let url = client.api(&["integrations", &arguments.integration, "actions", &arguments.action]);
    let result = client.fetch(|http| Ok(arguments.headers(http.post(url.clone()).json(&input)))).await?;
    context.output.show(&result, || pretty(&result))
}

impl Arguments {
    fn headers(&self, request: RequestBuilder) -> RequestBuilder {
        let headers = [("x-app-id", &self.app), ("idempotency-key", &self.idempotency_key)];
        headers.into_iter().fold(request, |request, (name, value)| match value {
            Some(value) => request.header(name, value),
            None => request,
        })
    }
}
