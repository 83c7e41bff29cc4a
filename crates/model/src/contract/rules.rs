//! What a contract must keep to beyond its shape: names that are there, defaults that fit, links that lead somewhere.

use std::collections::HashSet;

use super::{CORE_USERS, Cell, Entity, Field, Index, IndexColumn, Kind, OnDelete, Source, expression, is_system};
use crate::Fault;

/// Names of constraints and indexes are identifiers of PostgreSQL.
const LONGEST_NAME: usize = 63;

/// Every rule that a contract breaks.
pub fn faults(contract: &[Entity]) -> Vec<Fault> {
    let mut faults = Vec::new();
    unique(&mut faults, "$.dataContract", "entityName", contract.iter().map(|entity| entity.entity_name.as_str()));
    shared_names(&mut faults, contract);
    for (index, entity) in contract.iter().enumerate() {
        let mut rules = Rules { faults: &mut faults, path: format!("$.dataContract[{index}]"), entity, contract };
        rules.check();
    }
    faults
}

fn unique<'a>(faults: &mut Vec<Fault>, list: &str, key: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = HashSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            faults.push(Fault::new(format!("{list}[{index}].{key}"), format!("'{name}' is declared twice")));
        }
    }
}

/// Indexes share one space of names with tables, across all entities.
fn shared_names(faults: &mut Vec<Fault>, contract: &[Entity]) {
    let mut seen: HashSet<&str> = contract.iter().map(|entity| entity.entity_name.as_str()).collect();
    for (number, entity) in contract.iter().enumerate() {
        for (position, index) in entity.indexes.iter().enumerate() {
            if let Some(name) = &index.name
                && !seen.insert(name)
            {
                let path = format!("$.dataContract[{number}].indexes[{position}].name");
                faults.push(Fault::new(path, format!("'{name}' is the name of another index or of an entity")));
            }
        }
    }
}

struct Rules<'a> {
    faults: &'a mut Vec<Fault>,
    path: String,
    entity: &'a Entity,
    contract: &'a [Entity],
}

