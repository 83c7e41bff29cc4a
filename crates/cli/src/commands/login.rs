//! `weft login`, `logout` and `whoami`: getting, dropping and showing the stored session.
//!
//! On a server without users the first login registers its administrator. Where passwords do not serve, or when asked to, the
//! login goes through a browser.

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
use crate::sign_on::{Provider, sign_on};

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
    /// Tenant to work in, for members of several [default: the one used last; with --browser: default]
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Log in through a browser on this machine, with the server's sign-on provider; the default where passwords do not serve
    #[arg(long)]
    browser: bool,
    /// The sign-on provider for the browser, when the server has several
    #[arg(long, value_name = "ID")]
    provider: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    #[serde(default)]
    setup_required: bool,
    #[serde(default = "yes")]
    password_login_enabled: bool,
    #[serde(default)]
    providers: Vec<Provider>,
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
    let mut about = client.api(&["auth", "mode"]);
    if let Some(tenant) = &arguments.tenant {
        about.query_pairs_mut().append_pair("tenant", tenant);
    }
    let mode: Mode = decode(&client.get(about).await?)?;
    let (answer, user) = match arguments.provider(&client, &mode)? {
        Some(provider) => through_browser(context, &client, (provider, arguments.tenant.as_deref())).await?,
        None => with_password(context, &client, (arguments, &mode)).await?,
    };
    let tokens: Tokens = decode(&answer)?;
    let login = Login { url: client.base().to_owned(), access_token: tokens.access_token, refresh_token: tokens.refresh_token };
    context.store()?.save(&login)?;
    let result = json!({ "url": login.url, "user": user, "registered": mode.setup_required });
    context.output.show(&result, || format!("Logged in to {} as {}", login.url, email(&user)))
}

/// The tokens and the user.
async fn with_password(
    context: &Context,
    client: &Client,
    (arguments, mode): (&LoginArguments, &Mode),
) -> Result<(Value, Value)> {
    let mut credentials = arguments.credentials(context, client, mode)?;
    if mode.setup_required {
        client.send(Method::POST, client.api(&["auth", "register"]), &credentials).await?;
    }
    if let Some(tenant) = &arguments.tenant {
        credentials["tenant"] = tenant.as_str().into();
    }
    let answer = client.send(Method::POST, client.api(&["auth", "login"]), &credentials).await?;
    let user = answer.get("user").cloned().unwrap_or_default();
    Ok((answer, user))
}

/// The tokens and the user.
async fn through_browser(
    context: &Context,
    client: &Client,
    (provider, tenant): (&Provider, Option<&str>),
) -> Result<(Value, Value)> {
    let answer = sign_on(context, client, (provider, tenant)).await?;
    let tokens: Tokens = decode(&answer)?;
    let authorized = Client::new(client.base(), Session::Token(tokens.access_token))?;
    let user = authorized.get(authorized.api(&["auth", "me"])).await?;
    Ok((answer, user))
}

impl LoginArguments {
    /// The provider to log in with in a browser, unless it is to be a password.
    fn provider<'a>(&self, client: &Client, mode: &'a Mode) -> Result<Option<&'a Provider>> {
        let passwords_serve = mode.password_login_enabled || mode.setup_required;
        if passwords_serve && !self.browser && self.provider.is_none() {
            return Ok(None);
        }
        let ids = || mode.providers.iter().map(|provider| provider.id.as_str()).collect::<Vec<_>>().join(", ");
        match (&self.provider, mode.providers.as_slice()) {
            (_, []) if self.browser || self.provider.is_some() => {
                Err(CliError::failed(format!("{} has no sign-on provider", client.base())))
            }
            (_, []) => Err(CliError::failed(format!("{} does not allow login with a password", client.base()))
                .with_hint("set WEFT_TOKEN to an access token instead")),
            (Some(id), providers) => {
                providers.iter().find(|provider| provider.id == *id).map(Some).ok_or_else(|| {
                    CliError::usage(format!("{} has no sign-on provider {id:?}; it has: {}", client.base(), ids()))
                })
            }
            (None, [only]) => Ok(Some(only)),
            (None, _) => Err(CliError::usage(format!("{} has several sign-on providers: {}", client.base(), ids()))
                .with_hint("choose one with --provider")),
        }
    }

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
