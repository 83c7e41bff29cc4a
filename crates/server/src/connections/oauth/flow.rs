//! The way of somebody who connects: to the vendor and back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::http::HeaderMap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use weft_model::{
    Principal, RunId,
    manifest::user_auth::{Grant, Way},
};

use super::{
    refresh::content,
    store::{self, Flow},
};
use crate::{
    apps::{self, App, CallContext, CallRequest},
    connections::{
        connect::{Kept, Made, Settled, Wanted, owner_of},
        credential::{Content, Times},
        error::{Error, plain},
        service::{Connections, label},
        ways,
    },
    http::trace,
    identity::{
        cookie::{self, Purpose},
        ticket,
    },
    integrations::Config,
    node::Node,
};

/// The path of the callback.
pub const CALLBACK: &str = "/api/v1/integrations/auth/callback";
/// How long somebody may take at the vendor.
const PENDING: TimeDelta = TimeDelta::minutes(10);
/// How long a backend may take over its part.
const BACKEND: Duration = Duration::from_secs(30);

/// What somebody who wants to connect is told.
pub enum Started {
    /// Go to this address.
    Redirect { url: String, state: String },
    /// Enter what this schema asks for.
    Credentials { schema: Value },
    /// It is done: nobody had to be asked.
    Connected(Kept),
}

/// What a browser came back with.
pub struct Returned {
    pub state: String,
    pub query: BTreeMap<String, String>,
}

/// What somebody is about to finish.
pub struct Pending {
    pub principal: Arc<Principal>,
    pub app: Arc<App>,
    pub shared: bool,
}

/// A connection that was made by somebody who came back.
pub struct Connected {
    pub principal: Arc<Principal>,
    pub app: Arc<App>,
    pub kept: Kept,
    pub shared: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartParams<'a> {
    config: &'a RawValue,
    way: &'a str,
    callback_url: &'a str,
    state: &'a str,
    user_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallbackParams<'a> {
    config: &'a RawValue,
    way: &'a str,
    query: &'a BTreeMap<String, String>,
    callback_url: &'a str,
    user_id: String,
}

/// Both shapes that backends answer with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartAnswer {
    redirect_url: Option<String>,
    url: Option<String>,
    schema: Option<Value>,
}

/// Where a backend leads somebody.
enum Where {
    Address(String),
    Form(Value),
}

#[derive(Deserialize)]
struct CallbackAnswer {
    credentials: Option<Map<String, Value>>,
    label: Option<String>,
    email: Option<String>,
    account: Option<String>,
}

impl Connections {
    /// Begins to connect somebody.
    pub async fn start(&self, by: &Principal, app: &Arc<App>, wanted: Wanted) -> Result<Started, Error> {
        let (named, settled) = self.settle(by, app, wanted).await?;
        match &named.way {
            Way::Credentials { schema } => Ok(Started::Credentials { schema: schema.clone() }),
            Way::Oauth2(oauth) if oauth.grant == Grant::ClientCredentials => {
                let vendor = self.vendor(app, oauth, self.callback_url(), settled.origin.configuration).await?;
                let tokens = vendor.renew(None).await??;
                let label = tokens.label.clone();
                let made = settled.made(label, content(tokens, None, self.clock.now()));
                Ok(Started::Connected(self.keep(by, app, made).await?))
            }
            Way::Token(auth) => self.start_token((by, app), auth, (&named.way, settled)).await,
            Way::Oauth2(_) | Way::Oauth1(_) | Way::Redirect => self.send_away((by, app), &named.way, settled).await,
        }
    }

