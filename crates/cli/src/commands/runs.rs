//! `weft runs`: what was executed, when, for whom and how it ended.

use clap::{Args, Subcommand};
use reqwest::Url;
use serde::Deserialize;

use super::Context;
use crate::client::{Client, decode, with_query};
use crate::error::Result;
use crate::input;
use crate::output::{Output, Paint, human_bytes, moment, printable, table};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Subcommand)]
enum Command {
    /// Show one run
    Show {
        #[arg(value_parser = input::identifier)]
        id: String,
    },
}

#[derive(Args)]
struct Filter {
    /// Only runs of this integration
    #[arg(long)]
    integration: Option<String>,
    /// Only runs of this action
    #[arg(long)]
    action: Option<String>,
    /// Only runs in this state
    #[arg(long, value_parser = ["running", "succeeded", "failed"])]
    status: Option<String>,
    /// How many at most
    #[arg(long)]
    limit: Option<u32>,
    /// Go on after an earlier page
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    data: Vec<Run>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    id: String,
    kind: Option<String>,
    operation: Option<String>,
    provider: Option<String>,
    action: Option<String>,
    app_id: Option<String>,
    principal: Option<Principal>,
    connection_id: Option<String>,
    status: String,
    attempts: Option<u64>,
    started_at: Option<String>,
    duration_ms: Option<f64>,
    input_bytes: Option<u64>,
    output_bytes: Option<u64>,
    error: Option<Failure>,
    trace_id: Option<String>,
}

#[derive(Deserialize)]
struct Principal {
    id: Option<String>,
    email: Option<String>,
}

#[derive(Deserialize)]
struct Failure {
    code: Option<String>,
    category: Option<String>,
    message: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    match &arguments.command {
        None => list(context, &client, &arguments.filter).await,
        Some(Command::Show { id }) => show(context, &client, id).await,
    }
}

async fn list(context: &Context, client: &Client, filter: &Filter) -> Result<()> {
    let answer = client.get(filter.url(client)).await?;
    let page: Page = decode(&answer)?;
    if page.data.is_empty() && !context.output.is_json() {
        context.output.note("No runs");
        return Ok(());
    }
    context.output.show(&answer, || {
        let rows: Vec<_> = page.data.iter().map(Run::row).collect();
        table(["ID", "WHAT", "STATUS", "STARTED (UTC)", "TOOK", "BY", "ERROR"], &rows)
    })?;
    if let Some(cursor) = page.next_cursor {
        context.output.note(&format!("More: repeat with --cursor {}", printable(&cursor)));
    }
    Ok(())
}

async fn show(context: &Context, client: &Client, id: &str) -> Result<()> {
    let answer = client.get(client.api(&["runs", id])).await?;
    let run: Run = decode(&answer)?;
    context.output.show(&answer, || run.describe(&context.output))
}

impl Filter {
    fn url(&self, client: &Client) -> Url {
        let limit = self.limit.map(|limit| limit.to_string());
        let parameters = [
            ("provider", self.integration.as_deref()),
            ("action", self.action.as_deref()),
            ("status", self.status.as_deref()),
            ("limit", limit.as_deref()),
            ("cursor", self.cursor.as_deref()),
        ];
        with_query(client.api(&["runs"]), parameters)
    }
}

impl Run {
    fn row(&self) -> [String; 7] {
        let failure = self.error.as_ref().and_then(|error| error.code.clone());
        let by = self.who().unwrap_or_default();
        [self.id.clone(), self.what(), self.status.clone(), self.started(), self.took(), by, failure.unwrap_or_default()]
    }

    fn describe(&self, output: &Output) -> String {
        let mut lines =
            vec![("run", Some(self.id.clone())), ("what", Some(self.what())), ("status", Some(self.coloured_status(output)))];
        lines.extend([
            ("kind", self.kind.clone()),
            ("started", Some(format!("{} UTC", self.started()))),
            ("took", Some(self.took())),
            ("attempts", self.attempts.map(|attempts| attempts.to_string())),
            ("by", self.who()),
            ("app", self.app_id.clone()),
            ("connection", self.connection_id.clone()),
            ("input", self.input_bytes.map(human_bytes)),
            ("output", self.output_bytes.map(human_bytes)),
            ("trace", self.trace_id.clone()),
        ]);
        lines.extend(self.error.iter().flat_map(Failure::lines));
        let present = lines.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        present.map(|(name, value)| format!("{name:<11} {value}")).collect::<Vec<_>>().join("\n")
    }

    fn what(&self) -> String {
        match (&self.provider, &self.action) {
            (Some(provider), Some(action)) => printable(&format!("{provider}.{action}")),
            _ => printable(self.operation.as_deref().or(self.kind.as_deref()).unwrap_or("-")),
        }
    }

    fn coloured_status(&self, output: &Output) -> String {
        let status = printable(&self.status);
        match self.status.as_str() {
            "succeeded" => output.paint(Paint::Good, &status),
            "failed" => output.paint(Paint::Bad, &status),
            _ => status,
        }
    }

    fn started(&self) -> String {
        moment(self.started_at.as_deref())
    }

    fn took(&self) -> String {
        match self.duration_ms {
            None => "-".to_owned(),
            Some(ms) if ms < 1000.0 => format!("{ms:.0} ms"),
            Some(ms) => format!("{:.1} s", ms / 1000.0),
        }
    }

    fn who(&self) -> Option<String> {
        let principal = self.principal.as_ref()?;
        principal.email.clone().filter(|email| !email.is_empty()).or_else(|| principal.id.clone())
    }
}

impl Failure {
    fn lines(&self) -> [(&'static str, Option<String>); 3] {
        let clean = |text: &Option<String>| text.as_deref().map(printable);
        [("error", clean(&self.message)), ("code", clean(&self.code)), ("category", clean(&self.category))]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn durations_read_naturally() {
        let run =
            |ms: Value| serde_json::from_value::<Run>(serde_json::json!({ "id": "1", "status": "failed", "durationMs": ms }));
        let took = |ms| run(ms).map(|run| run.took()).unwrap_or_default();
        assert_eq!([took(12.into()), took(1500.into()), took(Value::Null)], ["12 ms", "1.5 s", "-"]);
    }
}
