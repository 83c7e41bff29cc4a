/**
 * From the server's and the library's errors to what the platform and its callers understand. The server's own sentence is
 * passed on, since only it says what is wrong with a statement; it never contains the password. The error itself is not: it
 * carries the statement with its parameters.
 */
import postgres from "postgres";

const CHECK_CONNECTION =
  "Check host, port and whether the server offers TLS; a private network must be opened by the platform's operator.";

/** By SQLSTATE, the longest beginning that fits. */
const KNOWN: Record<string, [category: ErrorCategory, advice: string]> = {
  "08": ["Transient", "The problem is on the way to the server; try again later."],
  "21": ["Validation", "Where rows are upserted, no two of them may have the same key."],
  "22": ["Validation", "Check the values against the columns' types."],
  "22P02": ["Validation", "Check the values against the columns' types (describe_table)."],
  "23": ["Validation", "The values break a rule of the table; see describe_table."],
  "23502": ["Validation", "Give the column a value."],
  "23503": ["Validation", "The row that is referred to must exist, or may not be removed while it is referred to."],
  "23505": ["Validation", "A row with this key exists; change the key or use upsert_rows."],
  "25001": ["Validation", "Such a statement runs only outside of transactions, which is not possible here."],
  "25006": ["Validation", "query only reads; use execute to change something."],
  "28": ["Auth", "Check user and password, and whether the server lets this user in from the platform's address."],
  "3D000": ["Auth", "Check the name of the database in the connection."],
  "40": ["Transient", "Another transaction was in the way and nothing was changed; try again."],
  "42": ["Validation", "Check the statement; list_tables and describe_table give the names."],
  "42501": ["Auth", "Grant the login this right, or connect with one that has it."],
  "42601": ["Validation", "Check the statement's syntax; a call takes one statement."],
  "42P10": ["Validation", "key must be the primary key or a unique key; see describe_table."],
  "53": ["Transient", "The server is short of resources; try again later."],
  "55P03": ["Transient", "Something is locked by another transaction; try again later."],
  "57014": ["Validation", "Nothing was changed. Make the statement cheaper, or raise timeout_seconds."],
  "57P": ["Transient", "The server is starting or stopping; try again later."],
  "58": ["Transient", "The server has a problem of its own; see its log."],
};

const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ALTNAME/;

/** Any error of the library as the error that the action fails with. Others come back unchanged. */
export function asActionError(thrown: unknown): unknown {
  if (thrown instanceof ActionError) return thrown;
  if (thrown instanceof postgres.PostgresError) return refused(thrown);
  const { code, message } = thrown as { code?: unknown; message?: string };
  if (typeof code !== "string") return thrown;
  if (code === "MAX_PARAMETERS_EXCEEDED" || code === "UNDEFINED_VALUE") {
    return new ActionError(`PostgreSQL cannot take the parameters: ${message}.`, { code, category: "Validation" });
  }
  if (CERTIFICATE.test(code)) return untrusted(code);
  return new ActionError(`PostgreSQL could not be reached (${code}). ${CHECK_CONNECTION}`, {
    code: "unreachable",
    category: "Transient",
  });
}

function refused(error: postgres.PostgresError): Error {
  const [category, advice] = meaningOf(error.code);
  const { code, detail, hint, constraint_name: constraint, table_name: table, column_name: column, position } = error;
  const details = Object.entries({ detail, hint, constraint, table, column, position }).filter(([, value]) => value);
  return new ActionError(`PostgreSQL refused the statement: ${error.message}. ${advice}`, {
    code,
    category,
    ...(details.length > 0 && { details: Object.fromEntries(details) }),
  });
}

function meaningOf(code: string): [ErrorCategory, string] {
  for (let length = code.length; length >= 2; length -= 1) {
    const known = KNOWN[code.slice(0, length)];
    if (known) return known;
  }
  return ["Validation", `See SQLSTATE ${code} in PostgreSQL's documentation.`];
}

function untrusted(code: string): Error {
  return new ActionError(
    `PostgreSQL's certificate was not accepted (${code}). Save the authority's certificate as caCertificate, and use the host name that the certificate names.`,
    { code: "certificate_refused", category: "Auth" },
  );
}

/** The connection broke while the transaction was being committed. Not transient, so that nobody repeats it blindly. */
export function outcomeUnknown(cause: unknown): Error {
  const { code = "no code" } = cause as { code?: string };
  return new ActionError(
    `The connection to PostgreSQL broke during COMMIT (${code}): the change may or may not have been made. Look before repeating it.`,
    { code: "outcome_unknown", category: "Poison" },
  );
}

/** The server did not even keep its own timeout. */
export function timedOut(seconds: number): Error {
  return new ActionError(
    `PostgreSQL did not answer within ${seconds} s and some. ${CHECK_CONNECTION} A change was not committed.`,
    { code: "timeout", category: "Transient" },
  );
}
