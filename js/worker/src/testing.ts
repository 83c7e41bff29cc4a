/**
 * Loaded before the tests of an integration (`weft test`): runs its backend in the test's process, without a server and
 * without a network. Sets the globals of a backend, and `testIntegration` beside them.
 */
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { PlatformActionError } from "./errors.ts";
import { handlersOf } from "./integration.ts";
import { intercept } from "./intercept.ts";
import { Recording } from "./recording.ts";
import { secretFields } from "./secrets.ts";

const ENTRY_POINTS = ["index.ts", "index.js", "main.ts", "main.js", "src/index.ts", "src/index.js"];
const USER: Caller = { userId: "00000000-0000-7000-8000-000000000001", email: "test@example.com" };

const loaded = new Map<string, Promise<Handlers>>();
const recordings = new Map<string, Recording>();
let captured: Handlers | undefined;
let output: Pick<TestIntegration, "logs" | "events"> = { logs: [], events: [] };

const network = intercept((request) => recording().handle(request));
const at = (level: keyof Log) => {
  return (...values: unknown[]) => void output.logs.push({ level, message: values.map(String).join(" ") });
};
const log: Log = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
const emit = (name: string, data: Json = {}) => void output.events.push({ name, data });
/** Files are kept by servers; here each only gets an id, and an entry among the events. */
const uploadFile = async (content: FileContent, name: string, contentType = "application/octet-stream") => {
  const size = typeof content === "string" ? Buffer.byteLength(content) : content.byteLength;
  emit("uploadFile", { name, contentType, size });
  return crypto.randomUUID();
};

Object.assign(globalThis, {
  serve: capture,
  defineIntegration: (definition: IntegrationDefinition) => capture(handlersOf(definition)),
  ActionError: PlatformActionError,
  log,
  emit,
  uploadFile,
  testIntegration,
});

/** One file per test file, named like it, in the folder `recordings` beside it. */
function recording(): Recording {
  const name = basename(Bun.main).replace(/[._](test|spec)\.[^.]+$|\.[^.]+$/, "");
  const path = join(dirname(Bun.main), "recordings", `${name}.json`);
  const known = recordings.get(path) ?? new Recording(path, process.env.WEFT_TEST_RECORD === "1", network);
  recordings.set(path, known);
  return known;
}

function capture(given?: Handlers | Record<string, RpcHandler> | null): void {
  if (captured) throw new Error("serve() called twice");
  captured =
    given && ("rpc" in given || "onStart" in given || "onJob" in given)
      ? (given as Handlers)
      : { rpc: (given ?? {}) as never };
}

