//! Bodies: JSON, forms, multipart with files, text, bytes.

use base64::{Engine, engine::general_purpose};
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    Failure,
    document::{self, Arrays},
    expression::Scope,
    parameters,
    template::{Node, Nulls, Text, as_text},
};

/// A compiled body.
#[derive(Debug)]
pub enum Body {
    Json(Node),
    Form(Node),
    Multipart(Vec<Part>),
    Text(Text),
    Bytes(Text),
}

#[derive(Debug)]
pub struct Part {
    name: String,
    value: Option<Text>,
    base64: Option<Text>,
    file_name: Option<Text>,
    content_type: Option<Text>,
}

/// What is sent.
pub struct Written {
    pub content_type: String,
    pub bytes: Bytes,
}

impl Body {
    pub fn compile(body: &document::Body, path: &str, fault: &mut impl FnMut(String, String)) -> Self {
        match body {
            document::Body::Json(document) => Self::Json(Node::compile(document, &format!("{path}.json"), fault)),
            document::Body::Form(document) => {
                if !document.is_object() && !document.is_string() {
                    fault(format!("{path}.form"), "a form is an object".to_owned());
                }
                Self::Form(Node::compile(document, &format!("{path}.form"), fault))
            }
            document::Body::Text(text) => Self::Text(compile(text, &format!("{path}.text"), fault)),
            document::Body::Bytes(text) => Self::Bytes(compile(text, &format!("{path}.bytes"), fault)),
            document::Body::Multipart(parts) => {
                let part = |(index, part)| Part::compile(part, &format!("{path}.multipart[{index}]"), fault);
                Self::Multipart(parts.iter().enumerate().map(part).collect())
            }
        }
    }

    pub fn uses(&self, path: &str) -> Vec<(String, std::collections::BTreeSet<String>)> {
        match self {
            Self::Json(node) => node.uses(&format!("{path}.json")),
            Self::Form(node) => node.uses(&format!("{path}.form")),
            Self::Text(text) => vec![(format!("{path}.text"), text.uses())],
            Self::Bytes(text) => vec![(format!("{path}.bytes"), text.uses())],
            Self::Multipart(parts) => parts
                .iter()
                .enumerate()
                .map(|(index, part)| (format!("{path}.multipart[{index}]"), part.texts().flat_map(Text::uses).collect()))
                .collect(),
        }
    }

    /// What is sent; `page` is laid over a JSON body or a form, for vendors that take their cursor there.
    pub fn write(
        &self,
        scope: &Scope<'_>,
        arrays: Arrays,
        page: &[(String, Value)],
        random: u64,
    ) -> Result<Option<Written>, Failure> {
        let invalid = |error: String| Failure::input(format!("body: {error}"));
        match self {
            Self::Json(node) => {
                let Some(document) = node.render_with(scope, Nulls::Kept).map_err(invalid)? else { return Ok(None) };
                let bytes = serde_json::to_vec(&overlaid(document, page)).map_err(|error| invalid(error.to_string()))?;
                Ok(Some(Written { content_type: "application/json".to_owned(), bytes: bytes.into() }))
            }
            Self::Form(node) => {
                let Some(document) = node.render(scope).map_err(invalid)? else { return Ok(None) };
                let mut pairs = Vec::new();
                for (name, value) in overlaid(document, page).as_object().into_iter().flatten() {
                    parameters::flatten(name, value, arrays, &mut pairs);
                }
                let content_type = "application/x-www-form-urlencoded".to_owned();
                Ok(Some(Written { content_type, bytes: parameters::form(&pairs).into() }))
            }
            Self::Text(text) => Ok(text
                .render_text(scope)
                .map_err(invalid)?
                .map(|text| Written { content_type: "text/plain; charset=utf-8".to_owned(), bytes: text.into() })),
            Self::Bytes(text) => {
                let Some(text) = text.render_text(scope).map_err(invalid)? else { return Ok(None) };
                let content_type = "application/octet-stream".to_owned();
                Ok(Some(Written { content_type, bytes: decoded(&text).map_err(invalid)?.into() }))
            }
            Self::Multipart(parts) => multipart(parts, scope, random).map(Some),
        }
    }
}