impl Rules<'_> {
    fn fault(&mut self, place: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(format!("{}.{place}", self.path), message));
    }

    fn check(&mut self) {
        let entity = self.entity;
        let list = format!("{}.fields", self.path);
        unique(self.faults, &list, "name", entity.fields.iter().map(|field| field.name.as_str()));
        if let Some(key) = &entity.identity_key
            && entity.kind(key).is_none()
        {
            self.fault("identityKey", format!("'{key}' is no field of this entity"));
        }
        if entity.renamed_from.as_ref().is_some_and(|old| self.contract.iter().any(|other| other.entity_name == *old)) {
            self.fault("renamedFrom", "names an entity that there is still");
        }
        for (position, field) in entity.fields.iter().enumerate() {
            self.check_field(position, field);
        }
        for (position, name) in entity.search.iter().enumerate() {
            if !entity.own_fields().any(|field| field.name == *name && field.kind == Kind::Text) {
                self.fault(&format!("search[{position}]"), format!("'{name}' is no text field of this entity"));
            }
        }
        self.check_indexes();
        self.check_checks();
    }

    fn check_field(&mut self, position: usize, field: &Field) {
        let at = format!("fields[{position}]");
        if field.name == "id" && field.kind != Kind::Uuid {
            self.fault(&format!("{at}.type"), "the id of a record is a uuid");
        }
        if field.is_primary_key && field.name != "id" {
            self.fault(&at, "only 'id' is the primary key; let others be unique");
        }
        if let Some(message) = field.default_value.as_ref().and_then(|value| field.kind.read(value).err()) {
            self.fault(&format!("{at}.defaultValue"), message);
        }
        if field.renamed_from.as_ref().is_some_and(|old| self.entity.field(old).is_some() || is_system(old)) {
            self.fault(&format!("{at}.renamedFrom"), "names a field that there is still");
        }
        self.check_enum(&at, field);
        self.check_reference(&at, field);
    }

    fn check_enum(&mut self, at: &str, field: &Field) {
        let Some(values) = &field.enum_values else { return };
        if field.kind != Kind::Text && field.kind != Kind::TextList {
            self.fault(&format!("{at}.enumValues"), "only a field of type \"text\" or \"[text]\" has a list of values");
        }
        let fits = match field.default_cell() {
            Some(Cell::Text(text)) => values.contains(&text),
            Some(Cell::TextList(texts)) => texts.iter().all(|text| values.contains(text)),
            _ => true,
        };
        if !fits {
            self.fault(&format!("{at}.defaultValue"), "is none of the field's enumValues");
        }
    }

    fn check_reference(&mut self, at: &str, field: &Field) {
        let Some(reference) = &field.references else {
            if field.on_delete.is_some() {
                self.fault(&format!("{at}.onDelete"), "only a field with references has a rule for deletions");
            }
            return;
        };
        let target = reference.entity.as_str();
        if field.kind != Kind::Uuid {
            self.fault(&format!("{at}.references"), "only a field of type \"entity_link\" refers to another entity");
        } else if target.contains(':') && target != CORE_USERS {
            let message = "the only entity outside the app that can be referred to is 'core:users'";
            self.fault(&format!("{at}.references.entity"), message);
        } else if !target.contains(':') && !self.contract.iter().any(|entity| entity.entity_name == target) {
            self.fault(&format!("{at}.references.entity"), format!("this manifest declares no entity '{target}'"));
        }
        if field.required && field.on_delete == Some(OnDelete::SetNull) {
            self.fault(&format!("{at}.onDelete"), "a required field cannot be set to null");
        }
    }

    fn check_indexes(&mut self) {
        let entity = self.entity;
        for (position, index) in entity.indexes.iter().enumerate() {
            for (place, message) in index_faults(entity, index) {
                self.fault(&format!("indexes[{position}].{place}"), message);
            }
        }
    }

    fn check_checks(&mut self) {
        let entity = self.entity;
        let list = format!("{}.checks", self.path);
        unique(self.faults, &list, "name", entity.checks.iter().filter_map(|check| check.name.as_deref()));
        for (position, check) in entity.checks.iter().enumerate() {
            let own = |name: &str, field: &Field| {
                ["chk", "fk"].iter().any(|kind| name == format!("{kind}_{}_{}", entity.entity_name, field.name))
            };
            let is_taken = |name: &str| {
                entity.fields.iter().any(|field| own(name, field))
                    || entity.indexes.iter().any(|index| index.name.as_deref() == Some(name))
            };
            if check.name.as_deref().is_some_and(is_taken) {
                self.fault(&format!("checks[{position}].name"), "is the name of something else of this entity");
            }
            if let Err(message) = expression::check(&check.expr, |name| entity.kind(name).is_some()) {
                self.fault(&format!("checks[{position}].expr"), message);
            }
        }
    }
}

fn index_faults(entity: &Entity, index: &Index) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    if index.name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME) {
        faults.push(("name".to_owned(), format!("has more than {LONGEST_NAME} characters")));
    }
    if index.name.as_ref().is_some_and(|name| ["idx_identity_", "ix_"].iter().any(|own| name.starts_with(own))) {
        faults.push(("name".to_owned(), "begins like the names that indexes without one get".to_owned()));
    }
    for (position, column) in index.columns.iter().enumerate() {
        if let Some(message) = column_fault(entity, column) {
            faults.push((format!("columns[{position}]"), message));
        }
    }
    if let Some(Err(message)) = index.condition.as_ref().map(|it| expression::check(it, |name| entity.kind(name).is_some())) {
        faults.push(("where".to_owned(), message));
    }
    for (key, value) in &index.with {
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte));
        if !plain(key) || !plain(value) || key.is_empty() || value.is_empty() {
            faults.push(("with".to_owned(), format!("'{key}' is no storage parameter with a plain value")));
        }
    }
    faults
}

