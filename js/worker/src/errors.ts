/**
 * Between thrown values and error objects on the wire. Must not know who threw or who reads.
 *
 * A thrown value comes from foreign code, so each field is taken only in its expected shape; a stack never becomes part
 * of a message, since messages reach the caller.
 */

const CATEGORIES: readonly string[] = ["Transient", "RateLimited", "Auth", "Validation", "Poison"];
const MAX_MESSAGE = 4096;
const MAX_DETAILS = 64 * 1024;

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
  const { code, category, retryAfter, retry_after, details } = thrown as Record<string, unknown>;
  const seconds = retryAfter ?? retry_after;
  if (typeof code === "string" && code !== "") error.code = code.slice(0, 200);
  if (isCategory(category)) error.category = category;
  if (typeof seconds === "number" && Number.isFinite(seconds) && seconds >= 0) error.retry_after = seconds;
  if (isPlainJson(details)) error.details = details;
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
  if (thrown instanceof PlatformActionError) return false;
  return !isCategory((thrown as { category?: unknown } | null | undefined)?.category);
}

/** Everything known about an error, for the log. */
export function stackOf(thrown: unknown): string {
  return thrown instanceof Error && thrown.stack ? thrown.stack : messageOf(thrown);
}

/** One readable text for any thrown value. */
export function messageOf(thrown: unknown): string {
  if (typeof thrown === "string" && thrown !== "") return clean(thrown);
  const { message, name } = (thrown ?? {}) as { message?: unknown; name?: unknown };
  if (typeof message === "string" && message !== "") return clean(message);
  if (thrown instanceof Error && typeof name === "string") return clean(name);
  return `the backend threw ${thrown === null ? "null" : typeof thrown} instead of an Error with a message`;
}

function clean(message: string): string {
  const stack = message.search(/\n\s+at /);
  return (stack > 0 ? message.slice(0, stack) : message).slice(0, MAX_MESSAGE);
}

function isCategory(value: unknown): value is ErrorCategory {
  return typeof value === "string" && CATEGORIES.includes(value);
}

function isPlainJson(value: unknown): boolean {
  if (value === undefined || value === null) return false;
  try {
    const text = JSON.stringify(value);
    return text !== undefined && text.length <= MAX_DETAILS;
  } catch {
    return false;
  }
}
