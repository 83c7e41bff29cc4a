//! An entity, compiled once: its columns with their types, and the parts that every statement over it repeats.

use std::collections::BTreeMap;

use weft_model::contract::{self, Access, Kind, SYSTEM_FIELDS, is_system};

use crate::sql::{ident, literal, qualified};

/// The column that holds who created a record, where that decides who may see it. No field can have this name.
pub const OWNER: &str = "_owner";

/// An entity with what its statements need.
#[derive(Debug)]
pub struct Entity {
    pub contract: contract::Entity,
    /// `"app"."entity"`.
    pub table: String,
    /// The records' columns in order: id, those of the contract, times.
    pub columns: Vec<(String, Kind)>,
    /// The columns as a select list, each from `t`.
    pub all: String,
    kinds: BTreeMap<String, Kind>,
    /// Sets of columns whose values no two records share, each sorted.
    pub unique: Vec<Vec<String>>,
}

impl Entity {
    pub fn new(schema: &str, contract: contract::Entity) -> Self {
        let [id, created, updated] = SYSTEM_FIELDS.map(|(name, kind)| (name.to_owned(), kind));
        let own = contract.own_fields().map(|field| (field.name.clone(), field.kind));
        let mut columns: Vec<_> = std::iter::once(id).chain(own).chain([created, updated]).collect();
        if contract.access == Access::Owner {
            columns.push((OWNER.to_owned(), Kind::Uuid));
        }
        let kinds = columns.iter().cloned().collect();
        let table = qualified(schema, &contract.entity_name);
        let unique = unique(&contract);
        let all = list(columns.iter().map(|(name, _)| name.as_str()));
        Self { contract, table, columns, all, kinds, unique }
    }

    pub fn name(&self) -> &str {
        &self.contract.entity_name
    }

    pub fn kind(&self, column: &str) -> Option<Kind> {
        self.kinds.get(column).copied()
    }

    /// Whether every record has a value there.
    pub fn is_required(&self, column: &str) -> bool {
        is_system(column) || self.contract.field(column).is_some_and(|field| field.required)
    }

    pub fn is_owned(&self) -> bool {
        self.contract.access == Access::Owner
    }

    /// Whether a column may be written by a request.
    pub fn is_writable(&self, column: &str) -> bool {
        !is_system(column) && column != OWNER && self.kinds.contains_key(column)
    }

    /// What full-text search looks into, exactly as the index has it.
    pub fn search_document(&self) -> Option<String> {
        search_document(&self.contract)
    }
}

/// Columns of `t` as a select list.
pub fn list<'a>(columns: impl Iterator<Item = &'a str>) -> String {
    columns.map(|name| format!("t.{}", ident(name))).collect::<Vec<_>>().join(", ")
}

/// The searched fields of an entity as one document. Immutable, so that an index can hold it.
pub fn search_document(contract: &contract::Entity) -> Option<String> {
    let fields: Vec<_> = contract.search.iter().map(|field| format!("coalesce({}, '')", ident(field))).collect();
    let joined = fields.join(&format!(" || {} || ", literal(" ")));
    (!fields.is_empty()).then(|| format!("to_tsvector('simple'::regconfig, {joined})"))
}

fn unique(contract: &contract::Entity) -> Vec<Vec<String>> {
    let fields = contract.own_fields().filter(|field| field.unique).map(|field| vec![field.name.clone()]);
    let indexes = contract.indexes.iter().filter(|index| index.unique && index.condition.is_none());
    let indexes = indexes.filter_map(|index| {
        let columns = index.columns.iter().map(|column| match &column.source {
            contract::Source::Column(name) => Some(name.clone()),
            _ => None,
        });
        let mut columns: Vec<_> = columns.collect::<Option<_>>()?;
        columns.sort_unstable();
        Some(columns)
    });
    std::iter::once(vec!["id".to_owned()]).chain(fields).chain(indexes).collect()
}
