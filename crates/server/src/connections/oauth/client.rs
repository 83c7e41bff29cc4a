//! A vendor's token endpoint, by the library `oauth2` over the server's guarded client.
//!
//! Vendors answer in many shapes. What they send is brought into the standard's before the library reads it, by the manifest's
//! `responseMapping`.

use std::{pin::Pin, time::Duration};

use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
    basic::{
        BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::{Host, Url};
use weft_model::{
    Secret,
    manifest::user_auth::{Grant, OAuth2, ResponseMapping, TokenRequestAuth, placeholders},
};

use crate::{
    connections::error::{Error, plain},
    http::outbound::{self, Limits, Outbound},
};

pub const LIMITS: Limits = Limits { timeout: Duration::from_secs(15), body: 256 * 1024, redirects: 0 };
/// Members of a token response that are kept by themselves, or are of no use to anybody.
const KEPT_ELSEWHERE: [&str; 5] = ["access_token", "refresh_token", "id_token", "token_type", "expires_in"];

/// What the library reads: the standard's members, and beside them what the vendor sent.
type Answer = StandardTokenResponse<Beside, BasicTokenType>;
type Library<Authorize = EndpointNotSet> = Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    Authorize,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Beside {
    #[serde(default)]
    weft_response: Map<String, Value>,
    #[serde(default)]
    weft_label: Option<String>,
}

impl ExtraTokenFields for Beside {}

/// What a vendor gave.
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
    pub kind: String,
    pub lifetime: Option<Duration>,
    pub scope: Option<String>,
    pub label: Option<String>,
    /// The rest of its answer.
    pub response: Map<String, Value>,
}

/// Why a vendor gave no token.
#[derive(Debug)]
pub enum NoToken {
    /// No answer, or none that says anything: what became of the request is not known.
    Unknown(String),
    /// It refused, for this reason.
    Refused { code: String, description: String },
    /// It refused this server's own client, whoever the token is for.
    Client(String),
    /// What it answered is no token.
    Garbled(String),
}

impl From<NoToken> for Error {
    fn from(cause: NoToken) -> Self {
        match cause {
            NoToken::Unknown(cause) => Self::Unreachable(cause),
            NoToken::Refused { code, description } => Self::NoToken(format!("{code}{description}")),
            NoToken::Client(cause) => Self::ClientRefused(cause),
            NoToken::Garbled(cause) => Self::NoToken(cause),
        }
    }
}

/// A vendor, with this server's client there.
pub struct Vendor<'a> {
    oauth: &'a OAuth2,
    outbound: &'a Outbound,
    config: Map<String, Value>,
    callback: String,
}

impl<'a> Vendor<'a> {
    pub fn new(oauth: &'a OAuth2, outbound: &'a Outbound, config: Map<String, Value>, callback: String) -> Self {
        Self { oauth, outbound, config, callback }
    }

    pub fn client_id(&self) -> Result<String, Error> {
        self.field(&self.oauth.client_id).ok_or_else(|| Error::NoClient(self.oauth.client_id.clone()))
    }

    pub fn client_secret(&self) -> Option<Secret<String>> {
        self.field(&self.oauth.client_secret).map(Secret::new)
    }

    fn field(&self, name: &str) -> Option<String> {
        field(&self.config, name)
    }

    /// An address of the manifest, with the configuration's values in it.
    pub fn address(&self, template: &str) -> Result<Url, Error> {
        configured_address(template, &self.config)
    }

    fn library(&self) -> Result<Library, Error> {
        let insecure = |_| Error::InsecureAddress(self.callback.clone());
        let client = Client::new(ClientId::new(self.client_id()?))
            .set_token_uri(TokenUrl::from_url(self.address(&self.oauth.token_url)?))
            .set_redirect_uri(RedirectUrl::new(self.callback.clone()).map_err(insecure)?)
            .set_auth_type(match self.oauth.token_request_auth {
                TokenRequestAuth::Body => AuthType::RequestBody,
                TokenRequestAuth::Basic => AuthType::BasicAuth,
            });
        Ok(match self.client_secret() {
            Some(secret) => client.set_client_secret(ClientSecret::new(secret.expose().clone())),
            None => client,
        })
    }

