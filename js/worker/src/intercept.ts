/**
 * Leads every outgoing HTTP request of this process to one handler: `fetch` directly, `node:http` and `node:https` by way of a
 * server on this machine, so that libraries get real sockets and streams. Requests to this machine itself are left alone,
 * since tests start servers of their own. For tests only.
 */
import { mock } from "bun:test";
import http from "node:http";
import https from "node:https";

type Handler = (request: Request) => Promise<Response>;
type Arguments = [url: Json, options?: Json, callback?: Json];

const ADDRESS = "x-weft-address";

/** Returns the original `fetch`. */
export function intercept(handler: Handler): typeof fetch {
  const network = globalThis.fetch;
  const caught = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const request = new Request(input as Request, init);
    if (isLocal(new URL(request.url))) return network(request);
    const response = await handler(request);
    Object.defineProperty(response, "url", { value: request.url });
    return response;
  };
  globalThis.fetch = Object.assign(caught, { preconnect: () => {} });
  const request = http.request.bind(http);
  replace("node:http", http, "http:", request, serverFor(handler));
  replace("node:https", https, "https:", request, serverFor(handler));
  return network;
}

/** Started with the first request; it keeps no test from ending. */
function serverFor(handler: Handler): () => number {
  let port: number | undefined;
  return () => {
    if (port === undefined) {
      const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: (request) => passOn(handler, request) });
      server.unref();
      port = server.port ?? 0;
    }
    return port;
  };
}

async function passOn(handler: Handler, request: Request): Promise<Response> {
  const headers = new Headers(request.headers);
  const address = headers.get(ADDRESS) ?? "";
  headers.delete(ADDRESS);
  const { method } = request;
  const body = await request.arrayBuffer();
  try {
    return await handler(
      new Request(address, { method, headers, redirect: "manual", ...(body.byteLength && { body }) }),
    );
  } catch (error) {
    // No vendor answers with it, and the test fails with the reason all the same.
    return new Response(String((error as Error).message), { status: 599 });
  }
}

function replace(name: string, module: Json, protocol: string, plain: typeof http.request, port: () => number): void {
  const original = module.request.bind(module);
  const request = (...given: Arguments): http.ClientRequest => {
    const { url, options, callback } = normalised(given, protocol);
    if (isLocal(url)) return original(...given);
    const { method, signal, timeout, auth } = options;
    const credentials = auth && { authorization: `Basic ${Buffer.from(auth).toString("base64")}` };
    const headers = { ...credentials, ...headersOf(options.headers), [ADDRESS]: url.href };
    return plain({ host: "127.0.0.1", port: port(), path: "/", method, signal, timeout, headers }, callback);
  };
  const get = (...given: Arguments): http.ClientRequest => request(...given).end();
  Object.assign(module, { request, get });
  // Names that were imported one by one do not follow the module's object.
  mock.module(name, () => ({ ...module, default: module, request, get }));
}

function normalised(given: Arguments, protocol: string): { url: URL; options: Json; callback: Json } {
  const [first, second, third] = given;
  const hasAddress = typeof first === "string" || first instanceof URL;
  const options = hasAddress ? (typeof second === "function" ? {} : (second ?? {})) : first;
  const callback = [second, third].find((value) => typeof value === "function");
  if (hasAddress) return { url: new URL(first), options, callback };
  const { hostname, host, port, path = "/" } = options;
  const place = hostname ?? host ?? "localhost";
  const authority = port ? `${place}:${port}` : place;
  return { url: new URL(`${options.protocol ?? protocol}//${authority}${path}`), options, callback };
}

function headersOf(headers: Json): Record<string, unknown> {
  if (headers instanceof Headers) return Object.fromEntries(headers);
  if (!Array.isArray(headers)) return { ...headers };
  const pairs = Array.isArray(headers[0])
    ? headers
    : headers.flatMap((_, i) => (i % 2 ? [] : [headers.slice(i, i + 2)]));
  return Object.fromEntries(pairs);
}

function isLocal({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
}
