//! `weft jobs`: work that apps do later: enqueueing it, what became of it, trying it again.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Context;
use crate::client::decode;
use crate::error::Result;
use crate::input;
use crate::output::{moment, pretty, printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the jobs of an app that are not over
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        app: App,
        /// Those that are over, instead
        #[arg(long, conflicts_with = "dead")]
        archived: bool,
        /// Those that came to nothing, instead
        #[arg(long)]
        dead: bool,
        /// How many at most
        #[arg(long)]
        limit: Option<u32>,
        /// Only jobs with a lower id: the last one of an earlier page
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
    },
    /// Show one job
    Show(One),
    /// Enqueue a job
    Enqueue(Enqueue),
    /// Take a job out of the queue that nobody works on
    Cancel(One),
    /// Try a dead job again, or a waiting one now
    Retry(One),
}

#[derive(Args)]
struct App {
    #[arg(value_parser = input::identifier)]
    app: String,
}

#[derive(Args)]
struct One {
    #[arg(value_parser = input::identifier)]
    app: String,
    id: i64,
}

#[derive(Args)]
struct Enqueue {
    #[arg(value_parser = input::identifier)]
    app: String,
    /// What onJob gets, as JSON; `-` reads it from stdin
    #[arg(default_value = "{}", hide_default_value = true)]
    payload: String,
    /// Seconds before it is first tried
    #[arg(long, value_name = "SECONDS")]
    delay: Option<f64>,
    /// 0 to 9, higher comes first
    #[arg(long)]
    priority: Option<i16>,
    /// How often it is tried at most
    #[arg(long, value_name = "NUMBER")]
    max_attempts: Option<i32>,
    /// Enqueue once per key within a day
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Deserialize)]
struct Job {
    msg_id: i64,
    status: String,
    read_ct: i64,
    #[serde(default)]
    max_attempts: i64,
    enqueued_at: Option<String>,
    ended_at: Option<String>,
    visible_at: Option<String>,
    user_id: Option<String>,
    cron_id: Option<String>,
    run_id: Option<String>,
    error: Option<String>,
    payload: Value,
    #[serde(default)]
    result: Value,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::List { app, archived, dead, limit, before } => {
            let limit = limit.map(|limit| limit.to_string());
            let before = before.map(|before| before.to_string());
            let flag = |set: bool| set.then(|| "true".to_owned());
            list(context, &app.app, [("archived", flag(*archived)), ("dead", flag(*dead)), ("limit", limit), ("before", before)])
                .await
        }
        Command::Show(one) => show(context, one).await,
        Command::Enqueue(wanted) => enqueue(context, wanted).await,
        Command::Cancel(one) => change(context, one, "cancel", "Cancelled").await,
        Command::Retry(one) => change(context, one, "retry", "Trying again").await,
    }
}

async fn list(context: &Context, app: &str, parameters: [(&str, Option<String>); 4]) -> Result<()> {
    let client = context.authorized()?;
    let mut url = client.api(&["apps", app, "jobs"]);
    for (name, value) in parameters {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    let answer = client.get(url).await?;
    let jobs: Vec<Job> = decode(&answer)?;
    if jobs.is_empty() && !context.output.is_json() {
        context.output.note("No jobs");
        return Ok(());
    }
    context.output.show(&answer, || {
        let rows: Vec<_> = jobs.iter().map(Job::row).collect();
        table(["ID", "STATUS", "ATTEMPTS", "ENQUEUED (UTC)", "ENDED (UTC)", "ERROR"], &rows)
    })
}

async fn show(context: &Context, one: &One) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(client.api(&["apps", &one.app, "jobs", &one.id.to_string()])).await?;
    let job: Job = decode(&answer)?;
    context.output.show(&answer, || job.describe())
}

async fn enqueue(context: &Context, wanted: &Enqueue) -> Result<()> {
    let payload = input::json(Some(&wanted.payload), None)?;
    let mut body = Map::from_iter([("payload".to_owned(), payload)]);
    let options = [
        ("delay_seconds", wanted.delay.map(Value::from)),
        ("priority", wanted.priority.map(Value::from)),
        ("max_attempts", wanted.max_attempts.map(Value::from)),
        ("idempotency_key", wanted.idempotency_key.clone().map(Value::from)),
    ];
    body.extend(options.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))));
    let client = context.authorized()?;
    let answer = client.send(Method::POST, client.api(&["apps", &wanted.app, "jobs"]), &Value::Object(body)).await?;
    context.output.show(&answer, || format!("Enqueued {}", answer["msg_id"]))
}

async fn change(context: &Context, one: &One, verb: &str, done: &str) -> Result<()> {
    let client = context.authorized()?;
    let url = client.api(&["apps", &one.app, "jobs", &one.id.to_string(), verb]);
    let answer = client.send(Method::POST, url, &json!({})).await?;
    context.output.show(&answer, || format!("{done} {}", one.id))
}

impl Job {
    fn row(&self) -> [String; 6] {
        let ended = self.ended_at.as_deref().map_or_else(|| "-".to_owned(), |time| moment(Some(time)));
        let error = self.error.as_deref().map(printable).unwrap_or_default();
        [self.msg_id.to_string(), printable(&self.status), self.attempts(), moment(self.enqueued_at.as_deref()), ended, error]
    }

    fn attempts(&self) -> String {
        format!("{}/{}", self.read_ct, self.max_attempts)
    }

    fn describe(&self) -> String {
        let time = |time: &Option<String>| time.as_deref().map(|time| format!("{} UTC", moment(Some(time))));
        let lines = [
            ("job", Some(self.msg_id.to_string())),
            ("status", Some(printable(&self.status))),
            ("attempts", Some(self.attempts())),
            ("enqueued", time(&self.enqueued_at)),
            ("next", time(&self.visible_at)),
            ("ended", time(&self.ended_at)),
            ("as", self.user_id.clone()),
            ("cron", self.cron_id.clone()),
            ("run", self.run_id.clone()),
            ("error", self.error.as_deref().map(printable)),
            ("payload", Some(pretty(&self.payload))),
            ("result", (!self.result.is_null()).then(|| pretty(&self.result))),
        ];
        let present = lines.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        present.map(|(name, value)| format!("{name:<11} {value}")).collect::<Vec<_>>().join("\n")
    }
}
