//! `weft login`, `logout` and `whoami`: getting, dropping and showing the stored session.
//!
//! On a server without users the first login registers its administrator.

use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use crate::client::{Client, Session, decode};
use crate::config::Login;
use crate::error::{CliError, Result};
use crate::input::{self, Question};
use crate::output::printable;

const EMAIL: Question<'_> = Question { text: "E-mail", subject: "the e-mail address", instead: "pass --email or set WEFT_EMAIL" };
const PASSWORD: Question<'_> =
    Question { text: "Password", subject: "the password", instead: "set WEFT_PASSWORD or pass --password" };

#[derive(Args)]
pub struct LoginArguments {
    /// Server to log in to [default: --url, else the last one, else http://localhost:9100]
    #[arg(value_name = "URL")]
    server: Option<String>,
    /// E-mail address; asked for when absent
    #[arg(long, env = "WEFT_EMAIL")]
    email: Option<String>,
    /// Password; asked for when absent, and better not written here
    #[arg(long, env = "WEFT_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    #[serde(default)]
    setup_required: bool,
    #[serde(default = "yes")]
    password_login_enabled: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    access_token: String,
    refresh_token: String,
}

pub async fn login(context: &Context, arguments: &LoginArguments) -> Result<()> {
    let url = arguments.server.clone().map_or_else(|| context.server(), Ok)?;
    let client = Client::new(&url, Session::Anonymous)?;
    client.get(client.url(&["health"])).await?;
    let mode: Mode = decode(&client.get(client.api(&["auth", "mode"])).await?)?;
    if !mode.password_login_enabled && !mode.setup_required {
        return Err(CliError::failed(format!("{} does not allow login with a password", client.base()))
            .with_hint("set WEFT_TOKEN to an access token instead"));
    }
    let credentials = arguments.credentials(context, &client, &mode)?;
    if mode.setup_required {
        client.send(Method::POST, client.api(&["auth", "register"]), &credentials).await?;
    }
    let answer = client.send(Method::POST, client.api(&["auth", "login"]), &credentials).await?;
    let tokens: Tokens = decode(&answer)?;
    let login = Login { url: client.base().to_owned(), access_token: tokens.access_token, refresh_token: tokens.refresh_token };
    context.store()?.save(&login)?;
    let user = answer.get("user").cloned().unwrap_or_default();
    let result = json!({ "url": login.url, "user": user, "registered": mode.setup_required });
    context.output.show(&result, || format!("Logged in to {} as {}", login.url, email(&user)))
}

impl LoginArguments {
    fn credentials(&self, context: &Context, client: &Client, mode: &Mode) -> Result<Value> {
        if mode.setup_required {
            context.output.note(&format!(
                "{} has no users yet: this registers the first one, who becomes its administrator.",
                client.base()
            ));
        }
        let email = match &self.email {
            Some(email) => email.clone(),
            None => input::prompt(&EMAIL)?,
        };
        let password = match &self.password {
            Some(password) => password.clone(),
            None => ask_password(mode)?,
        };
        Ok(json!({ "email": email, "password": password }))
    }
}

fn ask_password(mode: &Mode) -> Result<String> {
    let password = input::prompt_secret(&PASSWORD)?;
    if mode.setup_required && input::prompt_secret(&Question { text: "Password again", ..PASSWORD })? != password {
        return Err(CliError::usage("the two passwords differ"));
    }
    Ok(password)
}

/// Ends the session on the server where possible, and forgets it here in any case.
pub async fn logout(context: &Context) -> Result<()> {
    let store = context.store()?;
    let Some(login) = store.load()? else {
        return context.output.show(&json!({ "loggedOut": false }), || "Not logged in".to_owned());
    };
    let client = Client::new(&login.url, Session::Anonymous)?;
    let body = json!({ "refreshToken": login.refresh_token });
    if let Err(error) = client.send(Method::POST, client.api(&["auth", "logout"]), &body).await {
        context.output.note(&format!("The server did not end the session: {error}"));
    }
    store.clear()?;
    context.output.show(&json!({ "loggedOut": true, "url": login.url }), || format!("Logged out of {}", login.url))
}

pub async fn whoami(context: &Context) -> Result<()> {
    let client = context.authorized()?;
    let user = client.get(client.api(&["auth", "me"])).await?;
    context.output.show(&user, || format!("{} on {}", email(&user), client.base()))
}

/// A user as people name them.
pub fn email(user: &Value) -> String {
    let address = user.get("email").and_then(Value::as_str).unwrap_or("unknown");
    match user.get("displayName").and_then(Value::as_str).filter(|name| !name.is_empty()) {
        Some(name) => printable(&format!("{name} <{address}>")),
        None => printable(address),
    }
}
