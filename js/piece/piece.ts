/**
 * Serves a package that follows the piece convention (`@activepieces/piece-…`) as an integration. `weft add piece` writes this
 * file into a project; `describe.ts` says in a manifest what it serves.
 *
 * A piece is an object with `_actions`. Each has typed `props` and a `run(context)`. Pieces with `getContextInfo` expect the whole
 * connection as `context.auth`, older ones the bare secret; the oldest have no auth of their own and take it among the props.
 */

// Projects have no types of Bun's.
declare const Buffer: Json;
type Bytes = Uint8Array;

/** Types of props that are credentials. */
const SECRET_TYPES = ["SECRET_TEXT", "BASIC_AUTH", "CUSTOM_AUTH", "OAUTH2"];
/** The action that lists what a property can be, where the piece asks its vendor for that. */
export const OPTIONS_ACTION = "list_options";

/** Ids that mean something else: rights over the integration itself, and the platform's own action. */
const RESERVED = ["manage", "proxy", OPTIONS_ACTION];
const LONGEST_ID = 100;
const FILE_MIB = 25;
const FILE_BYTES = FILE_MIB * 1024 * 1024;

export interface Property {
  type: string;
  displayName?: string;
  description?: string;
  required?: boolean;
  defaultValue?: unknown;
  options?: Json;
  properties?: Record<string, Property>;
  props?: Json;
  refreshers?: string[];
}

export interface PieceAction {
  name: string;
  displayName?: string;
  description?: string;
  props: Record<string, Property>;
  classification?: string;
  aiMetadata?: { description?: string; idempotent?: boolean };
  outputSchema?: Json;
  run(context: Json): unknown;
}

export interface Piece {
  displayName: string;
  description?: string;
  auth?: Json;
  _actions: Record<string, PieceAction>;
  getContextInfo?(): Json;
}

/** The piece among a module's exports. */
export function pieceOf(module: Record<string, unknown>): Piece {
  const found = [module, ...Object.values(module)].find((value) => isPiece(value));
  if (!found) throw new Error("the package exports no piece: nothing in it has _actions");
  return found as Piece;
}

function isPiece(value: unknown): boolean {
  return typeof value === "object" && value !== null && typeof (value as Json)._actions === "object";
}

const named = new WeakMap<Piece, Map<string, PieceAction>>();

/** The actions by the ids that manifests and callers know them by: `slack-send-message` is `slack_send_message`. */
export function actionsOf(piece: Piece): Map<string, PieceAction> {
  const actions = named.get(piece) ?? withIds(piece._actions);
  named.set(piece, actions);
  return actions;
}

function withIds(actions: Record<string, PieceAction>): Map<string, PieceAction> {
  const isPlain = (name: string) => plainId(name) === name;
  // What is an id already stays one, whatever else becomes the same.
  const taken = new Set(Object.keys(actions).filter(isPlain));
  const idOf = (name: string) => {
    const wanted = plainId(name);
    let id = wanted;
    for (let number = 2; taken.has(id); number++) id = `${wanted}_${number}`;
    taken.add(id);
    return id;
  };
  return new Map(Object.entries(actions).map(([name, action]) => [isPlain(name) ? name : idOf(name), action]));
}

function plainId(name: string): string {
  const words = name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").replace(/[^A-Za-z0-9]+/g, "_");
  const id =
    words
      .toLowerCase()
      .slice(0, LONGEST_ID)
      .replace(/^_+|_+$/g, "") || "action";
  return RESERVED.includes(id) ? `vendor_${id}` : id;
}

/** The ways in that a piece offers. The oldest pieces ask for them among the props of their actions. */
export function authsOf(piece: Piece): Property[] {
  if (piece.auth) return [piece.auth].flat();
  const actions = Object.values(piece._actions);
  return actions.flatMap((action) => Object.values(action.props).filter(isSecret)).slice(0, 1);
}

export function isSecret(property: Property): boolean {
  return SECRET_TYPES.includes(property.type);
}

/** Whether the values of a property are found out by asking the vendor. */
export function isDynamic(property: Property): boolean {
  return typeof property.options === "function" || typeof property.props === "function";
}

/** Serves the actions of the piece that a module exports. */
export function servePiece(module: Record<string, unknown>): void {
  const piece = pieceOf(module);
  serve({
    rpc: {
      __integration: (call: IntegrationCall, _caller, ctx) => run(piece, call, ctx),
    },
  });
}

