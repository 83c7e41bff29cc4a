//! `weft catalog`: integrations that can be deployed by their names, and offering others of one's own.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use weft_catalog::{Folder, Report, Severity, grade};

use super::requirements::{Requirements, config_command};
use super::{Context, index};
use crate::client::{decode, with_query};
use crate::error::{CliError, Result};
use crate::input;
use crate::output::{Output, Paint, moment, printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Have the server read the indexes of others again; what it finds is in the next list
    #[arg(long)]
    refresh: bool,
}

#[derive(Subcommand)]
enum Command {
    /// List the integrations that can be deployed by their names (the default)
    #[command(alias = "ls")]
    List {
        /// Have the server read the indexes of others again; what it finds is in the next list
        #[arg(long)]
        refresh: bool,
    },
    /// List the signed indexes that the server's settings name, and what became of reading them
    Indexes {
        /// Have the server read them again; what comes of it is in the next list
        #[arg(long)]
        refresh: bool,
    },
    /// Deploy one of them
    Deploy {
        #[arg(value_parser = input::identifier)]
        integration: String,
        /// Lose the data that the new data contract does not keep
        #[arg(long, short)]
        yes: bool,
    },
    /// Remove one of them with its data and configuration
    #[command(alias = "rm")]
    Remove {
        #[arg(value_parser = input::identifier)]
        integration: String,
    },
    /// Make a key to sign an index of integrations with
    Key(index::Key),
    /// Pack integrations and list them in a signed index, for servers whose settings name it
    Index(index::Publish),
    /// Grade integrations in folders, offline: manifest, descriptions, schemas, secrets, recorded calls
    Test {
        /// Folders with a manifest.json
        #[arg(default_value = ".")]
        folders: Vec<PathBuf>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    id: String,
    name: String,
    version: String,
    #[serde(default)]
    actions: Vec<Value>,
    #[serde(default)]
    description: String,
    installed_version: Option<String>,
    index: Option<String>,
    index_fault: Option<String>,
}

impl Offer {
    /// What is wrong with the index that lists it.
    fn fault(&self) -> Option<String> {
        let (index, fault) = (self.index.as_deref()?, self.index_fault.as_deref()?);
        Some(format!("{index} is shown as it was read last: {fault}"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    url: String,
    integrations: Option<u64>,
    read_at: Option<String>,
    expires_at: Option<String>,
    fault: Option<String>,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    match arguments.command.unwrap_or(Command::List { refresh: arguments.refresh }) {
        Command::List { refresh } => list(context, refresh).await,
        Command::Indexes { refresh } => indexes(context, refresh).await,
        Command::Deploy { integration, yes } => deploy(context, &integration, yes).await,
        Command::Remove { integration } => remove(context, &integration).await,
        Command::Key(arguments) => index::key(context, &arguments),
        Command::Index(arguments) => index::publish(context, &arguments),
        Command::Test { folders } => test(&context.output, &folders),
    }
}

async fn list(context: &Context, refresh: bool) -> Result<()> {
    let client = context.authorized()?;
    let url = with_query(client.api(&["integrations", "catalog"]), [("refresh", refresh.then_some("true"))]);
    let answer = client.get(url).await?;
    let offers: Vec<Offer> = decode(&answer)?;
    let faults: Vec<_> = offers.iter().filter_map(Offer::fault).collect();
    context.output.notes(faults.iter().map(|fault| Some(fault.as_str())));
    context.output.show(&answer, || {
        let row = |offer: &Offer| {
            let installed = offer.installed_version.clone().unwrap_or_else(|| "-".to_owned());
            [&offer.id, &offer.name, &offer.version, &installed, &offer.actions.len().to_string(), &offer.description]
                .map(|text| printable(text))
        };
        table(["ID", "NAME", "VERSION", "INSTALLED", "ACTIONS", "DESCRIPTION"], &offers.iter().map(row).collect::<Vec<_>>())
    })?;
    context.output.note("Next: weft catalog deploy <id>");
    Ok(())
}

async fn indexes(context: &Context, refresh: bool) -> Result<()> {
    let client = context.authorized()?;
    let url = with_query(client.api(&["integrations", "catalog-indexes"]), [("refresh", refresh.then_some("true"))]);
    let answer = client.get(url).await?;
    let listings: Vec<Listing> = decode(&answer)?;
    if listings.is_empty() && !context.output.is_json() {
        context.output.note("The server's settings name no index ([[catalog]])");
        return Ok(());
    }
    context.output.show(&answer, || {
        let row = |listing: &Listing| {
            let count = listing.integrations.map_or_else(|| "-".to_owned(), |count| count.to_string());
            let (read, expires) = (moment(listing.read_at.as_deref()), moment(listing.expires_at.as_deref()));
            [printable(&listing.url), count, read, expires, printable(listing.fault.as_deref().unwrap_or_default())]
        };
        table(["INDEX", "LISTS", "READ (UTC)", "GOOD UNTIL", "FAULT"], &listings.iter().map(row).collect::<Vec<_>>())
    })
}

async fn deploy(context: &Context, id: &str, yes: bool) -> Result<()> {
    let client = context.authorized()?;
    let url = with_query(client.api(&["integrations", "catalog", id, "deploy"]), [("acceptLoss", yes.then_some("true"))]);
    let answer = client.send(Method::POST, url, &json!({})).await?;
    context.output.show(&answer, || format!("{id} is deployed to {}", client.base()))?;
    match Requirements::of(&client, id).await {
        Ok(Some(requirements)) if !requirements.configured => {
            let missing = &requirements.missing;
            context.output.note(&format!(
                "Configuration is missing: {}\nNext: {}",
                missing.join(", "),
                config_command(id, missing)
            ));
        }
        Ok(_) => context.output.note(&format!("Next: weft call {id} <action> '{{…}}'")),
        Err(error) => context.output.note(&format!("The server did not say what is next: {}", printable(&error.to_string()))),
    }
    Ok(())
}

async fn remove(context: &Context, id: &str) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.delete(client.api(&["integrations", "catalog", id])).await?;
    context.output.show(&answer, || format!("{id} is removed from {}", client.base()))
}

fn test(output: &Output, folders: &[PathBuf]) -> Result<()> {
    let mut reports = Vec::new();
    for folder in folders {
        let unreadable = |error: std::io::Error| CliError::usage(format!("cannot read {}: {error}", folder.display()));
        let name = folder.canonicalize().map_err(unreadable)?;
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        reports.push(grade(&name, &Folder::read(folder).map_err(unreadable)?));
    }
    let all: Vec<_> = reports.iter().map(as_json).collect();
    output.show(&Value::Array(all), || reports.iter().map(|report| shown(output, report)).collect::<Vec<_>>().join("\n"))?;
    let failed = reports.iter().filter(|report| !report.passes()).count();
    if failed == 0 { Ok(()) } else { Err(CliError::failed(format!("{failed} of {} integrations do not pass", reports.len()))) }
}

fn as_json(report: &Report) -> Value {
    let finding = |finding: &weft_catalog::Finding| {
        let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
        json!({ "severity": severity, "place": finding.place, "message": finding.message })
    };
    json!({
        "integration": report.integration, "passes": report.passes(), "actions": report.actions, "cases": report.cases,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn shown(output: &Output, report: &Report) -> String {
    let state = if report.passes() { output.paint(Paint::Good, "passes") } else { output.paint(Paint::Bad, "does not pass") };
    let head = format!("{} {state}: {} actions, {} recorded calls", report.integration, report.actions, report.cases);
    let line = |finding: &weft_catalog::Finding| {
        let word = match finding.severity {
            Severity::Error => output.paint(Paint::Bad, "error"),
            Severity::Warning => output.paint(Paint::Warn, "warning"),
        };
        format!("  {word} {}: {}", printable(&finding.place), printable(&finding.message))
    };
    std::iter::once(head).chain(report.findings.iter().map(line)).collect::<Vec<_>>().join("\n")
}
