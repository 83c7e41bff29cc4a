//! `userAuth` of the type `token`: the server itself gets tokens, by one request or a signature, with what people enter.
//!
//! One mechanism for three habits of vendors: service accounts that sign an assertion, apps that are installed at a customer's, and
//! sessions that one logs in to. In texts `{name}` stands for what was entered or for a field of the configuration, `{jwt}` for the
//! signed token, and `{uuid}` for something that is used once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    ConfigField,
    fields::{address_fault, may_be_web, names, names_in},
    user_auth::ExpiredWhen,
};
use crate::{Fault, schema::Schema};

/// What texts may name besides fields.
pub const JWT: &str = "jwt";
pub const UUID: &str = "uuid";
/// What executors find beside the entered fields that are no secrets.
const GIVEN: [&str; 5] = ["accessToken", "tokenType", "expiresAt", "scope", "response"];

/// How the server gets tokens for a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// What people enter. Fields that are marked `secret` are for getting tokens only: no executor sees them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Where people are sent who install an app at the vendor, in place of entering something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation: Option<Installation>,
    /// What the server signs: the token itself, or what the request is made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<SignedJwt>,
    /// The request whose answer holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<TokenRequest>,
    #[serde(default)]
    pub response_mapping: TokenMapping,
    /// How long a token lasts in seconds, where the vendor does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// What connections are called, where the answer does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_when: Option<ExpiredWhen>,
}

/// A page of the vendor's where an app is installed, which sends people back with an identifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    pub url: String,
    /// Fields of the schema, with the parameters of the callback that they come in.
    pub fields: BTreeMap<String, String>,
}

/// A JSON Web Token that the server signs (RFC 7519). `iat` and `exp` are its own business, unless the claims say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedJwt {
    #[serde(default)]
    pub algorithm: JwtAlgorithm,
    /// The private key in PEM; for HS256 the secret.
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// Seconds from `iat` to `exp`.
    #[serde(default = "ten_minutes")]
    pub lifetime: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    #[default]
    RS256,
    RS512,
    PS256,
    ES256,
    ES384,
    EdDSA,
    HS256,
}

/// The request that a token is got with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenRequest {
    #[serde(default)]
    pub method: TokenMethod,
    pub url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A body of this form; else `json`; else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TokenMethod {
    Get,
    #[default]
    Post,
    Put,
}

/// A name and a password in the header `Authorization` (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basic {
    pub username: String,
    #[serde(default)]
    pub password: String,
}

/// Where the answer has things, as JSON Pointers. Absent: where RFC 6749 has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TokenMapping {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// A time as RFC 3339 has it, or in seconds or milliseconds of the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl TokenAuth {
    /// The fields that people enter, with their schemas.
    fn properties(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.schema.as_ref().and_then(|schema| schema.get("properties")?.as_object()).into_iter().flatten()
    }

    pub fn enters(&self, name: &str) -> bool {
        self.properties().any(|(known, _)| known == name)
    }

    /// The entered fields that only serve to get tokens.
    pub fn withheld(&self) -> Vec<String> {
        self.schema.as_ref().map(super::user_auth::secret_fields).unwrap_or_default()
    }

    /// Whether a secret of the configuration speaks for whatever somebody enters. Who enters another's identifier then acts as that
    /// other, so it is for those who look after the integration. A secret that is entered speaks for itself.
    pub fn vouches(&self, config: &[ConfigField]) -> bool {
        let enters_secret = || self.properties().any(|(_, property)| property["secret"] == true);
        let sends_own = || self.request.iter().flat_map(TokenRequest::names).any(|name| is_secret(config, name));
        let enters = self.properties().next().is_some();
        enters && (self.signs_with_own_key() || (sends_own() && !enters_secret()))
    }

    /// The fields of the configuration that getting a token takes.
    pub fn configured(&self) -> Vec<&str> {
        let mut used = self.request.iter().flat_map(TokenRequest::names).collect::<Vec<_>>();
        if let Some(jwt) = &self.jwt {
            used.extend(names(&jwt.key));
            used.extend(jwt.key_id.as_deref().map(names).unwrap_or_default());
            used.extend(jwt.claims.values().flat_map(names_in));
        }
        used.retain(|name| ![JWT, UUID].contains(name) && !self.enters(name));
        used
    }

    /// Whether the key that signs is of the configuration.
    fn signs_with_own_key(&self) -> bool {
        self.jwt.as_ref().is_some_and(|jwt| !names(&jwt.key).iter().any(|name| self.enters(name)))
    }

    /// What executors find in a connection's credentials, as a schema.
    pub fn shown(&self) -> Value {
        let withheld = self.withheld();
        let entered = self.properties().filter(|(name, _)| !withheld.contains(*name));
        let mut properties: Map<_, _> = entered.map(|(name, property)| (name.clone(), property.clone())).collect();
        properties.extend(GIVEN.map(|name| (name.to_owned(), Value::Bool(true))));
        json!({ "type": "object", "properties": properties })
    }

    /// What is wrong with it beyond its shape.
    pub(super) fn check(&self, config: &[ConfigField], faults: &mut Vec<Fault>) {
        let mut check = Check { auth: self, config, faults };
        check.fields();
        check.jwt();
        check.request();
        check.installation();
        if let Some(label) = &self.label {
            check.names("label", &names(label), &[]);
        }
        if let Some(rule) = &self.expired_when {
            rule.check(faults);
        }
    }
}

