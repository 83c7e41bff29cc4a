//! The several ways in which one integration is connected: what each is called, what it needs, where its credential goes.
//!
//! The first way is the one of whoever names none, and the only one of most integrations. Connections remember the name of theirs,
//! so a name stays what it was for as long as there are connections by it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ConfigField, UserAuth,
    user_auth::{OAuth2, Way, placeholders},
};
use crate::{Fault, WayName};

/// What the first way is called that has no name.
const FIRST: &str = "default";

/// One way to connect an integration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedWay {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<WayName>,
    /// What people choose it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where its credential goes, when that is not where `http.auth` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Value>,
    #[serde(flatten)]
    pub way: Way,
}

impl NamedWay {
    pub fn name(&self) -> &str {
        self.name.as_ref().map_or(FIRST, WayName::as_str)
    }

    /// The fields of the configuration without which nobody connects in this way.
    pub fn needs(&self, config_schema: Option<&Value>) -> BTreeSet<String> {
        let mut needs: BTreeSet<&str> = BTreeSet::new();
        let client = match &self.way {
            Way::Redirect | Way::Credentials { .. } => None,
            Way::Oauth2(oauth) => {
                needs.extend(urls(oauth).flat_map(placeholders));
                Some(oauth.client_id.as_str())
            }
            Way::Oauth1(oauth) => {
                let urls = [&oauth.request_token_url, &oauth.authorize_url, &oauth.access_token_url];
                needs.extend(urls.into_iter().flat_map(|url| placeholders(url)));
                Some(oauth.consumer_key.as_str())
            }
            Way::Token(token) => {
                needs.extend(token.configured());
                None
            }
        };
        if let (Some(client), Some(schema)) = (client, config_schema) {
            needs.extend(required_with(client, schema));
        }
        needs.extend(client);
        needs.into_iter().map(str::to_owned).collect()
    }
}

fn urls(oauth: &OAuth2) -> impl Iterator<Item = &str> {
    oauth.authorize_url.as_deref().into_iter().chain([oauth.token_url.as_str()])
}

/// What the configuration requires together with a field, be it one of several alternatives. A client that is public has no secret, and
/// only the schema knows.
fn required_with<'a>(field: &str, schema: &'a Value) -> Vec<&'a str> {
    let list = |schema: &'a Value| -> Vec<&'a str> {
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    let lists = std::iter::once(schema).chain(alternatives).map(list);
    lists.filter(|list| list.contains(&field)).flatten().collect()
}

/// What is wrong with the ways of an integration beyond their shape.
pub fn faults(auth: &UserAuth, config: &[ConfigField]) -> Vec<Fault> {
    let mut faults = auth.first.way.faults(config);
    let mut seen = BTreeSet::from([auth.first.name()]);
    for (index, way) in auth.alternatives.iter().enumerate() {
        let place = place(index);
        if way.name() == FIRST {
            faults.push(Fault::new(format!("{place}.name"), format!("'{FIRST}' is the first way: choose another name")));
        } else if !seen.insert(way.name()) {
            faults.push(Fault::new(format!("{place}.name"), format!("'{}' is declared twice", way.name())));
        }
        let own = way.way.faults(config).into_iter();
        faults.extend(own.map(|fault| Fault::new(fault.path.replacen("$.userAuth", &place, 1), fault.message)));
    }
    faults
}

