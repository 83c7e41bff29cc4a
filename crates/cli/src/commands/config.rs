//! `weft config`: hands configuration values to an integration; the server keeps the secret ones in its vault.

use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Context;
use super::requirements::{Requirements, config_command};
use crate::error::{CliError, Result};
use crate::input;

#[derive(Args)]
pub struct Arguments {
    /// Integration to configure
    #[arg(value_parser = input::identifier)]
    integration: String,
    /// Fields to set; a value of `-` is read from stdin, `@path` from a file, an empty one removes the field
    #[arg(value_name = "KEY=VALUE")]
    values: Vec<String>,
    /// Read fields from a JSON object
    #[arg(long)]
    file: Option<PathBuf>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let values = collect(&arguments.values, arguments.file.as_deref())?;
    let client = context.authorized()?;
    let integration = arguments.integration.as_str();
    let fields: Vec<String> = values.keys().cloned().collect();
    client.send(Method::PUT, client.api(&["integrations", integration, "config"]), &Value::Object(values)).await?;
    let state = Requirements::of(&client, integration).await?.unwrap_or_default();
    let result = json!({ "saved": fields, "configured": state.configured, "missing": state.missing });
    context.output.show(&result, || format!("Saved {} for {integration}", fields.join(", ")))?;
    if !state.missing.is_empty() {
        let next = config_command(integration, &state.missing);
        context.output.note(&format!("Still missing: {}\nNext: {next}", state.missing.join(", ")));
    }
    Ok(())
}

fn collect(pairs: &[String], file: Option<&Path>) -> Result<Map<String, Value>> {
    let mut values = match file {
        Some(path) => object(path)?,
        None => Map::new(),
    };
    if pairs.iter().filter(|pair| pair.ends_with("=-")).count() > 1 {
        return Err(CliError::usage("only one value can come from stdin").with_hint("use @path for the others"));
    }
    for pair in pairs {
        let (key, value) = pair.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            CliError::usage("every value is written key=value").with_hint("for example: weft config slack botToken=@token.txt")
        })?;
        let value = input::indirect(value)?.unwrap_or_else(|| value.to_owned());
        values.insert(key.to_owned(), value.into());
    }
    if values.is_empty() {
        return Err(CliError::usage("there is nothing to set").with_hint("write key=value, or --file values.json"));
    }
    Ok(values)
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    match input::json(None, Some(path))? {
        Value::Object(values) => Ok(values),
        _ => Err(CliError::usage(format!("{} must hold a JSON object: {{\"key\": \"value\"}}", path.display()))),
    }
}
