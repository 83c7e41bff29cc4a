//! The plan as a whole: which tables come, go and change their names, and in which order everything happens.

use weft_model::contract::{Access, Entity};

use super::{
    Change, Phase, Plan, Step,
    columns::{comment, definition, owner_comment},
    objects::{Family, Object, objects},
};
use crate::{
    catalogue::{Catalogue, SCHEMA_MARK, Table},
    entity::OWNER,
    sql::{ident, literal, qualified},
};

/// A plan in the making.
pub(super) struct Work<'a> {
    pub(super) schema: &'a str,
    pub(super) plan: Plan,
}

/// The steps from what is there to what the contract says. `schema` is the name of the app.
pub fn plan(schema: &str, contract: &[Entity], now: &Catalogue) -> Plan {
    let mut work = Work { schema, plan: Plan::default() };
    if !now.exists && !contract.is_empty() {
        let sql = format!("create schema {}", ident(schema));
        let mark = format!("comment on schema {} is {}", ident(schema), literal(SCHEMA_MARK));
        work.push(Step::new(Phase::Schema, Change::CreateSchema, (schema, "")).hidden(true).sql(sql).sql(mark));
    }
    let mut tables = now.tables.clone();
    for entity in contract {
        work.rename_table(entity, contract, &mut tables);
    }
    for entity in contract {
        let name = &entity.entity_name;
        if let Some(mut table) = tables.remove(name) {
            work.rename_columns(entity, &mut table);
            work.columns(entity, &table);
            work.objects(entity, Some(&table));
        } else {
            work.create_table(entity);
            work.objects(entity, None);
        }
    }
    for (name, table) in tables {
        let loss = table.filled.then(|| format!("every record of '{name}'"));
        let sql = format!("drop table {} cascade", qualified(schema, &name));
        work.push(Step::new(Phase::DropTables, Change::DropTable, (&name, "")).losing(loss).sql(sql));
    }
    work.plan.steps.sort_by_key(|step| step.phase);
    work.plan
}

