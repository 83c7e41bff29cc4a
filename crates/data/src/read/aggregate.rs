//! Figures over records: counts, sums, averages, least and greatest values, by group.

use serde_json::{Map, Value};
use uuid::Uuid;
use weft_model::{Fault, contract::Kind};

use super::{owned, query::names};
use crate::{Condition, Entity, Sql, condition::sortable, sql::ident};

/// Groups in one answer at most.
const MOST_GROUPS: i64 = 1000;
/// Figures in one request at most.
const MOST_FIGURES: usize = 50;

/// A request for figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    condition: Condition,
    groups: Vec<String>,
    /// Names with the SQL of their values.
    figures: Vec<(String, String)>,
    order: Option<(String, bool)>,
    limit: i64,
}

impl Aggregate {
    /// Parses `{where, groupBy, aggregates: {name: {sum: "field"}}, orderBy, order, limit}`.
    pub fn parse(entity: &Entity, body: &Value) -> Result<Self, Vec<Fault>> {
        let Some(options) = body.as_object() else { return Err(vec![Fault::new("$", "must be an object")]) };
        let mut parsed =
            Self { condition: Condition::always(), groups: Vec::new(), figures: Vec::new(), order: None, limit: MOST_GROUPS };
        let mut faults = Vec::new();
        for (key, value) in options {
            if let Err(more) = parsed.option(entity, key, value) {
                faults.extend(more);
            }
        }
        if parsed.figures.is_empty() && faults.is_empty() {
            faults.push(Fault::new("$.aggregates", "must name at least one figure, such as {\"n\": {\"count\": \"*\"}}"));
        }
        faults.extend(parsed.ordered(options).err());
        if faults.is_empty() { Ok(parsed) } else { Err(faults) }
    }

    fn option(&mut self, entity: &Entity, key: &str, value: &Value) -> Result<(), Vec<Fault>> {
        let path = format!("$.{key}");
        match key {
            "where" => self.condition = Condition::parse(entity, value, &path)?,
            "groupBy" => {
                self.groups = names(value, &path)?;
                for (index, name) in self.groups.iter().enumerate() {
                    sortable(entity, name, &format!("{path}[{index}]")).map_err(|fault| vec![fault])?;
                }
            }
            "aggregates" => self.figures = figures(entity, value, &path)?,
            "limit" => {
                let limit = value.as_i64().ok_or_else(|| vec![Fault::new(&path, "must be a whole number")])?;
                self.limit = limit.clamp(1, MOST_GROUPS);
            }
            "orderBy" | "order" => {}
            _ => return Err(vec![Fault::new(&path, "is no option of aggregates")]),
        }
        Ok(())
    }

    /// Sorted by a group or a figure, by name.
    fn ordered(&mut self, options: &Map<String, Value>) -> Result<(), Fault> {
        let ascending = match options.get("order").map(Value::as_str) {
            None | Some(Some("desc")) => false,
            Some(Some("asc")) => true,
            Some(_) => return Err(Fault::new("$.order", "must be asc or desc")),
        };
        let Some(by) = options.get("orderBy") else { return Ok(()) };
        let name = by.as_str().unwrap_or_default();
        if !self.groups.iter().any(|group| group == name) && !self.figures.iter().any(|(figure, _)| figure == name) {
            return Err(Fault::new("$.orderBy", "must be one of groupBy or the name of a figure"));
        }
        self.order = Some((name.to_owned(), ascending));
        Ok(())
    }

    /// Answers with one text: a JSON array of objects.
    pub fn sql(&self, entity: &Entity, owner: Option<Uuid>) -> Sql {
        let mut sql = Sql::new("select coalesce(json_agg(row_to_json(_row)), '[]')::text from (select ");
        let groups = self.groups.iter().map(|name| (name, format!("t.{}", ident(name))));
        let figures = self.figures.iter().map(|(name, figure)| (name, figure.clone()));
        let shown: Vec<_> = groups.chain(figures).map(|(name, value)| format!("{value} as {}", ident(name))).collect();
        sql.push(&shown.join(", ")).push(" from ").push(&entity.table).push(" t where ");
        self.condition.write(&mut sql);
        owned(&mut sql, "t", owner);
        if !self.groups.is_empty() {
            let groups: Vec<_> = self.groups.iter().map(|name| format!("t.{}", ident(name))).collect();
            sql.push(" group by ").push(&groups.join(", "));
        }
        match &self.order {
            Some((name, true)) => _ = sql.push(&format!(" order by {} asc", ident(name))),
            Some((name, false)) => _ = sql.push(&format!(" order by {} desc nulls last", ident(name))),
            None if self.groups.is_empty() => {}
            None => _ = sql.push(" order by 1"),
        }
        sql.push(&format!(" limit {}) _row", self.limit));
        sql
    }
}

fn figures(entity: &Entity, value: &Value, path: &str) -> Result<Vec<(String, String)>, Vec<Fault>> {
    let Some(members) = value.as_object().filter(|members| members.len() <= MOST_FIGURES) else {
        return Err(vec![Fault::new(path, format!("must be an object of {MOST_FIGURES} figures at most"))]);
    };
    let (mut figures, mut faults) = (Vec::new(), Vec::new());
    for (name, figure) in members {
        let path = format!("{path}.{name}");
        if name.is_empty() || name.len() > 63 || name.contains('\0') || entity.kind(name).is_some() {
            faults.push(Fault::new(&path, "the name of a figure has 1 to 63 bytes and is none of a field"));
        }
        match self::figure(entity, figure) {
            Ok(sql) => figures.push((name.clone(), sql)),
            Err(message) => faults.push(Fault::new(path, message)),
        }
    }
    if faults.is_empty() { Ok(figures) } else { Err(faults) }
}

fn figure(entity: &Entity, figure: &Value) -> Result<String, String> {
    let members = figure.as_object().filter(|members| members.len() == 1);
    let Some((function, Value::String(field))) = members.and_then(|members| members.iter().next()) else {
        return Err("must be one of count, sum, avg, min and max with a field, such as {\"sum\": \"amount\"}".to_owned());
    };
    if function == "count" && field == "*" {
        return Ok("count(*)".to_owned());
    }
    let kind = entity.kind(field).ok_or_else(|| format!("'{field}' is no field of '{}'", entity.name()))?;
    let fits = match function.as_str() {
        "count" => true,
        "sum" | "avg" => kind == Kind::Number,
        "min" | "max" => matches!(kind, Kind::Number | Kind::Text | Kind::Date | Kind::Timestamp),
        other => return Err(format!("'{other}' is none of count, sum, avg, min and max")),
    };
    if fits { Ok(format!("{function}(t.{})", ident(field))) } else { Err(format!("there is no {function} of '{field}'")) }
}
