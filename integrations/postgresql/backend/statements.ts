/** Statements in SQL. They go over the extended protocol, which takes one statement at a time: nothing can be appended. */
import type { Access } from "./connection.ts";
import { Results, type Row } from "./results.ts";
import { inTransaction } from "./session.ts";
import { checkStatement } from "./statement.ts";
import { parametersOf } from "./values.ts";

type Query = IntegrationManifest["postgresql"]["actions"]["query"];
type Execute = IntegrationManifest["postgresql"]["actions"]["execute"];

const LIMIT = 1000;
const SECONDS = 30;
const BATCH = 100;

/** The action `query`. Rows are fetched in batches and no more of them than are returned. */
export async function query(input: Query["input"], ctx: Access): Promise<Query["output"]> {
  const { sql, parameters = [], limit = LIMIT, timeout_seconds: seconds = SECONDS } = input;
  checkStatement(sql);
  return inTransaction(ctx, { mode: "read only", seconds }, async (transaction, stop) => {
    const results = new Results(limit);
    let columns: string[] = [];
    let seen: object | undefined;
    const take = (batch: readonly Row[]) => {
      seen = batch;
      columns = namesOf(batch);
      return batch.every((row) => results.add(row)) ? undefined : stop;
    };
    const statement = transaction.unsafe<Row[]>(sql, parametersOf(transaction, parameters));
    const last = await statement.cursor(Math.min(BATCH, limit + 1), take);
    // Batches without a count, such as those of SHOW and EXPLAIN, are not announced.
    if (last !== seen) take(last as unknown as Row[]);
    return { columns, rows: results.rows, row_count: results.rows.length, truncated: results.truncated };
  });
}

/** The action `execute`. The statement runs to its end even where its rows do not fit into the answer. */
export async function execute(input: Execute["input"], ctx: Access): Promise<Execute["output"]> {
  const { sql, parameters = [], limit = LIMIT, timeout_seconds: seconds = SECONDS } = input;
  checkStatement(sql);
  return inTransaction(ctx, { mode: "read write", seconds }, async (transaction) => {
    const results = new Results(limit);
    const statement = transaction.unsafe<Row[]>(sql, parametersOf(transaction, parameters), ONE_STATEMENT);
    const done = await statement.forEach((row) => void results.add(row));
    return {
      command: done.command ?? "",
      affected: done.count ?? 0,
      columns: namesOf(done),
      rows: results.rows,
      truncated: results.truncated,
    };
  });
}

/** The library knows this option; its types do not. */
export const ONE_STATEMENT = { simple: false } as object;

/** The columns of a result or of a batch; one without rows knows only those of its statement. */
function namesOf(result: object): string[] {
  const { columns, statement } = result as { columns?: Column[] | null; statement?: { columns?: Column[] | null } };
  return (columns ?? statement?.columns ?? []).map(({ name }) => name);
}

interface Column {
  name: string;
}
