//! SQL text and the values that it binds. Names are quoted here and nowhere else.

use std::fmt::Write;

use weft_model::contract::{Cell, Kind};

/// A statement, or a part of one, with its binds in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sql {
    pub text: String,
    pub binds: Vec<(Cell, Kind)>,
}

impl Sql {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), binds: Vec::new() }
    }

    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub fn name(&mut self, name: &str) -> &mut Self {
        self.text.push_str(&ident(name));
        self
    }

    /// Binds a value of a type; `null`, too, has to be sent as that type, because connections remember statements with their types.
    pub fn bind(&mut self, cell: Cell, kind: Kind) -> &mut Self {
        self.binds.push((cell, kind));
        let _ = write!(self.text, "${}::{}", self.binds.len(), type_name(kind));
        self
    }

    pub fn bind_text(&mut self, text: impl Into<String>) -> &mut Self {
        self.bind(Cell::Text(text.into()), Kind::Text)
    }
}

/// A name as an identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name in a schema.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A text as a literal, for statements that take no binds. Reads the same whatever the setting of backslashes.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// The type of a column. As PostgreSQL itself spells it.
pub const fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Number => "double precision",
        Kind::Boolean => "boolean",
        Kind::Date => "date",
        Kind::Timestamp => "timestamp with time zone",
        Kind::Json => "jsonb",
        Kind::Uuid => "uuid",
        Kind::TextList => "text[]",
        Kind::NumberList => "double precision[]",
    }
}

/// A value as a constant of its type.
pub fn constant(cell: &Cell, kind: Kind) -> String {
    let text = match cell {
        Cell::Null => return "NULL".to_owned(),
        Cell::Boolean(value) => return value.to_string(),
        Cell::Text(text) => literal(text),
        Cell::Number(number) => literal(&number.to_string()),
        Cell::Date(date) => literal(&date.to_string()),
        Cell::Timestamp(time) => literal(&time.to_rfc3339()),
        Cell::Json(value) => literal(&value.to_string()),
        Cell::Uuid(id) => literal(&id.to_string()),
        Cell::TextList(texts) => return array(texts.iter().map(|text| literal(text)), kind),
        Cell::NumberList(numbers) => return array(numbers.iter().map(|number| literal(&number.to_string())), kind),
    };
    format!("{text}::{}", type_name(kind))
}

fn array(items: impl Iterator<Item = String>, kind: Kind) -> String {
    format!("ARRAY[{}]::{}", items.collect::<Vec<_>>().join(", "), type_name(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals_cannot_end_early() {
        assert_eq!(ident("a\"; drop table x; --"), "\"a\"\"; drop table x; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'"), "E'\\\\'''");
    }

    #[test]
    fn binds_are_numbered_and_typed() {
        let mut sql = Sql::new("select ");
        sql.name("a").push(" = ").bind(Cell::Number(1.0), Kind::Number).push(" or ").bind_text("x");
        assert_eq!(sql.text, "select \"a\" = $1::double precision or $2::text");
        assert_eq!(sql.binds, [(Cell::Number(1.0), Kind::Number), (Cell::Text("x".to_owned()), Kind::Text)]);
    }
}