async function testIntegration(folder = "."): Promise<TestIntegration> {
  const root = resolve(folder);
  const manifest = JSON.parse(readFileSync(join(root, "manifest.json"), "utf8"));
  const handlers = await load(root);
  const logs: TestIntegration["logs"] = [];
  const events: TestIntegration["events"] = [];

  function rpc(method: string, params: Json, options: TestOptions = {}): Promise<Json> {
    return run(method, handlers.rpc?.[method], params, options);
  }

  function job(payload: Json, options: TestOptions = {}): Promise<Json> {
    const onJob = handlers.onJob?.bind(handlers);
    const first = { id: "1", attempt: 1 };
    const handler =
      onJob && ((...[given, caller, ctx]: Parameters<RpcHandler>) => onJob(given, caller, { ...ctx, job: first }));
    return run("onJob", handler, payload, options);
  }

  async function run(
    method: string,
    handler: RpcHandler | undefined,
    params: Json,
    options: TestOptions,
  ): Promise<Json> {
    if (!handler) throw new PlatformActionError(`unknown method: ${method}`, { code: "unknown_method" });
    output = { logs, events };
    const tape = recording();
    tape.scrubber.learn([secretFields(manifest, options.config), options.userCredentials, options.credentials]);
    const [result, failure] = await outcome(() => handler(wire(params), caller(options), context(options)));
    // A backend may have made an error of its own of it.
    const missing = tape.takeMissing();
    if (missing ?? failure) throw missing ?? failure;
    return wire(result);
  }

  function context(options: TestOptions): Context {
    const call = options.callIntegration ?? (() => Promise.reject(new Error("pass callIntegration to answer this")));
    const sql = async (text: string, params: Json[] = []): Promise<SqlResult> => {
      if (!options.sql) throw new Error("pass sql to answer this");
      return options.sql(text, params);
    };
    return {
      appId: manifest.appId,
      runtimeUrl: "http://localhost:9100",
      credentials: options.credentials ?? {},
      manifest,
      agentConfig: undefined,
      log,
      emit,
      uploadFile,
      action: (name, input = {}) => rpc("__integration", { ...fields(options), action: name, input }, options),
      callIntegration: async (integration, action, input = {}) => call(integration, action, input),
      selfAction: (action) => Promise.reject(new Error(`selfAction ${action} needs a server`)),
      collection: (entity) => answered(entity, options.collection?.(entity) ?? {}),
      sql,
      transaction: async (work) => work({ sql }),
    };
  }

  function fields(options: TestOptions): Json {
    const userCredentials = options.userCredentials ?? null;
    const config = { ...defaults(manifest), ...options.config };
    const connectionWay = options.connectionWay ?? null;
    return { config, userCredentials, userId: caller(options)?.userId ?? null, connectionId: null, connectionWay };
  }

  return {
    logs,
    events,
    call: (action, input = {}, options = {}) => rpc("__integration", { ...fields(options), action, input }, options),
    rpc,
    job,
    webhook: (name, request, options = {}) => {
      const once = { deliveryId: crypto.randomUUID(), attempt: 1 };
      const params = { ...fields(options), ...delivery(request), ...once, name };
      return rpc("__webhook", params, { caller: null, ...options });
    },
  };
}

function load(root: string): Promise<Handlers> {
  const known = loaded.get(root) ?? evaluate(root);
  loaded.set(root, known);
  return known;
}

async function evaluate(root: string): Promise<Handlers> {
  const entry = ENTRY_POINTS.map((name) => join(root, "backend", name)).find((path) => existsSync(path));
  if (!entry) throw new Error(`${root}/backend needs one of ${ENTRY_POINTS.join(", ")}`);
  captured = undefined;
  await import(pathToFileURL(entry).href);
  if (!captured) throw new Error(`${entry} calls neither serve() nor defineIntegration()`);
  return captured;
}

/** A collection of which a test answers some methods. */
function answered(entity: string, given: Partial<Collection>): Collection {
  const missing = (name: string) => () => Promise.reject(new Error(`pass collection to answer ${entity}.${name}`));
  const methods = ["insert", "update", "delete", "find", "findOne", "list", "query"];
  return { ...Object.fromEntries(methods.map((name) => [name, missing(name)])), ...given } as Collection;
}

/** A webhook as the server hands it over. */
function delivery({ headers = {}, body = {} }: TestDelivery): Pick<WebhookCall, "headers" | "body" | "rawBody"> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const lower = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]);
  return { headers: Object.fromEntries(lower), body: parsed(text), rawBody: Buffer.from(text).toString("base64") };
}

function parsed(text: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function defaults(manifest: Json): Json {
  const properties: [string, Json][] = Object.entries(manifest.configSchema?.properties ?? {});
  const given = properties.filter(([, schema]) => schema?.default !== undefined);
  return Object.fromEntries(given.map(([name, schema]) => [name, schema.default]));
}

function caller(options: TestOptions): Caller | null {
  return options.caller === undefined ? USER : options.caller;
}

/** What is left of a value after its way between two processes. */
function wire(value: unknown): Json {
  return JSON.parse(JSON.stringify(value ?? null));
}

async function outcome(work: () => unknown): Promise<[unknown, unknown]> {
  try {
    return [await work(), undefined];
  } catch (error) {
    return [undefined, error ?? new Error("the backend threw nothing")];
  }
}
