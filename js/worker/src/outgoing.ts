/**
 * Watches the HTTP requests that the backend makes with `fetch` and with `node:http`, without touching them. Headers and
 * bodies are never looked at. Must not know who wants to hear of it.
 */
import http from "node:http";

/** A request that is over. */
export interface Outgoing {
  method: string;
  url: string;
  ms: number;
  status?: number;
  error?: string;
}

/** Called where a request begins, in the context of whoever makes it; what it returns is called at the end. */
export type Observer = () => (seen: Outgoing) => void;

type Asked = { started: number; report: (seen: Outgoing) => void };

export function observe(observer: Observer): void {
  observeFetch(observer);
  observeNode(observer);
}

function observeFetch(observer: Observer): void {
  const original = globalThis.fetch;
  const watched = async (input: Parameters<typeof fetch>[0], init?: RequestInit): Promise<Response> => {
    const [started, report] = [performance.now(), observer()];
    const method = init?.method ?? (input instanceof Request ? input.method : "GET");
    const seen = { method: method.toUpperCase(), url: input instanceof Request ? input.url : String(input) };
    try {
      const response = await original(input, init);
      report({ ...seen, ms: since(started), status: response.status });
      return response;
    } catch (error) {
      report({ ...seen, ms: since(started), error: errorName(error) });
      throw error;
    }
  };
  globalThis.fetch = Object.assign(watched, { preconnect: original.preconnect });
}

/** Every request passes its prototype's `emit`, however `request` was imported. */
function observeNode(observer: Observer): void {
  const { prototype } = http.ClientRequest;
  const original = prototype.emit;
  const asked = new WeakMap<http.ClientRequest, Asked>();
  prototype.emit = function emit(this: http.ClientRequest, name: string | symbol, ...values: Json[]): boolean {
    if (name === "socket" && !asked.has(this)) asked.set(this, { started: performance.now(), report: observer() });
    if (name === "response" || name === "upgrade" || name === "error") {
      const { started, report } = asked.get(this) ?? { started: performance.now(), report: observer() };
      asked.set(this, { started, report: () => {} });
      const [value] = values;
      const outcome = name === "error" ? { error: errorName(value) } : { status: value?.statusCode };
      report({ method: this.method, url: addressOf(this), ms: since(started), ...outcome });
    }
    return original.call(this, name, ...values);
  };
}

function addressOf(request: http.ClientRequest): string {
  return `${request.protocol}//${request.getHeader("host") ?? request.host}${request.path}`;
}

function errorName(error: unknown): string {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  return typeof code === "string" ? code : String(name ?? "Error");
}

function since(started: number): number {
  return Math.round((performance.now() - started) * 10) / 10;
}