    /// Where a person is sent.
    pub fn authorize(&self, state: String, verifier: String) -> Result<Url, Error> {
        let template = self.oauth.authorize_url.as_deref().unwrap_or_default();
        let client: Library<EndpointSet> = self.library()?.set_auth_uri(AuthUrl::from_url(self.address(template)?));
        let mut request = client.authorize_url(move || CsrfToken::new(state)).add_scopes(self.scopes());
        for (name, value) in &self.oauth.extra_authorize_params {
            request = request.add_extra_param(name, value);
        }
        if self.oauth.pkce {
            request = request.set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier)));
        }
        Ok(request.url().0)
    }

    /// Scopes as the library takes them: it puts spaces between them, so others go in as one.
    fn scopes(&self) -> Vec<Scope> {
        match self.oauth.scope_separator.as_deref() {
            Some(separator) if separator != " " && !self.oauth.scopes.is_empty() => {
                vec![Scope::new(self.oauth.scopes.join(separator))]
            }
            _ => self.oauth.scopes.iter().cloned().map(Scope::new).collect(),
        }
    }

    /// Exchanges what a person came back with.
    pub async fn exchange(&self, code: String, verifier: String) -> Result<Tokens, Error> {
        let client = self.library()?;
        let mut request = client.exchange_code(AuthorizationCode::new(code));
        if self.oauth.pkce {
            request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier));
        }
        for (name, value) in &self.oauth.extra_token_params {
            request = request.add_extra_param(name, value);
        }
        Ok(request.request_async(&self.http()).await.map_err(no_token).map(|answer| self.tokens(&answer))?)
    }

    /// Gets a new token for an old one, or by what the client itself may do.
    pub async fn renew(&self, refresh_token: Option<&Secret<String>>) -> Result<Result<Tokens, NoToken>, Error> {
        let client = self.library()?;
        let http = self.http();
        let answered = if let Some(token) = refresh_token {
            let token = RefreshToken::new(token.expose().clone());
            let mut request = client.exchange_refresh_token(&token);
            for (name, value) in &self.oauth.extra_token_params {
                request = request.add_extra_param(name, value);
            }
            request.request_async(&http).await
        } else {
            let mut request = client.exchange_client_credentials().add_scopes(self.scopes());
            for (name, value) in &self.oauth.extra_token_params {
                request = request.add_extra_param(name, value);
            }
            request.request_async(&http).await
        };
        Ok(answered.map(|answer| self.tokens(&answer)).map_err(no_token))
    }

    /// Whether a token can be had without a refresh token.
    pub fn mints(&self) -> bool {
        self.oauth.grant == Grant::ClientCredentials
    }

    fn http(&self) -> Http<'_> {
        Http { outbound: self.outbound, mapping: &self.oauth.response_mapping }
    }

    fn tokens(&self, answer: &Answer) -> Tokens {
        let scopes = answer.scopes().map(|scopes| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "));
        Tokens {
            access: answer.access_token().secret().clone(),
            refresh: answer.refresh_token().map(|token| token.secret().clone()),
            kind: answer.token_type().as_ref().to_owned(),
            lifetime: answer.expires_in().or(self.oauth.expires_in.map(Duration::from_secs)),
            scope: scopes,
            label: answer.extra_fields().weft_label.clone(),
            response: answer.extra_fields().weft_response.clone(),
        }
    }
}

fn no_token(error: RequestTokenError<outbound::Error, BasicErrorResponse>) -> NoToken {
    match error {
        RequestTokenError::Request(cause) => NoToken::Unknown(cause.to_string()),
        RequestTokenError::ServerResponse(answer) => {
            let code = answer.error().as_ref().to_owned();
            let description = answer.error_description().map(|text| format!(" ({})", plain(text))).unwrap_or_default();
            match answer.error() {
                BasicErrorResponseType::InvalidClient | BasicErrorResponseType::UnauthorizedClient => {
                    NoToken::Client(format!("{code}{description}"))
                }
                _ => NoToken::Refused { code: plain(&code), description },
            }
        }
        RequestTokenError::Parse(cause, _) => {
            NoToken::Garbled(format!("its answer is not understood: {} is missing or of another type", cause.path()))
        }
        RequestTokenError::Other(cause) => NoToken::Unknown(plain(&cause)),
    }
}

/// Sends what the library asks, and brings the answer into the standard's shape.
struct Http<'a> {
    outbound: &'a Outbound,
    mapping: &'a ResponseMapping,
}

impl<'c> AsyncHttpClient<'c> for Http<'_> {
    type Error = outbound::Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, outbound::Error>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let mut answer = self.outbound.send(request, LIMITS).await?;
            if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS {
                return Err(outbound::Error::Unreachable {
                    host,
                    cause: format!("it answered {}", answer.status()),
                    connected: true,
                });
            }
            let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(answer.body()) else { return Ok(answer) };
            if !answer.status().is_success() {
                return Ok(answer);
            }
            // Some say 200 and mean an error.
            let found = standard(Value::Object(body), self.mapping);
            if found.get("access_token").is_none() && found.get("error").is_some_and(Value::is_string) {
                *answer.status_mut() = StatusCode::BAD_REQUEST;
            } else if let Ok(bytes) = serde_json::to_vec(&found) {
                *answer.body_mut() = bytes;
                *answer.status_mut() = StatusCode::OK;
                answer.headers_mut().insert("content-type", axum::http::HeaderValue::from_static("application/json"));
            }
            Ok(answer)
        })
    }
}

