//! The where-language: which records a request is about.
//!
//! A clause is parsed once against the entity, so that a field that is not there or a value of another type is refused with its
//! place. What is parsed compiles to SQL whose only values are binds. Comparisons follow SQL: `null` equals nothing, and a record
//! without a value matches neither `$gt` nor `$ne`.

use serde_json::{Map, Value};
use weft_model::{
    Fault,
    contract::{Cell, Kind},
};

use crate::{Entity, Sql, sql::ident};

/// Clauses within clauses at most.
const DEEPEST: usize = 32;
/// Clauses and values in one request at most.
const LARGEST: usize = 10_000;

/// A condition over the records of an entity.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Compare {
        column: String,
        kind: Kind,
        operator: Operator,
        value: Cell,
    },
    Like {
        column: String,
        pattern: String,
        any_case: bool,
    },
    In {
        column: String,
        kind: Kind,
        values: Vec<Cell>,
        negated: bool,
    },
    /// The list holds all of these.
    Contains {
        column: String,
        kind: Kind,
        items: Cell,
    },
    IsNull {
        column: String,
        is_null: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Operator {
    const fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }
}

impl Condition {
    /// What every record meets.
    pub const fn always() -> Self {
        Self::All(Vec::new())
    }

    /// Parses a clause. `path` is its place in the request.
    pub fn parse(entity: &Entity, clause: &Value, path: &str) -> Result<Self, Vec<Fault>> {
        let mut parser = Parser { entity, faults: Vec::new(), size: 0 };
        let condition = parser.clause(clause, path, 0);
        if parser.size > LARGEST {
            return Err(vec![Fault::new(path, format!("has more than {LARGEST} conditions and values"))]);
        }
        if parser.faults.is_empty() { Ok(condition) } else { Err(parser.faults) }
    }

    /// Equality with a value that stands in a query string.
    pub fn equals_text(entity: &Entity, column: &str, text: &str) -> Result<Self, Fault> {
        let kind = known(entity, column, column)?;
        let value = kind.read_text(text).map_err(|message| Fault::new(column, message))?;
        Ok(Self::Compare { column: column.to_owned(), kind, operator: Operator::Equal, value })
    }

    /// Appends the condition to a statement that calls the records `t`.
    pub fn write(&self, sql: &mut Sql) {
        match self {
            Self::All(parts) => join(sql, parts, " and ", "true"),
            Self::Any(parts) => join(sql, parts, " or ", "false"),
            Self::Not(inner) => {
                sql.push("not ");
                inner.write(sql);
            }
            Self::Compare { column, kind, operator, value } => {
                column_of(sql, column).push(" ").push(operator.sql()).push(" ").bind(value.clone(), *kind);
            }
            Self::Like { column, pattern, any_case } => {
                column_of(sql, column).push(if *any_case { " ilike " } else { " like " }).bind_text(pattern);
            }
            Self::In { column, kind, values, negated } => {
                if values.is_empty() {
                    sql.push(if *negated { "true" } else { "false" });
                    return;
                }
                column_of(sql, column).push(if *negated { " not in (" } else { " in (" });
                for (index, value) in values.iter().enumerate() {
                    sql.push(if index == 0 { "" } else { ", " }).bind(value.clone(), *kind);
                }
                sql.push(")");
            }
            Self::Contains { column, kind, items } => {
                column_of(sql, column).push(" @> ").bind(items.clone(), *kind);
            }
            Self::IsNull { column, is_null } => {
                column_of(sql, column).push(if *is_null { " is null" } else { " is not null" });
            }
        }
    }
}

fn column_of<'a>(sql: &'a mut Sql, column: &str) -> &'a mut Sql {
    sql.push("t.").name(column)
}

fn join(sql: &mut Sql, parts: &[Condition], between: &str, none: &str) {
    if parts.is_empty() {
        sql.push(none);
        return;
    }
    sql.push("(");
    for (index, part) in parts.iter().enumerate() {
        sql.push(if index == 0 { "" } else { between });
        part.write(sql);
    }
    sql.push(")");
}

fn known(entity: &Entity, column: &str, path: &str) -> Result<Kind, Fault> {
    entity.kind(column).ok_or_else(|| Fault::new(path, format!("'{column}' is no field of '{}'", entity.name())))
}

struct Parser<'a> {
    entity: &'a Entity,
    faults: Vec<Fault>,
    size: usize,
}

