/**
 * One transaction on one connection that lives as long as the call. Connections are not kept: so nothing that a statement
 * leaves behind (settings, locks, temporary tables) reaches the next call, which may be somebody else's.
 */
import postgres from "postgres";
import { type Access, type Database, databaseOf } from "./connection.ts";
import { asActionError, outcomeUnknown, timedOut } from "./errors.ts";
import { TYPES } from "./values.ts";

const CONNECT_SECONDS = 10;
/** What a statement's own timeout may be exceeded by until the server counts as hung. */
const GRACE_SECONDS = 5;

export type Transaction = postgres.TransactionSql;

interface Purpose {
  mode: "read only" | "read write";
  seconds: number;
}

/**
 * Runs `work` in a transaction that ends with it, or is rolled back when it throws. `stop` is what the callback of a cursor
 * returns when it has enough.
 */
export async function inTransaction<T>(
  access: Access,
  purpose: Purpose,
  work: (transaction: Transaction, stop: object) => Promise<T>,
): Promise<T> {
  const sql = connect(databaseOf(access));
  const progress = { committing: false };
  const deadline = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => deadline.reject(timedOut(purpose.seconds)),
    (CONNECT_SECONDS + purpose.seconds + GRACE_SECONDS) * 1000,
  );
  const transaction = sql.begin(purpose.mode, async (begun) => {
    await prepare(begun, purpose.seconds);
    const result = await work(begun, sql.CLOSE);
    progress.committing = purpose.mode === "read write";
    return result;
  });
  try {
    return (await Promise.race([transaction, deadline.promise])) as T;
  } catch (error) {
    // Once COMMIT was sent, only an answer of the server says what became of it.
    if (progress.committing && !(error instanceof postgres.PostgresError)) throw outcomeUnknown(error);
    throw asActionError(error);
  } finally {
    clearTimeout(timer);
    transaction.catch(() => {});
    sql.end({ timeout: 0 }).catch(() => {});
  }
}

function connect({ host, port, database, user, password, tls }: Database) {
  return postgres({
    // Lists, which the library takes but its types do not: in a text it looks for ports and paths.
    host: [host] as unknown as string,
    port: [port] as unknown as number,
    database,
    user,
    password,
    ssl: tls,
    max: 1,
    prepare: false,
    connect_timeout: CONNECT_SECONDS,
    connection: { application_name: "weft" },
    onnotice: () => {},
    types: TYPES,
  });
}

/** Set in the transaction, because pools such as PgBouncer refuse settings while a connection is made. */
async function prepare(transaction: Transaction, seconds: number): Promise<void> {
  await transaction`
    select set_config('statement_timeout', ${String(seconds * 1000)}, true),
           set_config('datestyle', 'ISO, YMD', true),
           set_config('bytea_output', 'hex', true)`;
}
