//! Statements that read. Each answers a request in one round trip, with the JSON made by PostgreSQL.

mod aggregate;
mod federated;
mod page;
mod query;

use uuid::Uuid;
use weft_model::contract::{Cell, Kind};

pub use aggregate::Aggregate;
pub use federated::federated;
pub use page::{cursor, page, parse_cursor};
pub use query::{Direction, Form, LONGEST_PAGE, Order, Query, parse_order};

use crate::{
    Condition, Entity, Sql,
    entity::OWNER,
    sql::{ident, literal},
};

/// Another record that comes along with each one.
#[derive(Debug, Clone)]
pub struct Expansion<'a> {
    /// The field that refers to it.
    pub field: String,
    pub target: Target<'a>,
}

#[derive(Debug, Clone)]
pub enum Target<'a> {
    /// An entity of the same app, and whose records of it alone are shown.
    Entity(&'a Entity, Option<Uuid>),
    /// The members of a tenant.
    Users { tenant: String },
}

/// An entity of another app whose records are about the same.
#[derive(Debug, Clone)]
pub struct Link<'a> {
    pub app: String,
    pub entity: &'a Entity,
    pub owner: Option<Uuid>,
}

/// What each record shows.
#[derive(Debug, Clone, Default)]
pub struct View<'a> {
    /// Only these fields; all when empty.
    pub select: Vec<String>,
    pub expand: Vec<Expansion<'a>>,
    pub linked: Vec<Link<'a>>,
}

/// The places in a list of the records, given as JSON, that meet a condition, as an array.
pub fn meeting(entity: &Entity, condition: &Condition, records: Vec<String>) -> Sql {
    let mut sql = Sql::new("select coalesce(array_agg(_place - 1), '{}') from unnest(");
    sql.bind(Cell::TextList(records), Kind::TextList);
    sql.push(") with ordinality as _given (_record, _place) cross join lateral jsonb_populate_record(null::").push(&entity.table);
    sql.push(", _record::jsonb) as t where ");
    condition.write(&mut sql);
    sql
}

/// One record as JSON text.
pub fn get(entity: &Entity, id: Uuid, owner: Option<Uuid>, view: &View<'_>) -> Sql {
    let mut sql = Sql::new("select ");
    sql.push(&row_json(view)).push("::text from (select ");
    columns(&mut sql, entity, view);
    sql.push(" from ").push(&entity.table).push(" t where t.id = ").bind(Cell::Uuid(id), Kind::Uuid);
    owned(&mut sql, "t", owner);
    sql.push(") _row");
    sql
}

/// A record by its id, in a row: its id, and all of it as JSON text.
pub fn get_one(entity: &Entity, id: Uuid, owner: Option<Uuid>) -> Sql {
    identified(entity, owner, |sql| {
        sql.bind(Cell::Uuid(id), Kind::Uuid);
    })
}

/// Records by their ids, each in such a row.
pub fn get_all(entity: &Entity, ids: impl Iterator<Item = Uuid>, owner: Option<Uuid>) -> Sql {
    identified(entity, owner, |sql| {
        let ids = ids.map(|id| id.to_string()).collect();
        sql.push("any(").bind(Cell::TextList(ids), Kind::TextList).push("::uuid[])");
    })
}

fn identified(entity: &Entity, owner: Option<Uuid>, wanted: impl FnOnce(&mut Sql)) -> Sql {
    let mut sql = Sql::new("select id, row_to_json(_row)::text from (select ");
    sql.push(&entity.all).push(" from ").push(&entity.table).push(" t where t.id = ");
    wanted(&mut sql);
    owned(&mut sql, "t", owner);
    sql.push(") _row");
    sql
}

/// The select list of a view over `t`.
fn columns(sql: &mut Sql, entity: &Entity, view: &View<'_>) {
    if view.select.is_empty() {
        sql.push(&entity.all);
    } else {
        let chosen = entity.columns.iter().map(|(name, _)| name.as_str());
        let chosen = chosen.filter(|name| *name == "id" || view.select.iter().any(|wanted| wanted == name));
        sql.push(&crate::entity::list(chosen));
    }
    if !view.expand.is_empty() {
        sql.push(", json_build_object(");
        for (index, expansion) in view.expand.iter().enumerate() {
            sql.push(if index == 0 { "" } else { ", " }).push(&literal(&expansion.field)).push(", ");
            expanded(sql, expansion);
        }
        sql.push(") as \"_expanded\"");
    }
    if let (false, Some(key)) = (view.linked.is_empty(), &entity.contract.identity_key) {
        sql.push(", ");
        linked(sql, key, &view.linked);
        sql.push(" as \"_linked\"");
    }
}

/// How a row `x` of a view becomes JSON. What is linked is absent where there is none.
fn row_json(view: &View<'_>) -> String {
    if view.linked.is_empty() {
        return "row_to_json(_row)".to_owned();
    }
    "case when _row.\"_linked\" is null then (to_jsonb(_row) - '_linked')::json else row_to_json(_row) end".to_owned()
}

fn expanded(sql: &mut Sql, expansion: &Expansion<'_>) {
    let field = ident(&expansion.field);
    match &expansion.target {
        Target::Entity(target, owner) => {
            sql.push("(select row_to_json(_other) from (select ").push(&of(target, "o")).push(" from ").push(&target.table);
            sql.push(&format!(" o where o.id = t.{field}"));
            owned(sql, "o", *owner);
            sql.push(") _other)");
        }
        Target::Users { tenant } => {
            sql.push("(select row_to_json(_other) from (select users.id, users.email, users.display_name as \"displayName\" from users");
            sql.push(&format!(" join memberships on memberships.user_id = users.id where users.id = t.{field}"));
            sql.push(" and memberships.tenant_id = ").bind_text(tenant).push(") _other)");
        }
    }
}

/// One record of each other app that has the same identity.
fn linked(sql: &mut Sql, key: &str, links: &[Link<'_>]) {
    sql.push("(select json_object_agg(u.app, json_build_object('entity', u.entity, 'recordId', u.id, 'data', u.data)) from (");
    sql.push("select distinct on (v.app) v.app, v.entity, v.id, v.data from (");
    for (index, link) in links.iter().enumerate() {
        let other = link.entity.contract.identity_key.as_deref().unwrap_or("id");
        sql.push(if index == 0 { "" } else { " union all " });
        sql.push(&format!("(select {}::text as app, {}::text as entity, o.id,", literal(&link.app), literal(link.entity.name())));
        sql.push(&format!(
            " (select row_to_json(_other) from (select {}) _other) as data from {} o",
            of(link.entity, "o"),
            link.entity.table
        ));
        sql.push(&format!(" where o.{}::text = t.{}::text", ident(other), ident(key)));
        owned(sql, "o", link.owner);
        sql.push(" order by o.created_at desc, o.id limit 1)");
    }
    sql.push(") v order by v.app, v.entity) u)");
}

/// The columns of an entity from another alias than `t`.
fn of(entity: &Entity, alias: &str) -> String {
    entity.columns.iter().map(|(name, _)| format!("{alias}.{}", ident(name))).collect::<Vec<_>>().join(", ")
}

/// Leaves only what somebody has created.
pub(crate) fn owned(sql: &mut Sql, alias: &str, owner: Option<Uuid>) {
    if let Some(owner) = owner {
        sql.push(&format!(" and {alias}.{} = ", ident(OWNER))).bind(Cell::Uuid(owner), Kind::Uuid);
    }
}
