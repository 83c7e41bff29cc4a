/** How values travel: what JSON cannot hold exactly stays the text that PostgreSQL wrote. */
import type { Transaction } from "./session.ts";

const text = (value: unknown) => String(value);

/** By PostgreSQL's type numbers. `numeric` is not named, so it is a text. */
export const TYPES = {
  number: { to: 0, from: [21, 23, 26, 700, 701], serialize: text, parse: exactNumber },
  bigint: { to: 20, from: [20], serialize: text, parse: exactNumber },
  boolean: { to: 16, from: [16], serialize: text, parse: (value: string) => value === "t" },
  // Dates of JavaScript know neither microseconds nor dates without a time.
  date: { to: 1184, from: [1082, 1114, 1184], serialize: text, parse: text },
  bytea: { to: 17, from: [17], serialize: bytesFrom, parse: bytesTo },
};

/** A number where JSON keeps it, or else its text: 2^53 and more, NaN, Infinity. */
function exactNumber(value: string): number | string {
  const number = Number(value);
  if (!Number.isFinite(number)) return value;
  return Number.isInteger(number) && !Number.isSafeInteger(number) ? value : number;
}

function bytesTo(value: string): string {
  return Buffer.from(value.slice(2), "hex").toString("base64");
}

/** Base64, or PostgreSQL's own notation. */
function bytesFrom(value: unknown): string {
  const given = String(value);
  return given.startsWith("\\x") ? given : `\\x${Buffer.from(given, "base64").toString("hex")}`;
}

/** Values as parameters whose type the server decides by where they stand. */
export function parametersOf(transaction: Transaction, values: readonly unknown[]) {
  return values.map((value) => transaction.typed(printable(value) as string, 0));
}

/** An object that becomes JSON where a text is wanted, for example for a column of a domain over jsonb. */
function printable(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const copy = Array.isArray(value) ? value.map(printable) : { ...value };
  return Object.defineProperty(copy, "toString", { value: () => JSON.stringify(value) });
}

/** A name as SQL, whatever it contains. */
export function quoted(...names: string[]): string {
  return names.map((name) => `"${name.replaceAll('"', '""')}"`).join(".");
}