fn column_fault(entity: &Entity, column: &IndexColumn) -> Option<String> {
    let plain = |text: &String| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if column.ops.as_ref().is_some_and(|ops| ops.is_empty() || !plain(ops)) {
        return Some("ops must be the plain name of an operator class".to_owned());
    }
    match &column.source {
        Source::Column(name) if entity.kind(name).is_none() => Some(format!("'{name}' is no field of this entity")),
        Source::Column(_) => None,
        Source::Expression(text) => expression::check(text, |name| entity.kind(name).is_some()).err(),
        Source::Unclear => Some("needs either column or expr".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{Manifest, contract::OnDelete};

    fn contract(entities: &Value) -> Result<Manifest, Vec<String>> {
        let manifest = Manifest::parse(json!({ "appId": "crm", "name": "CRM", "dataContract": entities }));
        manifest.map_err(|faults| faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn two_things_of_an_entity_have_two_names() {
        let entity = |index: &str, check: &str| {
            let fields = json!([{ "name": "company", "type": "entity_link", "references": { "entity": "deals" } }]);
            let (indexes, checks) =
                (json!([{ "name": index, "columns": ["company"] }]), json!([{ "name": check, "expr": "company is not null" }]));
            contract(&json!([{ "entityName": "deals", "fields": fields, "indexes": indexes, "checks": checks }]))
        };
        assert!(entity("by_company", "has_company").is_ok());
        for check in ["by_company", "fk_deals_company", "chk_deals_company"] {
            assert_eq!(entity("by_company", check).expect_err("taken"), ["$.dataContract[0].checks[0].name"]);
        }
        for index in ["ix_deals", "idx_identity_deals_company"] {
            assert_eq!(entity(index, "has_company").expect_err("taken"), ["$.dataContract[0].indexes[0].name"]);
        }
    }

    #[test]
    fn keys_of_fields_are_read_in_both_spellings() {
        for (default, values, delete) in
            [("default_value", "enum_values", "on_delete"), ("defaultValue", "enumValues", "onDelete")]
        {
            let manifest = contract(&json!([{ "entityName": "deals", "fields": [
                { "name": "stage", "type": "text", default: "open", values: ["open", "won"] },
                { "name": "parent", "type": "entity_link", "references": { "entity": "deals", "field": "id" }, delete: "cascade" },
            ] }]))
            .expect("no faults");
            let [stage, parent] = manifest.content.data_contract[0].fields.as_slice() else { panic!("two fields") };
            assert_eq!(stage.default_value, Some(json!("open")));
            assert_eq!(stage.enum_values.as_deref(), Some(["open".to_owned(), "won".to_owned()].as_slice()));
            assert_eq!(parent.on_delete(), OnDelete::Cascade);
        }
    }

    #[test]
    fn every_broken_rule_is_named_with_its_place() {
        let faults = contract(&json!([{
            "entityName": "deals",
            "identityKind": "deal",
            "identityKey": "gone",
            "search": ["amount"],
            "renamedFrom": "deals",
            "fields": [
                { "name": "id", "type": "number" },
                { "name": "amount", "type": "number", "default_value": "much" },
                { "name": "stage", "type": "text", "enum_values": ["a"], "default_value": "b" },
                { "name": "size", "type": "number", "enum_values": ["1"] },
                { "name": "owner", "type": "text", "on_delete": "cascade" },
                { "name": "code", "type": "text", "is_primary_key": true, "renamedFrom": "stage" },
                { "name": "parent", "type": "entity_link", "required": true, "on_delete": "set_null", "references": { "entity": "deals" } },
            ],
            "indexes": [{ "columns": ["gone", { "column": "amount", "expr": "amount" }, { "expr": "pg_sleep(1)" }], "where": "x > 1" }],
            "checks": [{ "expr": "amount > (select 1)" }],
        }]))
        .expect_err("many faults");
        let expected = [
            "identityKey",
            "renamedFrom",
            "fields[0].type",
            "fields[1].defaultValue",
            "fields[2].defaultValue",
            "fields[3].enumValues",
            "fields[4].onDelete",
            "fields[5]",
            "fields[5].renamedFrom",
            "fields[6].onDelete",
            "search[0]",
            "indexes[0].columns[0]",
            "indexes[0].columns[1]",
            "indexes[0].columns[2]",
            "indexes[0].where",
            "checks[0].expr",
        ];
        assert_eq!(faults, expected.map(|place| format!("$.dataContract[0].{place}")));
    }
}
