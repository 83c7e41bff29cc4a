//! `weft hooks`: what apps do when their records change.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Context;
use crate::client::{decode, with_query};
use crate::error::Result;
use crate::input;
use crate::output::{printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the hooks of an app
    #[command(alias = "ls")]
    List {
        #[arg(value_parser = input::identifier)]
        app: String,
        /// Only those about this entity
        #[arg(long)]
        entity: Option<String>,
        /// Only those on this operation
        #[arg(long, value_name = "OPERATION")]
        on: Option<String>,
    },
    /// Create a hook
    Create {
        #[arg(value_parser = input::identifier)]
        app: String,
        entity: String,
        /// insert, update or delete
        operation: String,
        #[command(flatten)]
        terms: Terms,
    },
    /// Change a hook
    Update {
        #[command(flatten)]
        hook: One,
        #[command(flatten)]
        terms: Terms,
    },
    /// Let a hook act again
    Enable(One),
    /// Let a hook act no more
    Disable(One),
    /// Delete a hook
    Rm(One),
}

#[derive(Args)]
struct One {
    #[arg(value_parser = input::identifier)]
    app: String,
    id: String,
}

#[derive(Args)]
struct Terms {
    /// Only when one of these fields changed, for hooks on update
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    changed: Vec<String>,
    /// Only records that meet these conditions, as in queries; `-` reads them from stdin
    #[arg(long, value_name = "JSON")]
    r#where: Option<String>,
    /// What goes with every job, as a JSON object
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
}

impl Terms {
    fn body(&self) -> Result<Map<String, Value>> {
        let changed = (!self.changed.is_empty()).then(|| json!(self.changed));
        let (condition, config) = (self.r#where.as_deref(), self.config.as_deref());
        Ok(input::members([
            ("changed_fields", changed),
            ("where", input::optional_json(condition)?),
            ("action_config", input::optional_json(config)?),
        ]))
    }
}

#[derive(Deserialize)]
struct Hook {
    id: String,
    entity: String,
    operation: String,
    action_type: String,
    active: bool,
    changed_fields: Option<Vec<String>>,
    #[serde(rename = "where")]
    condition: Option<Value>,
    note: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::List { app, entity, on } => {
            list(context, app, [("entity", entity.as_deref()), ("operation", on.as_deref())]).await
        }
        Command::Create { app, entity, operation, terms } => {
            let mut body = terms.body()?;
            let about = [("entity", entity.as_str()), ("operation", operation), ("action_type", "job")];
            body.extend(about.map(|(name, value)| (name.to_owned(), json!(value))));
            let client = context.authorized()?;
            let answer = client.send(Method::POST, client.api(&["apps", app, "hooks"]), &Value::Object(body)).await?;
            context.output.notes([answer["note"].as_str()]);
            context.output.show(&answer, || format!("Created {}", printable(answer["id"].as_str().unwrap_or_default())))
        }
        Command::Update { hook, terms } => change(context, hook, Value::Object(terms.body()?), "Updated").await,
        Command::Enable(hook) => change(context, hook, json!({ "active": true }), "Enabled").await,
        Command::Disable(hook) => change(context, hook, json!({ "active": false }), "Disabled").await,
        Command::Rm(hook) => {
            let client = context.authorized()?;
            let answer = client.delete(client.api(&["apps", &hook.app, "hooks", &hook.id])).await?;
            context.output.show(&answer, || format!("Deleted {}", hook.id))
        }
    }
}

async fn change(context: &Context, hook: &One, body: Value, done: &str) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.send(Method::PATCH, client.api(&["apps", &hook.app, "hooks", &hook.id]), &body).await?;
    context.output.show(&answer, || format!("{done} {}", hook.id))
}

async fn list(context: &Context, app: &str, filter: [(&str, Option<&str>); 2]) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(with_query(client.api(&["apps", app, "hooks"]), filter)).await?;
    let hooks: Vec<Hook> = decode(&answer)?;
    if hooks.is_empty() && !context.output.is_json() {
        context.output.note("No hooks");
        return Ok(());
    }
    context.output.notes(hooks.iter().map(|hook| hook.note.as_deref()));
    context.output.show(&answer, || {
        let rows: Vec<_> = hooks.iter().map(Hook::row).collect();
        table(["ENTITY", "ON", "DOES", "WHEN", "ID"], &rows)
    })
}

impl Hook {
    fn row(&self) -> [String; 5] {
        let changed = self.changed_fields.as_ref().map(|fields| format!("changed {}", fields.join(", ")));
        let met = self.condition.as_ref().map(ToString::to_string);
        let when =
            [(!self.active).then(|| "disabled".to_owned()), changed, met].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let when = if when.is_empty() { "always".to_owned() } else { printable(&when) };
        [printable(&self.entity), printable(&self.operation), printable(&self.action_type), when, self.id.clone()]
    }
}
