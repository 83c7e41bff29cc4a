//! `weft users`: the members of a tenant.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::output::{moment, printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List the members of the tenant (the default)
    #[command(alias = "ls")]
    List,
    /// Add somebody to the tenant; who has no account yet gets one, and its password is shown once
    Add {
        email: String,
        /// Name for people
        #[arg(long)]
        name: Option<String>,
        /// A role to begin with; may be given several times
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Switch a member off, which ends their sessions
    Disable { user: String },
    /// Switch a member on again
    Enable { user: String },
    /// Remove a member from the tenant
    Rm { user: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: String,
    email: String,
    display_name: Option<String>,
    created_at: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match arguments.command.as_ref().unwrap_or(&Command::List) {
        Command::List => list(context).await,
        Command::Add { email, name, roles } => add(context, email, name.as_deref(), roles).await,
        Command::Disable { user } => switch(context, user, "disable").await,
        Command::Enable { user } => switch(context, user, "enable").await,
        Command::Rm { user } => {
            let client = context.authorized()?;
            let id = find(&client, user).await?;
            let answer = client.delete(client.api(&["users", &id])).await?;
            context.output.show(&answer, || printable(&format!("Removed {user}")))
        }
    }
}

/// The id of a member who is named by id or e-mail address.
pub async fn find(client: &Client, named: &str) -> Result<String> {
    if !named.contains('@') {
        return Ok(named.to_owned());
    }
    let answer = client.get(client.api(&["users"])).await?;
    let users: Vec<User> = decode(&answer)?;
    let found = users.into_iter().find(|user| user.email.eq_ignore_ascii_case(named));
    found.map(|user| user.id).ok_or_else(|| {
        CliError::failed(format!("{named} is no member of the tenant")).with_hint("`weft users` lists the members")
    })
}

async fn list(context: &Context) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(client.api(&["users"])).await?;
    let users: Vec<User> = decode(&answer)?;
    context.output.show(&answer, || {
        let row = |user: User| {
            let name = user.display_name.unwrap_or_default();
            [user.id, user.email, moment(user.created_at.as_deref()), name]
        };
        table(["ID", "EMAIL", "CREATED (UTC)", "NAME"], &users.into_iter().map(row).collect::<Vec<_>>())
    })
}

async fn add(context: &Context, email: &str, name: Option<&str>, roles: &[String]) -> Result<()> {
    let client = context.authorized()?;
    let body = json!({ "email": email, "displayName": name, "roles": roles });
    let answer = client.send(Method::POST, client.api(&["users"]), &body).await?;
    context.output.show(&answer, || {
        let password = answer.get("initialPassword").and_then(Value::as_str);
        let shown = password.map(|password| format!("\nPassword, shown only now: {password}")).unwrap_or_default();
        printable(&format!("Added {email}{shown}"))
    })
}

async fn switch(context: &Context, user: &str, verb: &str) -> Result<()> {
    let client = context.authorized()?;
    let id = find(&client, user).await?;
    let answer = client.send(Method::POST, client.api(&["users", &id, verb]), &json!({})).await?;
    context.output.show(&answer, || printable(&format!("{user}: {verb}d")))
}
