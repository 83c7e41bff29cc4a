//! `weft rpc`: calls a method of an app's backend and prints what it returns.

use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::Context;
use crate::error::Result;
use crate::input;
use crate::output::pretty;

#[derive(Args)]
pub struct Arguments {
    /// App whose backend answers
    #[arg(value_parser = input::identifier)]
    app: String,
    /// Name of the method
    method: String,
    /// Parameters as JSON; `-` reads them from stdin
    #[arg(default_value = "{}", hide_default_value = true)]
    params: String,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let params = input::json(Some(&arguments.params), None)?;
    let client = context.authorized()?;
    let body = json!({ "method": arguments.method, "params": params });
    let result = client.send(Method::POST, client.api(&["apps", &arguments.app, "rpc"]), &body).await?;
    context.output.show(&result, || pretty(&result))
}
