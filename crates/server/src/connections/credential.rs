//! What a call acts with, once it is opened. It holds secrets: it shows nothing of itself.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use weft_model::{AppId, ConfigurationId, ConnectionId, Secret, UserId, WayName, connection::ConnectionStatus};

use crate::secrets::Masks;

/// Values that are no secrets, whatever connection they belong to.
const PUBLIC: [&str; 8] = ["account", "email", "expiresAt", "host", "label", "scope", "tokenType", "username"];

/// What is sealed of a connection.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// What executors get.
    pub values: Map<String, Value>,
    /// What the server renews the values with. No executor gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Which of the values are secret. Absent: all but those that never are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_fields: Option<Vec<String>>,
    /// What people entered to get tokens with; of it, executors get what is no secret, among the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entered: Option<Map<String, Value>>,
    /// When the vendor gave them, where the server asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obtained_at: Option<DateTime<Utc>>,
}

impl Content {
    fn is_secret(&self, name: &str) -> bool {
        match &self.secret_fields {
            Some(fields) => fields.iter().any(|field| field == name),
            None => !PUBLIC.contains(&name),
        }
    }

    /// What must not show in anything that a backend says.
    fn masks(&self) -> Masks {
        let mut secrets = Vec::new();
        let all = self.values.iter().chain(self.entered.iter().flatten());
        for (_, value) in all.filter(|(name, _)| self.is_secret(name)) {
            texts(value, &mut secrets);
        }
        Masks::new(secrets.into_iter().chain(self.refresh_token.as_deref()))
    }
}

fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => {
            fields.iter().filter(|(name, _)| !PUBLIC.contains(&name.as_str())).for_each(|(_, field)| texts(field, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// By which of its integration's ways a connection is made, and with which of its configurations. Absent: the first, and its own.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub way: Option<WayName>,
    pub configuration: Option<ConfigurationId>,
}

/// What a call acts with at the vendor, for any executor.
pub struct Credential {
    pub connection: ConnectionId,
    /// Whose it is; `None`: the tenant's.
    pub owner: Option<UserId>,
    /// How it was made.
    pub origin: Origin,
    /// Goes up with each renewal.
    pub version: i64,
    /// What must not show in anything that the executor says.
    pub masks: Masks,
    json: Box<RawValue>,
}

impl Credential {
    /// The values, one JSON object.
    pub fn json(&self) -> &RawValue {
        &self.json
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// What a backend was told of its call's connection while it worked on the call: it may quote that, too.
#[derive(Debug, Default)]
pub struct Told(Mutex<Vec<Arc<Credential>>>);

impl Told {
    pub fn add(&self, credential: &Arc<Credential>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.iter().all(|known| known.version != credential.version) {
            told.push(Arc::clone(credential));
        }
    }

    pub fn seen(&self) -> Vec<Arc<Credential>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A connection with credentials of its own, as the node remembers it.
pub struct Connection {
    pub id: ConnectionId,
    pub integration: AppId,
    pub owner: Option<UserId>,
    pub status: ConnectionStatus,
    /// Why it does not serve, in words for a person.
    pub message: Option<String>,
    pub times: Times,
    pub refresh_token: Option<Secret<String>>,
    pub credential: Arc<Credential>,
    pub(super) content: Content,
}

/// When a token is over, when it is to be renewed, and when it was. Absent where the server does not renew.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_field_names, reason = "they are called as the columns are")]
pub struct Times {
    pub expires_at: Option<DateTime<Utc>>,
    pub refresh_at: Option<DateTime<Utc>>,
    pub refreshed_at: Option<DateTime<Utc>>,
}

impl Credential {
    pub(super) fn new(
        connection: ConnectionId,
        owner: Option<UserId>,
        (origin, version): (Origin, i64),
        content: &Content,
    ) -> serde_json::Result<Self> {
        let json = serde_json::value::to_raw_value(&content.values)?;
        Ok(Self { connection, owner, origin, version, masks: content.masks(), json })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn content(values: &Value, secret_fields: Option<&[&str]>) -> Content {
        let secret_fields = secret_fields.map(|fields| fields.iter().map(|field| (*field).to_owned()).collect());
        let values = values.as_object().cloned().unwrap_or_default();
        Content { values, refresh_token: Some("refresh-me".to_owned()), secret_fields, entered: None, obtained_at: None }
    }

    #[test]
    fn secrets_are_masked_and_what_people_know_is_not() {
        let values = json!({ "accessToken": "token-1", "email": "alice@example.com", "more": { "deep": ["hidden"], "scope": "mail.read" } });
        let masks = content(&values, None).masks();
        assert_eq!(masks.text("token-1 hidden refresh-me"), "[masked] [masked] [masked]");
        assert_eq!(masks.text("alice@example.com mail.read"), "alice@example.com mail.read");

        let form = content(&json!({ "imapHost": "imap.example.com", "password": "correct horse" }), Some(&["password"]));
        assert_eq!(form.masks().text("imap.example.com: correct horse"), "imap.example.com: [masked]");
        // What no executor gets is quoted by vendors all the same.
        let mut kept = content(&json!({ "accessToken": "token-1" }), Some(&["accessToken", "password"]));
        kept.entered = json!({ "user": "alice-one", "password": "correct horse" }).as_object().cloned();
        assert_eq!(kept.masks().text("alice-one, correct horse, token-1"), "alice-one, [masked], [masked]");
    }

    #[test]
    fn a_credential_shows_nothing_of_itself() {
        let id = ConnectionId::from_uuid(uuid::Uuid::nil());
        let credential = Credential::new(id, None, (Origin::default(), 1), &content(&json!({ "accessToken": "token-1" }), None))
            .expect("JSON");
        assert_eq!(credential.json().get(), r#"{"accessToken":"token-1"}"#);
        assert!(!format!("{credential:?}").contains("token-1"));
    }
}
