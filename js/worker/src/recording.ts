/**
 * HTTP exchanges of a test, in a file that goes into version control: recorded once, replayed after. Secrets are taken out
 * before anything is written, and requests are compared in that form. Must not know how requests are caught.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, relative } from "node:path";
import { isSecretName, Scrubber } from "./secrets.ts";

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
  readonly scrubber = new Scrubber("[scrubbed]");
  /** Requests that the file does not have, since this was last asked. */
  private missing: string[] = [];
  private readonly exchanges: Exchange[];
  private readonly used = new Set<Exchange>();

  constructor(
    private readonly path: string,
    private readonly records: boolean,
    private readonly network: typeof fetch,
  ) {
    this.exchanges = !records && existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).exchanges : [];
  }

  /** Answers from the file, or from the network while recording. */
  async handle(request: Request): Promise<Response> {
    const body = new Uint8Array(await request.arrayBuffer());
    const asked = {
      method: request.method,
      url: this.scrubber.url(request.url),
      headers: this.headers(request.headers),
      ...this.body(body, request.headers.get("content-type")),
    };
    return this.records ? this.record(request, body, asked) : this.replay(asked);
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
    this.exchanges.push({ request: asked, response: kept });
    this.save();
    const shown = new Headers(response.headers);
    for (const name of ["content-encoding", "content-length", "transfer-encoding"]) shown.delete(name);
    return new Response(hasBody(response.status) ? content : null, { status: response.status, headers: shown });
  }

  /** Equal requests are answered in the recorded order; the last answer is repeated. */
  private replay(asked: Exchange["request"]): Response {
    const same = this.exchanges.filter(({ request }) => fingerprint(request) === fingerprint(asked));
    const found = same.find((exchange) => !this.used.has(exchange)) ?? same.at(-1);
    if (!found) {
      const file = relative(process.cwd(), this.path);
      const message = `${asked.method} ${asked.url} is not in ${file}: run \`weft test --record\` to record it`;
      this.missing.push(message);
      throw new Error(message);
    }
    this.used.add(found);
    const { status, headers, body } = found.response;
    return new Response(hasBody(status) ? bytesOf(body) : null, { status, headers });
  }

  private save(): void {
    mkdirSync(dirname(this.path), { recursive: true });
    writeFileSync(this.path, `${JSON.stringify({ exchanges: this.exchanges }, null, 2)}\n`);
  }

  private headers(headers: Headers): Record<string, string> {
    const kept = [...headers].filter(([name]) => !NOISE.test(name));
    return Object.fromEntries(
      kept.map(([name, value]) => [name, String(this.scrubber.json(value, isSecretName(name)))]),
    );
  }

  private body(bytes: Uint8Array, type: string | null): { body?: unknown } {
    if (bytes.length === 0) return {};
    const text = asText(bytes);
    if (text === undefined) return { body: { base64: Buffer.from(bytes).toString("base64") } };
    if (type?.startsWith("application/x-www-form-urlencoded")) {
      return { body: this.scrubber.form(new URLSearchParams(text)).toString() };
    }
    try {
      return { body: this.scrubber.json(JSON.parse(text)) };
    } catch {
      return { body: this.scrubber.text(text) };
    }
  }
}

function fingerprint({ method, url, body }: Exchange["request"]): string {
  return JSON.stringify([method, url, body ?? null]);
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
