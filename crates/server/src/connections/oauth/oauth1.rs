//! OAuth 1.0a (RFC 5849): a temporary token, a person who agrees, and a token that stays. Requests are signed by `weft-recipe`.
//!
//! The vendor's temporary token is the state that somebody comes back with: many vendors take a callback address only as it is
//! registered, so there is no place for a state of our own. Its secret waits where OAuth 2 keeps the verifier, for ten minutes.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};
use weft_model::{ConfigurationId, manifest::oauth1::OAuth1};
use weft_recipe::oauth1::{Once, Signer, Token};

use super::client::{LIMITS, configured_address};
use crate::{
    apps::App,
    connections::{
        credential::{Content, Times},
        error::{Error, plain},
        service::Connections,
    },
};

/// A vendor, with this server's client there.
pub struct Vendor1<'a> {
    oauth: &'a OAuth1,
    connections: &'a Connections,
    config: Map<String, Value>,
}

/// A token that was asked for, and what else the vendor said.
struct Given {
    token: Token,
    rest: BTreeMap<String, String>,
}

impl Connections {
    pub(super) async fn vendor1<'a>(
        &'a self,
        app: &App,
        oauth: &'a OAuth1,
        named: Option<ConfigurationId>,
    ) -> Result<Vendor1<'a>, Error> {
        let config = self.integrations.config_by(app, named).await?;
        let config = serde_json::from_str(config.json().get()).unwrap_or_default();
        Ok(Vendor1 { oauth, connections: self, config })
    }
}

impl Vendor1<'_> {
    /// Gets a temporary token: where to send the person, the state they come back with, and the secret for the last step.
    pub async fn begin(&self, callback: &str) -> Result<(Url, String, String), Error> {
        let given = self.ask(&self.oauth.request_token_url, None, &[("oauth_callback", callback)]).await?;
        let mut url = configured_address(&self.oauth.authorize_url, &self.config)?;
        url.query_pairs_mut().extend_pairs(&self.oauth.extra_authorize_params).append_pair("oauth_token", &given.token.token);
        Ok((url, given.token.token, given.token.secret))
    }

    /// Exchanges what a person came back with.
    pub async fn exchange(
        &self,
        token: String,
        secret: String,
        query: &BTreeMap<String, String>,
    ) -> Result<(Option<String>, Content, Times), Error> {
        let verifier = query.get("oauth_verifier").filter(|verifier| !verifier.is_empty()).ok_or(Error::NoCode)?;
        let given =
            self.ask(&self.oauth.access_token_url, Some(Token { token, secret }), &[("oauth_verifier", verifier)]).await?;
        let label = self.oauth.label.as_ref().and_then(|name| given.rest.get(name).cloned());
        let mut values = Map::new();
        values.insert("token".to_owned(), given.token.token.into());
        values.insert("tokenSecret".to_owned(), given.token.secret.into());
        let rest: Map<String, Value> = given.rest.into_iter().map(|(name, value)| (name, value.into())).collect();
        if !rest.is_empty() {
            values.insert("response".to_owned(), rest.into());
        }
        let content = Content { values, refresh_token: None, secret_fields: None, entered: None, obtained_at: None };
        Ok((label, content, Times::default()))
    }

    async fn ask(&self, template: &str, token: Option<Token>, more: &[(&str, &str)]) -> Result<Given, Error> {
        let field = |name: &str| self.config.get(name).and_then(Value::as_str).map(str::to_owned);
        let consumer_key = field(&self.oauth.consumer_key).ok_or_else(|| Error::NoClient(self.oauth.consumer_key.clone()))?;
        let consumer_secret = field(&self.oauth.consumer_secret).unwrap_or_default();
        let method = self.oauth.signature_method;
        let first = token.is_none();
        let signer = Signer { method, consumer_key, consumer_secret, token, realm: self.oauth.realm.clone() };
        let url = configured_address(template, &self.config)?;
        let once =
            Once { nonce: format!("{:032x}", rand::random::<u128>()), timestamp: self.connections.clock.now().timestamp() };
        let authorization = signer.authorization((&Method::POST, &url), &[], more, &once);
        let insecure = |_| Error::InsecureAddress(template.to_owned());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))
            .body(Vec::new())
            .map_err(insecure)?;
        let mut value = HeaderValue::from_str(&authorization).map_err(|_| Error::InsecureAddress(template.to_owned()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
        let sent = self.connections.outbound.send(request, LIMITS).await;
        let answer = sent.map_err(|error| Error::Unreachable(error.to_string()))?;
        let status = answer.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Error::Unreachable(format!("it answered {status}")));
        }
        if status.is_success() {
            return read(answer.body());
        }
        // The first step is about the client alone.
        let told = format!("http_{}", status.as_u16());
        Err(if first { Error::ClientRefused(told) } else { Error::NoToken(told) })
    }
}

fn read(body: &[u8]) -> Result<Given, Error> {
    let mut rest: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
    rest.remove("oauth_callback_confirmed");
    let token = rest.remove("oauth_token").filter(|token| !token.is_empty());
    if let (Some(token), Some(secret)) = (token, rest.remove("oauth_token_secret")) {
        return Ok(Given { token: Token { token, secret }, rest });
    }
    let problem = rest.get("oauth_problem").map_or_else(String::new, |problem| format!(" ({})", plain(problem)));
    Err(Error::NoToken(format!("its answer has no oauth_token with an oauth_token_secret{problem}")))
}