fn compile(text: &str, path: &str, fault: &mut impl FnMut(String, String)) -> Text {
    Text::compile(text).unwrap_or_else(|message| {
        fault(path.to_owned(), message);
        Text::Literal(String::new())
    })
}

impl Part {
    fn compile(part: &document::Part, path: &str, fault: &mut impl FnMut(String, String)) -> Self {
        if part.value.is_some() == part.base64.is_some() {
            fault(path.to_owned(), "a part has either a value or base64".to_owned());
        }
        let mut text = |member: &str, source: &Option<String>| {
            source.as_ref().map(|source| compile(source, &format!("{path}.{member}"), fault))
        };
        Self {
            value: text("value", &part.value),
            base64: text("base64", &part.base64),
            file_name: text("fileName", &part.file_name),
            content_type: text("contentType", &part.content_type),
            name: part.name.clone(),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &Text> {
        [&self.value, &self.base64, &self.file_name, &self.content_type].into_iter().flatten()
    }
}

/// The document with the page in it, at names or at pointers.
fn overlaid(mut document: Value, page: &[(String, Value)]) -> Value {
    for (name, value) in page {
        if let Some(pointer) = name.strip_prefix('/') {
            let path: Vec<_> = pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
            set(&mut document, &path, value);
        } else if let Value::Object(members) = &mut document {
            members.insert(name.clone(), value.clone());
        }
    }
    document
}

/// Sets what a path leads to; objects on the way that are not there come about.
fn set(document: &mut Value, path: &[String], value: &Value) {
    let Some((name, rest)) = path.split_first() else {
        *document = value.clone();
        return;
    };
    if document.is_null() {
        *document = Value::Object(Map::new());
    }
    let member = match document {
        Value::Object(members) => Some(members.entry(name.as_str()).or_insert(Value::Null)),
        Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
        _ => None,
    };
    if let Some(member) = member {
        set(member, rest, value);
    }
}

/// Base64 in either alphabet, with or without padding and line ends.
fn decoded(text: &str) -> Result<Vec<u8>, String> {
    let plain: String = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '=').collect();
    general_purpose::STANDARD_NO_PAD
        .decode(&plain)
        .or_else(|_| general_purpose::URL_SAFE_NO_PAD.decode(&plain))
        .map_err(|_| "the file is not Base64".to_owned())
}

fn multipart(parts: &[Part], scope: &Scope<'_>, random: u64) -> Result<Written, Failure> {
    let boundary = format!("weft-{random:016x}");
    let mut bytes = Vec::new();
    for part in parts {
        let invalid = |error: String| Failure::input(format!("body, part '{}': {error}", part.name));
        let text = |text: &Option<Text>| match text {
            Some(text) => text.render_text(scope),
            None => Ok(None),
        };
        let content = match (&part.value, &part.base64) {
            (Some(value), _) => match value.render(scope).map_err(invalid)? {
                // Lists and objects are written as JSON, which is what vendors take in a part.
                Some(value) => as_text(&value).unwrap_or_else(|_| value.to_string()).into_bytes(),
                None => continue,
            },
            (None, _) => match text(&part.base64).map_err(invalid)? {
                Some(encoded) => decoded(&encoded).map_err(invalid)?,
                None => continue,
            },
        };
        let file_name = text(&part.file_name).map_err(invalid)?.map(|name| format!("; filename=\"{}\"", quoted(&name)));
        let content_type = text(&part.content_type).map_err(invalid)?;
        if content_type.as_deref().is_some_and(|kind| kind.chars().any(char::is_control)) {
            return Err(invalid("the content type holds control characters".to_owned()));
        }
        let content_type = content_type.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"{}\r\n{content_type}\r\n",
            quoted(&part.name),
            file_name.unwrap_or_default(),
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&content);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Ok(Written { content_type: format!("multipart/form-data; boundary={boundary}"), bytes: bytes.into() })
}

/// As the WHATWG writes names in multipart headers.
fn quoted(text: &str) -> String {
    text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
