//! One page of records: its data, the cursor to the next one and, if wanted, how many there are in all.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use uuid::Uuid;
use weft_model::contract::{Cell, Kind};

use super::{Direction, Form, Order, Query, View, columns, owned, row_json};
use crate::{Entity, Sql, sql::ident};

/// Answers with one row: `data`, a JSON array as text; `next`, where the following page begins, as text, or null; `total`, or null.
///
/// Nothing is counted when the page itself tells how many there are, or when nobody asked.
pub fn page(entity: &Entity, query: &Query, view: &View<'_>) -> Sql {
    let (order, limit) = (&query.order, query.limit);
    let mut sql = Sql::new("with page as materialized (select t.* from ");
    sql.push(&entity.table).push(" t where ");
    matching(&mut sql, entity, query);
    if let Some((value, id)) = &query.after {
        sql.push(" and ");
        after(&mut sql, entity, order, (value, *id));
    }
    let direction = if order.direction == Direction::Ascending { "asc" } else { "desc" };
    sql.push(&format!(" order by t.{} {direction}, t.id limit {} offset {})", ident(&order.column), limit + 1, query.offset));
    let row = row_json(view);
    let (list, none) = match query.form {
        Form::Array => (format!("json_agg({row})"), "'[]'"),
        Form::Lines => (format!("string_agg(({row})::text, E'\\n')"), "''"),
    };
    sql.push(&format!(" select coalesce((select {list}::text from (select "));
    columns(&mut sql, entity, view);
    sql.push(&format!(" from page t limit {limit}) _row), {none}) as data,"));
    sql.push(&format!(" case when (select count(*) from page) > {limit} then"));
    let key = ident(&order.column);
    sql.push(&format!(" (select json_build_array(t.{key}, t.id)::text from page t offset {} limit 1) end as next,", limit - 1));
    if query.count {
        total(&mut sql, entity, query);
    } else {
        sql.push(" null::bigint");
    }
    sql.push(" as total");
    sql
}

fn total(sql: &mut Sql, entity: &Entity, query: &Query) {
    let (limit, offset) = (query.limit, query.offset);
    // A page that is not full is the last one, unless it lies beyond the end.
    if query.after.is_none() {
        let known = if offset == 0 { "" } else { " and (select count(*) from page) > 0" };
        sql.push(&format!(" case when (select count(*) from page) <= {limit}{known}"));
        sql.push(&format!(" then {offset} + (select count(*) from page) else"));
    }
    sql.push(" (select count(*) from ").push(&entity.table).push(" t where ");
    matching(sql, entity, query);
    sql.push(")").push(if query.after.is_none() { " end" } else { "" });
}

/// The condition with what else narrows a query, whatever the page.
fn matching(sql: &mut Sql, entity: &Entity, query: &Query) {
    query.condition.write(sql);
    owned(sql, "t", query.owner);
    if let (Some(words), Some(document)) = (&query.search, entity.search_document()) {
        sql.push(" and ").push(&document).push(" @@ websearch_to_tsquery('simple'::regconfig, ").bind_text(words).push(")");
    }
}

/// What comes after a record in an order. PostgreSQL has nulls last when ascending and first when descending.
fn after(sql: &mut Sql, entity: &Entity, order: &Order, (value, id): (&Cell, Uuid)) {
    let column = format!("t.{}", ident(&order.column));
    let ascending = order.direction == Direction::Ascending;
    let nullable = !entity.is_required(&order.column);
    if *value == Cell::Null {
        let later = if ascending { format!("({column} is null and ") } else { format!("({column} is not null or ") };
        sql.push(&later).push("t.id > ").bind(Cell::Uuid(id), Kind::Uuid).push(")");
        return;
    }
    let (beyond, or_equal) = if ascending { (">", ">=") } else { ("<", "<=") };
    // Said twice: the first comparison is what an index can begin at.
    sql.push("(").push(&column).push(" ").push(or_equal).push(" ").bind(value.clone(), order.kind);
    sql.push(" and (").push(&column).push(" ").push(beyond).push(" ").bind(value.clone(), order.kind);
    sql.push(" or t.id > ").bind(Cell::Uuid(id), Kind::Uuid).push(")");
    if ascending && nullable {
        sql.push(" or ").push(&column).push(" is null");
    }
    sql.push(")");
}

/// The `next` of a [`page`] as callers get it.
pub fn cursor(next: &str) -> String {
    URL_SAFE_NO_PAD.encode(next)
}

/// Reads a [`cursor`] under the order that its page was made with.
pub fn parse_cursor(order: &Order, cursor: &str) -> Option<(Cell, Uuid)> {
    let cursor: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let [value, id] = cursor.as_array()?.as_slice() else { return None };
    Some((order.kind.read(value).ok()?, id.as_str()?.parse().ok()?))
}
