//! `weft roles`: what members may do.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, users};
use crate::client::decode;
use crate::error::Result;
use crate::input;
use crate::output::{printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List the roles of the tenant (the default)
    #[command(alias = "ls")]
    List,
    /// Make a role
    Create {
        #[arg(value_parser = input::identifier)]
        role: String,
        #[command(flatten)]
        content: Content,
    },
    /// Replace what a role grants or inherits
    Update {
        #[arg(value_parser = input::identifier)]
        role: String,
        #[command(flatten)]
        content: Content,
    },
    /// Delete a role; whoever holds it loses it
    Rm {
        #[arg(value_parser = input::identifier)]
        role: String,
    },
    /// Give a role to a member or service account
    Assign {
        #[arg(value_parser = input::identifier)]
        role: String,
        /// Id or e-mail address
        user: String,
    },
    /// Take a role from a member or service account
    Revoke {
        #[arg(value_parser = input::identifier)]
        role: String,
        /// Id or e-mail address
        user: String,
    },
}

#[derive(Args)]
struct Content {
    /// A permission that it grants, for example `app:crm:*`; may be given several times
    #[arg(long = "permission", value_name = "KEY")]
    permissions: Vec<String>,
    /// A role whose permissions it has too; may be given several times
    #[arg(long = "inherits", value_name = "ROLE")]
    inherits: Vec<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

#[derive(Deserialize)]
struct Role {
    name: String,
    description: Option<String>,
    inherits: Vec<String>,
    permissions: Vec<String>,
}

impl Content {
    /// Only what was given: the rest stays as it is.
    fn body(&self) -> Value {
        let mut body = json!({});
        for (name, list) in [("permissions", &self.permissions), ("inherits", &self.inherits)] {
            if !list.is_empty() {
                body[name] = json!(list);
            }
        }
        if let Some(description) = &self.description {
            body["description"] = json!(description);
        }
        body
    }
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    let (answer, text) = match arguments.command.as_ref().unwrap_or(&Command::List) {
        Command::List => return list(context).await,
        Command::Create { role, content } => {
            let mut body = content.body();
            body["name"] = json!(role);
            (client.send(Method::POST, client.api(&["roles"]), &body).await?, format!("Made {role}"))
        }
        Command::Update { role, content } => {
            let url = client.api(&["roles", role]);
            (client.send(Method::PATCH, url, &content.body()).await?, format!("Updated {role}"))
        }
        Command::Rm { role } => (client.delete(client.api(&["roles", role])).await?, format!("Deleted {role}")),
        Command::Assign { role, user } => {
            let body = json!({ "userId": users::find(&client, user).await?, "role": role });
            (client.send(Method::POST, client.api(&["roles", "assign"]), &body).await?, format!("{user} has {role} now"))
        }
        Command::Revoke { role, user } => {
            let body = json!({ "userId": users::find(&client, user).await?, "role": role });
            (client.send(Method::POST, client.api(&["roles", "revoke"]), &body).await?, format!("{user} has {role} no longer"))
        }
    };
    context.output.show(&answer, || printable(&text))
}

async fn list(context: &Context) -> Result<()> {
    let client = context.authorized()?;
    let answer = client.get(client.api(&["roles"])).await?;
    let roles: Vec<Role> = decode(&answer)?;
    context.output.show(&answer, || {
        let row = |role: Role| {
            let (permissions, inherits) = (role.permissions.join(" "), role.inherits.join(" "));
            [role.name, permissions, inherits, role.description.unwrap_or_default()]
        };
        table(["ROLE", "PERMISSIONS", "INHERITS", "DESCRIPTION"], &roles.into_iter().map(row).collect::<Vec<_>>())
    })
}
