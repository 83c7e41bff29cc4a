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
    let mut query = Query { count: false, ..Query::default() };
    let (mut faults, mut conditions, mut is_bounded) = (Vec::new(), Vec::new(), false);
    match parse_order(entity, get("sort").map(|by| ("sort", by)), get("order").map(|word| ("order", word))) {
        Ok(order) => query.order = order,
        Err(fault) => faults.push(fault),
    }
    for (name, value) in parameters {
        let read = match name.as_str() {
            "sort" | "order" => Ok(()),
            "limit" => number(value).map(|limit| {
                (query.limit, is_bounded) = (limit.clamp(1, LONGEST_PAGE), true);
            }),
            "offset" => number(value).map(|offset| query.offset = offset.max(0)),
            "linked" => {
                query.linked = linked(value);
                Ok(())
            }
            name if entity.kind(name).is_some() => match Condition::equals_text(entity, name, value) {
                Ok(condition) => {
                    conditions.push(condition);
                    Ok(())
                }
                Err(fault) => Err(fault.message),
            },
            "cursor" => match parse_cursor(&query.order, value) {
                Some(after) => {
                    (query.after, is_bounded) = (Some(after), true);
                    Ok(())
                }
                None => Err("is none that this list gave out".to_owned()),
            },
            "select" => chosen(entity, value, |name| entity.kind(name).is_some()).map(|names| query.select = names),
            "expand" => chosen(entity, value, |name| is_link(entity, name)).map(|names| query.expand = names),
            "search" if entity.contract.search.is_empty() => Err(format!("'{}' has no full-text search", entity.name())),
            "search" => {
                query.search = Some(value.clone());
                Ok(())
            }
            _ => Err(format!("is no field of '{}' and no option of a list", entity.name())),
        };
        if let Err(message) = read {
            faults.push(Fault::new(name, message));
        }
    }
    query.condition = Condition::All(conditions);
    if faults.is_empty() { Ok(Listing { query, is_bounded }) } else { Err(Error::Invalid(faults)) }
}

/// The same list as lines, in pages as long as there are.
pub fn lines(mut query: Query) -> Query {
    (query.form, query.limit) = (Form::Lines, LONGEST_PAGE);
    query
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "must be a whole number".to_owned())
}

fn linked(text: &str) -> Option<Vec<String>> {
    match text {
        "false" | "" => None,
        "true" => Some(Vec::new()),
        apps => Some(apps.split(',').map(str::to_owned).collect()),
    }
}

fn chosen(entity: &Entity, text: &str, fits: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    let names: Vec<_> = text.split(',').map(str::to_owned).collect();
    match names.iter().find(|name| !fits(name)) {
        Some(name) => Err(format!("'{name}' is none of the fields of '{}' that it can name", entity.name())),
        None => Ok(names),
    }
}

fn is_link(entity: &Entity, name: &str) -> bool {
    entity.contract.field(name).is_some_and(|field| field.references.is_some())
}
