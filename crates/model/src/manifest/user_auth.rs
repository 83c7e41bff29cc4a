//! `userAuth`: how people connect an integration with their own accounts at the vendor, in one way or in several.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConfigField, fields::address_fault, oauth1::OAuth1, token_auth::TokenAuth, ways::NamedWay};
use crate::{Fault, WayName, schema::Schema};

/// How people connect an integration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserAuth {
    /// Whether calls need a connection.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub required: bool,
    /// The way of whoever names none.
    #[serde(flatten)]
    pub first: NamedWay,
    /// Further ways.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<NamedWay>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Way {
    /// The backend leads through it: `__auth_start` and `__auth_callback`.
    Redirect,
    /// People enter what a schema asks for. `label` and `secret` of its properties are for whoever shows the form.
    Credentials { schema: Value },
    /// The server leads through OAuth 2 and keeps the tokens fresh.
    Oauth2(Box<OAuth2>),
    /// The server leads through OAuth 1.0a and signs requests.
    Oauth1(Box<OAuth1>),
    /// The server gets tokens by itself, with what people enter or a vendor sends them back with.
    Token(Box<TokenAuth>),
}

impl Way {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Credentials { .. } => "credentials",
            Self::Oauth2(_) => "oauth2",
            Self::Oauth1(_) => "oauth1",
            Self::Token(_) => "token",
        }
    }

    /// Whether the server itself gets and renews the tokens.
    pub const fn renews(&self) -> bool {
        matches!(self, Self::Oauth2(_) | Self::Token(_))
    }

    /// How the vendor says that a token is over, where it does not say 401.
    pub const fn expired_when(&self) -> Option<&ExpiredWhen> {
        match self {
            Self::Oauth2(oauth) => oauth.expired_when.as_ref(),
            Self::Token(token) => token.expired_when.as_ref(),
            Self::Redirect | Self::Credentials { .. } | Self::Oauth1(_) => None,
        }
    }
}

/// What the server has to know of a vendor's OAuth 2. In addresses `{name}` stands for a field of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2 {
    #[serde(default)]
    pub grant: Grant,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorize_url: Option<String>,
    pub token_url: String,
    /// Where tokens are revoked (RFC 7009).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoke_url: Option<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_separator: Option<String>,
    #[serde(default)]
    pub extra_authorize_params: BTreeMap<String, String>,
    #[serde(default)]
    pub extra_token_params: BTreeMap<String, String>,
    #[serde(default)]
    pub token_request_auth: TokenRequestAuth,
    #[serde(default = "yes")]
    pub pkce: bool,
    /// The field of the configuration that holds the client's id.
    #[serde(default = "client_id")]
    pub client_id: String,
    /// The same for the secret. A client that has none is public.
    #[serde(default = "client_secret")]
    pub client_secret: String,
    #[serde(default)]
    pub response_mapping: ResponseMapping,
    /// How long a token lasts in seconds, where the provider does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_when: Option<ExpiredWhen>,
}

/// How a token is got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Grant {
    /// A person agrees in a browser.
    #[default]
    AuthorizationCode,
    /// The client itself has the right; nobody is asked.
    ClientCredentials,
}

/// Where the client's id and secret stand in a token request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenRequestAuth {
    #[default]
    Body,
    Basic,
}

/// Where a token response has things, as JSON Pointers. Absent: where the standard has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResponseMapping {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// What the connection is called. The claims of an ID token are at `/id_token_claims`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// How a vendor says that a token is over, where it does not say 401. All that is given has to hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpiredWhen {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The place in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// A regular expression for the text there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
}

impl ExpiredWhen {
    /// Whether an answer says so.
    pub fn holds(&self, status: Option<u16>, body: &Value) -> bool {
        if self.status.is_some_and(|wanted| status != Some(wanted)) {
            return false;
        }
        let Some(pointer) = &self.pointer else { return self.status.is_some() };
        let Some(found) = body.pointer(pointer) else { return false };
        let equal = self.equals.as_ref().is_none_or(|wanted| wanted == found);
        equal && self.matches.as_ref().is_none_or(|pattern| matches(pattern, found))
    }