/// A token response in the standard's shape, whatever shape it has.
fn standard(mut body: Value, mapping: &ResponseMapping) -> Value {
    if let Some(claims) = body.get("id_token").and_then(Value::as_str).and_then(claims) {
        body["id_token_claims"] = claims;
    }
    let at = |pointer: &Option<String>, name: &str| match pointer {
        Some(pointer) => body.pointer(pointer).cloned(),
        None => body.get(name).cloned(),
    };
    let mut found = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            found.insert(name.to_owned(), value);
        }
    };
    put("access_token", at(&mapping.access_token, "access_token"));
    put("refresh_token", at(&mapping.refresh_token, "refresh_token").filter(|token| token.as_str() != Some("")));
    put("expires_in", at(&mapping.expires_in, "expires_in").and_then(|value| seconds(&value)).map(Value::from));
    put("scope", at(&mapping.scope, "scope").and_then(|value| scope(&value)).map(Value::from));
    put("token_type", body.get("token_type").filter(|kind| kind.is_string()).cloned().or_else(|| Some("bearer".into())));
    put("error", body.get("error").cloned());
    put("weft_label", label(&body, mapping.label.as_deref()).map(Value::from));
    let mut rest = body.as_object().cloned().unwrap_or_default();
    rest.retain(|name, _| !KEPT_ELSEWHERE.contains(&name.as_str()));
    put("weft_response", Some(Value::Object(rest)));
    Value::Object(found)
}

/// Some send a number as a text.
pub fn seconds(value: &Value) -> Option<u64> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.or_else(|| value.as_f64().filter(|seconds| *seconds >= 0.0).and_then(|seconds| format!("{seconds:.0}").parse().ok()))
}

/// Scopes come with spaces, with commas or as an array.
pub fn scope(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.split([' ', ',']).filter(|scope| !scope.is_empty()).collect::<Vec<_>>().join(" ")),
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        _ => None,
    }
}

/// What the account is called: where the manifest says, else what an ID token says of it.
fn label(body: &Value, pointer: Option<&str>) -> Option<String> {
    let usual = ["/email", "/id_token_claims/email", "/id_token_claims/preferred_username", "/id_token_claims/name"];
    let places: &[&str] = pointer.as_ref().map_or(&usual, std::slice::from_ref);
    let found = places.iter().find_map(|place| body.pointer(place));
    found.and_then(|value| value.as_str().map(str::to_owned).or_else(|| value.as_number().map(ToString::to_string)))
}

/// The claims of an ID token. It came over TLS from the token endpoint itself, and only a name is taken from it.
fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

fn field(config: &Map<String, Value>, name: &str) -> Option<String> {
    config.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// An address of a manifest, with the configuration's values in it.
pub fn configured_address(template: &str, config: &Map<String, Value>) -> Result<Url, Error> {
    let mut text = template.to_owned();
    for name in placeholders(template) {
        let value = field(config, name).ok_or_else(|| Error::NoClient(name.to_owned()))?;
        text = text.replace(&format!("{{{name}}}"), &value);
    }
    let url = Url::parse(&text).ok().filter(is_secure);
    url.ok_or_else(|| Error::InsecureAddress(template.to_owned()))
}

/// Whether secrets may be sent to an address.
pub fn is_secure(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_of_many_shapes_become_the_standards() {
        let mapping: ResponseMapping = serde_json::from_value(json!({
            "accessToken": "/authed_user/access_token", "expiresIn": "/authed_user/ttl", "label": "/team/name",
        }))
        .expect("a mapping");
        let slack = json!({
            "ok": true, "authed_user": { "access_token": "t", "ttl": "3600" }, "team": { "name": "Acme" }, "scope": "a,b", "refresh_token": "",
        });
        let found = standard(slack, &mapping);
        assert_eq!(found["access_token"], "t");
        assert_eq!((&found["expires_in"], &found["scope"], &found["weft_label"]), (&json!(3600), &json!("a b"), &json!("Acme")));
        assert!(found.get("refresh_token").is_none());
        assert_eq!(found["weft_response"]["team"]["name"], "Acme");

        let plain =
            standard(json!({ "access_token": "t", "expires_in": 12.0, "email": "a@example.com" }), &ResponseMapping::default());
        assert_eq!(
            (&plain["expires_in"], &plain["weft_label"], &plain["token_type"]),
            (&json!(12), &json!("a@example.com"), &json!("bearer"))
        );
    }

    #[test]
    fn an_id_token_names_the_account() {
        let payload = URL_SAFE_NO_PAD.encode(json!({ "email": "alice@example.com" }).to_string());
        let found = standard(json!({ "access_token": "t", "id_token": format!("h.{payload}.s") }), &ResponseMapping::default());
        assert_eq!(found["weft_label"], "alice@example.com");
        assert!(found["weft_response"].get("id_token").is_none());
    }
}
