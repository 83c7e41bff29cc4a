//! Values as PostgreSQL writes them, as JSON and back. Pure, apart from reading a row's bytes.
//!
//! Numbers that JavaScript cannot hold stay texts. Whatever has no counterpart in JSON is the text that PostgreSQL has for it.

use serde_json::{Number, Value};
use sqlx::{Row, ValueRef, postgres::PgRow};

/// The largest whole number up to which JavaScript holds all of them.
const LARGEST_INTEGER: u64 = (1 << 53) - 1;
/// Digits of a decimal number that a double holds for sure.
const SURE_DIGITS: usize = 15;

/// The types that are not just text, by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Boolean,
    /// A whole number, or one that is a double in PostgreSQL too.
    Number,
    Decimal,
    Json,
    Time,
    Text,
}

fn shape(oid: u32) -> (Shape, bool) {
    match oid {
        16 => (Shape::Boolean, false),
        20 | 21 | 23 | 26 | 700 | 701 => (Shape::Number, false),
        1700 => (Shape::Decimal, false),
        114 | 3802 => (Shape::Json, false),
        1114 | 1184 => (Shape::Time, false),
        1000 => (Shape::Boolean, true),
        1005 | 1007 | 1016 | 1021 | 1022 => (Shape::Number, true),
        1231 => (Shape::Decimal, true),
        199 | 3807 => (Shape::Json, true),
        1115 | 1185 => (Shape::Time, true),
        // Of texts, names, UUIDs, dates.
        1009 | 1015 | 1014 | 1003 | 2951 | 1182 => (Shape::Text, true),
        _ => (Shape::Text, false),
    }
}

/// A row's values, and how many bytes they came in.
pub fn values(row: &PgRow) -> sqlx::Result<(Vec<Value>, usize)> {
    let mut bytes = 0;
    let values = (0..row.len()).map(|index| {
        let value = row.try_get_raw(index)?;
        if value.is_null() {
            return Ok(Value::Null);
        }
        let oid = value.type_info().oid().map_or(0, |oid| oid.0);
        let text = value.as_str().map_err(sqlx::Error::Decode)?;
        bytes += text.len();
        let (shape, is_list) = shape(oid);
        Ok(if is_list { array(text, shape) } else { scalar(text, shape) })
    });
    let values = values.collect::<sqlx::Result<_>>()?;
    Ok((values, bytes))
}

fn scalar(text: &str, shape: Shape) -> Value {
    let plain = || Value::String(text.to_owned());
    match shape {
        Shape::Boolean => Value::Bool(text == "t"),
        Shape::Number => number(text).map_or_else(plain, Value::Number),
        Shape::Decimal => Some(text).filter(|text| is_sure(text)).and_then(number).map_or_else(plain, Value::Number),
        Shape::Json => serde_json::from_str(text).unwrap_or_else(|_| plain()),
        Shape::Time => Value::String(moment(text)),
        Shape::Text => plain(),
    }
}

/// A number, if JavaScript has it.
fn number(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse::<i64>() {
        return (whole.unsigned_abs() <= LARGEST_INTEGER).then(|| whole.into());
    }
    text.parse().ok().and_then(Number::from_f64)
}

/// Whether a double holds every digit.
fn is_sure(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_digit).count() <= SURE_DIGITS
}

/// `2026-03-15 10:30:00+00` as `2026-03-15T10:30:00+00:00`.
fn moment(text: &str) -> String {
    let text = text.replacen(' ', "T", 1);
    let has_short_offset = text.len() > 3 && text.get(text.len() - 3..).is_some_and(|end| end.starts_with(['+', '-']));
    if has_short_offset && text.contains('T') { format!("{text}:00") } else { text }
}

/// An array as PostgreSQL writes it; one of arrays, or with bounds of its own, stays a text.
fn array(text: &str, shape: Shape) -> Value {
    if !text.starts_with('{') || text.starts_with("{{") {
        return Value::String(text.to_owned());
    }
    let item = |item: Option<String>| item.map_or(Value::Null, |item| scalar(&item, shape));
    Value::Array(items(text).into_iter().map(item).collect())
}

/// The items of an array's text; nothing for null.
pub fn items(text: &str) -> Vec<Option<String>> {
    let inner = text.trim_start_matches('{').strip_suffix('}').unwrap_or_default();
    let (mut items, mut item, mut quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let mut end = |item: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(item);
        let is_null = !std::mem::take(was_quoted) && text == "NULL";
        items.push((!is_null).then_some(text));
    };
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => item.extend(characters.next()),
            '"' => (quoted, was_quoted) = (!quoted, true),
            ',' if !quoted => end(&mut item, &mut was_quoted),
            other => item.push(other),
        }
    }
    if !inner.is_empty() {
        end(&mut item, &mut was_quoted);
    }
    items
}

/// A list of JSON as the text of an array.
pub fn list(values: &[Value]) -> String {
    let item = |value: &Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::Array(values) => list(values),
        Value::String(text) => quoted(text),
        other => quoted(&other.to_string()),
    };
    format!("{{{}}}", values.iter().map(item).collect::<Vec<_>>().join(","))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_what_javascript_has_for_them() {
        assert_eq!(scalar("t", Shape::Boolean), json!(true));
        assert_eq!(scalar("42", Shape::Number), json!(42));
        assert_eq!(scalar("0.1", Shape::Number), json!(0.1));
        assert_eq!(scalar("9007199254740993", Shape::Number), json!("9007199254740993"));
        assert_eq!(scalar("1234567890123456.5", Shape::Decimal), json!("1234567890123456.5"));
        assert_eq!(scalar("1.25", Shape::Decimal), json!(1.25));
        assert_eq!(scalar("NaN", Shape::Number), json!("NaN"));
        assert_eq!(scalar(r#"{"a": 1}"#, Shape::Json), json!({ "a": 1 }));
        assert_eq!(scalar("2026-03-15 10:30:00.5+00", Shape::Time), json!("2026-03-15T10:30:00.5+00:00"));
        assert_eq!(scalar("2026-03-15 10:30:00", Shape::Time), json!("2026-03-15T10:30:00"));
    }

    #[test]
    fn arrays_survive_their_way_as_text() {
        let values = json!(["a", "b,c", "d\"e\\f", "", null, "NULL"]);
        let text = list(values.as_array().expect("a list"));
        assert_eq!(array(&text, Shape::Text), values);
        assert_eq!(array("{1,2}", Shape::Number), json!([1, 2]));
        assert_eq!(array("{}", Shape::Text), json!([]));
        assert_eq!(items("{uuid,text[]}"), [Some("uuid".to_owned()), Some("text[]".to_owned())]);
    }
}