async function run(piece: Piece, call: IntegrationCall, ctx: Context): Promise<unknown> {
  // The connection's and nothing else: the configuration holds the client's secrets, which no vendor takes for a person's.
  const secret = call.userCredentials ?? {};
  try {
    if (call.action === OPTIONS_ACTION)
      return await listOptions(piece, call.input, contextOf(piece, secret, {}, call, ctx));
    const action = actionsOf(piece).get(call.action);
    if (!action) throw new ActionError(`The piece has no action "${call.action}".`, { category: "Validation" });
    const values = await valuesOf(piece, action, call.input ?? {}, secret);
    return (await action.run(contextOf(piece, secret, values, call, ctx))) ?? null;
  } catch (error) {
    throw asActionError(error);
  }
}

/** Input as the piece expects it: defaults, files, and the credentials where they are props. */
async function valuesOf(piece: Piece, action: PieceAction, input: Json, secret: Json): Promise<Json> {
  const values: Json = {};
  for (const [name, property] of Object.entries(action.props)) {
    const given = input[name] ?? property.defaultValue;
    if (isSecret(property) && !piece.auth) values[name] = legacyAuth(property, secret);
    else if (property.type === "FILE" && given) values[name] = await fileOf(given);
    else if (property.type === "ARRAY") values[name] = given ?? [];
    else if (property.type === "DYNAMIC" || property.type === "OBJECT") values[name] = given ?? {};
    else values[name] = given;
  }
  return values;
}

/** A file is given by its address, or by its content in base64. */
async function fileOf(given: Json): Promise<Json> {
  if (typeof given === "string" || typeof given.url === "string") return download(given.url ?? given, given.filename);
  const { filename, base64 } = given;
  return withBase64(filename, Buffer.from(String(base64), "base64"));
}

async function download(address: string, filename?: string): Promise<Json> {
  const url = webAddress(address);
  const answer = await fetch(url);
  if (!answer.ok) throw invalid(`The file at ${url.host} was answered with ${answer.status}.`);
  const name = filename ?? decodeURIComponent(url.pathname.split("/").pop() || "file");
  return withBase64(name, Buffer.concat(await chunksOf(answer, url.host)));
}

/** Bun's fetch reads files and data too, and files are this machine's. */
function webAddress(address: string): URL {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    throw invalid("A file is given by an address that begins with http:// or https://, or by filename and base64.");
  }
  return url;
}

async function chunksOf(answer: Response, host: string): Promise<Bytes[]> {
  const chunks: Bytes[] = [];
  let size = 0;
  // Leaving the loop cancels the rest.
  for await (const chunk of answer.body ?? []) {
    size += chunk.byteLength;
    if (size > FILE_BYTES) throw invalid(`The file at ${host} has more than ${FILE_MIB} MiB.`);
    chunks.push(chunk);
  }
  return chunks;
}

function invalid(message: string): Error {
  return new ActionError(message, { category: "Validation" });
}

function withBase64(filename: string, data: Bytes & { toString(encoding: string): string }): Json {
  return { filename, extension: filename.split(".").pop(), data, base64: data.toString("base64") };
}

function contextOf(piece: Piece, secret: Json, propsValue: Json, call: IntegrationCall, ctx: Context): Json {
  const auth = authsOf(piece).find((each) => matches(each, secret)) ?? authsOf(piece)[0];
  const current =
    auth && piece.auth ? (piece.getContextInfo ? connection(auth, secret) : legacyAuth(auth, secret)) : undefined;
  return {
    auth: current,
    propsValue,
    executionType: "BEGIN",
    files: { write: writeFile },
    store: storeFor(call.connectionId ?? ""),
    server: { apiUrl: ctx.runtimeUrl, publicUrl: ctx.runtimeUrl, token: "" },
    connections: { get: async () => null },
    tags: { add: async () => {} },
    output: { update: async () => {} },
    project: { id: ctx.appId, externalId: async () => undefined },
    flows: {
      list: async () => ({ data: [], next: null, previous: null }),
      current: { id: ctx.appId, version: { id: "" } },
    },
    step: { name: call.action },
    run: {
      id: ctx.appId,
      stop: () => {},
      respond: () => {},
      pause: refusePause,
      createWaitpoint: refusePause,
      waitForWaitpoint: refusePause,
    },
    generateResumeUrl: refusePause,
  };
}

function refusePause(): never {
  throw new ActionError("This action waits for somebody's answer inside a workflow; called by itself it cannot.", {
    category: "Validation",
  });
}

/** Whether credentials have what a way in asks for. */
function matches(auth: Property, secret: Json): boolean {
  if (auth.type === "OAUTH2") return "accessToken" in secret || "access_token" in secret;
  return Object.keys(fieldsOf(auth)).some((name) => name in secret);
}

