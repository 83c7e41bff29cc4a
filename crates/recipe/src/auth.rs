//! Placing a credential: as a bearer token, as user name and password, in a header, a parameter or a cookie, or as a signature.
//!
//! What is placed is remembered, so that it can be kept out of every text about the call.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::Url;

use crate::{
    Category, Failure,
    document::Placement,
    expression::Scope,
    oauth1::{self, Once, SignatureMethod, Signer, Token},
    parameters,
    template::Text,
    transport::Outgoing,
};

/// Where one credential goes.
#[derive(Debug)]
pub struct Auth {
    place: Place,
    optional: bool,
}

#[derive(Debug)]
enum Place {
    Bearer(Text),
    Basic(Text, Text),
    Header(HeaderName, Text),
    Query(String, Text),
    Cookie(String, Text),
    Signature(Box<Signature>),
}

/// What requests are signed with.
#[derive(Debug)]
struct Signature {
    method: SignatureMethod,
    consumer: (Text, Text),
    token: Option<(Text, Text)>,
    realm: Option<Text>,
}

/// A credential with its values.
#[derive(Default)]
pub struct Placed {
    headers: Vec<(HeaderName, HeaderValue)>,
    query: Vec<(String, String)>,
    cookies: Vec<String>,
    /// What signs each request, once it is complete.
    pub signer: Option<Signer>,
    /// What must not show anywhere.
    pub secrets: Vec<String>,
}

impl Auth {
    pub fn compile(placement: &Placement, mut fault: impl FnMut(&str, String)) -> Option<Self> {
        let mut text = |member: &str, source: &str| Text::compile(source).map_err(|message| fault(member, message)).ok();
        let (place, optional) = match placement {
            Placement::Bearer { token, optional } => (Place::Bearer(text("token", token)?), *optional),
            Placement::Basic { username, password, optional } => {
                (Place::Basic(text("username", username)?, text("password", password)?), *optional)
            }
            Placement::Header { name, value, optional } => {
                let value = text("value", value)?;
                let Ok(header) = HeaderName::try_from(name) else {
                    fault("name", format!("'{name}' is no name of a header"));
                    return None;
                };
                (Place::Header(header, value), *optional)
            }
            Placement::Query { name, value, optional } => (Place::Query(name.clone(), text("value", value)?), *optional),
            Placement::Cookie { name, value, optional } => {
                let value = text("value", value)?;
                if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && !b"=;,\"".contains(&byte)) {
                    fault("name", format!("'{name}' is no name of a cookie"));
                    return None;
                }
                (Place::Cookie(name.clone(), value), *optional)
            }
            Placement::Oauth1 { consumer_key, consumer_secret, token, token_secret, signature_method, realm, optional } => {
                let consumer = (text("consumerKey", consumer_key)?, text("consumerSecret", consumer_secret)?);
                let realm = match realm {
                    Some(realm) => Some(text("realm", realm)?),
                    None => None,
                };
                let token = match (token, token_secret) {
                    (Some(token), Some(secret)) => Some((text("token", token)?, text("tokenSecret", secret)?)),
                    (None, None) => None,
                    _ => {
                        fault("tokenSecret", "a token and its secret are given together".to_owned());
                        return None;
                    }
                };
                (Place::Signature(Box::new(Signature { method: *signature_method, consumer, token, realm })), *optional)
            }
        };
        Some(Self { place, optional })
    }

    pub fn uses(&self) -> BTreeSet<String> {
        match &self.place {
            Place::Basic(name, password) => name.uses().into_iter().chain(password.uses()).collect(),
            Place::Bearer(text) | Place::Header(_, text) | Place::Query(_, text) | Place::Cookie(_, text) => text.uses(),
            Place::Signature(signature) => signature.texts().flat_map(Text::uses).collect(),
        }
    }

    /// The header that it sets, if it sets one of its own.
    pub fn header(&self) -> Option<&HeaderName> {
        match &self.place {
            Place::Bearer(_) | Place::Basic(..) | Place::Signature(_) => Some(&header::AUTHORIZATION),
            Place::Header(name, _) => Some(name),
            Place::Query(..) | Place::Cookie(..) => None,
        }
    }

    fn place(&self, scope: &Scope<'_>, placed: &mut Placed) -> Result<(), Failure> {
        match &self.place {
            Place::Bearer(text) => {
                let Some(token) = self.value(text, scope)? else { return Ok(()) };
                placed.headers.push((header::AUTHORIZATION, secret(&format!("Bearer {token}"))?));
                placed.secrets.extend(text.values(scope));
                placed.secrets.push(token);
            }
            Place::Basic(name, password) => {
                let mut hidden = password.values(scope);
                let parts = name.values(scope);
                let Some(name) = self.value(name, scope)? else { return Ok(()) };
                // Vendors that take an API key as the name want an empty password, which is no missing one.
                let literal = password.literal().map(str::to_owned);
                let password = if literal.is_some() { literal } else { self.value(password, scope)? };
                let Some(password) = password else { return Ok(()) };
                let encoded = STANDARD.encode(format!("{name}:{password}"));
                placed.headers.push((header::AUTHORIZATION, secret(&format!("Basic {encoded}"))?));
                if password.is_empty() {
                    hidden.extend(parts);
                }
                placed.secrets.extend(hidden);
                placed.secrets.extend([encoded, if password.is_empty() { name } else { password }]);
            }
            Place::Header(name, text) => {
                let Some(value) = self.value(text, scope)? else { return Ok(()) };
                placed.headers.push((name.clone(), secret(&value)?));
                placed.secrets.extend(text.values(scope));
                placed.secrets.push(value);
            }
            Place::Query(name, text) => {
                let Some(value) = self.value(text, scope)? else { return Ok(()) };
                placed.query.push((name.clone(), value.clone()));
                placed.secrets.extend(text.values(scope));
                placed.secrets.push(value);
            }
            Place::Cookie(name, text) => {
                let Some(value) = self.value(text, scope)? else { return Ok(()) };
                if value.contains([';', ',', ' ', '"']) {
                    return Err(Failure::new(Category::Auth, "bad_credential", "the credential cannot stand in a cookie"));
                }
                placed.cookies.push(format!("{name}={value}"));
                placed.secrets.extend(text.values(scope));
                placed.secrets.push(value);
            }
            Place::Signature(signature) => {
                let Some(signer) = self.signer(signature, scope)? else { return Ok(()) };
                placed.secrets.extend(signer.secrets());
                placed.signer = Some(signer);
            }
        }
        Ok(())
    }

    fn signer(&self, signature: &Signature, scope: &Scope<'_>) -> Result<Option<Signer>, Failure> {
        let Some(consumer_key) = self.value(&signature.consumer.0, scope)? else { return Ok(None) };
        let Some(consumer_secret) = self.value(&signature.consumer.1, scope)? else { return Ok(None) };
        let mut token = None;
        if let Some((name, secret)) = &signature.token {
            let Some(name) = self.value(name, scope)? else { return Ok(None) };
            let Some(secret) = self.value(secret, scope)? else { return Ok(None) };
            token = Some(Token { token: name, secret });
        }
        let realm = signature.realm.as_ref().and_then(|realm| realm.render_text(scope).ok().flatten());
        Ok(Some(Signer { method: signature.method, consumer_key, consumer_secret, token, realm }))
    }

    fn value(&self, text: &Text, scope: &Scope<'_>) -> Result<Option<String>, Failure> {
        match text.render_text(scope) {
            Ok(Some(value)) if !value.is_empty() => Ok(Some(value)),
            _ if self.optional => Ok(None),
            _ => Err(Failure::new(
                Category::Auth,
                "no_credential",
                "there is no credential for this call: connect an account, or have an administrator save the configuration",
            )),
        }
    }
}

