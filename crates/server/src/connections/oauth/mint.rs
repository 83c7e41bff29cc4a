//! Getting a token by one request, or by a signature, as `userAuth` of the type `token` describes it.
//!
//! It can be done again at any time, since what it takes was entered and is kept. Nothing that it sends shows in an error.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, Request, Response, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded::Serializer};
use weft_model::{
    Fault,
    manifest::{
        fields::{Missing, Piece, fill, fill_in, names, pieces, written},
        token_auth::{Basic, JWT, TokenAuth, TokenMethod, TokenRequest, UUID},
    },
};

use super::{
    assertion::{Draft, Unsigned, lasts},
    client::{LIMITS, NoToken, Tokens, is_secure, scope, seconds},
};
use crate::{
    connections::error::{Error, plain},
    http::outbound::Outbound,
    secrets::Masks,
};

/// What may stand in an address as it is.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Where vendors say what they refuse, and why.
const CODES: [&str; 4] = ["/error", "/error/code", "/code", "/error/status"];
const REASONS: [&str; 5] = ["/error_description", "/error/message", "/message", "/detail", "/error_message"];
/// Codes that are about whoever asks, not about the account.
const ABOUT_CLIENTS: [&str; 2] = ["invalid_client", "unauthorized_client"];
/// Members of an answer that no executor gets.
const WITHHELD: [&str; 4] = ["refresh_token", "refreshToken", "id_token", "idToken"];

/// What a token is got with.
pub struct Mint<'a> {
    pub auth: &'a TokenAuth,
    pub outbound: &'a Outbound,
    /// Whether a secret of the configuration speaks for what is entered.
    pub vouches: bool,
    pub config: Map<String, Value>,
    pub config_masks: Masks,
    pub entered: &'a Map<String, Value>,
    pub now: DateTime<Utc>,
}

