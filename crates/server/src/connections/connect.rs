//! Making a connection, or putting fresh credentials into one that is there.

use std::sync::Arc;

use serde_json::{Map, Value};
use weft_model::{
    ConfigurationId, ConnectionId, Fault, Principal, UserId,
    manifest::{
        oauth1::OAuth1,
        token_auth::TokenAuth,
        user_auth::{OAuth2, Way, secret_fields},
    },
    schema::Schema,
};

use super::{
    credential::{Content, Credential, Times},
    error::Error,
    service::{Connections, decode, label, manage_keys, manages, taken},
    store::{self, Owner},
};
use crate::{
    apps::App,
    audit::{self, Action, Event},
    db::notify,
    polls,
};

/// What is known of a connection that is being made.
pub struct Made {
    pub owner: Owner,
    pub label: Option<String>,
    /// The connection that these credentials are for. Absent: the one of that label, or a new one.
    pub again: Option<ConnectionId>,
    pub content: Content,
    pub times: Times,
    pub configuration: Option<ConfigurationId>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Kept {
    pub id: ConnectionId,
    pub label: Option<String>,
}

/// What somebody asks for who connects.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub label: Option<String>,
    /// For the whole tenant, not for whoever connects.
    pub shared: bool,
    pub again: Option<ConnectionId>,
    /// The named configuration to connect with.
    pub configuration: Option<ConfigurationId>,
}

impl Connections {
    /// Checks what is asked for, and says whose the connection is to be. One that is there stays whose it is.
    pub(super) async fn whose(&self, by: &Principal, app: &App, wanted: &mut Wanted) -> Result<Owner, Error> {
        wanted.label = wanted.label.as_deref().map(label).transpose()?;
        if let Some(id) = wanted.again {
            let known = self.open(&by.tenant, id).await?;
            if known.integration != app.id {
                return Err(Error::Unknown(id));
            }
            if known.owner.is_some_and(|owner| owner != by.id) {
                return Err(Error::NotYours);
            }
            wanted.shared = known.owner.is_none();
            wanted.configuration = wanted.configuration.or(known.credential.configuration);
        }
        // One that is not there is named as such before anybody goes anywhere.
        self.integrations.config_by(app, wanted.configuration).await?;
        if wanted.shared && !manages(by, &app.id) {
            let [_, key] = manage_keys(&app.id);
            return Err(Error::Denied(key));
        }
        Ok(if wanted.shared { None } else { Some(by.id) })
    }

    /// Keeps what somebody entered, if it is what the integration asks for.
    pub async fn enter(&self, by: &Principal, app: &App, given: Map<String, Value>, mut wanted: Wanted) -> Result<Kept, Error> {
        let way = way(app)?;
        let schema = match way {
            Way::Credentials { schema } => Some(schema),
            Way::Token(auth) => auth.schema.as_ref(),
            Way::Redirect | Way::Oauth2(_) | Way::Oauth1(_) => None,
        };
        let schema = schema.ok_or_else(|| other_way(app, way))?;
        let values = fitting(schema, given)?;
        let owner = self.whose(by, app, &mut wanted).await?;
        if let Way::Token(auth) = way {
            let made = self.first_token((by, app), auth, (owner, wanted), values).await?;
            return self.keep(by, app, made).await;
        }
        let secret_fields = Some(secret_fields(schema));
        let content = Content { values, refresh_token: None, secret_fields, entered: None, obtained_at: None };
        let Wanted { label, again, configuration, .. } = wanted;
        self.keep(by, app, Made { owner, label, again, content, times: Times::default(), configuration }).await
    }

    /// Stores credentials. The same label, or the connection they are for, means the same connection.
    pub(super) async fn keep(&self, by: &Principal, app: &App, made: Made) -> Result<Kept, Error> {
        match self.try_keep(by, app, &made).await {
            // The same account was connected in another window at the same moment: now it is there.
            Err(Error::LabelTaken(_)) => self.try_keep(by, app, &made).await,
            kept => kept,
        }
    }

    async fn try_keep(&self, by: &Principal, app: &App, made: &Made) -> Result<Kept, Error> {
        let (whose, now) = ((&app.tenant, &app.id, made.owner), self.clock.now());
        let mut transaction = self.pool.begin().await?;
        let label = made.label.as_deref();
        let known = match (made.again, label) {
            (Some(id), _) => {
                let version = store::lock_own(&mut transaction, whose, id).await?.ok_or(Error::Unknown(id))?;
                Some((id, version))
            }
            (None, Some(label)) => store::lock_labelled(&mut transaction, whose, label).await?,
            (None, None) => None,
        };
        let (id, version) = known.map_or_else(|| (ConnectionId::generate(now), 1), |(id, version)| (id, version + 1));
        let sealing = self.seal(&app.tenant, (id, version), (&made.content, made.times, made.configuration))?;
        let done = if known.is_some() {
            store::update_credentials(&mut transaction, id, label, &sealing, now).await
        } else {
            store::insert(&mut transaction, whose, (id, label, by.id), &sealing, now).await
        };
        done.map_err(|error| taken(error, label.unwrap_or_default()))?;
        let action = if known.is_some() { Action::ConnectionRenewed } else { Action::ConnectionCreated };
        let event = Event::by(by, action).on("connection", id).with("integration", app.id.as_str());
        audit::record(&mut transaction, &event.with("shared", made.owner.is_none()), now).await?;
        polls::connected(&mut transaction, by, &app.manifest.content, id, now).await?;
        let own = notify::transaction_id(&mut transaction).await?;
        transaction.commit().await?;
        self.forget(id);
        self.forget_choices_after(&app.tenant, own);
        tracing::info!(connection.id = %id, integration = %app.id, renewed = known.is_some(), "connection.keep");
        Ok(Kept { id, label: made.label.clone() })
    }

