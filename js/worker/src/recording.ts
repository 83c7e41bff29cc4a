/**
 * HTTP exchanges of a test, in a file that goes into version control: recorded once, replayed after. Secrets are taken out
 * before anything is written, and requests are compared in that form. Must not know how requests are caught.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, relative } from "node:path";
import { LearningScrubber } from "./secrets.ts";

const WORD = "[scrubbed]";
/** How to go on after what a test cannot be answered from. */
const ADVICE = "run `weft test --record` to record it";
/** What may stand where the file has the word: a part of an address, or of a text in JSON. */
const PART_OF_ADDRESS = '[^"/?&#]+';
const PART_OF_TEXT = '(?:[^"\\\\]|\\\\.)+';

const FORM = "application/x-www-form-urlencoded";

/** What differs between machines or says nothing. */
const NOISE =
  /^(host|connection|content-length|content-encoding|transfer-encoding|accept-encoding|user-agent|keep-alive|date)$/;

interface Exchange {
  request: { method: string; url: string; headers: Record<string, string>; body?: unknown };
  response: { status: number; headers: Record<string, string>; body?: unknown };
}

/** Bytes that are no text, in base64. */
interface Binary {
  base64: string;
}

export class Recording {
  readonly scrubber = new LearningScrubber(WORD);
  /** Requests that the file does not have, since this was last asked. */
  private missing: string[] = [];
  /** What the file had before. */
  private readonly earlier: Exchange[];
  private readonly recorded: Exchange[] = [];
  private readonly used = new Set<Exchange>();

  constructor(
    private readonly path: string,
    private readonly records: boolean,
    private readonly network: typeof fetch,
  ) {
    const read = existsSync(path) ? exchangesOf(readFileSync(path, "utf8")) : [];
    if (!read && !records) throw new Error(`${this.file()} cannot be read: ${ADVICE} again`);
    this.earlier = read ?? [];
  }

  /** Answers from the file, or from the network while recording. */
  async handle(request: Request): Promise<Response> {
    // Taken before the body is: Bun forgets the type of a form that it has read.
    const { method, headers } = request;
    const body = new Uint8Array(await request.arrayBuffer());
    const asked = {
      method,
      url: this.scrubber.url(request.url),
      headers: this.headers(headers),
      ...this.body(body, headers.get("content-type")),
    };
    return this.records ? this.record(request, body, asked) : this.replay(this.again(asked));
  }

  /** The first request without a recording, as an error. */
  takeMissing(): Error | undefined {
    const [first] = this.missing.splice(0);
    return first === undefined ? undefined : new Error(first);
  }

  private async record(request: Request, body: Uint8Array, asked: Exchange["request"]): Promise<Response> {
    const { method, headers, signal } = request;
    headers.delete("host");
    const init = { method, headers, signal, redirect: request.redirect, ...(body.length > 0 && { body }) };
    const response = await this.network(request.url, init as RequestInit);
    const content = new Uint8Array(await response.arrayBuffer());
    const answered = { status: response.status, headers: this.headers(response.headers) };
    const kept = { ...answered, ...this.body(content, response.headers.get("content-type")) };
    this.recorded.push({ request: asked, response: kept });
    this.save();
    const shown = new Headers(response.headers);
    for (const name of ["content-encoding", "content-length", "transfer-encoding"]) shown.delete(name);
    return new Response(hasBody(response.status) ? content : null, { status: response.status, headers: shown });
  }

  /** Equal requests are answered in the recorded order; the last answer is repeated. */
  private replay(asked: Exchange["request"]): Response {
    const near = this.earlier.filter(({ request }) => isNear(request, asked));
    const equal = near.filter(({ request }) => fingerprint(request) === fingerprint(asked));
    const part = isForm(asked) ? PART_OF_ADDRESS : PART_OF_TEXT;
    const found = this.next(equal) ?? this.next(near.filter(({ request }) => isLike(request.body, asked.body, part)));
    if (!found) {
      const message = `${asked.method} ${asked.url} ${this.reason(asked, this.next(near)?.request)}: ${ADVICE}`;
      this.missing.push(message);
      throw new Error(message);
    }
    this.used.add(found);
    const { status, headers, body } = found.response;
    return new Response(hasBody(status) ? bytesOf(body) : null, { status, headers });
  }

  private next(exchanges: Exchange[]): Exchange | undefined {
    return exchanges.find((exchange) => !this.used.has(exchange)) ?? exchanges.at(-1);
  }

  private reason(asked: Exchange["request"], near?: Exchange["request"]): string {
    if (!near) return `is not in ${this.file()}`;
    return `is in ${this.file()}, but the body differs${difference(bodyOf(near), bodyOf(asked))}`;
  }