    pub(super) fn check(&self, faults: &mut Vec<Fault>) {
        if self.pointer.is_none() && (self.equals.is_some() || self.matches.is_some()) {
            faults.push(Fault::new("$.userAuth.expiredWhen.pointer", "says where to look: it is missing"));
        }
        let pattern = self.matches.as_ref().map(|pattern| serde_json::json!({ "pattern": pattern }));
        if let Some(Err(error)) = pattern.map(|schema| Schema::compile(&schema)) {
            faults.push(Fault::new("$.userAuth.expiredWhen.matches", error.to_string()));
        }
    }
}

/// Regular expressions as JSON Schema has them: there is one engine for both.
fn matches(pattern: &str, value: &Value) -> bool {
    let schema = serde_json::json!({ "type": "string", "pattern": pattern });
    Schema::compile(&schema).is_ok_and(|schema| schema.faults(value).is_empty())
}

impl UserAuth {
    /// All ways, the first one first.
    pub fn ways(&self) -> impl Iterator<Item = &NamedWay> {
        std::iter::once(&self.first).chain(&self.alternatives)
    }

    /// The way that a connection was made by; without a name, the first.
    pub fn find(&self, name: Option<&WayName>) -> Option<&NamedWay> {
        match name {
            None => Some(&self.first),
            Some(name) => self.ways().find(|way| way.name() == name.as_str()),
        }
    }

    /// What is wrong with it beyond its shape.
    pub(super) fn faults(&self, config: &[ConfigField]) -> Vec<Fault> {
        super::ways::faults(self, config)
    }
}

impl Way {
    /// What is wrong with it beyond its shape, were it the only one.
    pub(super) fn faults(&self, config: &[ConfigField]) -> Vec<Fault> {
        let mut faults = Vec::new();
        match self {
            Self::Redirect => {}
            Self::Credentials { schema } => {
                if let Err(error) = Schema::compile(schema) {
                    faults.push(Fault::new("$.userAuth.schema", error.to_string()));
                }
            }
            Self::Oauth2(oauth) => oauth.check(config, &mut faults),
            Self::Oauth1(oauth) => oauth.check(config, &mut faults),
            Self::Token(token) => token.check(config, &mut faults),
        }
        faults
    }

    /// What people enter, where they enter something.
    pub const fn form(&self) -> Option<&Value> {
        match self {
            Self::Credentials { schema } => Some(schema),
            Self::Token(token) => token.schema.as_ref(),
            Self::Redirect | Self::Oauth2(_) | Self::Oauth1(_) => None,
        }
    }
}

impl OAuth2 {
    fn check(&self, config: &[ConfigField], faults: &mut Vec<Fault>) {
        let known = |name: &str| config.iter().any(|field| field.name == name);
        if !known(&self.client_id) {
            let message = format!("configSchema has no field '{}', which is to hold the client's id", self.client_id);
            faults.push(Fault::new("$.userAuth.clientId", message));
        }
        if self.grant == Grant::AuthorizationCode && self.authorize_url.is_none() {
            faults.push(Fault::new("$.userAuth.authorizeUrl", "people have to be sent somewhere: it is missing"));
        }
        let urls = [
            ("authorizeUrl", self.authorize_url.as_deref()),
            ("tokenUrl", Some(self.token_url.as_str())),
            ("revokeUrl", self.revoke_url.as_deref()),
        ];
        for (name, url) in urls.into_iter().filter_map(|(name, url)| Some((name, url?))) {
            faults.extend(address_fault(url, known).map(|fault| Fault::new(format!("$.userAuth.{name}"), fault)));
        }
        if let Some(rule) = &self.expired_when {
            rule.check(faults);
        }
    }
}

/// The fields of a form that are marked as secret; without any mark, all of them are.
pub fn secret_fields(schema: &Value) -> Vec<String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let fields = || properties.into_iter().flatten();
    let marked: Vec<_> = fields().filter(|(_, property)| property["secret"] == true).map(|(name, _)| name.clone()).collect();
    if marked.is_empty() { fields().map(|(name, _)| name.clone()).collect() } else { marked }
}

