//! What a caller asks for: the options of a query, parsed against the entity.

use serde_json::{Map, Value};
use uuid::Uuid;
use weft_model::{
    Fault,
    contract::{Cell, Kind},
};

use crate::{Condition, Entity, condition::sortable, read::page::parse_cursor};

/// Records in one page at most.
pub const LONGEST_PAGE: i64 = 1000;
/// Records in a page when nobody says how many.
const DEFAULT_PAGE: i64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// By what records are sorted; by id where that is equal, so that pages neither repeat nor leave out any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub column: String,
    pub kind: Kind,
    pub direction: Direction,
}

impl Default for Order {
    /// Newest first.
    fn default() -> Self {
        Self { column: "created_at".to_owned(), kind: Kind::Timestamp, direction: Direction::Descending }
    }
}

/// Which records, in which order, and how much of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub condition: Condition,
    pub order: Order,
    pub limit: i64,
    pub offset: i64,
    /// Where the page before ended: the value that it was sorted by, and the id.
    pub after: Option<(Cell, Uuid)>,
    /// Whether to say how many there are in all.
    pub count: bool,
    pub search: Option<String>,
    pub select: Vec<String>,
    pub expand: Vec<String>,
    /// `None`: nothing; empty: every app.
    pub linked: Option<Vec<String>>,
    /// Whose records alone are seen.
    pub owner: Option<Uuid>,
    pub form: Form,
}

/// How a page comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON array.
    Array,
    /// A record per line.
    Lines,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            condition: Condition::always(),
            order: Order::default(),
            limit: DEFAULT_PAGE,
            offset: 0,
            after: None,
            count: true,
            search: None,
            select: Vec::new(),
            expand: Vec::new(),
            linked: None,
            owner: None,
            form: Form::Array,
        }
    }
}

impl Query {
    /// Parses the body of a query. Every fault is reported.
    pub fn parse(entity: &Entity, body: &Value) -> Result<Self, Vec<Fault>> {
        let Some(options) = body.as_object() else { return Err(vec![Fault::new("$", "must be an object")]) };
        let mut query = Self::default();
        let mut faults = Vec::new();
        let (by, direction) = (text(options, "orderBy", &mut faults), text(options, "order", &mut faults));
        match parse_order(entity, by.as_deref().map(|by| ("$.orderBy", by)), direction.as_deref().map(|it| ("$.order", it))) {
            Ok(order) => query.order = order,
            Err(fault) => faults.push(fault),
        }
        for (key, value) in options {
            if let Err(more) = query.option(entity, key, value) {
                faults.extend(more);
            }
        }
        if faults.is_empty() { Ok(query) } else { Err(faults) }
    }

    fn option(&mut self, entity: &Entity, key: &str, value: &Value) -> Result<(), Vec<Fault>> {
        let path = format!("$.{key}");
        let wrong = |message: &str| vec![Fault::new(&path, message)];
        match key {
            "orderBy" | "order" => {}
            _ if value.is_null() => {}
            "where" => self.condition = Condition::parse(entity, value, &path)?,
            "limit" => {
                self.limit = value.as_i64().ok_or_else(|| wrong("must be a whole number"))?.clamp(1, LONGEST_PAGE);
            }
            "offset" => self.offset = value.as_i64().ok_or_else(|| wrong("must be a whole number"))?.max(0),
            "total" => self.count = value.as_bool().ok_or_else(|| wrong("must be true or false"))?,
            "search" => self.search = Some(search(entity, value).map_err(|message| wrong(&message))?),
            "select" => {
                self.select = names(value, &path)?;
                known(entity, &self.select, &path)?;
            }
            "expand" => self.expand = expand(entity, value, &path)?,
            "linked" => self.linked = linked(value).map_err(wrong)?,
            "cursor" => {
                let cursor = value.as_str().ok_or_else(|| wrong("must be a text"))?;
                let after = parse_cursor(&self.order, cursor).ok_or_else(|| wrong("is none that this query gave out"))?;
                self.after = Some(after);
            }
            _ => return Err(wrong("is no option of a query")),
        }
        if key == "cursor" && self.after.is_some() {
            self.offset = 0;
        }
        Ok(())
    }
}

/// The order that options name; newest first when they name none.
pub fn parse_order(entity: &Entity, by: Option<(&str, &str)>, direction: Option<(&str, &str)>) -> Result<Order, Fault> {
    let mut order = Order::default();
    if let Some((path, column)) = by {
        order.kind = sortable(entity, column, path)?;
        column.clone_into(&mut order.column);
    }
    order.direction = match direction {
        None => Direction::Descending,
        Some((_, word)) if word.eq_ignore_ascii_case("asc") => Direction::Ascending,
        Some((_, word)) if word.eq_ignore_ascii_case("desc") => Direction::Descending,
        Some((path, _)) => return Err(Fault::new(path, "must be asc or desc")),
    };
    Ok(order)
}

fn text(options: &Map<String, Value>, key: &str, faults: &mut Vec<Fault>) -> Option<String> {
    match options.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => {
            faults.push(Fault::new(format!("$.{key}"), "must be a text"));
            None
        }
    }
}

/// A list of texts.
pub(super) fn names(value: &Value, path: &str) -> Result<Vec<String>, Vec<Fault>> {
    let wrong = || vec![Fault::new(path, "must be a list of names")];
    let items = value.as_array().ok_or_else(wrong)?;
    items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

fn known(entity: &Entity, names: &[String], path: &str) -> Result<(), Vec<Fault>> {
    let unknown = names.iter().enumerate().filter(|(_, name)| entity.kind(name).is_none());
    let faults: Vec<_> = unknown
        .map(|(index, name)| Fault::new(format!("{path}[{index}]"), format!("'{name}' is no field of '{}'", entity.name())))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Fields that refer to other records.
pub fn expand(entity: &Entity, value: &Value, path: &str) -> Result<Vec<String>, Vec<Fault>> {
    let mut names = names(value, path)?;
    let is_link = |name: &String| entity.contract.field(name).is_some_and(|field| field.references.is_some());
    let wrong = names.iter().enumerate().filter(|(_, name)| !is_link(name));
    let faults: Vec<_> = wrong
        .map(|(index, name)| Fault::new(format!("{path}[{index}]"), format!("'{name}' refers to no other record")))
        .collect();
    names.sort_unstable();
    names.dedup();
    if faults.is_empty() { Ok(names) } else { Err(faults) }
}

fn search(entity: &Entity, value: &Value) -> Result<String, String> {
    if entity.contract.search.is_empty() {
        return Err(format!("'{}' has no full-text search: name its fields as `search` in the manifest", entity.name()));
    }
    match Kind::Text.read(value)? {
        Cell::Text(words) => Ok(words),
        _ => Err("must be a text".to_owned()),
    }
}

fn linked(value: &Value) -> Result<Option<Vec<String>>, &'static str> {
    match value {
        Value::Bool(false) => Ok(None),
        Value::Bool(true) => Ok(Some(Vec::new())),
        value => names(value, "").map(Some).map_err(|_| "must be true, false or a list of apps"),
    }
}