/// A look at everything that a manifest of this type can get wrong.
struct Check<'a> {
    auth: &'a TokenAuth,
    config: &'a [ConfigField],
    faults: &'a mut Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(format!("$.userAuth.{path}"), message));
    }

    fn configured(&self, name: &str) -> Option<&ConfigField> {
        self.config.iter().find(|field| field.name == name)
    }

    fn fields(&mut self) {
        if let Some(Err(error)) = self.auth.schema.as_ref().map(Schema::compile) {
            self.fault("schema", error.to_string());
        }
        let entered: Vec<_> = self.auth.properties().map(|(name, _)| name.clone()).collect();
        for name in entered {
            let path = format!("schema.properties.{name}");
            if self.configured(&name).is_some() {
                self.fault(&path, format!("configSchema has a field '{name}' too: {{{name}}} could mean either"));
            } else if [JWT, UUID].contains(&name.as_str()) || GIVEN.contains(&name.as_str()) {
                self.fault(&path, "this name has a meaning of its own here");
            }
        }
        if self.auth.jwt.is_none() && self.auth.request.is_none() {
            self.fault("request", "says where a token comes from, unless jwt does: both are missing");
        }
    }

    /// Reports fields that nobody fills in.
    fn names(&mut self, path: &str, used: &[&str], besides: &[&str]) {
        for name in used {
            if !besides.contains(name) && !self.auth.enters(name) && self.configured(name).is_none() {
                self.fault(path, format!("neither schema nor configSchema has a field '{name}'"));
            }
        }
    }

    fn jwt(&mut self) {
        let Some(jwt) = &self.auth.jwt else { return };
        let key = names(&jwt.key);
        if key.is_empty() {
            self.fault("jwt.key", "names a field that holds the key, such as {privateKey}: a manifest is no place for secrets");
        }
        self.names("jwt.key", &key, &[]);
        self.names("jwt.keyId", &jwt.key_id.as_deref().map(names).unwrap_or_default(), &[]);
        for (name, claim) in &jwt.claims {
            self.names(&format!("jwt.claims.{name}"), &names_in(claim), &[UUID]);
        }
        if let Some(request) = &self.auth.request
            && !request.names().contains(&JWT)
        {
            self.fault("request", "sends the signed token nowhere: it names {jwt} in a header or in its body");
        }
    }

    fn request(&mut self) {
        let Some(request) = &self.auth.request else { return };
        if request.form.is_some() && request.json.is_some() {
            self.fault("request.form", "there is one body: form or json");
        }
        let besides: &[&str] = if self.auth.jwt.is_some() { &[JWT, UUID] } else { &[UUID] };
        for (path, used) in request.places() {
            self.names(&format!("request.{path}"), &used, besides);
        }
        self.address("request.url", &request.url);
        // Whoever names the host gets what is sent there.
        let sent = request.names();
        let is_ours = |name: &str| (name == JWT && self.auth.signs_with_own_key()) || is_secret(self.config, name);
        if let Some(name) = sent.iter().find(|name| is_ours(name))
            && host(&request.url).iter().any(|field| self.auth.enters(field))
        {
            self.fault("request.url", format!("sends {{{name}}}, which is this server's own, to a host that people enter"));
        }
        for name in request.headers.keys() {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(fits) {
                self.fault(&format!("request.headers.{name}"), "is no name of a header");
            }
        }
    }

    fn address(&mut self, path: &str, url: &str) {
        if !may_be_web(url) {
            self.fault(path, "must be an https address");
        }
    }

    fn installation(&mut self) {
        let Some(installation) = &self.auth.installation else { return };
        if let Some(fault) = address_fault(&installation.url, |name| self.configured(name).is_some()) {
            self.fault("installation.url", fault);
        }
        for name in installation.fields.keys() {
            if !self.auth.enters(name) {
                self.fault(&format!("installation.fields.{name}"), format!("schema has no field '{name}'"));
            }
        }
    }
}