impl Parser<'_> {
    fn fault(&mut self, path: &str, message: impl Into<String>) -> Condition {
        self.faults.push(Fault::new(path, message));
        Condition::always()
    }

    fn clause(&mut self, clause: &Value, path: &str, depth: usize) -> Condition {
        let Some(members) = clause.as_object() else { return self.fault(path, "where clause must be a JSON object") };
        if depth > DEEPEST {
            return self.fault(path, format!("is nested more than {DEEPEST} deep"));
        }
        let parts = members.iter().map(|(key, value)| {
            let path = format!("{path}.{key}");
            self.size += 1;
            match key.as_str() {
                "$and" => Condition::All(self.clauses(value, &path, depth)),
                // An empty list of alternatives restricts nothing.
                "$or" => match self.clauses(value, &path, depth) {
                    parts if parts.is_empty() => Condition::always(),
                    parts => Condition::Any(parts),
                },
                "$not" => Condition::Not(Box::new(self.clause(value, &path, depth + 1))),
                key if key.starts_with('$') => self.fault(&path, format!("unknown operator: '{key}'")),
                column => self.field(column, value, &path),
            }
        });
        one_or_all(parts.collect())
    }

    fn clauses(&mut self, value: &Value, path: &str, depth: usize) -> Vec<Condition> {
        let Some(clauses) = value.as_array() else {
            self.fault(path, "must be a list of where clauses");
            return Vec::new();
        };
        let parse = |(index, clause)| self.clause(clause, &format!("{path}[{index}]"), depth + 1);
        clauses.iter().enumerate().map(parse).collect()
    }

    fn field(&mut self, column: &str, value: &Value, path: &str) -> Condition {
        let kind = match known(self.entity, column, path) {
            Ok(kind) => kind,
            Err(fault) => {
                self.faults.push(fault);
                return Condition::always();
            }
        };
        match value {
            Value::Object(operators) if operators.keys().any(|key| key.starts_with('$')) => {
                self.operators((column, kind), operators, path)
            }
            value => self.compare((column, kind), Operator::Equal, value, path),
        }
    }

    fn operators(&mut self, column: (&str, Kind), operators: &Map<String, Value>, path: &str) -> Condition {
        let parts = operators.iter().map(|(name, value)| {
            self.size += 1;
            self.operator(column, name, value, &format!("{path}.{name}"))
        });
        one_or_all(parts.collect())
    }

    fn operator(&mut self, (column, kind): (&str, Kind), name: &str, value: &Value, path: &str) -> Condition {
        let target = (column, kind);
        match name {
            "$eq" => self.compare(target, Operator::Equal, value, path),
            "$ne" => self.compare(target, Operator::NotEqual, value, path),
            "$gt" => self.order(target, Operator::Greater, value, path),
            "$gte" => self.order(target, Operator::GreaterOrEqual, value, path),
            "$lt" => self.order(target, Operator::Less, value, path),
            "$lte" => self.order(target, Operator::LessOrEqual, value, path),
            "$like" | "$ilike" => self.like(target, value, name == "$ilike", path),
            "$in" | "$nin" => self.list(target, value, name == "$nin", path),
            "$contains" => self.contains(target, value, path),
            "$isNull" => match value.as_bool() {
                Some(is_null) => Condition::IsNull { column: column.to_owned(), is_null },
                None => self.fault(path, "must be true or false"),
            },
            other => self.fault(path, format!("unknown operator: '{other}'")),
        }
    }

    fn compare(&mut self, (column, kind): (&str, Kind), operator: Operator, value: &Value, path: &str) -> Condition {
        let column = column.to_owned();
        match kind.read(value) {
            Ok(Cell::Null) => Condition::IsNull { column, is_null: operator == Operator::Equal },
            Ok(value) => Condition::Compare { column, kind, operator, value },
            Err(message) => self.fault(path, message),
        }
    }

    /// `null` is neither before nor after anything.
    fn order(&mut self, (column, kind): (&str, Kind), operator: Operator, value: &Value, path: &str) -> Condition {
        match kind.read(value) {
            Ok(Cell::Null) => self.fault(path, "cannot be null: ask with $isNull"),
            Ok(value) => Condition::Compare { column: column.to_owned(), kind, operator, value },
            Err(message) => self.fault(path, message),
        }
    }

    fn like(&mut self, (column, kind): (&str, Kind), value: &Value, any_case: bool, path: &str) -> Condition {
        if kind != Kind::Text {
            return self.fault(path, format!("'{column}' is no text field"));
        }
        match kind.read(value) {
            // PostgreSQL refuses such a pattern only when it comes to match it.
            Ok(Cell::Text(pattern)) if ends_in_escape(&pattern) => self.fault(path, "ends with a backslash that escapes nothing"),
            Ok(Cell::Text(pattern)) => Condition::Like { column: column.to_owned(), pattern, any_case },
            _ => self.fault(path, "must be a pattern such as \"Al%\""),
        }
    }

    fn list(&mut self, (column, kind): (&str, Kind), value: &Value, negated: bool, path: &str) -> Condition {
        let Some(items) = value.as_array() else { return self.fault(path, "must be a list of values") };
        self.size += items.len();
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match kind.read(item) {
                Ok(Cell::Null) => _ = self.fault(&format!("{path}[{index}]"), "cannot be null: ask with $isNull"),
                Ok(cell) => values.push(cell),
                Err(message) => _ = self.fault(&format!("{path}[{index}]"), message),
            }
        }
        Condition::In { column: column.to_owned(), kind, values, negated }
    }

    fn contains(&mut self, (column, kind): (&str, Kind), value: &Value, path: &str) -> Condition {
        if !kind.is_list() && kind != Kind::Json {
            return self.fault(path, format!("'{column}' is no list"));
        }
        match kind.read(value) {
            Ok(Cell::TextList(items)) if items.is_empty() => Condition::always(),
            Ok(Cell::NumberList(items)) if items.is_empty() => Condition::always(),
            Ok(Cell::Null) => self.fault(path, "cannot be null: ask with $isNull"),
            Ok(items) => Condition::Contains { column: column.to_owned(), kind, items },
            Err(message) => self.fault(path, message),
        }
    }
}

