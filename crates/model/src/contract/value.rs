//! Types of fields, and reading a value of one from JSON or from the text of a query string. What does not fit is refused with
//! the reason; nothing turns silently into another value.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    #[serde(rename = "text", alias = "string", alias = "file")]
    Text,
    #[serde(rename = "number")]
    Number,
    #[serde(rename = "boolean")]
    Boolean,
    #[serde(rename = "date")]
    Date,
    #[serde(rename = "timestamp")]
    Timestamp,
    #[serde(rename = "json")]
    Json,
    #[serde(rename = "uuid", alias = "entity_link")]
    Uuid,
    #[serde(rename = "[text]")]
    TextList,
    #[serde(rename = "[number]")]
    NumberList,
}

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Text(String),
    Number(f64),
    Boolean(bool),
    Date(NaiveDate),
    Timestamp(DateTime<Utc>),
    Json(Value),
    Uuid(Uuid),
    TextList(Vec<String>),
    NumberList(Vec<f64>),
}

impl Kind {
    /// What a value of this type looks like, for whoever sent another one.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Date => "a date such as \"2026-03-15\"",
            Self::Timestamp => "a time with its offset such as \"2026-03-15T10:30:00Z\"",
            Self::Json => "any JSON",
            Self::Uuid => "a UUID",
            Self::TextList => "a list of texts",
            Self::NumberList => "a list of numbers",
        }
    }

    /// Reads a value. `null` is of every type.
    pub fn read(self, value: &Value) -> Result<Cell, String> {
        let wrong = || format!("must be {}", self.expected());
        let cell = match (self, value) {
            (_, Value::Null) => Some(Cell::Null),
            (Self::Json, value) => Some(Cell::Json(value.clone())),
            (Self::Text, Value::String(text)) => Some(Cell::Text(storable(text)?)),
            (Self::Number, Value::Number(number)) => Some(Cell::Number(exact(number)?)),
            (Self::Boolean, Value::Bool(value)) => Some(Cell::Boolean(*value)),
            (Self::TextList, Value::Array(items)) => {
                let texts = items.iter().map(|item| item.as_str().ok_or_else(wrong).and_then(storable));
                Some(Cell::TextList(texts.collect::<Result<_, _>>()?))
            }
            (Self::NumberList, Value::Array(items)) => {
                let numbers = items.iter().map(|item| item.as_number().ok_or_else(wrong).and_then(exact));
                Some(Cell::NumberList(numbers.collect::<Result<_, _>>()?))
            }
            // Forms send everything as text.
            (Self::Number | Self::Boolean | Self::Date | Self::Timestamp | Self::Uuid, Value::String(text)) => {
                return self.read_text(text);
            }
            _ => None,
        };
        cell.ok_or_else(wrong)
    }

    /// Reads a value from text, as it stands in a query string.
    pub fn read_text(self, text: &str) -> Result<Cell, String> {
        let cell = match self {
            Self::Text => Some(Cell::Text(storable(text)?)),
            Self::Number => match text.parse::<i128>() {
                Ok(whole) if !is_kept(whole) => return Err(TOO_LONG.to_owned()),
                _ => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Cell::Number),
            },
            Self::Boolean => match text {
                "true" | "1" => Some(Cell::Boolean(true)),
                "false" | "0" => Some(Cell::Boolean(false)),
                _ => None,
            },
            Self::Date => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|date| in_range(date.year())).map(Cell::Date),
            Self::Timestamp => DateTime::parse_from_rfc3339(text)
                .ok()
                .map(|time| time.with_timezone(&Utc))
                .filter(|time| in_range(time.year()))
                .map(Cell::Timestamp),
            Self::Uuid => text.parse().ok().map(Cell::Uuid),
            Self::Json | Self::TextList | Self::NumberList => {
                return serde_json::from_str(text).map_err(|_| format!("must be {}, written as JSON", self.expected())).and_then(
                    |value: Value| if value.is_null() { Err("cannot be null here".to_owned()) } else { self.read(&value) },
                );
            }
        };
        cell.ok_or_else(|| format!("must be {}", self.expected()))
    }

    pub const fn is_list(self) -> bool {
        matches!(self, Self::TextList | Self::NumberList)
    }
}

const TOO_LONG: &str = "has more digits than a number keeps: use a text field";

/// A number, if it is a whole one only if it stays the same.
fn exact(number: &serde_json::Number) -> Result<f64, String> {
    if number.as_i128().is_some_and(|whole| !is_kept(whole)) {
        return Err(TOO_LONG.to_owned());
    }
    number.as_f64().ok_or_else(|| TOO_LONG.to_owned())
}

/// Whether a whole number is the same as a double.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "that is the question")]
fn is_kept(whole: i128) -> bool {
    (whole as f64) as i128 == whole
}

/// Years that JSON can write and databases keep.
fn in_range(year: i32) -> bool {
    (1..=9999).contains(&year)
}

fn storable(text: &str) -> Result<String, String> {
    if text.contains('\0') { Err("holds the character U+0000, which cannot be stored".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_the_type_are_read_and_others_refused() {
        for (kind, good, bad) in [
            (Kind::Text, vec![json!("x"), json!("")], vec![json!(1), json!(true), json!({}), json!(["x"]), json!("a\0")]),
            (
                Kind::Number,
                vec![json!(1), json!(-0.5), json!("42")],
                vec![json!("abc"), json!(true), json!("NaN"), json!("inf"), json!("")],
            ),
            (Kind::Boolean, vec![json!(true), json!("false")], vec![json!("yes"), json!(1), json!("")]),
            (Kind::Date, vec![json!("2024-02-29")], vec![json!("2023-02-29"), json!("15.3.2026"), json!("0000-01-01"), json!(5)]),
            (
                Kind::Timestamp,
                vec![json!("2026-03-15T10:30:00Z"), json!("2026-03-15T10:30:00.123456+02:00")],
                vec![json!("2026-03-15"), json!("2026-03-15T10:30:00"), json!("soon")],
            ),
            (Kind::Uuid, vec![json!("f47ac10b-58cc-4372-a567-0e02b2c3d479")], vec![json!("f47ac10b"), json!(1)]),
            (Kind::Json, vec![json!({ "a": [1] }), json!("x")], vec![]),
            (Kind::TextList, vec![json!([]), json!(["a"])], vec![json!(["a", 1]), json!("a"), json!({})]),
            (Kind::NumberList, vec![json!([1, 2.5])], vec![json!([1, "2"]), json!(1)]),
        ] {
            assert_eq!(kind.read(&Value::Null), Ok(Cell::Null));
            for value in good {
                assert!(kind.read(&value).is_ok(), "{kind:?} {value}");
            }
            for value in bad {
                assert!(kind.read(&value).is_err(), "{kind:?} {value}");
            }
        }
    }
}