fn is_secret(config: &[ConfigField], name: &str) -> bool {
    config.iter().any(|field| field.name == name && field.platform_secret.is_some())
}

/// The fields that the host of an address depends on.
fn host(url: &str) -> Vec<&str> {
    let from = url.find("://").map_or(0, |at| at + 3);
    let path = url.get(from..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |at| at + from);
    url.get(..path).map(names).unwrap_or_default()
}

impl TokenRequest {
    /// Every place that may name a field, with what it names.
    fn places(&self) -> Vec<(String, Vec<&str>)> {
        let mut places = vec![("url".to_owned(), names(&self.url))];
        places.extend(self.headers.iter().map(|(name, text)| (format!("headers.{name}"), names(text))));
        if let Some(basic) = &self.basic {
            places.push(("basic.username".to_owned(), names(&basic.username)));
            places.push(("basic.password".to_owned(), names(&basic.password)));
        }
        places.extend(self.form.iter().flatten().map(|(name, text)| (format!("form.{name}"), names(text))));
        places.extend(self.json.as_ref().map(|body| ("json".to_owned(), names_in(body))));
        places
    }

    fn names(&self) -> Vec<&str> {
        self.places().into_iter().flat_map(|(_, names)| names).collect()
    }
}

const fn ten_minutes() -> u32 {
    600
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Manifest, manifest::user_auth::Way};

    fn manifest(user_auth: &Value, http: Option<&Value>) -> Result<Manifest, Vec<Fault>> {
        let fields = json!({
            "appId": { "type": "string" }, "appSlug": { "type": "string" },
            "privateKey": { "type": "string", "platformSecret": "VENDOR_KEY" },
        });
        let mut manifest = json!({
            "appId": "x", "name": "X", "type": "integration", "userAuth": user_auth, "configSchema": { "properties": fields },
        });
        if let Some(http) = http {
            manifest["http"] = http.clone();
        }
        Manifest::parse(manifest)
    }

    fn parsed(user_auth: &Value) -> (TokenAuth, Vec<ConfigField>) {
        let content = manifest(user_auth, None).expect("no faults").content;
        let config = content.config_fields();
        match content.user_auth.map(|auth| auth.first.way) {
            Some(Way::Token(auth)) => (*auth, config),
            other => panic!("another way: {other:?}"),
        }
    }

    fn paths(user_auth: &Value) -> Vec<String> {
        manifest(user_auth, None).expect_err("faults").into_iter().map(|fault| fault.path).collect()
    }

    fn service_account() -> Value {
        json!({
            "type": "token",
            "schema": { "properties": {
                "client_email": { "type": "string", "secret": false }, "private_key": { "type": "string", "secret": true }, "subject": { "type": "string" },
            } },
            "jwt": { "key": "{private_key}", "claims": { "iss": "{client_email}", "sub": "{subject}", "jti": "{uuid}" } },
            "request": { "url": "https://t.example/token", "form": { "assertion": "{jwt}" } },
        })
    }

    fn installation() -> Value {
        json!({
            "type": "token",
            "schema": { "properties": { "installationId": { "type": "string" } } },
            "installation": { "url": "https://v.example/apps/{appSlug}/new", "fields": { "installationId": "installation_id" } },
            "jwt": { "key": "{privateKey}", "claims": { "iss": "{appId}" } },
            "request": { "url": "https://v.example/{installationId}/tokens", "headers": { "authorization": "Bearer {jwt}" } },
        })
    }

    #[test]
    fn three_habits_of_vendors_are_one_mechanism_and_survive_being_written_down() {
        let login = json!({
            "type": "token",
            "schema": { "properties": { "host": { "type": "string" }, "password": { "type": "string", "secret": true } } },
            "request": { "url": "https://{host}/login", "basic": { "username": "me", "password": "{password}" } },
        });
        let mut partner = login.clone();
        partner["request"]["basic"] = json!({ "username": "{host}", "password": "{privateKey}" });
        partner["request"]["url"] = json!("https://v.example/login");
        let mut with_password = partner.clone();
        partner["schema"]["properties"] = json!({ "host": { "type": "string" } });
        with_password["request"]["form"] = json!({ "password": "{password}" });
        let all = [(service_account(), false), (installation(), true), (login, false), (partner, true), (with_password, false)];
        for (given, vouches) in all {
            let (auth, config) = parsed(&given);
            assert_eq!(auth.vouches(&config), vouches, "{given}");
            let again: TokenAuth = serde_json::from_value(serde_json::to_value(&auth).expect("JSON")).expect("the same");
            assert_eq!(again, auth);
        }
    }

    #[test]
    fn faults_name_their_place() {
        let with = |mut base: Value, pointer: &str, value: Value| {
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            base.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").insert(name.to_owned(), value);
            base
        };
        let account = service_account();
        for (given, expected) in [
            (json!({ "type": "token", "schema": { "properties": {} } }), "$.userAuth.request"),
            (with(account.clone(), "/jwt/claims/iss", json!("{email}")), "$.userAuth.jwt.claims.iss"),
            (with(account.clone(), "/jwt/key", json!("-----BEGIN PRIVATE KEY-----")), "$.userAuth.jwt.key"),
            (with(account.clone(), "/request/form", json!({ "grant_type": "x" })), "$.userAuth.request"),
            (with(account.clone(), "/request/json", json!({ "a": 1 })), "$.userAuth.request.form"),
            (with(account.clone(), "/request/url", json!("ftp://x")), "$.userAuth.request.url"),
            (with(account.clone(), "/request/headers", json!({ "a b": "x" })), "$.userAuth.request.headers.a b"),
            (with(account.clone(), "/schema/properties/appId", json!({})), "$.userAuth.schema.properties.appId"),
            (with(account.clone(), "/schema/properties/jwt", json!({})), "$.userAuth.schema.properties.jwt"),
            (with(account, "/expiredWhen", json!({ "equals": 1 })), "$.userAuth.expiredWhen.pointer"),
            (with(installation(), "/installation/fields/id", json!("id")), "$.userAuth.installation.fields.id"),
            (with(installation(), "/installation/url", json!("https://v/{installationId}")), "$.userAuth.installation.url"),
            (with(installation(), "/request/url", json!("https://{installationId}.example/")), "$.userAuth.request.url"),
        ] {
            assert_eq!(paths(&given), [expected], "{given}");
        }
        assert!(manifest(&with(installation(), "/jwt/algorithm", json!("none")), None).is_err());
        assert!(manifest(&with(installation(), "/jwt/kid", json!("x")), None).is_err());
    }

    #[test]
    fn recipes_find_the_token_and_what_is_no_secret() {
        let http = |token: &str| json!({ "baseUrl": "https://t.example", "auth": { "type": "bearer", "token": token } });
        for (token, fits) in [("accessToken", true), ("client_email", true), ("private_key", false), ("gone", false)] {
            let given = manifest(&service_account(), Some(&http(&format!("{{{{ credentials.{token} }}}}"))));
            assert_eq!(given.is_ok(), fits, "{token}: {:?}", given.err());
        }
    }
}