    /// Replaces values of the connection that a call was made with, and returns what it holds then. The backend knows better than
    /// whoever stored them.
    pub async fn update(&self, app: &App, id: ConnectionId, values: Map<String, Value>) -> Result<Arc<Credential>, Error> {
        if renews(app) {
            let message = "the server itself renews the tokens of this integration, so nobody else changes them";
            return Err(Error::InvalidRequest(message.to_owned()));
        }
        let mut transaction = self.pool.begin().await?;
        let version = store::lock(&mut transaction, &app.tenant, id).await?.ok_or(Error::Unknown(id))?;
        let stored = store::find(&mut transaction, &app.tenant, id).await?.ok_or(Error::Unknown(id))?;
        let known = self.unseal(&app.tenant, stored)?;
        let mut merged = known.content.values.clone();
        merged.extend(values);
        let content = Content {
            values: merged,
            refresh_token: known.content.refresh_token.clone(),
            secret_fields: known.content.secret_fields.clone(),
            entered: known.content.entered.clone(),
            obtained_at: known.content.obtained_at,
        };
        let configuration = known.credential.configuration;
        let sealing = self.seal(&app.tenant, (id, version + 1), (&content, known.times, configuration))?;
        let credential = Credential::new(id, known.owner, (configuration, version + 1), &content).map_err(decode)?;
        store::update_credentials(&mut transaction, id, None, &sealing, self.clock.now()).await?;
        transaction.commit().await?;
        self.forget(id);
        Ok(Arc::new(credential))
    }
}

/// How an integration is connected.
pub(super) fn way(app: &App) -> Result<&Way, Error> {
    let auth = app.manifest.content.user_auth.as_ref();
    auth.map(|auth| &auth.way).ok_or_else(|| Error::NothingToConnect(app.id.clone()))
}

pub(super) fn other_way(app: &App, way: &Way) -> Error {
    let (way, route) = match way {
        Way::Redirect => ("going to the vendor", "start"),
        Way::Oauth2(_) => ("OAuth 2", "start"),
        Way::Oauth1(_) => ("OAuth 1.0a", "start"),
        Way::Credentials { .. } => ("entering credentials", "credentials"),
        Way::Token(auth) if auth.schema.is_some() => ("entering credentials", "credentials"),
        Way::Token(_) => ("its configuration alone", "start"),
    };
    Error::OtherWay { integration: app.id.clone(), way, route }
}

/// Whether the server itself gets and renews the tokens of an integration.
pub fn renews(app: &App) -> bool {
    app.manifest.content.user_auth.as_ref().is_some_and(|auth| auth.way.renews())
}

/// The OAuth 2 of an integration that has it.
pub(super) fn oauth(app: &App) -> Option<&OAuth2> {
    match app.manifest.content.user_auth.as_ref().map(|auth| &auth.way) {
        Some(Way::Oauth2(oauth)) => Some(oauth),
        _ => None,
    }
}

/// The OAuth 1.0a of an integration that has it.
pub(super) fn oauth1(app: &App) -> Option<&OAuth1> {
    match app.manifest.content.user_auth.as_ref().map(|auth| &auth.way) {
        Some(Way::Oauth1(oauth)) => Some(oauth),
        _ => None,
    }
}

/// How tokens are got where people enter something for them.
pub(super) fn token_auth(app: &App) -> Option<&TokenAuth> {
    match app.manifest.content.user_auth.as_ref().map(|auth| &auth.way) {
        Some(Way::Token(auth)) => Some(auth),
        _ => None,
    }
}

/// What was given and what it leaves to the schema, if that fits.
pub(super) fn fitting(schema: &Value, given: Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let values = complete(schema, given);
    let faults = Schema::compile(schema).map(|schema| schema.faults(&Value::Object(values.clone()))).unwrap_or_default();
    if faults.is_empty() {
        return Ok(values);
    }
    let below = |fault: Fault| Fault::new(fault.path.replacen('$', "$.credentials", 1), fault.message);
    Err(Error::Invalid(faults.into_iter().map(below).collect()))
}

/// What was given, with the defaults of the schema where nothing was.
fn complete(schema: &Value, mut given: Map<String, Value>) -> Map<String, Value> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, property) in properties {
        if let Some(default) = property.get("default").filter(|_| !given.contains_key(name)) {
            given.insert(name.clone(), default.clone());
        }
    }
    given
}

/// Whose connection somebody makes who makes it for themselves.
pub(super) const fn owner_of(shared: bool, user: UserId) -> Owner {
    if shared { None } else { Some(user) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_filled_in_and_without_marks_everything_is_secret() {
        let schema = json!({ "properties": {
            "host": { "type": "string", "label": "IMAP Host" },
            "port": { "type": "integer", "default": 993 },
            "password": { "type": "string", "secret": true },
        } });
        let given = json!({ "host": "imap.example.com", "password": "p" }).as_object().cloned().expect("an object");
        let values = Value::Object(complete(&schema, given));
        assert_eq!(values, json!({ "host": "imap.example.com", "password": "p", "port": 993 }));
        assert_eq!(secret_fields(&schema), ["password"]);
        assert_eq!(secret_fields(&json!({ "properties": { "a": {}, "b": {} } })), ["a", "b"]);
    }
}
