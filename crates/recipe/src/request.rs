//! One request: address, headers, credential and body, put together from a recipe and the values of a call.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use serde_json::Value;
use url::Url;

use crate::{
    Failure,
    auth::Placed,
    compile::{Action, Header, Parameter},
    document::Arrays,
    expression::Scope,
    parameters,
    template::as_text,
};

/// A request that can be made again: with another cursor, or because it did not get through.
pub struct Prepared {
    pub url: Url,
    headers: HeaderMap,
    pub placed: Placed,
}

impl Prepared {
    pub fn of(action: &Action, scope: &Scope, key: Option<&str>) -> Result<Self, Failure> {
        let common = &action.common;
        let base = action.base.as_ref().unwrap_or(&common.base).render(scope)?;
        let mut url = base.join(&action.path.render(scope)?).map_err(Failure::input)?;
        let mut pairs = Vec::new();
        for Parameter { name, value } in common.query.iter().filter(|one| !action.sets(&one.name)).chain(&action.query) {
            let value = value.render(scope).map_err(|error| Failure::input(format!("query.{name}: {error}")))?;
            parameters::flatten(name, &value.unwrap_or(Value::Null), action.arrays, &mut pairs);
        }
        parameters::append(&mut url, &pairs);
        let placed = if action.anonymous { Placed::default() } else { Placed::of(&common.auth, scope)? };
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
        write_headers(&mut headers, common.headers.iter().chain(&action.headers), scope)?;
        if let (Some(name), Some(key)) = (&common.idempotency_header, key) {
            let value = HeaderValue::from_str(key).map_err(|_| Failure::input("the idempotency key cannot stand in a header"))?;
            headers.insert(name, value);
        }
        Ok(Self { url, headers, placed })
    }

    /// The request for one page.
    pub fn request(
        &self,
        (action, scope): (&Action, &Scope),
        url: &Url,
        in_body: &[(String, Value)],
        random: u64,
    ) -> Result<Request<Bytes>, Failure> {
        let (mut url, mut headers) = (url.clone(), self.headers.clone());
        self.placed.apply(&mut url, &mut headers)?;
        let written = match &action.body {
            Some(body) => body.write(scope, action.arrays, in_body, random)?,
            None => None,
        };
        let bytes = match written {
            Some(written) => {
                if let header::Entry::Vacant(entry) = headers.entry(header::CONTENT_TYPE) {
                    entry.insert(header_value("content-type", &written.content_type)?);
                }
                written.bytes
            }
            None => Bytes::new(),
        };
        let mut request = Request::new(bytes);
        *request.method_mut() = action.method.clone();
        *request.uri_mut() = url.as_str().parse().map_err(|_| Failure::input("the address is too long"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn write_headers<'a>(headers: &mut HeaderMap, all: impl Iterator<Item = &'a Header>, scope: &Scope) -> Result<(), Failure> {
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
