//! `weft doctor`: what stands in the way of calls to integrations, and what to do about it.

use clap::Args;
use serde::Serialize;

use super::Context;
use super::connect::connections;
use super::connections::{Connection, Finding, check, shown};
use super::requirements::{Requirements, config_command};
use super::syncs;
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::input;
use crate::output::printable;

#[derive(Args)]
pub struct Arguments {
    /// Only this integration, instead of all
    #[arg(value_parser = input::identifier)]
    integration: Option<String>,
}

/// What was found out about an integration, or about one connection to it.
#[derive(Serialize)]
struct Examined {
    integration: String,
    /// The label of the connection, or its id where it has none.
    connection: Option<String>,
    findings: Vec<Finding>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    let mut integrations = Requirements::all(&client).await?;
    if let Some(wanted) = &arguments.integration {
        integrations.retain(|integration| integration.id == *wanted);
        if integrations.is_empty() {
            let hint = "`weft apps list` shows what is installed, `weft catalog list` what could be";
            return Err(CliError::failed(format!("there is no integration {wanted}")).with_hint(hint));
        }
    }
    let mut all = Vec::new();
    for integration in &integrations {
        let accounts = if integration.user_auth.is_some() { accounts(&client, &integration.id).await? } else { Vec::new() };
        let mut findings = readiness(integration);
        if integration.user_auth.is_some() && accounts.is_empty() {
            findings.push(Finding::bad(
                "connection",
                "you have none".to_owned(),
                format!("run `weft connect {}`", integration.id),
            ));
        }
        findings.extend(syncs::findings(&client, &integration.id).await);
        all.push(Examined { integration: integration.id.clone(), connection: None, findings });
        all.extend(accounts);
    }
    let wrong = all.iter().flat_map(|examined| &examined.findings).filter(|finding| !finding.ok).count();
    context.output.show(&serde_json::to_value(&all).unwrap_or_default(), || {
        if all.is_empty() {
            return "No integrations are installed; `weft catalog list` shows what comes with the server".to_owned();
        }
        all.iter().map(|examined| paragraph(context, examined)).collect::<Vec<_>>().join("\n")
    })?;
    match wrong {
        0 => Ok(()),
        1 => Err(CliError::failed("one thing does not serve")),
        _ => Err(CliError::failed(format!("{wrong} things do not serve"))),
    }
}

/// What has to hold before anybody's call can work.
fn readiness(integration: &Requirements) -> Vec<Finding> {
    let configuration = if integration.missing.is_empty() {
        Finding::good("configuration", "complete")
    } else {
        let lacks = format!("{} not set", integration.missing.join(", "));
        Finding::bad("configuration", lacks, format!("run `{}`", config_command(&integration.id, &integration.missing)))
    };
    let backend = if integration.deployed {
        Finding::good("backend", "there is something to call")
    } else {
        Finding::bad("backend", "none was deployed".to_owned(), "run `weft deploy` in its folder".to_owned())
    };
    vec![configuration, backend]
}

/// Every connection that the caller could use, checked.
async fn accounts(client: &Client, integration: &str) -> Result<Vec<Examined>> {
    let all = connections(client, integration).await?;
    let mut found = Vec::with_capacity(all.len());
    for Connection { id, label, .. } in all {
        let url = client.api(&["integrations", integration, "connections", &id]);
        let findings = match check(client, url).await {
            Ok((_, checked)) => checked.findings,
            // The others are looked at all the same.
            Err(error) => vec![Finding::bad("check", error.to_string(), "see what the server's log says of it".to_owned())],
        };
        let connection = Some(label.unwrap_or(id));
        found.push(Examined { integration: integration.to_owned(), connection, findings });
    }
    Ok(found)
}

fn paragraph(context: &Context, examined: &Examined) -> String {
    let of = examined.connection.as_ref().map_or_else(String::new, |connection| format!(" {}", printable(connection)));
    let lines = examined.findings.iter().map(|finding| shown(context, finding).replace('\n', "\n  "));
    let lines: Vec<_> = lines.map(|line| format!("  {line}")).collect();
    format!("{}{of}\n{}", examined.integration, lines.join("\n"))
}