impl Mint<'_> {
    /// A new token, or why there is none. An error: nobody was asked.
    pub async fn token(&self) -> Result<Result<Tokens, NoToken>, Error> {
        let signed = match self.signed().await? {
            Ok(signed) => signed,
            Err(no_token) => return Ok(Err(no_token)),
        };
        let Some(request) = &self.auth.request else { return Ok(Ok(self.own(signed.unwrap_or_default()))) };
        let request = self.request(request, signed.as_deref())?;
        let answer = match self.outbound.send(request, LIMITS).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(NoToken::Unknown(error.to_string()))),
        };
        Ok(self.read(&answer, signed.as_deref()))
    }

    /// What a connection is called that says nothing itself.
    pub fn label(&self) -> Option<String> {
        let template = self.auth.label.as_deref()?;
        fill(template, &|name| self.field(name, None)).ok().flatten().map(|label| written(&label))
    }

    fn field(&self, name: &str, jwt: Option<&str>) -> Option<Value> {
        match name {
            JWT => jwt.map(Value::from),
            UUID => Some(uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string().into()),
            entered if self.auth.enters(entered) => self.entered.get(entered).filter(|value| *value != "").cloned(),
            configured => self.config.get(configured).cloned(),
        }
    }

    /// Whose fault it is that something has no value.
    fn missing(&self, Missing(name): Missing) -> Error {
        if self.auth.enters(&name) {
            let path = format!("$.credentials.{name}");
            return Error::Invalid(vec![Fault::new(path, "is needed to get a token")]);
        }
        Error::NoClient(name)
    }

    async fn signed(&self) -> Result<Result<Option<String>, NoToken>, Error> {
        let Some(jwt) = &self.auth.jwt else { return Ok(Ok(None)) };
        let draft = Draft::new(jwt, &|name| self.field(name, None), self.now);
        let signed = match draft {
            Ok(draft) => match tokio::task::spawn_blocking(move || draft.sign()).await {
                Ok(signed) => signed,
                Err(_) => return Ok(Err(NoToken::Unknown("signing broke off".to_owned()))),
            },
            Err(unsigned) => Err(unsigned),
        };
        match signed {
            Ok(token) => Ok(Ok(Some(token))),
            Err(Unsigned::Missing(missing)) => Err(self.missing(missing)),
            Err(Unsigned::Key(problem)) => {
                let field = names(&jwt.key).first().copied().unwrap_or_default().to_owned();
                if self.auth.enters(&field) {
                    return Err(Error::Invalid(vec![Fault::new(format!("$.credentials.{field}"), problem)]));
                }
                Ok(Err(NoToken::Client(format!("'{field}' {problem}"))))
            }
        }
    }

    /// The signed token as the token itself.
    fn own(&self, signed: String) -> Tokens {
        let lifetime = self.auth.jwt.as_ref().and_then(|jwt| lasts(jwt).to_std().ok());
        Tokens {
            access: signed,
            refresh: None,
            kind: "bearer".to_owned(),
            lifetime,
            scope: None,
            label: None,
            response: Map::new(),
        }
    }

    fn request(&self, wanted: &TokenRequest, jwt: Option<&str>) -> Result<Request<Vec<u8>>, Error> {
        let field = |name: &str| self.field(name, jwt);
        let text = |template: &str| match fill(template, &field) {
            Ok(value) => Ok(value.map(|value| written(&value))),
            Err(missing) => Err(self.missing(missing)),
        };
        let method = match wanted.method {
            TokenMethod::Get => Method::GET,
            TokenMethod::Post => Method::POST,
            TokenMethod::Put => Method::PUT,
        };
        let url = self.address(&wanted.url, jwt)?;
        let mut request = Request::new(Vec::new());
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(|_| Error::InsecureAddress(wanted.url.clone()))?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(Basic { username, password }) = &wanted.basic {
            let pair = format!("{}:{}", text(username)?.unwrap_or_default(), text(password)?.unwrap_or_default());
            headers.insert(header::AUTHORIZATION, header_value("authorization", &format!("Basic {}", STANDARD.encode(pair)))?);
        }
        let mut body = Vec::new();
        if let Some(form) = &wanted.form {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            let mut written = Serializer::new(String::new());
            for (name, template) in form {
                if let Some(value) = text(template)? {
                    written.append_pair(name, &value);
                }
            }
            body = written.finish().into_bytes();
        } else if let Some(template) = &wanted.json {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let document = fill_in(template, &field).map_err(|missing| self.missing(missing))?;
            body = document.unwrap_or_default().to_string().into_bytes();
        }
        for (name, template) in &wanted.headers {
            if let Some(value) = text(template)? {
                let header = HeaderName::try_from(name).map_err(|_| Error::InvalidRequest(format!("'{name}' is no header")))?;
                headers.insert(header, header_value(name, &value)?);
            }
        }
        *request.body_mut() = body;
        Ok(request)
    }

    /// An address with its fields' values. What people enter is a part of it and nothing more, unless it is the beginning.
    pub fn address(&self, template: &str, jwt: Option<&str>) -> Result<Url, Error> {
        let mut text = String::new();
        let mut asked = None;
        for (index, piece) in pieces(template).into_iter().enumerate() {
            let name = match piece {
                Piece::Literal(literal) => {
                    text.push_str(literal);
                    continue;
                }
                Piece::Field(name) => name,
            };
            let value = self.field(name, jwt).ok_or_else(|| self.missing(Missing(name.to_owned())))?;
            let value = written(&value);
            if !self.auth.enters(name) {
                text.push_str(&value);
                continue;
            }
            asked = asked.or(Some(name));
            if index == 0 {
                text.push_str(value.trim_end_matches('/'));
            } else if [".", ".."].contains(&value.as_str()) {
                return Err(unfit(name));
            } else {
                text.extend(utf8_percent_encode(&value, PART));
            }
        }
        Url::parse(&text).ok().filter(is_secure).ok_or_else(|| match asked {
            Some(name) => unfit(name),
            None => Error::InsecureAddress(template.to_owned()),
        })
    }

    fn read(&self, answer: &Response<Vec<u8>>, signed: Option<&str>) -> Result<Tokens, NoToken> {
        let status = answer.status();
        let told = |status| NoToken::Unknown(format!("it answered {status}"));
        // Too many requests is no word about the account, and some say it with 403.
        let later = [408, 425, 429].contains(&status.as_u16()) || answer.headers().contains_key(header::RETRY_AFTER);
        if status.is_server_error() || status.is_redirection() || (later && !status.is_success()) {
            return Err(told(status));
        }
        let body = serde_json::from_slice::<Value>(answer.body()).ok();
        let mapping = &self.auth.response_mapping;
        let pointer = mapping.access_token.as_deref().unwrap_or("/access_token");
        let token = body.as_ref().and_then(|body| body.pointer(pointer)).filter(|value| value.is_string() || value.is_number());
        match (body.as_ref(), token) {
            (Some(body), Some(token)) if status.is_success() && *token != "" => Ok(self.tokens(body, (pointer, &written(token)))),
            (body, _) => Err(self.refusal(status.as_u16(), body, (pointer, signed))),
        }
    }

    fn tokens(&self, body: &Value, (pointer, token): (&str, &str)) -> Tokens {
        let mapping = &self.auth.response_mapping;
        let at = |pointer: &Option<String>, usual: &str| body.pointer(pointer.as_deref().unwrap_or(usual));
        let lifetime = at(&mapping.expires_in, "/expires_in").and_then(seconds).map(Duration::from_secs);
        let until = mapping.expires_at.as_deref().and_then(|pointer| body.pointer(pointer)).and_then(time);
        let lifetime = lifetime.or_else(|| until.map(|until| (until - self.now).to_std().unwrap_or_default()));
        let label = mapping.label.as_deref().and_then(|pointer| body.pointer(pointer)).map(written);
        let mut rest = body.clone();
        remove(&mut rest, pointer);
        let mut response = rest.as_object().cloned().unwrap_or_default();
        response.retain(|name, _| !WITHHELD.contains(&name.as_str()));
        Tokens {
            access: token.to_owned(),
            refresh: None,
            kind: body.get("token_type").and_then(Value::as_str).unwrap_or("bearer").to_owned(),
            lifetime: lifetime.or(self.auth.expires_in.map(Duration::from_secs)),
            scope: at(&mapping.scope, "/scope").and_then(scope),
            label,
            response,
        }
    }

    /// What a vendor says in place of a token. It may quote what it was sent.
    fn refusal(&self, status: u16, body: Option<&Value>, (pointer, signed): (&str, Option<&str>)) -> NoToken {
        let masks = self.masks(signed);
        let said = |places: &[&str]| {
            let found = places.iter().find_map(|place| body?.pointer(place)?.as_str());
            found.map(|text| plain(&self.config_masks.text(&masks.text(text))))
        };
        let (code, reason) = (said(&CODES), said(&REASONS));
        if (200..300).contains(&status) && code.is_none() {
            return NoToken::Garbled(format!("its answer has no token at {pointer}"));
        }
        let about_client = status == 401 || code.as_deref().is_some_and(|code| ABOUT_CLIENTS.contains(&code));
        let code = code.filter(|code| !code.contains(' ')).unwrap_or_else(|| format!("http_{status}"));
        let description = reason.map(|text| format!(" ({text})")).unwrap_or_default();
        let nobody_entered = self.auth.schema.is_none();
        if nobody_entered || (about_client && self.vouches) {
            return NoToken::Client(format!("{code}{description}"));
        }
        NoToken::Refused { code, description }
    }

    /// What was sent and must not show: what is signed is good for a while.
    fn masks(&self, signed: Option<&str>) -> Masks {
        let withheld = self.auth.withheld();
        let secret = |name: &String| self.entered.get(name).and_then(Value::as_str);
        Masks::new(withheld.iter().filter_map(secret).chain(signed))
    }
}

