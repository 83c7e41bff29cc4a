//! Records of one kind of identity from every app that keeps such records.

use std::fmt::Write as _;

use super::{Direction, Link, Query, of, owned};
use crate::{
    Condition, Sql,
    sql::{ident, literal},
};

/// Answers with one row: `data`, a JSON array as text, and `total`. Each entity comes with the condition parsed for it. Sorted by
/// the text of a field, because the types may differ.
pub fn federated(sources: &[(Link<'_>, Condition)], query: &Query) -> Sql {
    let mut sql = Sql::new("with found as (");
    let mut records = String::new();
    for (index, (source, condition)) in sources.iter().enumerate() {
        let entity = source.entity;
        let key = match entity.kind(&query.order.column) {
            Some(_) => format!("t.{}::text", ident(&query.order.column)),
            None => "null::text".to_owned(),
        };
        sql.push(if index == 0 { "" } else { " union all " });
        sql.push(&format!("select {key} as sorted, t.id, {index} as source from {} t where ", entity.table));
        condition.write(&mut sql);
        owned(&mut sql, "t", source.owner);
        // Only what is on the page is shown, so only that is made into JSON.
        let (app, name, shown) = (literal(&source.app), literal(entity.name()), of(entity, "t"));
        let source = format!("json_build_object('app', {app}::text, 'entity', {name}::text) as \"_source\"");
        let one = format!("(select {shown}, {source} from {} t where t.id = page.id) _other", entity.table);
        let _ = write!(records, " when {index} then (select row_to_json(_other) from {one})");
    }
    let direction = if query.order.direction == Direction::Ascending { "asc" } else { "desc" };
    sql.push(&format!(
        ") select coalesce((select json_agg(case page.source{records} end order by page.sorted {direction}, page.id) \
         from (select * from found order by sorted {direction}, id limit {} offset {}) page), '[]')::text as data, \
         (select count(*) from found) as total",
        query.limit, query.offset
    ));
    sql
}
