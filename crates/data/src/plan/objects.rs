//! Indexes, checks and links that a contract asks for, each with the mark that tells whether what is there is still the same.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use weft_model::contract::{self, Access, CORE_USERS, Entity, Nulls, OnDelete, Sort, Source};

use crate::{
    catalogue::MARK,
    entity::{OWNER, search_document},
    sql::{constant, ident, literal, qualified, type_name},
};

/// PostgreSQL's limit for names.
const LONGEST_NAME: usize = 63;

/// What kind of thing an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Index,
    Identity,
    Check,
    Link,
    /// Which rows SQL of a backend sees and changes.
    Policy,
}

/// One index, check or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub family: Family,
    /// The comment that it bears.
    pub mark: String,
    pub detail: Option<String>,
    /// Makes it, without the comment.
    pub create: String,
}

impl Family {
    const fn word(self) -> &'static str {
        match self {
            Self::Index => "idx:",
            Self::Identity => "identity:",
            Self::Check => "chk:",
            Self::Link => "fk:",
            Self::Policy => "rls:",
        }
    }

    /// What sort of thing a plan marked so; `None` for what no plan made.
    pub fn of(mark: &str) -> Option<Self> {
        let word = mark.strip_prefix(MARK)?;
        [Self::Index, Self::Identity, Self::Check, Self::Link, Self::Policy]
            .into_iter()
            .find(|sort| word.starts_with(sort.word()))
    }
}

/// The first half of a digest, enough to tell things apart.
pub fn fingerprint(text: &str) -> String {
    hex::encode(Sha256::digest(text).get(..8).unwrap_or_default())
}

/// Objects by name, as they are collected.
struct Collected<'a> {
    schema: &'a str,
    entity: &'a Entity,
    table: String,
    objects: BTreeMap<String, Object>,
}

/// Everything that an entity asks for besides its columns.
pub fn objects(schema: &str, entity: &Entity) -> BTreeMap<String, Object> {
    let table = qualified(schema, &entity.entity_name);
    let mut collected = Collected { schema, entity, table, objects: BTreeMap::new() };
    collected.built_in();
    collected.policies();
    for index in &entity.indexes {
        collected.declared(index);
    }
    for check in &entity.checks {
        collected.check(check.name.clone(), &check.expr);
    }
    for field in entity.own_fields() {
        collected.field(field);
    }
    collected.objects
}

