//! `weft versions` and `weft rollback`: what was deployed of an app, and going back to it.

use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use crate::client::{decode, with_query};
use crate::error::Result;
use crate::input;
use crate::output::{human_bytes, moment, printable, table};

#[derive(Args)]
pub struct ListArguments {
    /// App or integration
    #[arg(value_parser = input::identifier)]
    app: String,
    /// How many at most
    #[arg(long)]
    limit: Option<u32>,
    /// Go on after an earlier page
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Args)]
pub struct RollbackArguments {
    /// App or integration
    #[arg(value_parser = input::identifier)]
    app: String,
    /// Number of a version, see `weft versions`; the one before the one that serves when absent
    #[arg(value_name = "VERSION")]
    number: Option<u32>,
    /// Lose the data that the earlier version's data contract does not keep
    #[arg(long, short)]
    yes: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    data: Vec<Version>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    number: u64,
    active: bool,
    can_roll_back: bool,
    #[serde(default)]
    developed: bool,
    #[serde(default, rename = "manifestVersion")]
    manifest: String,
    #[serde(default)]
    created_at: String,
    created_by: Option<Person>,
    #[serde(default)]
    size: u64,
}

#[derive(Deserialize)]
struct Person {
    id: String,
    email: Option<String>,
}

pub async fn list(context: &Context, arguments: &ListArguments) -> Result<()> {
    let client = context.authorized()?;
    let limit = arguments.limit.map(|limit| limit.to_string());
    let parameters = [("limit", limit.as_deref()), ("cursor", arguments.cursor.as_deref())];
    let answer = client.get(with_query(client.api(&["apps", &arguments.app, "versions"]), parameters)).await?;
    let page: Page = decode(&answer)?;
    if page.data.is_empty() && !context.output.is_json() {
        context.output.note("Nothing was deployed yet. Next: weft deploy");
        return Ok(());
    }
    context.output.show(&answer, || {
        let rows: Vec<_> = page.data.iter().map(Version::row).collect();
        table(["VERSION", "STATE", "MANIFEST", "DEPLOYED (UTC)", "BY", "SIZE"], &rows)
    })?;
    if page.data.iter().any(|version| version.can_roll_back) {
        context.output.note(&format!("Next: weft rollback {} [version]", arguments.app));
    }
    if let Some(cursor) = page.next_cursor {
        context.output.note(&format!("More: repeat with --cursor {}", printable(&cursor)));
    }
    Ok(())
}

pub async fn rollback(context: &Context, arguments: &RollbackArguments) -> Result<()> {
    let client = context.authorized()?;
    let app = &arguments.app;
    let mut body = arguments.number.map_or_else(|| json!({}), |number| json!({ "version": number }));
    if arguments.yes {
        body["acceptLoss"] = json!(true);
    }
    let answer = client.send(Method::POST, client.api(&["apps", app, "rollback"]), &body).await?;
    context.output.show(&answer, || {
        let version = answer.get("version").and_then(Value::as_u64).map_or_else(String::new, |version| version.to_string());
        let manifest = answer.get("manifestVersion").and_then(Value::as_str).unwrap_or("unknown");
        format!("{app} is back at version {version}, with the manifest {}", printable(manifest))
    })?;
    context.output.note(&format!("Next: weft logs {app}"));
    Ok(())
}

impl Version {
    fn row(&self) -> [String; 6] {
        let state = match (self.active, self.can_roll_back, self.developed) {
            (true, _, false) => "serves",
            (true, _, true) => "serves, by weft dev",
            (false, true, _) => "kept",
            (false, false, false) => "gone",
            (false, false, true) => "gone, by weft dev",
        };
        let by = self.created_by.as_ref().map(|by| by.email.clone().unwrap_or_else(|| by.id.clone()));
        let (number, deployed) = (self.number.to_string(), moment(Some(&self.created_at)));
        [number, state.to_owned(), self.manifest.clone(), deployed, by.unwrap_or_default(), human_bytes(self.size)]
    }
}
