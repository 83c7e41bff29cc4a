/**
 * What a context offers of the app's data: collections, SQL and transactions. Must not know how messages travel.
 *
 * Everything happens with the rights of the caller of one call; what the caller may not see is not there.
 */
import type { Message } from "./wire.ts";

/** Asks the host; the name is for messages of errors. */
type Ask = (message: Message, name: string) => Promise<Json>;

export function dataOf(ask: Ask): Pick<Context, "collection" | "sql" | "transaction"> {
  return {
    collection: (entity) => collectionOf(ask, entity),
    sql: (text, params = []) => ask({ type: "sql_query", sql: text, params }, "ctx.sql"),
    transaction: (work) => transaction(ask, work),
  };
}

function collectionOf(ask: Ask, entity: string): Collection {
  const operate = (op: string, data: Json) => {
    return ask({ type: "collection_op", op, entity, data }, `collection ${entity}.${op}`);
  };
  return {
    insert: (data) => operate("insert", data),
    update: (data) => operate("update", data),
    delete: (id) => operate("delete", { id }),
    find: (where = {}) => operate("find", where),
    findOne: (where = {}) => operate("findOne", where),
    list: (where = {}) => operate("list", where),
    query: (options = {}) => operate("query", options),
  };
}

async function transaction<T>(ask: Ask, work: (tx: Transaction) => T | Promise<T>): Promise<T> {
  const { txId } = await ask({ type: "sql_begin" }, "ctx.transaction");
  const end = (type: string) => ask({ type, tx_id: txId }, "ctx.transaction");
  const tx: Transaction = {
    sql: (text, params = []) => ask({ type: "sql_exec", tx_id: txId, sql: text, params }, "tx.sql"),
  };
  let result: T;
  try {
    result = await work(tx);
  } catch (error) {
    // Why it failed matters more than whether it could be undone: the server undoes it by itself when the call ends.
    await end("sql_rollback").catch(() => undefined);
    throw error;
  }
  await end("sql_commit");
  return result;
}