    pub(super) async fn send_away(
        &self,
        (by, app): (&Principal, &Arc<App>),
        way: &Way,
        settled: Settled,
    ) -> Result<Started, Error> {
        let (mut state, verifier) = (ticket::generate(), ticket::generate());
        let mut flow = Flow {
            tenant: by.tenant.clone(),
            integration: app.id.clone(),
            user: by.id,
            shared: settled.owner.is_none(),
            connection: settled.again,
            origin: settled.origin,
            label: settled.label,
            callback_url: self.callback_url(),
            pkce_verifier: verifier.clone(),
            expires_at: self.clock.now() + PENDING,
        };
        let url = match way {
            Way::Oauth1(oauth) => {
                let vendor = self.vendor1(app, oauth, flow.origin.configuration).await?;
                let (url, token, secret) = vendor.begin(&flow.callback_url).await?;
                (state, flow.pkce_verifier) = (token, secret);
                url.into()
            }
            Way::Token(auth) => self.where_to_install(app, auth, &flow, &state).await?,
            Way::Oauth2(oauth) => {
                let vendor = self.vendor(app, oauth, flow.callback_url.clone(), flow.origin.configuration).await?;
                vendor.authorize(state.clone(), verifier)?.into()
            }
            Way::Redirect | Way::Credentials { .. } => match self.ask_where(app, &flow, &state).await? {
                Where::Address(url) => url,
                Where::Form(schema) => return Ok(Started::Credentials { schema }),
            },
        };
        store::insert_flow(&mut *self.pool.acquire().await?, &ticket::digest(&state), &flow).await?;
        Ok(Started::Redirect { url, state })
    }

    /// Lets the backend say where to go.
    async fn ask_where(&self, app: &Arc<App>, flow: &Flow, state: &str) -> Result<Where, Error> {
        const METHOD: &str = "__auth_start";
        let config = self.integrations.config_by(app, flow.origin.configuration).await?;
        let (user_id, way) = (flow.user.to_string(), ways::kept(app, flow.origin.way.as_ref())?.name());
        let params = StartParams { config: config.json(), way, callback_url: &flow.callback_url, state, user_id };
        let answer: StartAnswer = self.ask_backend((app, &config), METHOD, &params).await?;
        let problem = |problem: &str| Error::Backend { method: METHOD, problem: problem.to_owned() };
        if let Some(schema) = answer.schema {
            return Ok(Where::Form(schema));
        }
        let url = answer.redirect_url.or(answer.url).ok_or_else(|| problem("returned no redirectUrl"))?;
        let is_web = url::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if is_web { Ok(Where::Address(url)) } else { Err(problem("returned a redirectUrl that is no web address")) }
    }

    /// What somebody is about to finish, who may not be the one who began. Nothing is used up.
    pub async fn pending(&self, node: &Node, state: &str) -> Result<Pending, Error> {
        let mut looking = self.pool.begin().await?;
        let found = store::take_flow(&mut looking, &ticket::digest(state)).await?;
        looking.rollback().await?;
        self.standing(node, &found.ok_or(Error::InvalidState)?).await
    }

    /// Whoever was switched off meanwhile connects nothing.
    async fn standing(&self, node: &Node, flow: &Flow) -> Result<Pending, Error> {
        if flow.expires_at <= self.clock.now() {
            return Err(Error::StateExpired);
        }
        let app = self.integrations.get(&flow.tenant, &flow.integration).await?;
        let standing = node.identity.standing(&flow.tenant, flow.user).await;
        let principal = standing.ok().flatten().ok_or(Error::InvalidState)?;
        Ok(Pending { principal, app, shared: flow.shared })
    }

    /// The header that ties what was begun to the browser that was told, if it was one.
    pub fn tie(&self, state: &str) -> String {
        cookie::write(&mark(state), Purpose::Connect, &self.public_url)
    }

    /// Whether this is the browser that began.
    pub fn is_tied(&self, headers: &HeaderMap, state: &str) -> bool {
        cookie::read(headers, Purpose::Connect, &self.public_url).is_some_and(|found| found == mark(state))
    }

