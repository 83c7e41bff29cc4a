//! What becomes of the values of a column whose type changes.

use weft_model::contract::Kind;

use crate::sql::type_name;

/// The type that PostgreSQL names so; `None` for one that no contract can ask for.
pub fn kind_of(name: &str) -> Option<Kind> {
    const ALL: [Kind; 9] = [
        Kind::Text,
        Kind::Number,
        Kind::Boolean,
        Kind::Date,
        Kind::Timestamp,
        Kind::Json,
        Kind::Uuid,
        Kind::TextList,
        Kind::NumberList,
    ];
    ALL.into_iter().find(|kind| type_name(*kind) == name)
}

/// How the values of `column` (quoted) are carried over, and whether every one of them is.
pub fn conversion(from: Option<Kind>, to: Kind, column: &str) -> (String, bool) {
    let text = match from {
        Some(Kind::Json) => {
            format!("case when jsonb_typeof({column}) = 'string' then {column} #>> '{{}}' else {column}::text end")
        }
        Some(from) if from.is_list() => format!("to_jsonb({column})::text"),
        _ => format!("{column}::text"),
    };
    match (from, to) {
        (Some(Kind::Json), Kind::Text) => (format!("{column}::text"), true),
        (_, Kind::Text) => (text, true),
        (_, Kind::Json) => (format!("to_jsonb({column})"), true),
        (Some(Kind::Date), Kind::Timestamp) => (format!("({column}::timestamp at time zone 'UTC')"), true),
        (Some(Kind::Timestamp), Kind::Date) => (format!("({column} at time zone 'UTC')::date"), false),
        (Some(Kind::Boolean), Kind::Number) => (format!("{column}::integer::double precision"), true),
        (Some(Kind::Number), Kind::Boolean) => (format!("({column} <> 0)"), false),
        (Some(Kind::NumberList), Kind::TextList) => (format!("{column}::text[]"), true),
        (Some(Kind::Text), Kind::TextList) | (Some(Kind::Number), Kind::NumberList) => {
            (format!("case when {column} is not null then array[{column}] end"), true)
        }
        (Some(Kind::TextList | Kind::Json), Kind::NumberList) => (format!("weft_try_numbers(to_jsonb({column}))"), false),
        (Some(Kind::Json), Kind::TextList) => (format!("weft_try_texts({column})"), false),
        (_, Kind::Number) => (format!("weft_try_number({text})"), false),
        (_, Kind::Boolean) => (format!("weft_try_boolean({text})"), false),
        (_, Kind::Date) => (format!("weft_try_date({text})"), false),
        (_, Kind::Timestamp) => (format!("weft_try_timestamp({text})"), false),
        (_, Kind::Uuid) => (format!("weft_try_uuid({text})"), false),
        (_, Kind::TextList | Kind::NumberList) => (format!("null::{}", type_name(to)), false),
    }
}
