//! Records of one kind of identity from every app that keeps such records.

use super::{Direction, Link, Query, of, owned};
use crate::{
    Condition, Sql,
    sql::{ident, literal},
};

/// Answers with one row: `data`, a JSON array as text, and `total`. Each entity comes with the condition parsed for it. Sorted by
/// the text of a field, because the types may differ.
pub fn federated(sources: &[(Link<'_>, Condition)], query: &Query) -> Sql {
    let mut sql = Sql::new("with found as (");
    for (index, (source, condition)) in sources.iter().enumerate() {
        let entity = source.entity;
        let key = match entity.kind(&query.order.column) {
            Some(_) => format!("t.{}::text", ident(&query.order.column)),
            None => "null::text".to_owned(),
        };
        sql.push(if index == 0 { "" } else { " union all " });
        sql.push(&format!("select {key} as sorted, t.id, (select row_to_json(_other) from (select {},", of(entity, "t")));
        let (app, name) = (literal(&source.app), literal(entity.name()));
        sql.push(&format!(" json_build_object('app', {app}::text, 'entity', {name}::text) as \"_source\") _other) as record"));
        sql.push(&format!(" from {} t where ", entity.table));
        condition.write(&mut sql);
        owned(&mut sql, "t", source.owner);
    }
    let direction = if query.order.direction == Direction::Ascending { "asc" } else { "desc" };
    sql.push(&format!(
        ") select coalesce((select json_agg(page.record) from (select record from found order by sorted {direction}, id \
         limit {} offset {}) page), '[]')::text as data, (select count(*) from found) as total",
        query.limit, query.offset
    ));
    sql
}
