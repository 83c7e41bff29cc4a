//! `weft crons`: what apps do by the clock.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Context;
use crate::client::decode;
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
    /// List crons, of one app or of all
    #[command(alias = "ls")]
    List {
        #[arg(value_parser = input::identifier)]
        app: Option<String>,
    },
    /// Create a cron
    Create {
        #[arg(value_parser = input::identifier)]
        app: String,
        #[arg(value_parser = input::identifier)]
        name: String,
        /// Five fields such as "0 9 * * 1-5" ($ as the day: the month's last), or "N seconds"
        schedule: String,
        #[command(flatten)]
        options: Options,
    },
    /// Change a cron
    Update {
        #[command(flatten)]
        cron: One,
        /// Five fields, or "N seconds"
        #[arg(long)]
        schedule: Option<String>,
        #[command(flatten)]
        options: Options,
    },
    /// Let a cron tick again
    Enable(One),
    /// Let a cron tick no more
    Disable(One),
    /// Delete a cron
    Rm(One),
    /// Fire a cron now
    Trigger(One),
    /// List what a cron did
    Runs {
        #[command(flatten)]
        cron: One,
        /// How many at most
        #[arg(long)]
        limit: Option<u32>,
    },
}

/// A cron, by its name or its id.
#[derive(Args)]
struct One {
    #[arg(value_parser = input::identifier)]
    app: String,
    /// Its name or its id
    #[arg(value_parser = input::identifier)]
    cron: String,
}

#[derive(Args)]
struct Options {
    /// Time zone, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// What onJob gets, as a JSON object; `-` reads it from stdin
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// What a tick does while a job of an earlier one is not done
    #[arg(long, value_parser = ["skip", "queue"])]
    overlap: Option<String>,
}

impl Options {
    fn body(&self) -> Result<Map<String, Value>> {
        Ok(input::members([
            ("timezone", self.timezone.clone().map(Value::from)),
            ("payload", input::optional_json(self.payload.as_deref())?),
            ("overlapPolicy", self.overlap.clone().map(Value::from)),
        ]))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cron {
    id: String,
    app_id: String,
    name: String,
    schedule: String,
    timezone: Option<String>,
    enabled: bool,
    next_run_at: Option<String>,
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    status: String,
    return_message: Option<String>,
    start_time: Option<String>,
    msg_id: Option<i64>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::List { app } => list(context, app.as_deref()).await,
        Command::Create { app, name, schedule, options } => {
            let mut body = options.body()?;
            body.extend([("name".to_owned(), json!(name)), ("schedule".to_owned(), json!(schedule))]);
            let client = context.authorized()?;
            let answer = client.send(Method::POST, client.api(&["apps", app, "crons"]), &Value::Object(body)).await?;
            context.output.notes([answer["note"].as_str()]);
            context.output.show(&answer, || format!("Created {name}, next at {} UTC", moment(answer["nextRunAt"].as_str())))
        }
        Command::Update { cron, schedule, options } => {
            let mut body = options.body()?;
            body.extend(schedule.clone().map(|schedule| ("schedule".to_owned(), json!(schedule))));
            update(context, cron, Value::Object(body)).await
        }
        Command::Enable(cron) => update(context, cron, json!({ "enabled": true })).await,
        Command::Disable(cron) => update(context, cron, json!({ "enabled": false })).await,
        Command::Rm(cron) => {
            let client = context.authorized()?;
            let answer = client.delete(client.api(&["apps", &cron.app, "crons", &cron.id(context).await?])).await?;
            context.output.show(&answer, || format!("Deleted {}", cron.cron))
        }
        Command::Trigger(cron) => {
            let client = context.authorized()?;
            let url = client.api(&["apps", &cron.app, "crons", &cron.id(context).await?, "trigger"]);
            let answer = client.send(Method::POST, url, &json!({})).await?;
            context.output.show(&answer, || format!("Enqueued {}", answer["msgId"]))
        }
        Command::Runs { cron, limit } => runs(context, cron, *limit).await,
    }
}

async fn list(context: &Context, app: Option<&str>) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(client.api(&app.map_or_else(|| vec!["crons"], |app| vec!["apps", app, "crons"]))).await?;
    let crons: Vec<Cron> = decode(&answer)?;
    if crons.is_empty() && !context.output.is_json() {
        context.output.note("No crons");
        return Ok(());
    }
    context.output.notes(crons.iter().map(|cron| cron.note.as_deref()));
    context.output.show(&answer, || {
        let rows: Vec<_> = crons.iter().map(Cron::row).collect();
        table(["APP", "NAME", "SCHEDULE", "ZONE", "NEXT (UTC)", "ID"], &rows)
    })
}

async fn update(context: &Context, cron: &One, body: Value) -> Result<()> {
    let client = context.authorized()?;
    let url = client.api(&["apps", &cron.app, "crons", &cron.id(context).await?]);
    let answer = client.send(Method::PATCH, url, &body).await?;
    let changed: Cron = decode(&answer)?;
    context.output.show(&answer, || match changed.next_run_at.as_deref() {
        Some(next) => format!("Updated {}, next at {} UTC", cron.cron, moment(Some(next))),
        None => format!("Updated {}, which is disabled", cron.cron),
    })
}

async fn runs(context: &Context, cron: &One, limit: Option<u32>) -> Result<()> {
    let client = context.authorized()?;
    let mut url = client.api(&["apps", &cron.app, "crons", &cron.id(context).await?, "runs"]);
    if let Some(limit) = limit {
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
    }
    let answer = client.get(url).await?;
    let runs: Vec<Run> = decode(&answer)?;
    if runs.is_empty() && !context.output.is_json() {
        context.output.note("It has not fired yet");
        return Ok(());
    }
    context.output.show(&answer, || {
        let rows: Vec<_> = runs.iter().map(Run::row).collect();
        table(["FIRED (UTC)", "STATUS", "JOB", "MESSAGE"], &rows)
    })
}

impl One {
    /// Its id, looked up when a name was given.
    async fn id(&self, context: &Context) -> Result<String> {
        let is_id = self.cron.len() == 36 && self.cron.bytes().filter(|byte| *byte == b'-').count() == 4;
        if is_id {
            return Ok(self.cron.clone());
        }
        let client = context.authorized()?;
        let answer = client.get(client.api(&["apps", &self.app, "crons"])).await?;
        let crons: Vec<Cron> = decode(&answer)?;
        let found = crons.into_iter().find(|cron| cron.name == self.cron).map(|cron| cron.id);
        found.ok_or_else(|| {
            let advice = format!("`weft crons list {}` shows those that you may see", self.app);
            CliError::failed(format!("{} has no cron named '{}'", self.app, self.cron)).with_hint(advice)
        })
    }
}

impl Cron {
    fn row(&self) -> [String; 6] {
        let zone = self.timezone.as_deref().map_or_else(|| "UTC".to_owned(), printable);
        let next = if self.enabled { moment(self.next_run_at.as_deref()) } else { "disabled".to_owned() };
        [printable(&self.app_id), printable(&self.name), printable(&self.schedule), zone, next, self.id.clone()]
    }
}

impl Run {
    fn row(&self) -> [String; 4] {
        let job = self.msg_id.map_or_else(|| "-".to_owned(), |job| job.to_string());
        let message = self.return_message.as_deref().map(printable).unwrap_or_default();
        [moment(self.start_time.as_deref()), printable(&self.status), job, message]
    }
}
