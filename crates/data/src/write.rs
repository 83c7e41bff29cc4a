//! Statements that write, and the bodies that they are made from.
//!
//! Each statement first says who writes, in a setting that lasts as long as its transaction; the triggers of the tables record it
//! with what was before and after. So one round trip does all of it.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use weft_model::{
    Fault,
    contract::{Cell, Field, Kind, is_system},
};

use crate::{
    Condition, Entity, Sql,
    entity::OWNER,
    read::owned,
    sql::{constant, ident, type_name},
};

/// Records in one request at most.
pub const MOST_RECORDS: usize = 1000;

/// Who writes, and when.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The value of the setting `weft.audit`.
    pub audit: String,
    pub now: DateTime<Utc>,
    /// Whom a new record belongs to; nobody where an app itself makes it.
    pub author: Option<Uuid>,
    /// Whose records alone may be changed.
    pub owner: Option<Uuid>,
    /// How much of a written record the answer shows.
    pub shown: Shown,
}

/// How much of a record the answer to a change shows: who may not read records gets no more than their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Record,
    Id,
}

impl Shown {
    /// A row `t` as JSON.
    fn json(self, entity: &Entity) -> String {
        match self {
            Self::Record => format!("(select row_to_json(_row) from (select {}) _row)", entity.all),
            Self::Id => "json_build_object('id', t.id)".to_owned(),
        }
    }
}

/// Fields with their values.
pub type Values = Vec<(String, Kind, Cell)>;