/// The place of a further way in the manifest.
pub fn place(index: usize) -> String {
    format!("$.userAuth.alternatives[{index}]")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Manifest;

    fn manifest(alternatives: &Value) -> Result<Manifest, Vec<Fault>> {
        let secret = |name: &str| json!({ "type": "string", "platformSecret": name });
        Manifest::parse(json!({
            "appId": "x", "name": "X", "type": "integration",
            "configSchema": {
                "properties": { "clientId": { "type": "string" }, "clientSecret": secret("S"), "appId": { "type": "string" }, "appKey": secret("K") },
                "anyOf": [{ "required": ["clientId", "clientSecret"] }, { "required": ["appId", "appKey"] }],
            },
            "userAuth": {
                "type": "oauth2", "title": "Account", "required": false, "authorizeUrl": "https://v.example/a", "tokenUrl": "https://v.example/t",
                "alternatives": alternatives,
            },
            "http": { "baseUrl": "https://v.example", "auth": { "type": "bearer", "token": "{{ credentials.accessToken }}" } },
        }))
    }

    fn key(name: &str) -> Value {
        json!({ "name": name, "title": "Key", "type": "credentials", "schema": { "properties": { "key": { "type": "string" } } } })
    }

    fn installation() -> Value {
        json!({
            "name": "installation", "type": "token", "label": "installation {id}",
            "schema": { "properties": { "id": { "type": "string" } } },
            "jwt": { "key": "{appKey}", "claims": { "iss": "{appId}" } },
            "request": { "url": "https://v.example/{id}/tokens", "headers": { "authorization": "Bearer {jwt}" } },
        })
    }

    #[test]
    fn ways_are_found_by_their_names_and_survive_being_written_down() {
        let auth = manifest(&json!([key("key"), installation()])).expect("no faults").content.user_auth.expect("ways");
        assert_eq!(auth.ways().map(NamedWay::name).collect::<Vec<_>>(), ["default", "key", "installation"]);
        let kind = |name: Option<&str>| {
            let name = name.map(|name| name.parse().expect("a name"));
            auth.find(name.as_ref()).map(|way| way.way.as_str())
        };
        assert_eq!(
            [kind(None), kind(Some("default")), kind(Some("installation"))],
            [Some("oauth2"), Some("oauth2"), Some("token")]
        );
        assert_eq!((kind(Some("key")), kind(Some("gone"))), (Some("credentials"), None));
        let again: UserAuth = serde_json::from_value(serde_json::to_value(&auth).expect("JSON")).expect("the same");
        assert_eq!(again, auth);
    }

    #[test]
    fn each_way_needs_its_own_part_of_the_configuration() {
        let content = manifest(&json!([key("key"), installation()])).expect("no faults").content;
        let auth = content.user_auth.as_ref().expect("ways");
        let needs: Vec<Vec<_>> = auth.ways().map(|way| way.needs(content.config_schema.as_ref()).into_iter().collect()).collect();
        assert_eq!(needs, [vec!["clientId", "clientSecret"], vec![], vec!["appId", "appKey"]]);
    }

    #[test]
    fn faults_name_their_place() {
        let paths = |alternatives: Value| -> Vec<String> {
            manifest(&alternatives).expect_err("faults").into_iter().map(|fault| fault.path).collect()
        };
        assert_eq!(paths(json!([key("key"), key("key")])), ["$.userAuth.alternatives[1].name"]);
        assert_eq!(paths(json!([key("default")])), ["$.userAuth.alternatives[0].name"]);
        let mut wrong = installation();
        wrong["jwt"]["key"] = json!("{other}");
        assert_eq!(paths(json!([key("key"), wrong])), ["$.userAuth.alternatives[1].jwt.key"]);
        let mut nested = key("key");
        nested["alternatives"] = json!([]);
        assert!(paths(json!([nested])).iter().all(|path| path.starts_with("$.userAuth.alternatives[0]")));
        let mut nameless = key("key");
        nameless.as_object_mut().expect("an object").remove("name");
        assert!(paths(json!([nameless])).iter().all(|path| path.starts_with("$.userAuth.alternatives[0]")));
    }

    #[test]
    fn a_way_may_put_its_credential_elsewhere_and_names_what_it_enters() {
        let with = |auth: Value| {
            let mut way = key("key");
            way["auth"] = auth;
            manifest(&json!([way]))
        };
        assert!(with(json!({ "type": "basic", "username": "{{ credentials.key }}" })).is_ok());
        let faults = with(json!({ "type": "bearer", "token": "{{ credentials.accessToken }}" })).expect_err("a fault");
        assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), ["$.userAuth.alternatives[0].auth"]);
        assert!(with(json!({ "type": "bearer" })).is_err());
    }
}
