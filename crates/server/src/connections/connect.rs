//! Making a connection, or putting fresh credentials into one that is there.

use std::sync::Arc;

use serde_json::{Map, Value};
use weft_model::{
    ConfigurationId, ConnectionId, Fault, Principal, UserId,
    manifest::{
        NamedWay, UserAuth,
        user_auth::{Way, secret_fields},
    },
    schema::Schema,
};

use super::{
    credential::{Content, Credential, Origin, Times},
    error::Error,
    service::{Connections, decode, label, manage_keys, manages, taken},
    store::{self, Owner},
    ways,
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
    pub origin: Origin,
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
    /// The name of the way to connect. Absent: that of the connection, or the first.
    pub way: Option<String>,
    /// The named configuration to connect with.
    pub configuration: Option<ConfigurationId>,
}

/// What somebody asked for who connects, once it is checked.
pub struct Settled {
    pub owner: Owner,
    pub label: Option<String>,
    pub again: Option<ConnectionId>,
    pub origin: Origin,
}

impl Settled {
    /// The connection that comes of it.
    pub fn made(self, label: Option<String>, (content, times): (Content, Times)) -> Made {
        Made { owner: self.owner, label: self.label.or(label), again: self.again, content, times, origin: self.origin }
    }
}

impl Connections {
    /// Checks what is asked for, and says whose the connection is to be and which way leads to it. One that is there stays whose it is.
    pub(super) async fn settle<'a>(
        &self,
        by: &Principal,
        app: &'a App,
        mut wanted: Wanted,
    ) -> Result<(&'a NamedWay, Settled), Error> {
        let mut way = ways::asked(app, wanted.way.as_deref())?;
        let label = wanted.label.as_deref().map(label).transpose()?;
        if let Some(id) = wanted.again {
            let known = self.open(&by.tenant, id).await?;
            if known.integration != app.id {
                return Err(Error::Unknown(id));
            }
            if known.owner.is_some_and(|owner| owner != by.id) {
                return Err(Error::NotYours);
            }
            wanted.shared = known.owner.is_none();
            let origin = &known.credential.origin;
            wanted.configuration = wanted.configuration.or(origin.configuration);
            if wanted.way.is_none() {
                // Where its own is gone, the first one leads on.
                way = ways::kept(app, origin.way.as_ref()).unwrap_or(way);
            }
        }
        // One that is not there is named as such before anybody goes anywhere.
        self.integrations.config_by(app, wanted.configuration).await?;
        if wanted.shared && !manages(by, &app.id) {
            let [_, key] = manage_keys(&app.id);
            return Err(Error::Denied(key));
        }
        let owner = owner_of(wanted.shared, by.id);
        let origin = Origin { way: way.name.clone(), configuration: wanted.configuration };
        Ok((way, Settled { owner, label, again: wanted.again, origin }))
    }

    /// Keeps what somebody entered, if it is what the integration asks for.
    pub async fn enter(&self, by: &Principal, app: &App, given: Map<String, Value>, wanted: Wanted) -> Result<Kept, Error> {
        let (named, settled) = self.settle(by, app, wanted).await?;
        let schema = named.way.form().ok_or_else(|| other_way(app, named))?;
        let values = fitting(schema, given)?;
        if let Way::Token(auth) = &named.way {
            let made = self.first_token((by, app), auth, settled, values).await?;
            return self.keep(by, app, made).await;
        }
        let secret_fields = Some(secret_fields(schema));
        let content = Content { values, refresh_token: None, secret_fields, entered: None, obtained_at: None };
        self.keep(by, app, settled.made(None, (content, Times::default()))).await
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
        let sealing = self.seal(&app.tenant, (id, version), (&made.content, made.times, &made.origin))?;
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
        let mut transaction = self.pool.begin().await?;
        let version = store::lock(&mut transaction, &app.tenant, id).await?.ok_or(Error::Unknown(id))?;
        let stored = store::find(&mut transaction, &app.tenant, id).await?.ok_or(Error::Unknown(id))?;
        let known = self.unseal(&app.tenant, stored)?;
        if ways::of(app, &known.credential)?.renews() {
            let message = "the server itself renews the tokens of this connection, so nobody else changes them";
            return Err(Error::InvalidRequest(message.to_owned()));
        }
        let mut merged = known.content.values.clone();
        merged.extend(values);
        let content = Content {
            values: merged,
            refresh_token: known.content.refresh_token.clone(),
            secret_fields: known.content.secret_fields.clone(),
            entered: known.content.entered.clone(),
            obtained_at: known.content.obtained_at,
        };
        let origin = &known.credential.origin;
        let sealing = self.seal(&app.tenant, (id, version + 1), (&content, known.times, origin))?;
        let credential = Credential::new(id, known.owner, (origin.clone(), version + 1), &content).map_err(decode)?;
        store::update_credentials(&mut transaction, id, None, &sealing, self.clock.now()).await?;
        transaction.commit().await?;
        self.forget(id);
        Ok(Arc::new(credential))
    }
}

/// What to do in place of entering something.
fn other_way(app: &App, named: &NamedWay) -> Error {
    let way = match &named.way {
        Way::Redirect => "going to the vendor",
        Way::Oauth2(_) => "OAuth 2",
        Way::Oauth1(_) => "OAuth 1.0a",
        Way::Credentials { .. } | Way::Token(_) => "its configuration alone",
    };
    let ways = app.manifest.content.user_auth.iter().flat_map(UserAuth::ways);
    let others: Vec<_> = ways.filter(|other| other.way.form().is_some()).map(NamedWay::name).collect();
    let instead =
        if others.is_empty() { String::new() } else { format!(", or name a way that asks for something: {}", others.join(", ")) };
    Error::OtherWay { integration: app.id.clone(), way, instead }
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
