/**
 * Between thrown values and error objects on the wire. Must not know who threw or who reads.
 *
 * A thrown value comes from foreign code, so each field is taken only in its expected shape, and left out if reading it
 * throws; a stack never becomes part of a message, since messages reach the caller.
 */

const CATEGORIES: readonly string[] = ["Transient", "RateLimited", "Auth", "Validation", "Poison"];
const MAX_MESSAGE = 4096;
const MAX_DETAILS = 64 * 1024;
/** The host's parser stops at 128 levels, and what it makes of an error adds some. */
const MAX_DEPTH = 100;
const MAX_READ = 16 * 1024;

/** An error as it travels. */
export interface WireError {
  message: string;
  code?: string;
  category?: ErrorCategory;
  /** Seconds. */
  retry_after?: number;
  details?: Json;
}

/** The global `ActionError`. */
export class PlatformActionError extends Error {
  override readonly name = "ActionError";
  readonly code: string | undefined;
  readonly category: ErrorCategory | undefined;
  readonly retryAfter: number | undefined;
  readonly details: Json;

  constructor(message: string, options: ActionErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = options.code;
    this.category = options.category;
    this.retryAfter = options.retryAfter;
    this.details = options.details;
  }
}

/** What the host is told about a thrown value. */
export function toWire(thrown: unknown): WireError {
  const error: WireError = { message: messageOf(thrown) };
  if (typeof thrown !== "object" || thrown === null) return error;
  const [code, category, given] = [field(thrown, "code"), field(thrown, "category"), field(thrown, "details")];
  const seconds = field(thrown, "retryAfter") ?? field(thrown, "retry_after");
  const details = plainJson(given);
  if (typeof code === "string" && code !== "") error.code = code.slice(0, 200);
  if (isCategory(category)) error.category = category;
  if (typeof seconds === "number" && Number.isFinite(seconds) && seconds >= 0) error.retry_after = seconds;
  if (details !== undefined) error.details = details;
  return error;
}

/** The error that rejects a promise of the backend, from what the host answered. */
export function fromWire(error: unknown): PlatformActionError {
  if (typeof error === "string") return new PlatformActionError(error);
  const { message, code, category, retry_after, details } = toWire(error);
  return new PlatformActionError(message, { code, category, retryAfter: retry_after, details });
}

/** True for errors that nobody foresaw: they say nothing of their kind, so their stack belongs into the log. */
export function isUnexpected(thrown: unknown): boolean {
  return !isA(thrown, PlatformActionError) && !isCategory(field(thrown, "category"));
}

/** Everything known about an error, for the log. */
export function stackOf(thrown: unknown): string {
  const stack = isA(thrown, Error) && field(thrown, "stack");
  return typeof stack === "string" && stack !== "" ? stack : messageOf(thrown);
}

/** One readable text for any thrown value. */
export function messageOf(thrown: unknown): string {
  return readable(() => read(thrown));
}

/** A text made of foreign values, which may throw when they are read. */
export function readable(text: () => string): string {
  try {
    return text().slice(0, MAX_READ);
  } catch {
    return "an error that cannot be read";
  }
}

function read(thrown: unknown): string {
  if (typeof thrown === "string" && thrown !== "") return clean(thrown);
  const { message } = (thrown ?? {}) as { message?: unknown };
  if (typeof message === "string" && message !== "") return clean(message);
  const name = thrown instanceof Error && field(thrown, "name");
  if (typeof name === "string") return clean(name);
  return `the backend threw ${thrown === null ? "null" : typeof thrown} instead of an Error with a message`;
}

function clean(message: string): string {
  const start = message.slice(0, MAX_MESSAGE);
  const stack = start.search(/\n\s+at /);
  return stack > 0 ? start.slice(0, stack) : start;
}

/** A field of a thrown value; nothing if it cannot be read. */
function field(thrown: unknown, name: string): unknown {
  try {
    return (thrown as Record<string, unknown> | null | undefined)?.[name];
  } catch {
    return undefined;
  }
}

function isA(thrown: unknown, kind: typeof Error | typeof PlatformActionError): boolean {
  try {
    return thrown instanceof kind;
  } catch {
    return false;
  }
}

function isCategory(value: unknown): value is ErrorCategory {
  return typeof value === "string" && CATEGORIES.includes(value);
}

/** A copy, since a value of foreign code may be another one when it is read again; nothing if the host refused it. */
function plainJson(value: unknown): Json {
  if (value === undefined || value === null) return undefined;
  try {
    const text = JSON.stringify(value);
    const copy = text.length <= MAX_DETAILS ? JSON.parse(text) : undefined;
    return isWithin(MAX_DEPTH, copy) ? copy : undefined;
  } catch {
    return undefined;
  }
}

function isWithin(levels: number, value: unknown): boolean {
  if (typeof value !== "object" || value === null) return true;
  return levels > 0 && Object.values(value).every((inner) => isWithin(levels - 1, inner));
}
