//! What a database holds of an app: a snapshot to plan from.
//!
//! What a plan makes it marks with a comment, and it replaces or drops only what bears such a mark. So the indexes and constraints that
//! a database administrator made stay. Tables that belong to a role of the app, which its migrations made, are none of a plan's.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Reads the snapshot of the schema `$1` as one JSON document, a [`Catalogue`].
pub const READ: &str = "select json_build_object(
    'exists', spaces.oid is not null,
    'mark', obj_description(spaces.oid, 'pg_namespace'),
    'tables', coalesce((select json_object_agg(tables.relname, json_build_object(
        'filled', weft_has_rows(tables.oid),
        'columns', (select coalesce(json_object_agg(attname, json_build_object(
                'type', format_type(atttypid, atttypmod), 'required', attnotnull, 'mark', col_description(attrelid, attnum))), '{}')
            from pg_attribute where attrelid = tables.oid and attnum > 0 and not attisdropped),
        'indexes', (select coalesce(json_object_agg(relname, obj_description(indexrelid, 'pg_class')), '{}')
            from pg_index join pg_class on pg_class.oid = indexrelid where indrelid = tables.oid),
        'constraints', (select coalesce(json_object_agg(conname, obj_description(pg_constraint.oid, 'pg_constraint')), '{}')
            from pg_constraint where conrelid = tables.oid and contype in ('c', 'f')),
        'policies', (select coalesce(json_object_agg(polname, obj_description(pg_policy.oid, 'pg_policy')), '{}')
            from pg_policy where polrelid = tables.oid)))
        from pg_class as tables join pg_roles as owners on owners.oid = tables.relowner
        where tables.relnamespace = spaces.oid and tables.relkind in ('r', 'p')
            and owners.rolname !~ '^weft_[0-9a-f]{8}_'), '{}'))::text
    from (select 1) as one left join pg_namespace as spaces on nspname = $1";

/// The schema of an app as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Catalogue {
    pub exists: bool,
    /// [`SCHEMA_MARK`] when an app's plan made it.
    pub mark: Option<String>,
    pub tables: BTreeMap<String, Table>,
}

/// The comment on a schema that belongs to an app.
pub const SCHEMA_MARK: &str = "weft:app";
/// How the comments begin that a plan leaves on what it made.
pub const MARK: &str = "weft:";

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Table {
    /// Whether it has rows.
    pub filled: bool,
    pub columns: BTreeMap<String, Column>,
    /// Names with the comments that they bear.
    pub indexes: BTreeMap<String, Option<String>>,
    /// Checks and foreign keys, likewise.
    pub constraints: BTreeMap<String, Option<String>>,
    /// Policies of row-level security, likewise.
    pub policies: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Column {
    #[serde(rename = "type")]
    pub kind: String,
    pub required: bool,
    /// Stands for the default that a plan gave it.
    pub mark: Option<String>,
}

impl Catalogue {
    /// Whether the schema is somebody else's, so that an app must keep off it.
    pub fn is_foreign(&self) -> bool {
        self.exists && self.mark.as_deref() != Some(SCHEMA_MARK)
    }
}