  private file(): string {
    return relative(process.cwd(), this.path);
  }

  /** What was not asked again stays. The file is there as a whole at any time. */
  private save(): void {
    for (const exchange of [...this.earlier, ...this.recorded]) {
      exchange.request = this.again(exchange.request);
      exchange.response = this.again(exchange.response);
    }
    const again = new Set(this.recorded.map(({ request }) => fingerprint(request)));
    const kept = this.earlier.filter(({ request }) => !again.has(fingerprint(request)));
    mkdirSync(dirname(this.path), { recursive: true });
    writeFileSync(`${this.path}.tmp`, `${JSON.stringify({ exchanges: [...kept, ...this.recorded] }, null, 2)}\n`);
    renameSync(`${this.path}.tmp`, this.path);
  }

  /** Without what has become known as a secret since, or in a later part of the same. */
  private again<Part extends Exchange["request"] | Exchange["response"]>(part: Part): Part {
    const headers = Object.entries(part.headers).map(([name, value]) => [name, this.scrubber.text(value)]);
    const url = "url" in part && { url: this.scrubber.text(part.url) };
    const body = "body" in part && { body: this.scrubber.json(part.body) };
    return { ...part, ...url, headers: Object.fromEntries(headers), ...body };
  }

  private headers(headers: Headers): Record<string, string> {
    const kept = [...headers].filter(([name]) => !NOISE.test(name));
    return Object.fromEntries(kept.map(([name, value]) => [name, this.scrubber.header(name, value)]));
  }

  private body(bytes: Uint8Array, type: string | null): { body?: unknown } {
    if (bytes.length === 0) return {};
    const text = asText(bytes);
    if (text === undefined) return { body: { base64: Buffer.from(bytes).toString("base64") } };
    if (type?.startsWith(FORM)) {
      return { body: this.scrubber.form(new URLSearchParams(text)).toString() };
    }
    try {
      return { body: this.scrubber.json(JSON.parse(text)) };
    } catch {
      return { body: this.scrubber.text(text) };
    }
  }
}

function exchangesOf(text: string): Exchange[] | undefined {
  try {
    const { exchanges } = JSON.parse(text) as { exchanges: Exchange[] };
    return exchanges.every(({ request, response }) => request.headers && response.headers) ? exchanges : undefined;
  } catch {
    return undefined;
  }
}

function fingerprint({ method, url, body }: Exchange["request"]): string {
  return comparable([method, url, body ?? null]);
}

/** A backend that puts the word into an address may encode it. */
function comparable(value: unknown): string {
  return (JSON.stringify(value) ?? "").replaceAll(encodeURIComponent(WORD), WORD);
}

/** Whether method and address are those of the file. */
function isNear(recorded: Exchange["request"], asked: Exchange["request"]): boolean {
  return recorded.method === asked.method && isLike(recorded.url, asked.url, PART_OF_ADDRESS);
}

/** A secret that was found only after the request is scrubbed in the file, but not in what is asked. */
function isLike(recorded: unknown, asked: unknown, part: string): boolean {
  const literals = comparable(recorded)
    .split(WORD)
    .map((text) => RegExp.escape(text));
  return new RegExp(`^${literals.join(part)}$`).test(comparable(asked));
}

/** The body as a value whose places have names. */
function bodyOf(request: Exchange["request"]): unknown {
  return isForm(request) ? Object.fromEntries(new URLSearchParams(String(request.body))) : request.body;
}

function isForm({ headers }: Exchange["request"]): boolean {
  return headers["content-type"]?.startsWith(FORM) === true;
}

/** The first place at which two bodies differ, in words. */
function difference(recorded: unknown, asked: unknown, place = ""): string {
  const where = place && ` at ${JSON.stringify(place)}`;
  if (!isGroup(recorded) || !isGroup(asked) || Array.isArray(recorded) !== Array.isArray(asked)) return where;
  const names = Object.keys({ ...recorded, ...asked });
  const name = names.find((name) => !isLike(recorded[name], asked[name], PART_OF_TEXT));
  if (name === undefined) return `${where} in the order of its fields`;
  return difference(recorded[name], asked[name], place ? `${place}.${name}` : name);
}

function isGroup(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function asText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function bytesOf(body: unknown): string | Uint8Array<ArrayBuffer> | null {
  if (body === undefined || typeof body === "string") return body ?? null;
  const { base64 } = (body ?? {}) as Partial<Binary>;
  const isBinary = typeof base64 === "string" && Object.keys(body ?? {}).length === 1;
  return isBinary ? new Uint8Array(Buffer.from(base64, "base64")) : JSON.stringify(body);
}

function hasBody(status: number): boolean {
  return ![101, 204, 205, 304].includes(status);
}