/// The fields of the configuration that an address names.
pub fn placeholders(url: &str) -> impl Iterator<Item = &str> {
    url.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(name, _)| name))
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}

fn client_id() -> String {
    "clientId".to_owned()
}

fn client_secret() -> String {
    "clientSecret".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Manifest;

    fn manifest(user_auth: &Value) -> Result<Manifest, Vec<Fault>> {
        Manifest::parse(json!({
            "appId": "x", "name": "X", "type": "integration", "userAuth": user_auth,
            "configSchema": { "properties": { "clientId": { "type": "string" }, "region": { "type": "string" } } },
        }))
    }

    #[test]
    fn little_is_enough_and_it_survives_being_written_down() {
        let given = json!({ "type": "oauth2", "authorizeUrl": "https://a.example/authorize", "tokenUrl": "https://{region}.example/token" });
        let auth = manifest(&given).expect("no faults").content.user_auth.expect("an authentication");
        let Way::Oauth2(oauth) = &auth.first.way else { panic!("another way") };
        assert!(auth.required && oauth.pkce && oauth.token_request_auth == TokenRequestAuth::Body);
        let again: UserAuth = serde_json::from_value(serde_json::to_value(&auth).expect("JSON")).expect("the same");
        assert_eq!(again, auth);
        let plain = manifest(&json!({ "type": "redirect", "required": false })).expect("no faults").content.user_auth;
        let first = NamedWay { name: None, title: None, description: None, auth: None, way: Way::Redirect };
        assert_eq!(plain, Some(UserAuth { required: false, first, alternatives: Vec::new() }));
    }

    #[test]
    fn faults_name_their_place() {
        let paths =
            |auth: Value| -> Vec<String> { manifest(&auth).expect_err("faults").into_iter().map(|fault| fault.path).collect() };
        assert_eq!(
            paths(json!({ "type": "oauth2", "tokenUrl": "ftp://x", "clientId": "id" })),
            ["$.userAuth.clientId", "$.userAuth.authorizeUrl", "$.userAuth.tokenUrl"]
        );
        let unknown = json!({ "type": "oauth2", "tokenUrl": "https://{host}/t", "grant": "clientCredentials" });
        assert_eq!(paths(unknown), ["$.userAuth.tokenUrl"]);
        let rule = json!({ "type": "oauth2", "tokenUrl": "https://t/", "grant": "clientCredentials", "expiredWhen": { "matches": "(" } });
        assert_eq!(paths(rule), ["$.userAuth.expiredWhen.pointer", "$.userAuth.expiredWhen.matches"]);
        assert!(manifest(&json!({ "type": "oauth2", "tokenurl": "https://t/" })).is_err());
        assert!(manifest(&json!({ "type": "credentials" })).is_err());
        assert_eq!(
            paths(json!({ "type": "credentials", "schema": { "properties": {}, "type": "strnig" } })),
            ["$.userAuth.schema"]
        );
    }

    #[test]
    fn an_answer_says_that_a_token_is_over_when_all_of_the_rule_holds() {
        let rule = |rule: Value| -> ExpiredWhen { serde_json::from_value(rule).expect("a rule") };
        let body = json!({ "error": { "code": 190, "message": "Session has EXPIRED" } });
        for (given, status, expected) in [
            (json!({ "status": 403 }), Some(403), true),
            (json!({ "status": 403 }), None, false),
            (json!({ "pointer": "/error/code", "equals": 190 }), Some(200), true),
            (json!({ "pointer": "/error/code", "equals": 191 }), Some(200), false),
            (json!({ "status": 400, "pointer": "/error/message", "matches": "(?i)expired" }), Some(400), true),
            (json!({ "status": 400, "pointer": "/error/message", "matches": "revoked" }), Some(400), false),
            (json!({ "pointer": "/absent" }), Some(400), false),
        ] {
            assert_eq!(rule(given.clone()).holds(status, &body), expected, "{given}");
        }
    }
}
