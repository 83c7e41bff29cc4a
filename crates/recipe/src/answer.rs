//! One answer of a vendor: its status, headers and body as JSON, and what an action makes of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Response, header};
use serde_json::{Map, Value};

use crate::{Failure, document::ResponseKind, expression::Scope, template::Node};

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

/// What an action's result is made of.
#[derive(Debug, Default)]
pub struct Mapping {
    pub kind: Option<ResponseKind>,
    pub select: Option<String>,
    pub each: Option<Node>,
    pub template: Option<Node>,
}

impl Answer {
    /// Reads an answer. One that tells of an error is read as whatever it is, so that its text can be shown.
    pub fn read(response: Response<Bytes>, kind: Option<ResponseKind>) -> Result<Self, Failure> {
        let (head, bytes) = response.into_parts();
        let kind = if head.status.is_success() { kind } else { None };
        let body = match kind {
            Some(ResponseKind::None) => Value::Null,
            Some(ResponseKind::Base64) => Value::String(STANDARD.encode(&bytes)),
            Some(ResponseKind::Text) => text(&bytes),
            Some(ResponseKind::Json) => json(&bytes)?,
            None if is_json(&head.headers) && head.status.is_success() => json(&bytes)?,
            None => json(&bytes).ok().filter(|body| is_json(&head.headers) || !body.is_string()).unwrap_or_else(|| text(&bytes)),
        };
        Ok(Self { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// What expressions about an answer see: never the configuration or the credentials.
    pub fn scope<'a>(&'a self, input: &'a Value) -> Scope<'a> {
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.insert(name.as_str().to_owned(), Value::String(value));
        }
        Scope::default()
            .with("body", &self.body)
            .with_own("headers", Value::Object(headers))
            .with_own("status", Value::from(self.status))
            .with("input", input)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Mapping {
    /// The result of an answer that is no list of pages.
    pub fn result(&self, mut answer: Answer, input: &Value) -> Result<Value, Failure> {
        if let Some(template) = &self.template {
            return made(template, &answer.scope(input));
        }
        let selected = match &self.select {
            None => answer.body,
            Some(pointer) => answer.body.pointer_mut(pointer).map(Value::take).unwrap_or_default(),
        };
        self.each(selected, input)
    }

    /// The result of pages: a list, or what the template makes of it.
    pub fn of_items(&self, items: Vec<Value>, last: &Answer, more: bool, input: &Value) -> Result<Value, Failure> {
        let items = self.each(Value::Array(items), input)?;
        match &self.template {
            Some(template) => made(template, &last.scope(input).with("items", &items).with_own("more", Value::Bool(more))),
            None => Ok(items),
        }
    }

    fn each(&self, value: Value, input: &Value) -> Result<Value, Failure> {
        let (Some(node), Value::Array(items)) = (&self.each, &value) else { return Ok(value) };
        // The input may be large: it is converted once, and shared.
        let about_all = Scope::default().with("input", input);
        let item = |item: &Value| {
            let scope = about_all.clone().with("item", item);
            node.render(&scope).map(|value| value.unwrap_or(Value::Null)).map_err(|error| unmapped("each", &error))
        };
        items.iter().map(item).collect::<Result<_, _>>().map(Value::Array)
    }
}

fn made(template: &Node, scope: &Scope<'_>) -> Result<Value, Failure> {
    template.render(scope).map(|value| value.unwrap_or(Value::Null)).map_err(|error| unmapped("template", &error))
}

fn unmapped(member: &str, error: &str) -> Failure {
    Failure::answer(format!("the vendor's answer does not fit the recipe: response.{member}: {error}"))
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.contains("json"))
}

fn json(bytes: &Bytes) -> Result<Value, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).map_err(|_| Failure::answer("the vendor's answer says that it is JSON and is none"))
}

fn text(bytes: &Bytes) -> Value {
    if bytes.is_empty() { Value::Null } else { Value::String(String::from_utf8_lossy(bytes).into_owned()) }
}
