//! The data contract of an app: the entities it keeps, their fields, and what holds for them.
//!
//! These types are what a manifest says, nothing more: what becomes of it in a database is for others. Keys of fields are read in
//! both spellings, `default_value` and `defaultValue`.

mod expression;
mod rules;
mod value;

use serde::Deserialize;
use serde_json::Value;

pub use expression::check as check_expression;
pub use rules::faults;
pub use value::{Cell, Kind};

/// Columns that every record has, whatever its contract says. Nobody writes them.
pub const SYSTEM_FIELDS: [(&str, Kind); 3] =
    [("id", Kind::Uuid), ("created_at", Kind::Timestamp), ("updated_at", Kind::Timestamp)];

/// A collection that the app declares.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entity {
    pub entity_name: String,
    pub fields: Vec<Field>,
    /// What one of these records is about, the same word in every app that keeps such records: `person`, `company`.
    pub identity_kind: Option<String>,
    /// The field whose equal values mean the same thing in different apps.
    pub identity_key: Option<String>,
    #[serde(default)]
    pub indexes: Vec<Index>,
    #[serde(default)]
    pub checks: Vec<Check>,
    /// What the entity was called before; its records come along.
    #[serde(alias = "renamed_from")]
    pub renamed_from: Option<String>,
    #[serde(default)]
    pub access: Access,
    /// Text fields that full-text search looks into.
    #[serde(default)]
    pub search: Vec<String>,
}

/// Whose records one may see and change, given the right to do so at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    #[default]
    All,
    /// Only those that one has created.
    Owner,
}

/// A field of an entity.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(default)]
    pub required: bool,
    #[serde(default)]
    pub unique: bool,
    #[serde(alias = "defaultValue")]
    pub default_value: Option<Value>,
    #[serde(alias = "enumValues")]
    pub enum_values: Option<Vec<String>>,
    pub references: Option<Reference>,
    #[serde(default, alias = "isPrimaryKey")]
    pub is_primary_key: bool,
    #[serde(alias = "onDelete")]
    pub on_delete: Option<OnDelete>,
    /// What the field was called before; its values come along.
    #[serde(alias = "renamedFrom")]
    pub renamed_from: Option<String>,
}

/// What a link leads to. Always the `id` of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Reference {
    /// An entity of the same app, or `core:users`.
    pub entity: String,
}

/// The platform's users, as contracts refer to them.
pub const CORE_USERS: &str = "core:users";

/// What becomes of a record when the one it refers to is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    Cascade,
    Restrict,
    SetNull,
}

impl Field {
    /// Without a rule of its own, a record that cannot do without the other one holds it back.
    pub fn on_delete(&self) -> OnDelete {
        self.on_delete.unwrap_or(if self.required { OnDelete::Restrict } else { OnDelete::SetNull })
    }

    /// The default as a value of the field's type; none when it has none, or none that fits.
    pub fn default_cell(&self) -> Option<Cell> {
        self.default_value.as_ref().and_then(|value| self.kind.read(value).ok()).filter(|cell| *cell != Cell::Null)
    }
}

/// A secondary index.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub name: Option<String>,
    pub columns: Vec<IndexColumn>,
    #[serde(default)]
    pub unique: bool,
    #[serde(default)]
    pub using: Method,
    /// Only rows of which this holds.
    #[serde(rename = "where")]
    pub condition: Option<String>,
    #[serde(default)]
    pub with: std::collections::BTreeMap<String, String>,
}

/// Access methods of PostgreSQL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    #[default]
    Btree,
    Hash,
    Gist,
    Gin,
    Spgist,
    Brin,
}

impl Method {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Btree => "btree",
            Self::Hash => "hash",
            Self::Gist => "gist",
            Self::Gin => "gin",
            Self::Spgist => "spgist",
            Self::Brin => "brin",
        }
    }
}

/// A column of an index, plain or computed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "IndexColumnForm")]
pub struct IndexColumn {
    pub source: Source,
    pub sort: Option<Sort>,
    pub nulls: Option<Nulls>,
    /// An operator class.
    pub ops: Option<String>,
}

/// What an index sorts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Column(String),
    Expression(String),
    /// Both were given, or neither.
    Unclear,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    Asc,
    Desc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nulls {
    First,
    Last,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IndexColumnForm {
    Name(String),
    Full { column: Option<String>, expr: Option<String>, sort: Option<Sort>, nulls: Option<Nulls>, ops: Option<String> },
}

impl From<IndexColumnForm> for IndexColumn {
    fn from(form: IndexColumnForm) -> Self {
        match form {
            IndexColumnForm::Name(name) => Self { source: Source::Column(name), sort: None, nulls: None, ops: None },
            IndexColumnForm::Full { column, expr, sort, nulls, ops } => {
                let source = match (column, expr) {
                    (Some(column), None) => Source::Column(column),
                    (None, Some(expression)) => Source::Expression(expression),
                    _ => Source::Unclear,
                };
                Self { source, sort, nulls, ops }
            }
        }
    }
}

/// A rule that every record keeps, as a condition in SQL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Check {
    pub name: Option<String>,
    pub expr: String,
}

impl Entity {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The fields that the contract adds to those every record has.
    pub fn own_fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !is_system(&field.name))
    }

    /// The type of a field, system ones included.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        let system = SYSTEM_FIELDS.iter().find(|(system, _)| *system == name);
        system.map(|(_, kind)| *kind).or_else(|| self.field(name).map(|field| field.kind))
    }
}

/// Whether every record has a field of that name.
pub fn is_system(name: &str) -> bool {
    SYSTEM_FIELDS.iter().any(|(system, _)| *system == name)
}
