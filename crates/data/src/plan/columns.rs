//! Steps that bring the columns of a table to what the contract says.

use weft_model::contract::{Access, Entity, Field};

use super::{
    Change, Obstacle, Phase, Step,
    convert::{conversion, kind_of},
    objects::default_of,
    planner::Work,
};
use crate::{
    catalogue::{Column, Table},
    entity::OWNER,
    sql::{ident, literal, qualified, type_name},
};

/// A column as it is defined in a table that is made, or added to one.
pub fn definition(field: &Field) -> String {
    let mut text = format!("{} {}", ident(&field.name), type_name(field.kind));
    if let (Some(default), _) = default_of(field) {
        text.push_str(" default ");
        text.push_str(&default);
    }
    if field.required {
        text.push_str(" not null");
    }
    text
}

/// The comment that tells a later plan which default a column has.
pub fn comment(schema: &str, entity: &str, field: &Field) -> String {
    let (_, mark) = default_of(field);
    format!("comment on column {}.{} is {}", qualified(schema, entity), ident(&field.name), literal(&mark))
}

/// The comment on the column of owners that has its default.
const OWNER_MARK: &str = "weft:owner";

pub fn owner_comment(table: &str) -> String {
    format!("comment on column {table}.{} is {}", ident(OWNER), literal(OWNER_MARK))
}

impl Work<'_> {
    pub(super) fn columns(&mut self, entity: &Entity, table: &Table) {
        for field in entity.own_fields() {
            match table.columns.get(&field.name) {
                None => self.add_column(entity, field, table.filled),
                Some(column) => self.alter_column(entity, field, column, table.filled),
            }
        }
        if entity.access == Access::Owner {
            self.owner_column(entity, table.columns.get(OWNER));
        }
        for name in table.columns.keys() {
            if entity.kind(name).is_none() && name != OWNER {
                let loss = table.filled.then(|| format!("the values of '{name}' in every record of '{}'", entity.entity_name));
                let sql = format!("alter table {} drop column {} cascade", self.table(entity), ident(name));
                let step = Step::new(Phase::DropColumns, Change::DropColumn, (&entity.entity_name, name));
                self.push(step.losing(loss).sql(sql));
            }
        }
    }

    /// What SQL of a backend adds belongs to whoever called it.
    fn owner_column(&mut self, entity: &Entity, column: Option<&Column>) {
        let (table, name) = (self.table(entity), ident(OWNER));
        let step = |change| Step::new(Phase::Columns, change, (&entity.entity_name, OWNER));
        let step = match column {
            None => step(Change::AddColumn).detail("uuid").sql(format!("alter table {table} add column {name} uuid")),
            Some(column) if column.mark.as_deref() != Some(OWNER_MARK) => step(Change::SetDefault).hidden(true),
            Some(_) => return,
        };
        // Not with the column: rows that are there already belong to nobody.
        let default = format!("alter table {table} alter column {name} set default weft_sql.caller()");
        self.push(step.sql(default).sql(owner_comment(&table)));
    }

    fn add_column(&mut self, entity: &Entity, field: &Field, filled: bool) {
        if filled && field.required && field.default_cell().is_none() {
            self.plan.obstacles.push(Obstacle {
                entity: entity.entity_name.clone(),
                column: field.name.clone(),
                message: "is required and has no default, and there are records that would have none".to_owned(),
            });
        }
        let sql = format!("alter table {} add column {}", self.table(entity), definition(field));
        let step = Step::new(Phase::Columns, Change::AddColumn, (&entity.entity_name, &field.name)).detail(type_name(field.kind));
        self.push(step.sql(sql).sql(comment(self.schema, &entity.entity_name, field)));
    }

    fn alter_column(&mut self, entity: &Entity, field: &Field, column: &Column, filled: bool) {
        let (table, name) = (self.table(entity), ident(&field.name));
        let step = |change| Step::new(Phase::Columns, change, (&entity.entity_name, &field.name));
        let alter = |what: &str| format!("alter table {table} alter column {name} {what}");
        let (default, mark) = default_of(field);
        let retyped = column.kind != type_name(field.kind);
        if retyped {
            self.push(retype(step(Change::AlterType), &alter, field, (column, filled)));
        }
        if column.mark.as_deref() != Some(&mark) {
            let changed = match &default {
                Some(default) => step(Change::SetDefault).detail(default.clone()).sql(alter(&format!("set default {default}"))),
                None => step(Change::DropDefault).sql(alter("drop default")),
            };
            // Only the comment is new when the type has changed and there never was a default.
            let is_detail = default.is_none() && retyped;
            self.push(changed.hidden(is_detail).sql(comment(self.schema, &entity.entity_name, field)));
        }
        if field.required && !column.required {
            let fill = default.map(|default| format!("update {table} set {name} = {default} where {name} is null"));
            let mut required = step(Change::SetNotNull);
            required.sql.extend(fill);
            self.push(required.sql(alter("set not null")));
        } else if !field.required && column.required {
            // Before values are converted: some may become empty.
            self.push_first(step(Change::DropNotNull).sql(alter("drop not null")));
        }
    }
}

/// Carries the values of a column over to another type, and says which are lost.
fn retype(step: Step, alter: &impl Fn(&str) -> String, field: &Field, (column, filled): (&Column, bool)) -> Step {
    let wanted = type_name(field.kind);
    let (mut using, lossless) = conversion(kind_of(&column.kind), field.kind, &ident(&field.name));
    if let (true, (Some(default), _)) = (field.required, default_of(field)) {
        using = format!("coalesce({using}, {default})");
    }
    let loss = (filled && !lossless).then(|| format!("values of '{}' that are no {wanted}: they become empty", field.name));
    let step = step.detail(format!("{} → {wanted}", column.kind)).losing(loss);
    step.sql(alter("drop default")).sql(alter(&format!("type {wanted} using {using}")))
}