/** The fields that somebody fills in for a way in. */
export function fieldsOf(auth: Property): Record<string, Property> {
  if (auth.type === "CUSTOM_AUTH") return auth.props ?? {};
  if (auth.type === "SECRET_TEXT") return { secret: { ...auth, required: true } };
  const password = { type: "SECRET_TEXT", displayName: "Password", required: true };
  return { username: { type: "SHORT_TEXT", displayName: "Username", required: true }, password };
}

/** The connection as pieces with a context version read it. */
function connection(auth: Property, secret: Json): Json {
  const { type } = auth;
  if (type === "SECRET_TEXT") return { type, secret_text: secret.secret };
  if (type === "CUSTOM_AUTH") return { type, props: secret };
  if (type === "BASIC_AUTH") return { type, username: secret.username, password: secret.password };
  return { type, ...token(secret) };
}

/** The bare secret, as older pieces read it. */
function legacyAuth(auth: Property, secret: Json): Json {
  if (auth.type === "SECRET_TEXT") return secret.secret;
  return auth.type === "OAUTH2" ? token(secret) : secret;
}

function token(secret: Json): Json {
  const { accessToken, tokenType, data, ...rest } = secret;
  return {
    access_token: accessToken ?? secret.access_token,
    token_type: tokenType ?? "Bearer",
    data: data ?? rest,
    props: rest,
  };
}

async function writeFile({ fileName, data }: { fileName: string; data: Bytes }): Promise<string> {
  const upload = (globalThis as Json).uploadFile;
  if (typeof upload === "function") return upload(data, fileName, "application/octet-stream");
  return `data:application/octet-stream;base64,${Buffer.from(data).toString("base64")}`;
}

const stores = new Map<string, Map<string, unknown>>();

/** What a piece remembers for itself lives as long as the process; pieces use it as a cache. */
function storeFor(connectionId: string): Json {
  const store = stores.get(connectionId) ?? new Map<string, unknown>();
  stores.set(connectionId, store);
  return {
    get: async (key: string) => store.get(key) ?? null,
    put: async (key: string, value: unknown) => {
      store.set(key, value);
      return value;
    },
    delete: async (key: string) => void store.delete(key),
  };
}

async function listOptions(piece: Piece, input: Json, context: Json): Promise<unknown> {
  const property = actionsOf(piece).get(input?.action)?.props[input?.property];
  if (!property || !isDynamic(property)) {
    throw new ActionError(`"${input?.action}" has no property "${input?.property}" whose values can be listed.`, {
      category: "Validation",
    });
  }
  const given = { auth: context.auth, ...input.values };
  const ask = typeof property.options === "function" ? property.options : property.props;
  const answer = await ask(given, { ...context, searchValue: input.search, propsValue: given });
  if (typeof property.options !== "function") return { properties: answer };
  if (answer?.disabled && !answer.options?.length) {
    throw new ActionError(String(answer.placeholder ?? "Nothing can be listed yet."), { category: "Validation" });
  }
  return { options: (answer?.options ?? []).map(({ label, value }: Json) => ({ label, value })) };
}

/** What pieces throw, with the vendor's status where there is one, as the error that callers understand. */
function asActionError(error: Json): unknown {
  if (error instanceof ActionError) return error;
  const response = error?.response ?? {};
  const status = Number(response.status ?? error?.status ?? error?.statusCode);
  const body = response.body ?? response.data ?? error?.body;
  const said = messageIn(body) ?? String(error?.message ?? error).slice(0, 500);
  if (!(status >= 400)) return new ActionError(said, { category: "Poison", cause: error });
  const retryAfter = Number(response.headers?.["retry-after"]) || undefined;
  const message = `The vendor answered with ${status}: ${said}`;
  return new ActionError(message, { code: `http_${status}`, category: categoryOf(status), retryAfter, cause: error });
}

function categoryOf(status: number): ErrorCategory {
  if (status === 429) return "RateLimited";
  if (status === 401 || status === 403) return "Auth";
  return status >= 500 || status === 408 ? "Transient" : "Validation";
}

/** A vendor's own words, where they are in one of the usual places. */
function messageIn(body: Json): string | undefined {
  const candidates = [
    body?.error?.message,
    body?.message,
    body?.error_description,
    body?.error,
    body?.description,
    body,
  ];
  const text = candidates.find((candidate) => typeof candidate === "string" && candidate !== "");
  return text?.slice(0, 500);
}
