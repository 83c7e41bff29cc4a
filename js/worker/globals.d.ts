/**
 * What the platform puts into the global scope of a backend. Self-contained on purpose: copy it into a project, and an
 * editor knows every global without a dependency.
 */

// biome-ignore lint/suspicious/noExplicitAny: what travels is checked by the manifest's schemas, not by TypeScript.
type Json = any;

/** Who started a call; null where the platform calls on its own account. */
interface Caller {
  userId: string;
  email: string;
  /** The connection whose credentials apply to this call, where one was chosen. */
  connectionId?: string;
  /** The app through which the user came, when it is not this one. */
  appId?: string;
}

interface Log {
  debug(...values: unknown[]): void;
  info(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
}

/** What a file holds: text (in UTF-8) or bytes. */
type FileContent = string | ArrayBuffer | Uint8Array;

/** Passed to every handler. Whatever is asked through it happens with the rights of the caller of that one call. */
interface Context {
  readonly appId: string;
  readonly runtimeUrl: string;
  /** The app's secrets by name. */
  readonly credentials: Readonly<Record<string, string>>;
  /** The installed manifest. */
  readonly manifest: Json;
  readonly agentConfig: undefined;
  readonly log: Log;
  /** Writes a named entry to the app's log. */
  emit(name: string, data?: Json): void;
  /** Stores a file of this app and returns its id. */
  uploadFile(content: FileContent, filename: string, contentType?: string): Promise<string>;
  /** Runs one of this app's own integration actions as the caller. */
  action(name: string, input?: Json): Promise<Json>;
  /** Runs an action of another integration as the caller. */
  callIntegration(integrationId: string, action: string, input?: Json): Promise<Json>;
  /** Asks the platform for something by its wire name. Fails after 30 s. */
  selfAction(action: string, params?: Json): Promise<Json>;
  /** The records of one of the app's entities, as the caller may see and change them. */
  collection(entity: string): Collection;
  /**
   * Runs one statement (select, insert, update, delete, merge, values) in the app's schema, as the caller: rows that the caller may
   * not see are not there. At most 1000 rows and 8 s. `$1`, `$2`, … stand for `params`.
   */
  sql(text: string, params?: Json[]): Promise<SqlResult>;
  /** Runs statements that take effect together, when `work` returns, or not at all, when it throws. At most 60 s, one at a time. */
  transaction<T>(work: (tx: Transaction) => T | Promise<T>): Promise<T>;
}

/** A record: `id`, the entity's fields, `created_at` and `updated_at`. */
type DataRecord = { id: string; [field: string]: Json };

/** The records of an entity. Conditions are those of the REST API: `{ stage: "lead", score: { $gte: 40 } }`. */
interface Collection {
  insert(data: Json): Promise<DataRecord>;
  /** Changes the fields that `data` names in the record of its `id`. */
  update(data: { id: string; [field: string]: Json }): Promise<DataRecord>;
  delete(id: string): Promise<{ id: string }>;
  /** Every record that meets a condition, newest first; all of them without one. */
  find(where?: Json): Promise<DataRecord[]>;
  /** The newest record that meets a condition, or null. */
  findOne(where?: Json): Promise<DataRecord | null>;
  /** The same as `find`. */
  list(where?: Json): Promise<DataRecord[]>;
  /** A page, with the options of `POST …/query`. */
  query(options?: Json): Promise<{ data: DataRecord[]; total?: number; nextCursor?: string }>;
}

/** What a statement answered. `rowCount` is how many rows it found or changed. */
interface SqlResult {
  columns: string[];
  rows: Json[][];
  rowCount: number;
}

interface Transaction {
  sql(text: string, params?: Json[]): Promise<SqlResult>;
}

type RpcHandler = (params: Json, caller: Caller | null, ctx: Context) => unknown;

/** The context of a job's handler. */
interface JobContext extends Context {
  /** `id` is the same in every attempt, `attempt` begins with 1. */
  readonly job: { readonly id: string; readonly attempt: number };
}

interface Handlers {
  rpc?: Record<string, RpcHandler>;
  /**
   * Once per start of the app; a failure is logged and the backend keeps serving. Nobody called it: for a minute at most it reads and
   * writes the app's own data as the app itself, and nothing else.
   */
  onStart?(ctx: Context): unknown;
  /**
   * Works on a job, with the rights of whoever enqueued it. What it returns is kept as the job's result; when it throws, the
   * job is tried again later. The same job may come twice (a crash, a restart): do it so that twice does no harm.
   */
  onJob?(payload: Json, caller: Caller | null, ctx: JobContext): unknown;
  /** Awaited before the process ends, for a few seconds at most. */
  onShutdown?(): unknown;
}

/**
 * `Transient`: may succeed if repeated. `RateLimited`: repeat after `retryAfter`. `Auth`: the credentials must be renewed.
 * `Validation`: the input must change. `Poison`: a fault in the backend; repeating is pointless.
 */
type ErrorCategory = "Transient" | "RateLimited" | "Auth" | "Validation" | "Poison";

interface ActionErrorOptions {
  /** Short machine-readable name, best the vendor's own, such as `channel_not_found`. */
  code?: string | undefined;
  category?: ErrorCategory | undefined;
  /** Seconds. */
  retryAfter?: number | undefined;
  /** Shown to the caller: no secrets. */
  details?: Json;
  cause?: unknown;
}

/** Throw it to tell the caller what went wrong and what to do; every other error counts as a fault in the backend. */
declare class ActionError extends Error {
  constructor(message: string, options?: ActionErrorOptions);
  readonly code: string | undefined;
  readonly category: ErrorCategory | undefined;
  readonly retryAfter: number | undefined;
  readonly details: Json;
}

/** What a connection holds where the server gets and renews the token: `userAuth` of the type `oauth2` or `token`. */
interface TokenCredentials {
  accessToken: string;
  tokenType: string;
  /** As RFC 3339 has it; absent where the vendor does not say. */
  expiresAt?: string;
  scope?: string;
  /** What else the vendor sent. */
  response?: Record<string, Json>;
  /** What was entered and is no secret. */
  [field: string]: Json | undefined;
}

/** What a connection holds by OAuth 1.0a. Requests are signed with it and with the client's secret in the configuration. */
interface SignatureCredentials {
  token: string;
  tokenSecret: string;
  response?: Record<string, string>;
}

/** Parameters of `__integration`. */
interface IntegrationCall<Config = Json, Credentials = Json> {
  action: string;
  input: Json;
  /** The integration's platform configuration, secrets included. */
  config: Config;
  /** What was stored for the user's connection; null if there is none. */
  userCredentials: Credentials | null;
  /** The owner of the credentials, who may differ from the caller. */
  userId: string;
  connectionId: string | null;
  /** By which of the manifest's ways the connection was made: its name, `default` where the first has none. Absent without a connection. */
  connectionWay?: string;
}

/** Parameters of `__webhook`. */
interface WebhookCall<Config = Json> {
  name: string;
  /** Names in lower case. */
  headers: Record<string, string>;
  /** The parsed JSON body, or the text if it is not JSON. */
  body: Json;
  /** The body's bytes in base64: what a signature covers. */
  rawBody: string;
  config: Config;
  /** Names this request. The same when it is handed over again, because a server died before it had answered. */
  deliveryId: string;
  /** 1, or more when it is handed over again. */
  attempt: number;
}

/** Parameters of `__auth_start`. */
interface AuthStartCall<Config = Json> {
  config: Config;
  /** The name of the way that somebody chose. */
  way: string;
  callbackUrl: string;
  /** Must come back from the provider unchanged. */
  state: string;
  userId: string;
}

type AuthStartResult =
  | { redirectUrl: string }
  | { type: "redirect"; url: string }
  | { type: "credentials"; schema: Json };

/** Parameters of `__auth_callback`. */
interface AuthCallbackCall<Config = Json> {
  config: Config;
  /** The name of the way that somebody chose. */
  way: string;
  query: Record<string, string>;
  callbackUrl: string;
  userId: string;
}

interface AuthCallbackResult<Credentials = Json> {
  credentials: Credentials;
  email?: string;
  account?: string;
  /** What the connection is called; the same label means the same connection. */
  label?: string;
}

/** Parameters of `__bind`, called when an administrator saves the configuration. */
interface BindCall<Config = Json> {
  config: Config;
}

/** The context of an integration's handlers. */
interface IntegrationContext<Config = Json, Credentials = Json> extends Context {
  readonly caller: Caller | null;
  readonly config: Config;
  readonly userCredentials: Credentials | null;
  readonly userId: string | null;
  readonly connectionId: string | null;
  /** By which of the manifest's ways the connection was made: its name, `default` where the first has none. */
  readonly connectionWay: string | null;
  /** What the connection holds now: in a long call the token may have been renewed. */
  currentCredentials(): Promise<Credentials>;
  /** Keeps other values in the connection, for example a token that the backend renewed. Those not given stay. */
  updateCredentials(values: Json): Promise<Credentials>;
}

/**
 * The manifest as types, by app id. Empty here: `weft types` adds the project's own in `backend/manifest.d.ts`, from which
 * `defineIntegration` then knows actions, their inputs and the configuration.
 */
// biome-ignore lint/suspicious/noEmptyInterface: it is there to be extended.
interface IntegrationManifest {}

type DeclaredManifests = IntegrationManifest[keyof IntegrationManifest];

/** The types of the only manifest that was declared; with none or several of them everything goes. */
type DeclaredManifest = [keyof IntegrationManifest] extends [never]
  ? UndeclaredManifest
  : IsOne<keyof IntegrationManifest> extends true
    ? DeclaredManifests
    : UndeclaredManifest;

interface UndeclaredManifest {
  config: Json;
  actions: Record<string, { input: Json; output: unknown }>;
}

type IsOne<T, Each = T> = T extends unknown ? ([Each] extends [T] ? true : false) : never;

type ActionHandlers<Actions, Ctx> = {
  [Id in keyof Actions]?: Actions[Id] extends { input: infer Input; output: infer Output }
    ? (input: Input, ctx: Ctx) => Output | Promise<Output>
    : never;
};

interface IntegrationDefinition<Config = DeclaredManifest["config"], Credentials = Json> {
  /** By action id, as in the manifest. */
  actions?: ActionHandlers<DeclaredManifest["actions"], IntegrationContext<Config, Credentials>>;
  /** By webhook name, as in the manifest; what a handler returns is the answer to the sender. */
  webhooks?: Record<string, (call: WebhookCall<Config>, ctx: IntegrationContext<Config, Credentials>) => unknown>;
  bind?(
    call: BindCall<Config>,
    ctx: IntegrationContext<Config, Credentials>,
  ): Promise<{ mergeConfig?: Json } | undefined> | { mergeConfig?: Json } | undefined;
  authStart?(
    call: AuthStartCall<Config>,
    ctx: IntegrationContext<Config, Credentials>,
  ): Promise<AuthStartResult> | AuthStartResult;
  authCallback?(
    call: AuthCallbackCall<Config>,
    ctx: IntegrationContext<Config, Credentials>,
  ): Promise<AuthCallbackResult<Credentials>> | AuthCallbackResult<Credentials>;
  onStart?(ctx: Context): unknown;
  onShutdown?(): unknown;
}

/** Registers the backend's handlers; callable once. A bare map of RPC handlers is accepted, but deprecated. */
declare function serve(handlers?: Handlers | Record<string, RpcHandler> | null): void;

/** Registers an integration's handlers; it calls `serve`, so use one or the other. */
declare function defineIntegration<Config = DeclaredManifest["config"], Credentials = Json>(
  definition: IntegrationDefinition<Config, Credentials>,
): void;

/** Writes to the app's log; `console` does the same. Lines written during a call are attributed to it. */
declare const log: Log;

/** Writes a named entry to the app's log. */
declare function emit(name: string, data?: Json): void;

/** Stores a file of this app on behalf of the call that asks for it, and returns its id. */
declare function uploadFile(content: FileContent, filename: string, contentType?: string): Promise<string>;

/** What a test says about a call. */
interface TestOptions {
  /** The integration's configuration; its secret fields are kept out of recordings. */
  config?: Json;
  /** What is stored for the user's connection; kept out of recordings. */
  userCredentials?: Json;
  /** By which way that connection was made. */
  connectionWay?: string;
  /** The app's secrets; kept out of recordings. */
  credentials?: Record<string, string>;
  /** Who calls; a user of the test's own unless given. */
  caller?: Caller | null;
  /** Answers the backend's calls of other integrations. */
  callIntegration?: (integrationId: string, action: string, input: Json) => unknown;
  /** Answers what the backend does with records. */
  collection?: (entity: string) => Partial<Collection>;
  /** Answers the backend's SQL, in transactions too. */
  sql?: (text: string, params: Json[]) => SqlResult | Promise<SqlResult>;
}

interface TestDelivery {
  headers?: Record<string, string>;
  /** A value that is sent as JSON, or a text that is sent as it is. */
  body?: Json;
}

/** A backend that runs in the test's process. Its outgoing HTTP comes from `test/recordings`. */
interface TestIntegration {
  call(action: string, input?: Json, options?: TestOptions): Promise<Json>;
  webhook(name: string, request: TestDelivery, options?: TestOptions): Promise<Json>;
  /** Calls a method of an app that is no integration. */
  rpc(method: string, params?: Json, options?: TestOptions): Promise<Json>;
  /** Hands a job to `onJob` as its first attempt. */
  job(payload: Json, options?: TestOptions): Promise<Json>;
  readonly logs: { level: string; message: string }[];
  readonly events: { name: string; data: Json }[];
}

/** Loads the backend of the project in a folder. Only in tests that `weft test` runs. */
declare function testIntegration(folder?: string): Promise<TestIntegration>;
