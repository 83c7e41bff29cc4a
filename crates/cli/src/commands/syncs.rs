//! `weft syncs`: what integrations ask their vendors for again and again.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Context;
use super::connections::Finding;
use super::requirements::Requirements;
use crate::client::{Client, decode, with_query};
use crate::error::{CliError, Result};
use crate::input;
use crate::output::{moment, printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List syncs and triggers, of one integration or of all
    #[command(alias = "ls")]
    List {
        #[arg(value_parser = input::identifier)]
        integration: Option<String>,
    },
    /// Run one now
    Run {
        #[command(flatten)]
        one: One,
        /// Let it delete once what the vendor's answer lacks, also where that is most of what is there
        #[arg(long)]
        confirm_deletions: bool,
    },
    /// Let one wait until it is resumed
    Pause(One),
    /// Let one go on that was paused, stopped, or has not begun
    Resume(One),
    /// Let one forget how far it has read, and begin anew
    Reset(One),
    /// Show or say what one asks for, besides what the manifest says; another question begins anew
    Input {
        #[command(flatten)]
        one: One,
        /// Members of the action's input, in place of those that were set before: name=text, or name:=JSON. Without any, what is set is shown
        #[arg(value_name = "NAME=VALUE")]
        members: Vec<String>,
        /// Let it ask for what the manifest says and nothing else
        #[arg(long, conflicts_with = "members")]
        none: bool,
    },
}

/// A sync or trigger, by its name or its id.
#[derive(Args)]
struct One {
    #[arg(value_parser = input::identifier)]
    integration: String,
    /// Its name or its id
    #[arg(value_parser = input::identifier)]
    sync: String,
    /// Which connection's, by label or id, where there are several
    #[arg(long)]
    connection: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sync {
    id: String,
    integration_id: String,
    kind: String,
    name: String,
    connection_id: Option<String>,
    connection_label: Option<String>,
    status: String,
    running: bool,
    next_run_at: Option<String>,
    succeeded_at: Option<String>,
    counts: Counts,
    #[serde(default)]
    input: Value,
    error: Option<Failed>,
}

#[derive(Deserialize)]
struct Counts {
    created: i64,
    updated: i64,
    deleted: i64,
    rejected: i64,
    rejection: Option<String>,
}

#[derive(Deserialize)]
struct Failed {
    message: String,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::List { integration } => list(context, integration.as_deref()).await,
        Command::Run { one, confirm_deletions } => {
            tell(context, one, ("run", confirm_deletions.then_some("true")), "It runs now").await
        }
        Command::Pause(one) => tell(context, one, ("pause", None), "It waits until it is resumed").await,
        Command::Resume(one) => tell(context, one, ("resume", None), "It goes on now").await,
        Command::Reset(one) => tell(context, one, ("reset", None), "It begins anew, now").await,
        Command::Input { one, members, none } if *none || !members.is_empty() => ask_for(context, one, members).await,
        Command::Input { one, .. } => {
            let input = one.find(&context.authorized()?).await?.input;
            context.output.show(&input, || format!("{input:#}"))
        }
    }
}

async fn list(context: &Context, integration: Option<&str>) -> Result<()> {
    let client = context.authorized()?;
    let of = match integration {
        Some(integration) => vec![integration.to_owned()],
        None => Requirements::all(&client).await?.into_iter().map(|integration| integration.id).collect(),
    };
    let mut all = Vec::new();
    for integration in of {
        all.extend(answers(&client, &integration).await?);
    }
    let syncs: Vec<Sync> = all.iter().map(decode).collect::<Result<_>>()?;
    if syncs.is_empty() && !context.output.is_json() {
        context.output.note("No syncs or triggers: they begin with a connection");
        return Ok(());
    }
    context.output.show(&Value::Array(all), || {
        let rows: Vec<_> = syncs.iter().map(Sync::row).collect();
        table(["INTEGRATION", "NAME", "KIND", "CONNECTION", "STATUS", "LAST (UTC)", "NEXT (UTC)", "DID"], &rows)
    })
}

async fn tell(context: &Context, one: &One, (what, confirmed): (&str, Option<&str>), said: &str) -> Result<()> {
    let client = context.authorized()?;
    let sync = one.find(&client).await?;
    let url = client.api(&["integrations", &one.integration, "syncs", &sync.id, what]);
    let url = with_query(url, [("confirmDeletions", confirmed)]);
    let answer = client.send(Method::POST, url, &json!({})).await?;
    context.output.show(&answer, || said.to_owned())
}