/// Reads the fields of a body. What the server itself keeps is left out; all else must be a field of the entity.
pub fn values(entity: &Entity, body: &Value, path: &str) -> Result<Values, Vec<Fault>> {
    let Some(members) = body.as_object() else { return Err(vec![Fault::new(path, "body must be a JSON object")]) };
    if members.is_empty() {
        return Err(vec![Fault::new(path, "body must not be empty")]);
    }
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for (name, value) in members.iter().filter(|(name, _)| !is_system(name) && *name != OWNER) {
        match value_of(entity, name, value) {
            Ok((kind, cell)) => values.push((name.clone(), kind, cell)),
            Err(message) => faults.push(Fault::new(format!("{path}.{name}"), message)),
        }
    }
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

/// The same for a record to be made: what is required has to be there.
pub fn new_values(entity: &Entity, body: &Value, path: &str) -> Result<Values, Vec<Fault>> {
    let values = values(entity, body, path)?;
    if values.is_empty() {
        return Err(vec![Fault::new(path, "body must contain at least one writable field")]);
    }
    let is_missing =
        |field: &&Field| field.required && field.default_cell().is_none() && values.iter().all(|(name, ..)| *name != field.name);
    let missing = entity.contract.own_fields().filter(is_missing);
    let faults: Vec<_> = missing.map(|field| Fault::new(format!("{path}.{}", field.name), "is required")).collect();
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

fn value_of(entity: &Entity, name: &str, value: &Value) -> Result<(Kind, Cell), String> {
    let field = entity.contract.field(name).ok_or_else(|| format!("'{name}' is no field of '{}'", entity.name()))?;
    let cell = field.kind.read(value)?;
    if cell == Cell::Null && field.required {
        return Err("is required, so it cannot be null".to_owned());
    }
    if let Some(allowed) = &field.enum_values {
        let fits = match &cell {
            Cell::Text(text) => allowed.contains(text),
            Cell::TextList(texts) => texts.iter().all(|text| allowed.contains(text)),
            _ => true,
        };
        if !fits {
            return Err(format!("must be one of {}", allowed.join(", ")));
        }
    }
    Ok((field.kind, cell))
}

/// Begins a statement by saying who writes.
fn begin(stamp: &Stamp) -> Sql {
    let mut sql = Sql::new("with context as materialized (select set_config('weft.audit', ");
    sql.bind_text(&stamp.audit).push(", true))");
    sql
}

fn now(sql: &mut Sql, stamp: &Stamp) {
    sql.bind(Cell::Timestamp(stamp.now), Kind::Timestamp);
}

/// Ends a statement with the records of the part `made`, as JSON text.
fn answer(sql: &mut Sql, entity: &Entity, stamp: &Stamp) {
    sql.push(" select ").push(&stamp.shown.json(entity)).push("::text from made t");
}

/// Makes one record; answers with it.
pub fn create(entity: &Entity, id: Uuid, values: Values, stamp: &Stamp) -> Sql {
    let mut sql = begin(stamp);
    sql.push(", made as (insert into ").push(&entity.table).push(" (id, created_at, updated_at");
    for (name, ..) in &values {
        sql.push(", ").name(name);
    }
    if entity.is_owned() {
        sql.push(", ").name(OWNER);
    }
    sql.push(") select ").bind(Cell::Uuid(id), Kind::Uuid).push(", ");
    now(&mut sql, stamp);
    sql.push(", ");
    now(&mut sql, stamp);
    for (_, kind, cell) in values {
        sql.push(", ").bind(cell, kind);
    }
    if entity.is_owned() {
        sql.push(", ").bind(stamp.author.map_or(Cell::Null, Cell::Uuid), Kind::Uuid);
    }
    sql.push(" from context returning *)");
    answer(&mut sql, entity, stamp);
    sql
}

/// Changes one record; answers with it as it is now. With a tag, only if it is still as the tag says.
pub fn update(entity: &Entity, id: Uuid, values: Values, tag: Option<&str>, stamp: &Stamp) -> Sql {
    let mut sql = begin(stamp);
    sql.push(", made as (update ").push(&entity.table).push(" t set ");
    assign(&mut sql, values, stamp);
    sql.push(" from context where t.id = ").bind(Cell::Uuid(id), Kind::Uuid);
    owned(&mut sql, "t", stamp.owner);
    unchanged(&mut sql, entity, tag);
    sql.push(" returning t.*)");
    answer(&mut sql, entity, stamp);
    sql
}

fn assign(sql: &mut Sql, values: Values, stamp: &Stamp) {
    sql.push("updated_at = ");
    now(sql, stamp);
    for (name, kind, cell) in values {
        sql.push(", ").name(&name).push(" = ").bind(cell, kind);
    }
}

/// Lets a record through only as somebody has seen it: the tag is the digest of its JSON.
fn unchanged(sql: &mut Sql, entity: &Entity, tag: Option<&str>) {
    let Some(tag) = tag else { return };
    sql.push(" and encode(sha256(convert_to((select row_to_json(_row)::text from (select ").push(&entity.all);
    sql.push(") _row), 'UTF8')), 'hex') = ").bind_text(tag);
}

/// Deletes one record; answers with its id.
pub fn delete(entity: &Entity, id: Uuid, tag: Option<&str>, stamp: &Stamp) -> Sql {
    let mut sql = begin(stamp);
    sql.push(" delete from ").push(&entity.table).push(" t using context where t.id = ").bind(Cell::Uuid(id), Kind::Uuid);
    owned(&mut sql, "t", stamp.owner);
    unchanged(&mut sql, entity, tag);
    sql.push(" returning t.id::text");
    sql
}

/// Changes every record that meets a condition; answers with how many.
pub fn update_all(entity: &Entity, condition: &Condition, values: Values, stamp: &Stamp) -> Sql {
    let mut sql = begin(stamp);
    sql.push(", made as (update ").push(&entity.table).push(" t set ");
    assign(&mut sql, values, stamp);
    sql.push(" from context where ");
    condition.write(&mut sql);
    owned(&mut sql, "t", stamp.owner);
    sql.push(" returning t.id) select count(*) from made");
    sql
}

/// Deletes every record that meets a condition; answers with how many.
pub fn delete_all(entity: &Entity, condition: &Condition, stamp: &Stamp) -> Sql {
    let mut sql = begin(stamp);
    sql.push(", made as (delete from ").push(&entity.table).push(" t using context where ");
    condition.write(&mut sql);
    owned(&mut sql, "t", stamp.owner);
    sql.push(" returning t.id) select count(*) from made");
    sql
}

/// Makes many records at once, all or none; answers with them in order, as one JSON array. `ids` has one for each.
pub fn create_all(entity: &Entity, records: Vec<Values>, ids: &[Uuid], stamp: &Stamp) -> Sql {
    let mut sql = items(entity, records, ids, stamp);
    sql.push(" returning *) select coalesce(json_agg(");
    sql.push(&stamp.shown.json(entity)).push(" order by items.n), '[]')::text");
    sql.push(" from made t join items on items.id = t.id");
    sql
}

/// Makes records, or changes those that are there already by the values of `on`; answers with an array of them as JSON text,
/// and how many were made. Every record has the same fields.
pub fn upsert(entity: &Entity, records: Vec<Values>, on: &[String], ids: &[Uuid], stamp: &Stamp) -> Sql {
    let changed = records.first().into_iter().flatten().map(|(name, ..)| name.clone());
    let changed: Vec<_> = changed.filter(|name| !on.contains(name)).collect();
    let mut sql = items(entity, records, ids, stamp);
    let keys: Vec<_> = on.iter().map(|name| ident(name)).collect();
    sql.push(&format!(" on conflict ({}) do update set updated_at = excluded.updated_at", keys.join(", ")));
    for name in changed {
        sql.push(&format!(", {0} = excluded.{0}", ident(&name)));
    }
    if let Some(owner) = stamp.owner {
        sql.push(&format!(" where t.{} = ", ident(OWNER))).bind(Cell::Uuid(owner), Kind::Uuid);
    }
    sql.push(" returning *) select coalesce(json_agg(").push(&stamp.shown.json(entity));
    sql.push("), '[]')::text, count(*) filter (where t.id in (select id from items)), count(*) from made t");
    sql
}

/// Makes records, or changes those that are there by the values of `on` and have other values; what has not changed is left alone, so that
/// nobody hears of it. Answers with how many were made, and how many made or changed. Every record has the same fields.
pub fn keep(entity: &Entity, records: Vec<Values>, on: &[String], ids: &[Uuid], stamp: &Stamp) -> Sql {
    let changed = records.first().into_iter().flatten().map(|(name, ..)| name.clone());
    let changed: Vec<_> = changed.filter(|name| !on.contains(name)).map(|name| ident(&name)).collect();
    let mut sql = items(entity, records, ids, stamp);
    let keys: Vec<_> = on.iter().map(|name| ident(name)).collect();
    sql.push(&format!(" on conflict ({}) do ", keys.join(", ")));
    if changed.is_empty() {
        sql.push("nothing");
    } else {
        let (now, new) = (changed.iter().map(|name| format!("t.{name}")), changed.iter().map(|name| format!("excluded.{name}")));
        let (now, new) = (now.collect::<Vec<_>>().join(", "), new.collect::<Vec<_>>().join(", "));
        let set: Vec<_> = changed.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        sql.push(&format!("update set updated_at = excluded.updated_at, {}", set.join(", ")));
        sql.push(&format!(" where ({now}) is distinct from ({new})"));
    }
    sql.push(" returning t.id) select count(*) filter (where made.id in (select id from items)), count(*) from made");
    sql
}

/// Deletes some of the records that meet a condition, `most` at most; answers with how many.
pub fn delete_some(entity: &Entity, condition: &Condition, most: u32, stamp: &Stamp) -> Sql {
    let mut sql = begin(stamp);
    sql.push(", made as (delete from ").push(&entity.table).push(" using context where id in (select t.id from ");
    sql.push(&entity.table).push(" t where ");
    condition.write(&mut sql);
    owned(&mut sql, "t", stamp.owner);
    sql.push(&format!(" limit {most}) returning id) select count(*) from made"));
    sql
}

/// The beginning of a statement that makes many records: a document of them all, taken apart by PostgreSQL.
fn items(entity: &Entity, records: Vec<Values>, ids: &[Uuid], stamp: &Stamp) -> Sql {
    let named = |name: &str| records.iter().any(|values| values.iter().any(|(given, ..)| given == name));
    let fields: Vec<_> = entity.contract.own_fields().filter(|field| named(&field.name)).cloned().collect();
    let document: Vec<_> = ids.iter().zip(records).map(|(id, values)| item(*id, values)).collect();
    let mut sql = begin(stamp);
    sql.push(", items as materialized (select list.n, (list.item->>'id')::uuid as id, list.item from context,");
    sql.push(" jsonb_array_elements(").bind(Cell::Json(Value::Array(document)), Kind::Json);
    sql.push(") with ordinality as list(item, n)), made as (insert into ").push(&entity.table);
    sql.push(" as t (id, created_at, updated_at");
    for field in &fields {
        sql.push(", ").name(&field.name);
    }
    if entity.is_owned() {
        sql.push(", ").name(OWNER);
    }
    sql.push(") select items.id, ");
    now(&mut sql, stamp);
    sql.push(", ");
    now(&mut sql, stamp);
    for field in &fields {
        sql.push(", ").push(&picked(field));
    }
    if entity.is_owned() {
        sql.push(", ").bind(stamp.author.map_or(Cell::Null, Cell::Uuid), Kind::Uuid);
    }
    sql.push(" from items, jsonb_to_record(items.item->'values') as given(");
    let columns: Vec<_> = fields.iter().map(|field| format!("{} {}", ident(&field.name), type_name(field.kind))).collect();
    sql.push(if columns.is_empty() { "\"_none\" text" } else { "" }).push(&columns.join(", "));
    sql.push(") order by items.n");
    sql
}

/// A field of one of many records: its default where the record says nothing.
fn picked(field: &Field) -> String {
    let given = format!("given.{}", ident(&field.name));
    match field.default_cell() {
        Some(default) => {
            let name = crate::sql::literal(&field.name);
            format!("case when items.item->'values' ? {name} then {given} else {} end", constant(&default, field.kind))
        }
        None => given,
    }
}

fn item(id: Uuid, values: Values) -> Value {
    let values: Map<_, _> = values.into_iter().map(|(name, _, cell)| (name, plain(cell))).collect();
    json!({ "id": id, "values": values })
}

/// A value as JSON that PostgreSQL reads as the column's type.
fn plain(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => Value::String(text),
        Cell::Number(number) => json!(number),
        Cell::Boolean(value) => Value::Bool(value),
        Cell::Date(date) => json!(date),
        Cell::Timestamp(time) => json!(time),
        Cell::Json(value) => value,
        Cell::Uuid(id) => json!(id),
        Cell::TextList(texts) => json!(texts),
        Cell::NumberList(numbers) => json!(numbers),
    }
}
