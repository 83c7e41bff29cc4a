//! A caller's own request to the vendor: the recipe's address and credential, the caller's path, method and body.

use http::{HeaderMap, HeaderName, Method, header};
use serde_json::Value;
use url::Url;

use crate::{
    Failure, Provider, address,
    auth::{self, Placed},
    execute::Call,
    oauth1::{self, Once, Signer},
    request,
};

/// Headers of a caller that are about its connection to us, or about who it is here.
const WITHHELD: [HeaderName; 14] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::EXPECT,
    header::FORWARDED,
    header::ORIGIN,
];
/// Beginnings of names that proxies, browsers and this server use among themselves.
const WITHHELD_PREFIXES: [&str; 8] =
    ["x-forwarded-", "x-real-ip", "keep-alive", "proxy-", "sec-", "x-app-id", "x-connection-id", "x-weft-"];

/// A request for the vendor, but for its body.
#[derive(Debug)]
pub struct Forward {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    /// What must not show in any text about it.
    pub secrets: Vec<String>,
    signer: Option<Signer>,
}

impl Forward {
    /// Whether its body is a part of what is signed.
    pub fn signs_body(&self) -> bool {
        self.signer.is_some() && oauth1::is_form(auth::content_type(&self.headers))
    }

    /// Signs it, where requests are signed.
    pub fn sign(&mut self, body: &[u8], once: &Once) -> Result<(), Failure> {
        let Some(signer) = &self.signer else { return Ok(()) };
        let value = auth::signed(signer, (&self.method, &self.url), &self.headers, body, once)?;
        self.headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }
}

/// Makes a caller's request one to the vendor: below its base address, with the credential in its place.
pub fn forward(
    provider: &Provider,
    (method, path, query): (Method, &str, Option<&str>),
    headers: &HeaderMap,
    call: &Call<'_>,
) -> Result<Forward, Failure> {
    let scope = call.scope();
    let common = &provider.common;
    let mut url = address::below(&common.base.render(&scope)?, path)?;
    url.set_query(query.filter(|query| !query.is_empty()));
    let mut kept = passable(headers);
    for header in &common.headers {
        if !kept.contains_key(&header.name)
            && let Ok(Some(Value::String(text))) = header.value.render(&scope)
            && let Ok(value) = text.parse()
        {
            kept.insert(header.name.clone(), value);
        }
    }
    let mut placed = Placed::of(common.auth(call.way), &scope)?;
    placed.apply(&mut url, &mut kept)?;
    let signer = placed.signer.take();
    let secrets = [placed.secrets, request::base_secrets(&common.base, common, &scope)].concat();
    Ok(Forward { method, url, headers: kept, secrets, signer })
}

/// The headers that one side of a proxy passes on to the other: none that is about a single connection.
pub fn passable(headers: &HeaderMap) -> HeaderMap {
    let listed: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let withheld = |name: &HeaderName| {
        WITHHELD.contains(name)
            || WITHHELD_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
            || listed.iter().any(|listed| listed == name.as_str())
    };
    headers.iter().filter(|(name, _)| !withheld(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