impl Collected<'_> {
    fn add(&mut self, name: String, sort: Family, create: impl FnOnce(&str) -> String, detail: Option<String>) {
        let name = short(name);
        let create = create(&ident(&name));
        let mark = format!("{MARK}{}{}", sort.word(), fingerprint(&format!("{create}{}", self.types(&create))));
        self.objects.insert(name, Object { family: sort, mark, detail, create });
    }

    /// The types of the columns that a text may mention: with a type, what is built on it has to be built anew.
    fn types(&self, text: &str) -> String {
        let mentioned = self.entity.own_fields().filter(|field| text.contains(field.name.as_str()));
        mentioned.flat_map(|field| [" ", &field.name, ":", type_name(field.kind)]).collect()
    }

    fn index(&mut self, name: Option<String>, sort: Family, unique: bool, body: &str, detail: Option<String>) {
        let entity = &self.entity.entity_name;
        // Names of indexes are those of the schema, so that of an entity alone would not do.
        let name = name.unwrap_or_else(|| {
            let kind = if unique { "_uq" } else { "" };
            let digest = fingerprint(&format!("{entity}.{body}"));
            format!("ix_{entity}{kind}_{}", digest.get(..10).unwrap_or_default())
        });
        let (table, kind) = (self.table.clone(), if unique { "unique index" } else { "index" });
        self.add(name, sort, |name| format!("create {kind} {name} on {table} {body}"), detail);
    }

    /// Lists go by age, and find the next page by it.
    fn built_in(&mut self) {
        let owned = if self.entity.access == Access::Owner { format!("{}, ", ident(OWNER)) } else { String::new() };
        self.index(None, Family::Index, false, &format!("({owned}created_at desc, id)"), None);
        if let Some(document) = search_document(self.entity) {
            self.index(None, Family::Index, false, &format!("using gin (({document}))"), Some("search".to_owned()));
        }
        if let (Some(kind), Some(key)) = (&self.entity.identity_kind, &self.entity.identity_key) {
            let name = format!("idx_identity_{}_{key}", self.entity.entity_name);
            let body = format!("(({}::text))", ident(key));
            self.index(Some(name), Family::Identity, false, &body, Some(kind.clone()));
        }
    }

    /// One policy for each right to the entity. The right is asked for once in a statement, not once in a row.
    fn policies(&mut self) {
        let entity = self.entity.entity_name.clone();
        let (table, app) = (self.table.clone(), self.schema);
        let may = |right: &str| format!("(select weft_sql.may({}))", literal(&format!("app:{app}:{entity}.{right}")));
        let own = if self.entity.access == Access::Owner {
            format!(" and ({} or {} = (select weft_sql.caller()))", may("manage"), ident(OWNER))
        } else {
            String::new()
        };
        for (right, command) in [("read", "select"), ("create", "insert"), ("update", "update"), ("delete", "delete")] {
            let rows = format!("({}{own})", may(right));
            let rule = match command {
                "insert" => format!("with check {rows}"),
                "update" => format!("using {rows} with check {rows}"),
                _ => format!("using {rows}"),
            };
            let create = |name: &str| format!("create policy {name} on {table} for {command} {rule}");
            self.add(format!("weft_{right}"), Family::Policy, create, None);
        }
    }

    fn declared(&mut self, index: &contract::Index) {
        let columns: Vec<_> = index.columns.iter().map(column).collect();
        let mut body = format!("using {} ({})", index.using.as_str(), columns.join(", "));
        if !index.with.is_empty() {
            let pairs: Vec<_> = index.with.iter().map(|(key, value)| format!("{} = {}", ident(key), literal(value))).collect();
            body = format!("{body} with ({})", pairs.join(", "));
        }
        if let Some(condition) = &index.condition {
            body = format!("{body} where ({condition})");
        }
        self.index(index.name.clone(), Family::Index, index.unique, &body, None);
    }

    fn check(&mut self, name: Option<String>, expression: &str) {
        let normal = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        let digest = fingerprint(&normal);
        let name = name.unwrap_or_else(|| format!("chk_{}_{}", self.entity.entity_name, digest.get(..10).unwrap_or_default()));
        let table = self.table.clone();
        self.add(name, Family::Check, |name| format!("alter table {table} add constraint {name} check ({expression})"), None);
    }

    fn field(&mut self, field: &contract::Field) {
        let (entity, column) = (self.entity.entity_name.clone(), ident(&field.name));
        if field.unique {
            self.index(None, Family::Index, true, &format!("({column})"), Some(format!("unique {}", field.name)));
        }
        if let Some(values) = &field.enum_values {
            let values: Vec<_> = values.iter().map(|value| literal(value)).collect();
            let condition = if field.kind.is_list() {
                format!("{column} <@ array[{}]::text[]", values.join(", "))
            } else {
                format!("{column} in ({})", values.join(", "))
            };
            self.check(Some(format!("chk_{entity}_{}", field.name)), &condition);
        }
        let Some(reference) = &field.references else { return };
        self.index(None, Family::Index, false, &format!("({column})"), Some(format!("link {}", field.name)));
        let (table, rule) = (self.table.clone(), rule(field.on_delete()));
        let target = if reference.entity == CORE_USERS { "users".to_owned() } else { qualified(self.schema, &reference.entity) };
        let create = |name: &str| {
            format!("alter table {table} add constraint {name} foreign key ({column}) references {target} (id) on delete {rule}")
        };
        self.add(format!("fk_{entity}_{}", field.name), Family::Link, create, Some(rule.to_uppercase()));
    }
}

fn column(column: &contract::IndexColumn) -> String {
    let mut text = match &column.source {
        Source::Column(name) => ident(name),
        Source::Expression(expression) => format!("({expression})"),
        Source::Unclear => ident("id"),
    };
    if let Some(ops) = &column.ops {
        text.push(' ');
        text.push_str(&ident(ops));
    }
    text.push_str(match column.sort {
        Some(Sort::Asc) => " asc",
        Some(Sort::Desc) => " desc",
        None => "",
    });
    text.push_str(match column.nulls {
        Some(Nulls::First) => " nulls first",
        Some(Nulls::Last) => " nulls last",
        None => "",
    });
    text
}

const fn rule(rule: OnDelete) -> &'static str {
    match rule {
        OnDelete::Cascade => "cascade",
        OnDelete::Restrict => "restrict",
        OnDelete::SetNull => "set null",
    }
}

/// A name that PostgreSQL does not cut off.
fn short(name: String) -> String {
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let digest = fingerprint(&name);
    format!("{}_{}", name.get(..LONGEST_NAME - 11).unwrap_or_default(), digest.get(..10).unwrap_or_default())
}

/// The default of a field as SQL, and the mark that its column bears.
pub fn default_of(field: &contract::Field) -> (Option<String>, String) {
    let default = field.default_cell().map(|cell| constant(&cell, field.kind));
    let mark = fingerprint(&format!("{} {}", type_name(field.kind), default.as_deref().unwrap_or("none")));
    (default, format!("{MARK}col:{mark}"))
}
