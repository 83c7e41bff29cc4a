//! One request: address, headers, credential and body, put together from a recipe and the values of a call.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value};
use url::Url;

use crate::{
    Failure,
    address::{Base, BaseTemplate},
    auth::Placed,
    compile::{Action, Common, Given, Header, Parameter},
    document::Arrays,
    expression::Scope,
    parameters,
    template::{Text, as_text},
    transport::Outgoing,
};

/// Bytes of an address at most: more than that HTTP libraries do not send.
pub const LONGEST_ADDRESS: usize = 65_534;

/// A request that can be made again: with another cursor, or because it did not get through.
pub struct Prepared {
    /// Where the vendor is.
    pub base: Base,
    pub url: Url,
    headers: HeaderMap,
    pub placed: Placed,
    /// What must not show anywhere.
    pub secrets: Vec<String>,
}

impl Prepared {
    pub fn of(action: &Action, scope: &Scope<'_>, (way, key): (Option<&str>, Option<&str>)) -> Result<Self, Failure> {
        let common = &action.common;
        let base = action.base.as_ref().unwrap_or(&common.base).render(scope)?;
        let mut url = base.join(&action.path.render(scope)?).map_err(Failure::input)?;
        parameters::append(&mut url, &pairs(action, scope)?);
        let placed = if action.anonymous { Placed::default() } else { Placed::of(common.auth(way), scope)? };
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
        write_headers(&mut headers, common.headers.iter().chain(action.headers.named()), scope)?;
        if let Given::Object(text) = &action.headers {
            write_given(&mut headers, object(text, "headers", scope)?, common)?;
        }
        if let (Some(name), Some(key)) = (&common.idempotency_header, key) {
            let value = HeaderValue::from_str(key).map_err(|_| Failure::input("the idempotency key cannot stand in a header"))?;
            headers.insert(name, value);
        }
        let secrets =
            [placed.secrets.clone(), base_secrets(action.base.as_ref().unwrap_or(&common.base), common, scope)].concat();
        Ok(Self { base, url, headers, placed, secrets })
    }

    /// The request for one page.
    pub fn request(
        &self,
        (action, scope): (&Action, &Scope<'_>),
        url: &Url,
        in_body: &[(String, Value)],
        random: u64,
    ) -> Result<Outgoing, Failure> {
        let (mut url, mut headers) = (url.clone(), self.headers.clone());
        self.placed.apply(&mut url, &mut headers)?;
        let written = match &action.body {
            Some(body) => body.write(scope, action.arrays, in_body, random)?,
            None => None,
        };
        let body = match written {
            Some(written) => {
                if let header::Entry::Vacant(entry) = headers.entry(header::CONTENT_TYPE) {
                    entry.insert(header_value("content-type", &written.content_type)?);
                }
                written.bytes
            }
            None => Bytes::new(),
        };
        if url.as_str().len() > LONGEST_ADDRESS {
            return Err(Failure::input("the address is too long"));
        }
        Ok(Outgoing { method: action.method.clone(), url, headers, body })
    }
}

/// The parameters of a query: those of the integration, in place of which an action's own stand.
fn pairs(action: &Action, scope: &Scope<'_>) -> Result<Vec<(String, String)>, Failure> {
    let own = match &action.query {
        Given::Named(parameters) => values(parameters.iter(), scope)?,
        Given::Object(text) => object(text, "query", scope)?.into_iter().collect(),
    };
    let is_set = |parameter: &&Parameter| own.iter().any(|(name, _)| *name == parameter.name);
    let general = values(action.common.query.iter().filter(|parameter| !is_set(parameter)), scope)?;
    let mut pairs = Vec::new();
    for (name, value) in general.iter().chain(&own) {
        parameters::flatten(name, value, action.arrays, &mut pairs);
    }
    Ok(pairs)
}

fn values<'a>(parameters: impl Iterator<Item = &'a Parameter>, scope: &Scope<'_>) -> Result<Vec<(String, Value)>, Failure> {
    let value = |Parameter { name, value }: &Parameter| {
        let value = value.render(scope).map_err(|error| Failure::input(format!("query.{name}: {error}")))?;
        Ok((name.clone(), value.unwrap_or(Value::Null)))
    };
    parameters.map(value).collect()
}

/// The object that an expression gives in place of named members.
fn object(text: &Text, member: &str, scope: &Scope<'_>) -> Result<Map<String, Value>, Failure> {
    match text.render(scope).map_err(|error| Failure::input(format!("{member}: {error}")))? {
        None => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members),
        Some(_) => Err(Failure::input(format!("{member}: has to be an object"))),
    }
}

/// Headers whose names come with the call: none that says who asks, or whom.
fn write_given(headers: &mut HeaderMap, given: Map<String, Value>, common: &Common) -> Result<(), Failure> {
    for (name, value) in given.into_iter().filter(|(_, value)| !value.is_null()) {
        let told = |what: &str| Failure::input(format!("headers.{name}: {what}"));
        let header = HeaderName::try_from(&name).map_err(|_| told("is no name of a header"))?;
        let credential = [header::AUTHORIZATION, header::COOKIE].contains(&header);
        if credential || is_reserved(&header) || common.holds_credential(&header) {
            return Err(told("this header is not the caller's to set"));
        }
        let text = as_text(&value).map_err(|error| told(&error))?;
        headers.insert(header, header_value(&name, &text)?);
    }
    Ok(())
}

/// What is secret in a base address.
pub fn base_secrets(base: &BaseTemplate, common: &Common, scope: &Scope<'_>) -> Vec<String> {
    base.secrets(scope, |name| name.starts_with("credentials.") || common.secret_fields.contains(name))
}

fn write_headers<'a>(headers: &mut HeaderMap, all: impl Iterator<Item = &'a Header>, scope: &Scope<'_>) -> Result<(), Failure> {
    for Header { name, value } in all {
        let value = value.render(scope).map_err(|error| Failure::input(format!("headers.{name}: {error}")))?;
        let Some(value) = value.filter(|value| !value.is_null()) else { continue };
        let text = as_text(&value).map_err(|error| Failure::input(format!("headers.{name}: {error}")))?;
        headers.insert(name.clone(), header_value(name.as_str(), &text)?);
    }
    Ok(())
}

fn header_value(name: &str, text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_bytes(text.as_bytes())
        .map_err(|_| Failure::input(format!("headers.{name}: the value holds characters that cannot stand in a header")))
}

/// Headers that a recipe does not set: they belong to the connection, or follow from the address and the body.
pub fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [HeaderName; 9] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::PROXY_AUTHORIZATION,
        header::EXPECT,
    ];
    RESERVED.contains(name)
}

/// How lists are written by an action.
pub const fn arrays(own: Option<Arrays>, general: Arrays) -> Arrays {
    match own {
        Some(own) => own,
        None => general,
    }
}
