/** Rows into tables without SQL: names are quoted, values are parameters, one statement for all rows. */
import type { Access } from "./connection.ts";
import { Results, type Row } from "./results.ts";
import { inTransaction } from "./session.ts";
import { ONE_STATEMENT } from "./statements.ts";
import { parametersOf, quoted } from "./values.ts";

type InsertRows = IntegrationManifest["postgresql"]["actions"]["insert_rows"];
type UpsertRows = IntegrationManifest["postgresql"]["actions"]["upsert_rows"];

const WRITING = { mode: "read write", seconds: 30 } as const;
const MOST_VALUES = 65_000;

/** The action `insert_rows`. */
export function insertRows(input: InsertRows["input"], ctx: Access): Promise<InsertRows["output"]> {
  const columns = [...new Set(input.rows.flatMap((row) => Object.keys(row)))];
  return write(input, columns, "", ctx);
}

/** The action `upsert_rows`. */
export async function upsertRows(input: UpsertRows["input"], ctx: Access): Promise<UpsertRows["output"]> {
  const { rows, key, when_exists: choice = "update" } = input;
  const columns = Object.keys(rows[0] ?? {});
  // A column that one row leaves out would be set to its default in a row that exists.
  const uneven = rows.findIndex((row) => !sameNames(columns, Object.keys(row)));
  if (uneven >= 0) throw wrongRows(`rows[${uneven}] names other columns than rows[0]: give all rows the same columns`);
  const absent = key.find((column) => !columns.includes(column));
  if (absent !== undefined) throw wrongRows(`the rows lack the column ${quoted(absent)} of key`);
  const changed = columns.filter((column) => !key.includes(column));
  const action =
    choice === "ignore" || changed.length === 0
      ? "do nothing"
      : `do update set ${changed.map((column) => `${quoted(column)} = excluded.${quoted(column)}`).join(", ")}`;
  return write(input, columns, ` on conflict (${list(key)}) ${action}`, ctx);
}

async function write(
  { table, schema = "public", rows, returning = [] }: InsertRows["input"],
  columns: string[],
  conflict: string,
  ctx: Access,
): Promise<InsertRows["output"]> {
  const values: unknown[] = [];
  const place = (row: Row, column: string) => (Object.hasOwn(row, column) ? `$${values.push(row[column])}` : "default");
  const tuples = rows.map((row) => `(${columns.map((column) => place(row, column)).join(", ")})`);
  if (values.length > MOST_VALUES) {
    throw wrongRows(`${values.length} values are more than ${MOST_VALUES}: send the rows in several calls`);
  }
  const wanted = returning.length > 0 ? ` returning ${list(returning)}` : "";
  const sql = `insert into ${quoted(schema, table)} (${list(columns)}) values ${tuples.join(", ")}${conflict}${wanted}`;
  return inTransaction(ctx, WRITING, async (transaction) => {
    const results = new Results(rows.length);
    const statement = transaction.unsafe<Row[]>(sql, parametersOf(transaction, values), ONE_STATEMENT);
    const done = await statement.forEach((row) => void results.add(row));
    return { affected: done.count ?? 0, rows: results.rows, truncated: results.truncated };
  });
}

function list(columns: readonly string[]): string {
  return columns.map((column) => quoted(column)).join(", ");
}

function sameNames(these: string[], those: string[]): boolean {
  return these.length === those.length && those.every((name) => these.includes(name));
}

function wrongRows(what: string): Error {
  return new ActionError(`The rows cannot be written: ${what}.`, { code: "wrong_rows", category: "Validation" });
}
