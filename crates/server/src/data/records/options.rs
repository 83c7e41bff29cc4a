//! The query string of a list: what to filter by, and the options beside it.

use weft_data::{
    Condition, Entity,
    read::{Form, LONGEST_PAGE, Query, parse_cursor, parse_order},
};
use weft_model::Fault;

use crate::data::Error;

/// A list as a query string asks for it.
pub struct Listing {
    pub query: Query,
    /// Whether it ends somewhere by itself; otherwise it is every record.
    pub is_bounded: bool,
}

/// Reads a query string. Whatever is no option is a field to be equal to a value.
pub fn listing(entity: &Entity, parameters: &[(String, String)]) -> Result<Listing, Error> {
    let get = |name: &str| parameters.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
    let query = Query { count: false, ..Query::default() };
    let mut reader = Reader { entity, query, conditions: Vec::new(), is_bounded: false };
    let mut faults = Vec::new();
    match parse_order(entity, get("sort").map(|by| ("sort", by)), get("order").map(|word| ("order", word))) {
        Ok(order) => reader.query.order = order,
        Err(fault) => faults.push(fault),
    }
    for (name, value) in parameters {
        if let Err(message) = reader.parameter(name, value) {
            faults.push(Fault::new(name, message));
        }
    }
    let Reader { mut query, conditions, is_bounded, .. } = reader;
    query.condition = Condition::All(conditions);
    if faults.is_empty() { Ok(Listing { query, is_bounded }) } else { Err(Error::Invalid(faults)) }
}

struct Reader<'a> {
    entity: &'a Entity,
    query: Query,
    conditions: Vec<Condition>,
    is_bounded: bool,
}

impl Reader<'_> {
    fn parameter(&mut self, name: &str, value: &str) -> Result<(), String> {
        let (entity, query) = (self.entity, &mut self.query);
        match name {
            "sort" | "order" => {}
            "limit" => (query.limit, self.is_bounded) = (number(value)?.clamp(1, LONGEST_PAGE), true),
            "offset" => query.offset = number(value)?.max(0),
            "linked" => query.linked = linked(value),
            name if entity.kind(name).is_some() => {
                let condition = Condition::equals_text(entity, name, value).map_err(|fault| fault.message)?;
                self.conditions.push(condition);
            }
            "cursor" => {
                let after = parse_cursor(&query.order, value).ok_or("is none that this list gave out")?;
                (query.after, self.is_bounded) = (Some(after), true);
            }
            "select" => query.select = chosen(entity, value, |name| entity.kind(name).is_some())?,
            "expand" => query.expand = chosen(entity, value, |name| is_link(entity, name))?,
            "search" if entity.contract.search.is_empty() => return Err(format!("'{}' has no full-text search", entity.name())),
            "search" => query.search = Some(storable(value)?),
            _ => return Err(format!("is no field of '{}' and no option of a list", entity.name())),
        }
        Ok(())
    }
}

/// The same list as lines, in pages as long as there are.
pub fn lines(mut query: Query) -> Query {
    (query.form, query.limit) = (Form::Lines, LONGEST_PAGE);
    query
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "must be a whole number".to_owned())
}

/// A text that the database can take.
fn storable(text: &str) -> Result<String, String> {
    if text.contains('\0') { Err("holds the character U+0000".to_owned()) } else { Ok(text.to_owned()) }
}

fn linked(text: &str) -> Option<Vec<String>> {
    match text {
        "false" | "" => None,
        "true" => Some(Vec::new()),
        apps => Some(apps.split(',').map(str::to_owned).collect()),
    }
}

fn chosen(entity: &Entity, text: &str, fits: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    let mut names: Vec<_> = text.split(',').map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    match names.iter().find(|name| !fits(name)) {
        Some(name) => Err(format!("'{name}' is none of the fields of '{}' that it can name", entity.name())),
        None => Ok(names),
    }
}

fn is_link(entity: &Entity, name: &str) -> bool {
    entity.contract.field(name).is_some_and(|field| field.references.is_some())
}
