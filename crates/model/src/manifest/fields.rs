//! Texts and documents in which `{name}` stands for a field: of the configuration, or of what people enter.
//!
//! Only a name in braces is one; any other brace is a character. A text that is one field and nothing else becomes the field's
//! value, of whatever type, and is left out where the field has none.

use serde_json::{Map, Value};

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    Literal(&'a str),
    Field(&'a str),
}

/// A field that a text needs and that has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub String);

/// The parts of a text.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut found, mut rest, mut from) = (Vec::new(), text, 0);
    while let Some(open) = rest.get(from..).and_then(|tail| tail.find('{')).map(|at| at + from) {
        let named = rest.get(open + 1..).and_then(|tail| tail.split_once('}')).filter(|(name, _)| is_name(name));
        let Some((name, after)) = named else {
            from = open + 1;
            continue;
        };
        found.extend(rest.get(..open).filter(|literal| !literal.is_empty()).map(Piece::Literal));
        found.push(Piece::Field(name));
        (rest, from) = (after, 0);
    }
    found.extend(Some(rest).filter(|literal| !literal.is_empty()).map(Piece::Literal));
    found
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The fields that a text names.
pub fn names(text: &str) -> Vec<&str> {
    let field = |piece| if let Piece::Field(name) = piece { Some(name) } else { None };
    pieces(text).into_iter().filter_map(field).collect()
}

/// The fields that the texts of a document name.
pub fn names_in(document: &Value) -> Vec<&str> {
    match document {
        Value::String(text) => names(text),
        Value::Array(items) => items.iter().flat_map(names_in).collect(),
        Value::Object(members) => members.values().flat_map(names_in).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// A text with its fields' values; `None` where it is one field and that has none.
pub fn fill(text: &str, field: &impl Fn(&str) -> Option<Value>) -> Result<Option<Value>, Missing> {
    let value = |name: &str| field(name).filter(|value| !value.is_null());
    let pieces = pieces(text);
    if let [Piece::Field(name)] = pieces.as_slice() {
        return Ok(value(name));
    }
    let mut filled = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => filled.push_str(literal),
            Piece::Field(name) => filled.push_str(&written(&value(name).ok_or_else(|| Missing(name.to_owned()))?)),
        }
    }
    Ok(Some(Value::String(filled)))
}

/// A document with its fields' values. Members and items whose field has none are left out.
pub fn fill_in(document: &Value, field: &impl Fn(&str) -> Option<Value>) -> Result<Option<Value>, Missing> {
    match document {
        Value::String(text) => fill(text, field),
        Value::Array(items) => {
            let items = items.iter().filter_map(|item| fill_in(item, field).transpose());
            items.collect::<Result<Vec<_>, _>>().map(|items| Some(Value::Array(items)))
        }
        Value::Object(members) => {
            let mut filled = Map::new();
            for (name, member) in members {
                if let Some(value) = fill_in(member, field)? {
                    filled.insert(name.clone(), value);
                }
            }
            Ok(Some(Value::Object(filled)))
        }
        other => Ok(Some(other.clone())),
    }
}

/// What is wrong with an address that names fields of the configuration.
pub fn address_fault(url: &str, is_configured: impl Fn(&str) -> bool) -> Option<String> {
    if let Some(field) = names(url).into_iter().find(|field| !is_configured(field)) {
        return Some(format!("configSchema has no field '{field}'"));
    }
    (!may_be_web(url)).then(|| "must be an https address".to_owned())
}

/// Whether an address can be one of the web: it says so, or begins with a field that does.
pub fn may_be_web(url: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) || matches!(pieces(url).first(), Some(Piece::Field(_)))
}

/// A value as it stands in a text.
pub fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(name: &str) -> Option<Value> {
        json!({ "id": 7, "name": "Ada", "nothing": null }).get(name).cloned()
    }

    #[test]
    fn only_a_name_in_braces_is_a_field() {
        let all = pieces("{id}-{ {name} {\"a\"}{");
        let expected = [Piece::Field("id"), Piece::Literal("-{ "), Piece::Field("name"), Piece::Literal(" {\"a\"}{")];
        assert_eq!(all, expected);
        assert_eq!(names_in(&json!({ "a": ["{x}", 1], "b": { "c": "{y}/{z}" } })), ["x", "y", "z"]);
    }

    #[test]
    fn a_field_alone_keeps_its_type_and_is_left_out_without_a_value() {
        let filled =
            fill_in(&json!({ "iss": "{id}", "sub": "{nothing}", "text": "{name}/{id}", "list": ["{gone}", true] }), &field);
        assert_eq!(filled, Ok(Some(json!({ "iss": 7, "text": "Ada/7", "list": [true] }))));
        assert_eq!(fill("to {gone}", &field), Err(Missing("gone".to_owned())));
        assert_eq!(fill("{gone}", &field), Ok(None));
    }
}