fn unfit(name: &str) -> Error {
    Error::Invalid(vec![Fault::new(format!("$.credentials.{name}"), "makes no https address")])
}

fn header_value(name: &str, text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::InvalidRequest(format!("the header '{name}' would hold characters that cannot stand in one")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A time as RFC 3339 has it, or in seconds or milliseconds of the epoch.
fn time(value: &Value) -> Option<DateTime<Utc>> {
    const MILLISECONDS_FROM: i64 = 100_000_000_000;
    if let Some(at) = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()) {
        return Some(at.to_utc());
    }
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok())?;
    if number < MILLISECONDS_FROM { DateTime::from_timestamp(number, 0) } else { DateTime::from_timestamp_millis(number) }
}

fn remove(body: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    if let Some(object) = body.pointer_mut(parent).and_then(Value::as_object_mut) {
        object.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_come_in_three_ways() {
        let expected = DateTime::from_timestamp(1_800_000_000, 0);
        for value in [json!("2027-01-15T08:00:00Z"), json!(1_800_000_000), json!("1800000000"), json!(1_800_000_000_000_i64)] {
            assert_eq!(time(&value), expected, "{value}");
        }
        assert_eq!(time(&json!("soon")), None);
    }

    #[test]
    fn what_is_passed_on_of_an_answer_is_not_the_token() {
        let mut body = json!({ "data": { "token": "t", "user": "ada" }, "ok": true });
        remove(&mut body, "/data/token");
        assert_eq!(body, json!({ "data": { "user": "ada" }, "ok": true }));
    }
}
