//! `weft service-accounts`: accounts of machines, their keys, and who may act as them.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, users};
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::input;
use crate::output::{moment, printable, table};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

/// An account is named by its id or its slug.
#[derive(Subcommand)]
enum Command {
    /// List the service accounts of the tenant (the default)
    #[command(alias = "ls")]
    List,
    /// Make a service account; it begins without any permission
    Create {
        #[arg(value_parser = input::identifier)]
        slug: String,
        /// Name for people
        #[arg(long)]
        name: Option<String>,
    },
    /// Delete a service account with its keys and tokens
    Rm {
        #[arg(value_parser = input::identifier)]
        account: String,
    },
    /// Switch a service account off, which ends its tokens
    Disable {
        #[arg(value_parser = input::identifier)]
        account: String,
    },
    /// Switch a service account on again
    Enable {
        #[arg(value_parser = input::identifier)]
        account: String,
    },
    /// Hand a service account over to another person
    Transfer {
        #[arg(value_parser = input::identifier)]
        account: String,
        /// Id or e-mail address of the person who answers for it from now on
        #[arg(long, value_name = "USER")]
        to: String,
    },
    /// List the keys of a service account
    Keys {
        #[arg(value_parser = input::identifier)]
        account: String,
    },
    /// Make a key, which is shown once
    CreateKey {
        #[arg(value_parser = input::identifier)]
        account: String,
        /// What it is for
        name: String,
        /// Days until it expires
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
    },
    /// Revoke a key and the tokens that were made with it
    RevokeKey {
        #[arg(value_parser = input::identifier)]
        account: String,
        #[arg(value_parser = input::identifier)]
        key: String,
    },
    /// List who may act as a service account
    Actors {
        #[arg(value_parser = input::identifier)]
        account: String,
    },
    /// Let a person act as a service account
    AllowActor {
        #[arg(value_parser = input::identifier)]
        account: String,
        /// Id or e-mail address
        user: String,
    },
    /// Let a person act as a service account no longer
    DenyActor {
        #[arg(value_parser = input::identifier)]
        account: String,
        /// Id or e-mail address
        user: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    id: String,
    slug: String,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    owner_of_record: String,
    display_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    id: String,
    name: String,
    prefix: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Actor {
    user_id: String,
    granted_at: Option<String>,
    granted_by: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    let done = |answer: &Value, text: String| context.output.show(answer, || printable(&text));
    match arguments.command.as_ref().unwrap_or(&Command::List) {
        Command::List => list(context, &client).await,
        Command::Create { slug, name } => {
            let body = json!({ "slug": slug, "displayName": name });
            let answer = client.send(Method::POST, client.api(&["service-accounts"]), &body).await?;
            done(&answer, format!("Made {slug}, client id {}", text(&answer, "id")))?;
            context.output.note(&format!("Next: weft roles assign <role> {}", text(&answer, "id")));
            Ok(())
        }
        Command::Rm { account } => {
            let answer = client.delete(at(&client, account, &[]).await?).await?;
            done(&answer, format!("Deleted {account}"))
        }
        Command::Disable { account } => {
            done(&post(&client, account, "disable", &json!({})).await?, format!("{account}: disabled"))
        }
        Command::Enable { account } => done(&post(&client, account, "enable", &json!({})).await?, format!("{account}: enabled")),
        Command::Transfer { account, to } => {
            let body = json!({ "new_owner": users::find(&client, to).await? });
            done(&post(&client, account, "transfer-ownership", &body).await?, format!("{to} answers for {account} now"))
        }
        Command::Keys { account } => keys(context, &client, account).await,
        Command::CreateKey { account, name, days } => {
            let answer = post(&client, account, "credentials", &json!({ "name": name, "expiresInDays": days })).await?;
            context.output.note("The key is shown only now:");
            done(&answer, text(&answer, "key").to_owned())
        }
        Command::RevokeKey { account, key } => {
            let answer = client.delete(at(&client, account, &["credentials", key]).await?).await?;
            done(&answer, format!("Revoked {key}"))
        }
        Command::Actors { account } => actors(context, &client, account).await,
        Command::AllowActor { account, user } => {
            let body = json!({ "userId": users::find(&client, user).await? });
            done(&post(&client, account, "act-as", &body).await?, format!("{user} may act as {account}"))
        }
        Command::DenyActor { account, user } => {
            let body = json!({ "userId": users::find(&client, user).await? });
            let answer = client.send(Method::DELETE, at(&client, account, &["act-as"]).await?, &body).await?;
            done(&answer, format!("{user} may act as {account} no longer"))
        }
    }
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer.get(name).and_then(Value::as_str).unwrap_or_default()
}

async fn accounts(client: &Client) -> Result<(Value, Vec<Account>)> {
    let answer = client.get(client.api(&["service-accounts"])).await?;
    let accounts = decode(&answer)?;
    Ok((answer, accounts))
}

/// The address of something of an account. Ids are long, slugs are not.
async fn at(client: &Client, account: &str, rest: &[&str]) -> Result<reqwest::Url> {
    let is_id = account.len() == 36 && account.chars().filter(|character| *character == '-').count() == 4;
    let id = if is_id {
        account.to_owned()
    } else {
        let found = accounts(client).await?.1.into_iter().find(|known| known.slug == account);
        let missing = || CliError::failed(format!("there is no service account {account}"));
        found.ok_or_else(|| missing().with_hint("`weft service-accounts` lists them"))?.id
    };
    Ok(client.api(&[&["service-accounts", id.as_str()], rest].concat()))
}

async fn post(client: &Client, account: &str, what: &str, body: &Value) -> Result<Value> {
    client.send(Method::POST, at(client, account, &[what]).await?, body).await
}

async fn list(context: &Context, client: &Client) -> Result<()> {
    let (answer, accounts) = accounts(client).await?;
    if accounts.is_empty() && !context.output.is_json() {
        context.output.note("No service accounts. Next: weft service-accounts create <slug>");
        return Ok(());
    }
    context.output.show(&answer, || {
        let row = |account: Account| {
            let state = if account.disabled { "disabled" } else { "active" };
            [account.slug, account.id, state.to_owned(), account.owner_of_record, account.display_name.unwrap_or_default()]
        };
        table(["SLUG", "ID", "STATE", "OWNER", "NAME"], &accounts.into_iter().map(row).collect::<Vec<_>>())
    })
}

async fn keys(context: &Context, client: &Client, account: &str) -> Result<()> {
    let answer = client.get(at(client, account, &["credentials"]).await?).await?;
    let keys: Vec<Key> = decode(&answer)?;
    context.output.show(&answer, || {
        let row =
            |key: Key| [key.id, key.prefix, moment(key.expires_at.as_deref()), moment(key.last_used_at.as_deref()), key.name];
        table(["ID", "BEGINS WITH", "EXPIRES (UTC)", "LAST USED (UTC)", "NAME"], &keys.into_iter().map(row).collect::<Vec<_>>())
    })
}

async fn actors(context: &Context, client: &Client, account: &str) -> Result<()> {
    let answer = client.get(at(client, account, &["act-as"]).await?).await?;
    let actors: Vec<Actor> = decode(&answer)?;
    context.output.show(&answer, || {
        let row = |actor: Actor| [actor.user_id, moment(actor.granted_at.as_deref()), actor.granted_by.unwrap_or_default()];
        table(["USER", "SINCE (UTC)", "ALLOWED BY"], &actors.into_iter().map(row).collect::<Vec<_>>())
    })
}