/// The header of a signature. A form is a part of what is signed.
pub fn signed(
    signer: &Signer,
    request: (&Method, &Url),
    headers: &HeaderMap,
    body: &[u8],
    once: &Once,
) -> Result<HeaderValue, Failure> {
    let form = oauth1::form(content_type(headers), body);
    secret(&signer.authorization(request, &form, &[], once))
}

pub fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

fn secret(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Failure::new(Category::Auth, "bad_credential", "the credential holds characters that cannot stand in a header")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Signature {
    fn texts(&self) -> impl Iterator<Item = &Text> {
        let token = self.token.iter().flat_map(|(token, secret)| [token, secret]);
        [&self.consumer.0, &self.consumer.1].into_iter().chain(token).chain(&self.realm)
    }
}

impl Placed {
    pub fn of(auth: &[Auth], scope: &Scope<'_>) -> Result<Self, Failure> {
        let mut placed = Self::default();
        for auth in auth {
            auth.place(scope, &mut placed)?;
        }
        Ok(placed)
    }

    /// Puts the credential where it belongs.
    pub fn apply(&self, url: &mut Url, headers: &mut HeaderMap) -> Result<(), Failure> {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if !self.query.is_empty() {
            parameters::replace(url, &self.query);
        }
        if !self.cookies.is_empty() {
            headers.insert(header::COOKIE, secret(&self.cookies.join("; "))?);
        }
        Ok(())
    }

    /// Signs a request that is complete otherwise, where requests are signed.
    pub fn sign(&self, request: &mut Outgoing, once: &Once) -> Result<(), Failure> {
        let Some(signer) = &self.signer else { return Ok(()) };
        let value = signed(signer, (&request.method, &request.url), &request.headers, &request.body, once)?;
        request.headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }
}
