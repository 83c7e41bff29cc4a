//! `weft tenants`: for those who look after the server as a whole.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use crate::client::decode;
use crate::error::{CliError, Result};
use crate::input::{self, Question};
use crate::output::{moment, printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List the tenants of the server (the default)
    #[command(alias = "ls")]
    List,
    /// Make a tenant with its first administrator
    Create {
        #[arg(value_parser = input::identifier)]
        tenant: String,
        /// E-mail address of the first administrator; who has no account yet gets one, and its password is shown once
        #[arg(long, value_name = "EMAIL")]
        admin: String,
        /// The tenant's name for people; its id when absent
        #[arg(long)]
        name: Option<String>,
    },
    /// Switch a tenant off: nobody gets in and nothing runs, and everything is kept
    Disable {
        #[arg(value_parser = input::identifier)]
        tenant: String,
    },
    /// Switch a tenant on again
    Enable {
        #[arg(value_parser = input::identifier)]
        tenant: String,
    },
    /// Destroy a tenant's keys and everything in it, for good
    Rm {
        #[arg(value_parser = input::identifier)]
        tenant: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tenant {
    id: String,
    name: String,
    status: String,
    created_at: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match arguments.command.as_ref().unwrap_or(&Command::List) {
        Command::List => list(context).await,
        Command::Create { tenant, admin, name } => create(context, tenant, admin, name.as_deref()).await,
        Command::Disable { tenant } => switch(context, tenant, "disable").await,
        Command::Enable { tenant } => switch(context, tenant, "enable").await,
        Command::Rm { tenant, yes } => remove(context, tenant, *yes).await,
    }
}

async fn list(context: &Context) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(client.api(&["tenants"])).await?;
    let tenants: Vec<Tenant> = decode(&answer)?;
    context.output.show(&answer, || {
        let row = |tenant: Tenant| [tenant.id, tenant.status, moment(tenant.created_at.as_deref()), tenant.name];
        table(["ID", "STATUS", "CREATED (UTC)", "NAME"], &tenants.into_iter().map(row).collect::<Vec<_>>())
    })
}

async fn create(context: &Context, tenant: &str, admin: &str, name: Option<&str>) -> Result<()> {
    let client = context.authorized()?;
    let body = json!({ "id": tenant, "name": name, "administrator": { "email": admin } });
    let answer = client.send(Method::POST, client.api(&["tenants"]), &body).await?;
    context.output.show(&answer, || {
        let password = answer.pointer("/administrator/initialPassword").and_then(Value::as_str);
        let shown = password.map(|password| format!("\nPassword of {admin}, shown only now: {password}")).unwrap_or_default();
        printable(&format!("Made {tenant}{shown}"))
    })
}

async fn switch(context: &Context, tenant: &str, verb: &str) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.send(Method::POST, client.api(&["tenants", tenant, verb]), &json!({})).await?;
    context.output.show(&answer, || printable(answer.get("message").and_then(Value::as_str).unwrap_or("done")))
}

async fn remove(context: &Context, tenant: &str, yes: bool) -> Result<()> {
    let client = context.authorized()?;
    if !yes {
        let text = format!("Destroy {tenant} on {} with its keys and everything in it? Type its id to confirm", client.base());
        let instead = "pass --yes to destroy it without being asked";
        if input::prompt(&Question { text: &text, subject: "the confirmation", instead })? != tenant {
            return Err(CliError::failed("nothing was destroyed: that is not the id"));
        }
    }
    let mut url = client.api(&["tenants", tenant]);
    url.query_pairs_mut().append_pair("confirm", tenant);
    let answer = client.delete(url).await?;
    context.output.show(&answer, || format!("Destroyed the keys of {tenant}; the rest goes in the background"))
}
