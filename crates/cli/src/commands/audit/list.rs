//! `weft audit list`.

use clap::Args;
use reqwest::Url;
use serde::Deserialize;

use crate::client::{Client, decode, with_query};
use crate::commands::Context;
use crate::error::Result;
use crate::output::{moment, printable, table};

#[derive(Args)]
pub struct Filter {
    /// Only events of this action, for example `role.assigned`
    #[arg(long)]
    action: Option<String>,
    /// Only what this person or service account did, by id
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Only what was done to this, for example `role:sales`
    #[arg(long, value_name = "KIND:ID")]
    target: Option<String>,
    /// Only events of this request
    #[arg(long, value_name = "TRACE")]
    trace: Option<String>,
    /// Only events of this time or later, for example `2026-01-31T08:00:00Z`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
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
    data: Vec<Event>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    seq: u64,
    at: String,
    action: String,
    actor: Option<Actor>,
    target: Option<Target>,
    address: Option<String>,
    count: Option<u32>,
}

#[derive(Deserialize)]
struct Actor {
    name: String,
}

#[derive(Deserialize)]
struct Target {
    kind: String,
    id: String,
}

pub async fn run(context: &Context, filter: &Filter) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(filter.url(&client)).await?;
    let page: Page = decode(&answer)?;
    if page.data.is_empty() && !context.output.is_json() {
        context.output.note("No events");
        return Ok(());
    }
    context.output.show(&answer, || {
        let rows: Vec<_> = page.data.iter().map(Event::row).collect();
        table(["NO", "WHEN (UTC)", "WHAT", "TO WHAT", "BY", "FROM"], &rows)
    })?;
    if let Some(cursor) = page.next_cursor {
        context.output.note(&format!("More: repeat with --cursor {}", printable(&cursor)));
    }
    Ok(())
}

impl Filter {
    fn url(&self, client: &Client) -> Url {
        let limit = self.limit.map(|limit| limit.to_string());
        let parameters = [
            ("action", self.action.as_deref()),
            ("actor", self.actor.as_deref()),
            ("target", self.target.as_deref()),
            ("traceId", self.trace.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("limit", limit.as_deref()),
            ("cursor", self.cursor.as_deref()),
        ];
        with_query(client.api(&["audit", "events"]), parameters)
    }
}

impl Event {
    fn row(&self) -> [String; 6] {
        let times = self.count.map(|count| format!(" (×{count})")).unwrap_or_default();
        let target = self.target.as_ref().map(|target| format!("{} {}", target.kind, target.id)).unwrap_or_default();
        let by = self.actor.as_ref().map_or_else(|| "-".to_owned(), |actor| actor.name.clone());
        let address = self.address.clone().unwrap_or_default();
        [self.seq.to_string(), moment(Some(&self.at)), format!("{}{times}", self.action), target, by, address]
    }
}