async fn ask_for(context: &Context, one: &One, members: &[String]) -> Result<()> {
    let input: Map<String, Value> = members.iter().map(|member| named(member)).collect::<Result<_>>()?;
    let client = context.authorized()?;
    let sync = one.find(&client).await?;
    let url = client.api(&["integrations", &one.integration, "syncs", &sync.id, "input"]);
    let answer = client.send(Method::PUT, url, &Value::Object(input)).await?;
    let paused = sync.status == "paused";
    context.output.show(&answer, || "It asks for that from now on".to_owned())?;
    if paused {
        context.output.note(&format!("It is paused. Next: weft syncs resume {} {}", one.integration, sync.name));
    }
    Ok(())
}

/// `name=text` or `name:=JSON`.
fn named(member: &str) -> Result<(String, Value)> {
    let wrong = || {
        CliError::usage(format!("'{member}' is neither name=text nor name:=JSON"))
            .with_hint("for example: channel=C123 limit:=20")
    };
    let (name, value) = member.split_once('=').ok_or_else(wrong)?;
    let (name, value) = match name.strip_suffix(':') {
        Some(name) => (name, serde_json::from_str(value).map_err(|_| wrong())?),
        None => (name, Value::from(value)),
    };
    if name.is_empty() { Err(wrong()) } else { Ok((name.to_owned(), value)) }
}

/// All of an integration that the caller sees.
async fn answers(client: &Client, integration: &str) -> Result<Vec<Value>> {
    client.list(client.api(&["integrations", integration, "syncs"])).await
}

/// What is wrong with the syncs of an integration, for `weft doctor`; or that they cannot be looked at, because all else can.
pub async fn findings(client: &Client, integration: &str) -> Vec<Finding> {
    match listed(client, integration).await {
        Ok(syncs) => syncs.iter().filter_map(Sync::finding).collect(),
        Err(error) => vec![Finding::bad("syncs", error.to_string(), "see what the server's log says of it".to_owned())],
    }
}

async fn listed(client: &Client, integration: &str) -> Result<Vec<Sync>> {
    answers(client, integration).await?.iter().map(decode).collect()
}

impl One {
    async fn find(&self, client: &Client) -> Result<Sync> {
        let syncs = listed(client, &self.integration).await?;
        let is_of = |sync: &Sync| {
            let named = |connection: &String| {
                sync.connection_id.as_ref() == Some(connection) || sync.connection_label.as_ref() == Some(connection)
            };
            self.connection.as_ref().is_none_or(named)
        };
        let mut found = syncs.into_iter().filter(|sync| (sync.id == self.sync || sync.name == self.sync) && is_of(sync));
        let (first, second) = (found.next(), found.next());
        let advice = format!("`weft syncs list {}` shows those that you may see", self.integration);
        match (first, second) {
            (Some(sync), None) => Ok(sync),
            (Some(_), Some(_)) => {
                let message = format!("{} has several named '{}'", self.integration, self.sync);
                Err(CliError::failed(message).with_hint("say whose with --connection, or give its id"))
            }
            (None, _) => {
                Err(CliError::failed(format!("{} has no sync or trigger '{}'", self.integration, self.sync)).with_hint(advice))
            }
        }
    }
}

impl Sync {
    fn row(&self) -> [String; 8] {
        let connection = self.connection_label.as_ref().or(self.connection_id.as_ref());
        let status = match &self.error {
            Some(error) => format!("{}: {}", self.status, error.message),
            None if self.running => "running".to_owned(),
            None => self.status.clone(),
        };
        let Counts { created, updated, deleted, rejected, .. } = &self.counts;
        let left_out = if *rejected > 0 { format!(" !{rejected}") } else { String::new() };
        [
            printable(&self.integration_id),
            printable(&self.name),
            printable(&self.kind),
            connection.map_or_else(|| "-".to_owned(), |name| printable(name)),
            printable(&status),
            moment(self.succeeded_at.as_deref()),
            moment(self.next_run_at.as_deref()),
            format!("+{created} ~{updated} -{deleted}{left_out}"),
        ]
    }

    fn finding(&self) -> Option<Finding> {
        let of = self.connection_label.as_ref().map_or_else(String::new, |label| format!(" of {label}"));
        let named = format!("{} {}{of}", self.kind, self.name);
        if let Some(error) = &self.error {
            let mend = format!("see to what it says, then run `weft syncs resume {} {}`", self.integration_id, self.name);
            return Some(Finding::bad("syncs", format!("the {named} does not get on: {}", error.message), mend));
        }
        let why = self.counts.rejection.as_ref().filter(|_| self.counts.rejected > 0)?;
        let lacks = format!("the {named} left {} records out; the first: {why}", self.counts.rejected);
        Some(Finding::bad("syncs", lacks, "mend the records at the vendor, or the manifest's entity or fields".to_owned()))
    }
}