fn ends_in_escape(pattern: &str) -> bool {
    pattern.chars().rev().take_while(|character| *character == '\\').count() % 2 == 1
}

fn one_or_all(mut parts: Vec<Condition>) -> Condition {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => Condition::All(parts.into_iter().chain(last).collect()),
    }
}

/// A field that is to be sorted or grouped by.
pub fn sortable(entity: &Entity, column: &str, path: &str) -> Result<Kind, Fault> {
    let kind = known(entity, column, path)?;
    if kind == Kind::Json { Err(Fault::new(path, format!("'{}' is JSON, which has no order", ident(column)))) } else { Ok(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entity() -> Entity {
        let contract = json!({ "entityName": "contacts", "fields": [
            { "name": "name", "type": "text", "required": true },
            { "name": "age", "type": "number" },
            { "name": "born", "type": "date" },
            { "name": "tags", "type": "[text]" },
            { "name": "extra", "type": "json" },
        ] });
        Entity::new("crm", serde_json::from_value(contract).expect("an entity"))
    }

    fn sql(clause: &Value) -> String {
        let mut sql = Sql::default();
        Condition::parse(&entity(), clause, "$.where").expect("a condition").write(&mut sql);
        sql.text
    }

    #[test]
    fn clauses_become_sql_with_binds() {
        for (clause, text) in [
            (json!({}), "true"),
            (json!({ "name": "Alice" }), "t.\"name\" = $1::text"),
            (json!({ "age": null }), "t.\"age\" is null"),
            (json!({ "age": { "$ne": null } }), "t.\"age\" is not null"),
            (
                json!({ "age": { "$gte": 1, "$lt": 2 } }),
                "(t.\"age\" >= $1::double precision and t.\"age\" < $2::double precision)",
            ),
            (json!({ "$or": [] }), "true"),
            (json!({ "$and": [] }), "true"),
            (
                json!({ "$or": [{ "name": { "$ilike": "a%" } }, { "$not": { "age": 1 } }] }),
                "(t.\"name\" ilike $1::text or not t.\"age\" = $2::double precision)",
            ),
            (json!({ "age": { "$in": [] } }), "false"),
            (json!({ "age": { "$nin": [] } }), "true"),
            (json!({ "age": { "$nin": [1, 2] } }), "t.\"age\" not in ($1::double precision, $2::double precision)"),
            (json!({ "tags": { "$contains": [] } }), "true"),
            (json!({ "tags": { "$contains": ["a"] } }), "t.\"tags\" @> $1::text[]"),
            (json!({ "extra": { "a": 1 } }), "t.\"extra\" = $1::jsonb"),
            (json!({ "born": { "$isNull": false } }), "t.\"born\" is not null"),
            (json!({ "id": { "$in": ["f47ac10b-58cc-4372-a567-0e02b2c3d479"] } }), "t.\"id\" in ($1::uuid)"),
        ] {
            assert_eq!(sql(&clause), text, "{clause}");
        }
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let clause = json!({
            "nam": 1,
            "age": { "$gt": "many", "$about": 3 },
            "born": "15.3.2026",
            "tags": "a",
            "$or": [{ "name": { "$like": 5 } }, 7],
            "$and": {},
            "$nor": [],
            "name": { "$in": ["a", 1, null], "$contains": ["a"], "$gt": null },
        });
        let mut paths: Vec<_> =
            Condition::parse(&entity(), &clause, "$.where").expect_err("faults").into_iter().map(|fault| fault.path).collect();
        paths.sort_unstable();
        let mut expected = [
            "$.where.nam",
            "$.where.age.$gt",
            "$.where.age.$about",
            "$.where.born",
            "$.where.tags",
            "$.where.$or[0].name.$like",
            "$.where.$or[1]",
            "$.where.$and",
            "$.where.$nor",
            "$.where.name.$in[1]",
            "$.where.name.$in[2]",
            "$.where.name.$contains",
            "$.where.name.$gt",
        ];
        expected.sort_unstable();
        assert_eq!(paths, expected);
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = (0..100).fold(json!({}), |inner, _| json!({ "$not": inner }));
        assert!(Condition::parse(&entity(), &deep, "$.where").is_err());
        let wide = json!({ "age": { "$in": vec![1; 20_000] } });
        assert!(Condition::parse(&entity(), &wide, "$.where").is_err());
    }
}
