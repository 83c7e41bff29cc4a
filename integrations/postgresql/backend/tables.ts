/** What there is in the database, from the server's own catalog. Only what the login may see something of. */
import type { Access } from "./connection.ts";
import { inTransaction } from "./session.ts";
import { quoted } from "./values.ts";

type ListTables = IntegrationManifest["postgresql"]["actions"]["list_tables"];
type DescribeTable = IntegrationManifest["postgresql"]["actions"]["describe_table"];

const READING = { mode: "read only", seconds: 15 } as const;

/** The action `list_tables`. */
export function listTables(input: ListTables["input"], ctx: Access): Promise<ListTables["output"]> {
  const { schema = null, name_contains: part = null, limit = 500 } = input;
  return inTransaction(ctx, READING, async (transaction) => {
    const tables = await transaction<ListTables["output"]["tables"]>`
      select n.nspname as schema, c.relname as name,
             case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view'
                            when 'm' then 'materialized view' else 'foreign table' end as kind,
             case when c.reltuples >= 0 then c.reltuples::bigint end as estimated_rows,
             obj_description(c.oid, 'pg_class') as comment
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
        and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
        and has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')
        and (${schema}::text is null or n.nspname = ${schema})
        and (${part}::text is null or strpos(lower(c.relname), lower(${part})) > 0)
      order by n.nspname, c.relname limit ${limit + 1}`;
    return { tables: tables.slice(0, limit), truncated: tables.length > limit };
  });
}

/** The action `describe_table`. */
export function describeTable(input: DescribeTable["input"], ctx: Access): Promise<DescribeTable["output"]> {
  const { table, schema = "public" } = input;
  return inTransaction(ctx, READING, async (transaction) => {
    const [found] = await transaction<{ oid: number }[]>`
      select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = ${schema} and c.relname = ${table} and c.relkind in ('r', 'p', 'v', 'm', 'f')`;
    if (!found) throw noSuchTable(schema, table);
    const columns = await transaction<DescribeTable["output"]["columns"]>`
      select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, not a.attnotnull as nullable,
             pg_get_expr(d.adbin, d.adrelid) as default,
             case when a.attgenerated <> '' then 'computed' when a.attidentity = 'a' then 'always'
                  when a.attidentity = 'd' then 'by default' else 'no' end as generated,
             col_description(a.attrelid, a.attnum) as comment
      from pg_catalog.pg_attribute a
      left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = ${found.oid} and a.attnum > 0 and not a.attisdropped order by a.attnum`;
    const keys = await transaction<Key[]>`
      select k.contype as kind,
             array(select a.attname::text from unnest(k.conkey) with ordinality u(n, i)
                   join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n order by i) as columns,
             array(select a.attname::text from unnest(k.confkey) with ordinality u(n, i)
                   join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.n order by i) as others,
             (select n.nspname || '.' || c.relname from pg_catalog.pg_class c
              join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = k.confrelid) as target
      from pg_catalog.pg_constraint k
      where k.conrelid = ${found.oid} and k.contype in ('p', 'u', 'f') order by k.conname`;
    const indexes = await transaction<{ definition: string }[]>`
      select pg_get_indexdef(indexrelid) as definition from pg_catalog.pg_index
      where indrelid = ${found.oid} order by indexrelid::regclass::text`;
    return { schema, name: table, columns: [...columns], ...sorted(keys), indexes: indexes.map((i) => i.definition) };
  });
}

interface Key {
  kind: "p" | "u" | "f";
  columns: string[];
  target: string | null;
  others: string[];
}

function sorted(keys: readonly Key[]) {
  return {
    primary_key: keys.find(({ kind }) => kind === "p")?.columns ?? [],
    unique_keys: keys.filter(({ kind }) => kind === "u").map(({ columns }) => columns),
    foreign_keys: keys
      .filter(({ kind }) => kind === "f")
      .map(({ columns, target, others }) => ({ columns, references: target ?? "", referenced_columns: others })),
  };
}

function noSuchTable(schema: string, table: string): Error {
  return new ActionError(
    `PostgreSQL has no table or view ${quoted(schema, table)}. See list_tables for the names; capitals count.`,
    { code: "table_not_found", category: "Validation" },
  );
}