    /// Makes the connection of somebody who comes back.
    pub async fn finish(&self, node: &Node, returned: Returned) -> Result<Connected, Error> {
        let taken = store::take_flow(&mut *self.pool.acquire().await?, &ticket::digest(&returned.state)).await?;
        let flow = taken.ok_or(Error::InvalidState)?;
        let Pending { principal, app, .. } = self.standing(node, &flow).await?;
        if let Some(refused) = refused(&returned.query) {
            return Err(refused);
        }
        // A way that a new version has dropped meanwhile is said to be gone.
        let configuration = flow.origin.configuration;
        let (label, content, times) = match &ways::kept(&app, flow.origin.way.as_ref())?.way {
            Way::Token(auth) => {
                let kept = self.installed((principal.as_ref(), app.as_ref()), auth, &flow, &returned.query).await?;
                return Ok(Connected { principal, app, kept, shared: flow.shared });
            }
            Way::Oauth2(oauth) => {
                let code = returned.query.get("code").filter(|code| !code.is_empty()).ok_or(Error::NoCode)?;
                let vendor = self.vendor(&app, oauth, flow.callback_url.clone(), configuration).await?;
                let tokens = vendor.exchange(code.clone(), flow.pkce_verifier.clone()).await?;
                let label = tokens.label.clone();
                let (content, times) = content(tokens, None, self.clock.now());
                (label, content, times)
            }
            Way::Oauth1(oauth) => {
                let vendor = self.vendor1(&app, oauth, configuration).await?;
                vendor.exchange(returned.state, flow.pkce_verifier.clone(), &returned.query).await?
            }
            Way::Redirect | Way::Credentials { .. } => self.ask_for_credentials(&app, &flow, &returned.query).await?,
        };
        let named = flow.label.or(label).and_then(|text| self::label(&text).ok());
        let made = Made {
            owner: owner_of(flow.shared, flow.user),
            label: named,
            again: flow.connection,
            content,
            times,
            origin: flow.origin,
        };
        let kept = self.keep(&principal, &app, made).await?;
        Ok(Connected { principal, app, kept, shared: flow.shared })
    }

    /// Lets the backend exchange what the browser came back with.
    async fn ask_for_credentials(
        &self,
        app: &Arc<App>,
        flow: &Flow,
        query: &BTreeMap<String, String>,
    ) -> Result<(Option<String>, Content, Times), Error> {
        const METHOD: &str = "__auth_callback";
        let config = self.integrations.config_by(app, flow.origin.configuration).await?;
        let way = ways::kept(app, flow.origin.way.as_ref())?.name();
        let (callback_url, user_id) = (flow.callback_url.as_str(), flow.user.to_string());
        let params = CallbackParams { config: config.json(), way, query, callback_url, user_id };
        let answer: CallbackAnswer = self.ask_backend((app, &config), METHOD, &params).await?;
        let none = || Error::Backend { method: METHOD, problem: "returned no credentials".to_owned() };
        let values = answer.credentials.filter(|values| !values.is_empty()).ok_or_else(none)?;
        let label = answer.label.or(answer.email).or(answer.account);
        Ok((
            label,
            Content { values, refresh_token: None, secret_fields: None, entered: None, obtained_at: None },
            Times::default(),
        ))
    }

    /// Asks the backend with this configuration, which nobody else may see.
    async fn ask_backend<T: serde::de::DeserializeOwned>(
        &self,
        (app, config): (&Arc<App>, &Config),
        method: &'static str,
        params: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        let encode = |error: serde_json::Error| sqlx::Error::Encode(error.into());
        let request = CallRequest {
            method: method.into(),
            job: None,
            params: serde_json::value::to_raw_value(params).map_err(encode)?,
            caller: None,
            context: Arc::new(CallContext::of_platform(RunId::generate(self.clock.now()), trace::current())),
            timeout: BACKEND,
        };
        let answer = match self.integrations.apps().call(app, &request).await {
            Ok(answer) => answer,
            Err(apps::Error::Call(error)) => {
                let error = config.masks().call_error(error);
                return Err(Error::Backend { method, problem: format!("failed: {error}") });
            }
            Err(other) => return Err(other.into()),
        };
        // What does not fit is not quoted: it may well be what was to be kept.
        serde_json::from_str(answer.get())
            .map_err(|_| Error::Backend { method, problem: "returned something of another shape".to_owned() })
    }
}

/// What a vendor says that lets nobody in.
fn refused(query: &BTreeMap<String, String>) -> Option<Error> {
    if query.contains_key("denied") {
        return Some(Error::Refused { code: "access_denied".to_owned(), description: None });
    }
    let code = ["error", "oauth_problem"].into_iter().find_map(|name| query.get(name))?;
    let code = code.chars().filter(char::is_ascii_graphic).take(80).collect();
    let description = query.get("error_description").map(|text| plain(text));
    Some(Error::Refused { code, description })
}

/// What the browser that began shows when it comes back: no secret to the vendor, and nothing that the address tells.
fn mark(state: &str) -> String {
    URL_SAFE_NO_PAD.encode(ticket::digest(&format!("connect {state}")))
}