impl Work<'_> {
    pub(super) fn push(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    /// Before all others of its phase.
    pub(super) fn push_first(&mut self, step: Step) {
        self.plan.steps.insert(0, step);
    }

    pub(super) fn table(&self, entity: &Entity) -> String {
        qualified(self.schema, &entity.entity_name)
    }

    fn rename_table(&mut self, entity: &Entity, contract: &[Entity], tables: &mut std::collections::BTreeMap<String, Table>) {
        let Some(old) = &entity.renamed_from else { return };
        let is_free = !tables.contains_key(&entity.entity_name) && contract.iter().all(|other| other.entity_name != *old);
        let Some(table) = is_free.then(|| tables.remove(old)).flatten() else { return };
        let sql = format!("alter table {} rename to {}", qualified(self.schema, old), ident(&entity.entity_name));
        let step = Step::new(Phase::RenameTables, Change::RenameTable, (&entity.entity_name, ""));
        self.push(step.detail(format!("{old} → {}", entity.entity_name)).sql(sql));
        tables.insert(entity.entity_name.clone(), table);
    }

    fn rename_columns(&mut self, entity: &Entity, table: &mut Table) {
        for field in entity.own_fields() {
            let Some(old) = &field.renamed_from else { continue };
            let is_free = !table.columns.contains_key(&field.name);
            let Some(column) = is_free.then(|| table.columns.remove(old)).flatten() else { continue };
            let sql = format!("alter table {} rename column {} to {}", self.table(entity), ident(old), ident(&field.name));
            let step = Step::new(Phase::RenameColumns, Change::RenameColumn, (&entity.entity_name, &field.name));
            self.push(step.detail(format!("{old} → {}", field.name)).sql(sql));
            table.columns.insert(field.name.clone(), column);
        }
    }

    fn create_table(&mut self, entity: &Entity) {
        let table = self.table(entity);
        let mut columns = vec!["id uuid primary key default gen_random_uuid()".to_owned()];
        columns.extend(entity.own_fields().map(definition));
        columns
            .extend(["created_at", "updated_at"].map(|name| format!("{name} timestamp with time zone not null default now()")));
        if entity.access == Access::Owner {
            columns.push(format!("{} uuid default weft_sql.caller()", ident(OWNER)));
        }
        let count = entity.own_fields().count();
        let mut step = Step::new(Phase::CreateTables, Change::CreateTable, (&entity.entity_name, ""))
            .detail(format!("{count} fields"))
            .sql(format!("create table {table} ({})", columns.join(", ")))
            // Nobody but the server's own account sees rows that no policy lets them see.
            .sql(format!("alter table {table} enable row level security"));
        for field in entity.own_fields() {
            step = step.sql(comment(self.schema, &entity.entity_name, field));
        }
        if entity.access == Access::Owner {
            step = step.sql(owner_comment(&table));
        }
        for (event, rows) in [
            ("insert", "new table as _new_rows"),
            ("update", "old table as _old_rows new table as _new_rows"),
            ("delete", "old table as _old_rows"),
        ] {
            step = step.sql(format!(
                "create trigger weft_audit_{event} after {event} on {table} referencing {rows} for each statement execute function weft_audit()"
            ));
        }
        self.push(step);
    }

    /// Drops what a plan once made and the contract does not ask for as it is, and makes what is missing.
    fn objects(&mut self, entity: &Entity, table: Option<&Table>) {
        let wanted = objects(self.schema, entity);
        let existing = table.into_iter().flat_map(|table| table.indexes.iter().chain(&table.constraints).chain(&table.policies));
        let existing: Vec<_> = existing.filter_map(|(name, mark)| Some((name, mark.as_deref()?))).collect();
        for (name, mark) in &existing {
            let Some(sort) = &Family::of(mark) else { continue };
            let kept = wanted.get(*name);
            if kept.is_some_and(|object| object.mark == *mark) {
                continue;
            }
            let change = match sort {
                Family::Index => Change::DropIndex,
                Family::Identity => Change::DropIdentityIndex,
                Family::Check => Change::DropCheck,
                Family::Link => Change::DropLink,
                Family::Policy => Change::DropPolicy,
            };
            let sql = match sort {
                Family::Index | Family::Identity => format!("drop index {}", qualified(self.schema, name)),
                Family::Check | Family::Link => format!("alter table {} drop constraint {}", self.table(entity), ident(name)),
                Family::Policy => format!("drop policy {} on {}", ident(name), self.table(entity)),
            };
            let step = Step::new(Phase::DropObjects, change, (&entity.entity_name, name));
            self.push(step.hidden(kept.is_some() || *sort == Family::Policy).sql(sql));
        }
        for (name, object) in &wanted {
            let before = existing.iter().find(|(existing, _)| *existing == name).map(|(_, mark)| *mark);
            if before != Some(&object.mark) {
                self.make(entity, name, object, before.is_some(), table.is_none());
            }
        }
    }

    fn make(&mut self, entity: &Entity, name: &str, object: &Object, replaced: bool, is_new: bool) {
        let (change, phase) = match (object.family, replaced) {
            (Family::Index, false) => (Change::AddIndex, Phase::Objects),
            (Family::Index, true) => (Change::ReplaceIndex, Phase::Objects),
            (Family::Identity, _) => (Change::AddIdentityIndex, Phase::Objects),
            (Family::Check, false) => (Change::AddCheck, Phase::Objects),
            (Family::Check, true) => (Change::ReplaceCheck, Phase::Objects),
            (Family::Link, false) => (Change::AddLink, Phase::Links),
            (Family::Link, true) => (Change::AlterLink, Phase::Links),
            (Family::Policy, _) => (Change::AddPolicy, Phase::Objects),
        };
        let mark = literal(&object.mark);
        let comment = match object.family {
            Family::Index | Family::Identity => format!("comment on index {} is {mark}", qualified(self.schema, name)),
            Family::Check | Family::Link => format!("comment on constraint {} on {} is {mark}", ident(name), self.table(entity)),
            Family::Policy => format!("comment on policy {} on {} is {mark}", ident(name), self.table(entity)),
        };
        // Policies follow from the entity; nobody has to be told of them.
        let is_detail = is_new || object.family == Family::Policy;
        let mut step = Step::new(phase, change, (&entity.entity_name, name)).hidden(is_detail);
        step.detail.clone_from(&object.detail);
        self.push(step.sql(object.create.clone()).sql(comment));
    }
}
