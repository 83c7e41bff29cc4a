/**
 * The global `serve`: keeps the backend's handlers and answers the host's messages. Must not know about integrations.
 *
 * Every call gets exactly one answer: a result, or the error that its handler threw, however odd. Unknown messages are
 * ignored, so that an older worker survives a newer host.
 */
import { type App, type Call, globalLog, makeContext, settle, within } from "./calls.ts";
import { startWatching, type Watched } from "./dev.ts";
import { isUnexpected, messageOf, stackOf, toWire, type WireError } from "./errors.ts";
import { exit, type Message, readLines, send } from "./wire.ts";

/** Time for calls in flight when the host asks to stop; it kills the process after 10 s. */
const DRAIN_MS = 5000;
const HANDLER_KINDS = ["rpc", "onStart", "onJob", "onShutdown"];

/** What the host answers with to what was asked. */
const ANSWERS = new Set([
  "self_action_result",
  "collection_op_result",
  "sql_query_result",
  "sql_begin_result",
  "sql_exec_result",
  "sql_end_result",
]);

let handlers: Handlers | undefined;
let nameOf: Naming = (method) => method;
let offer: Offer | undefined;
let app: App = { appId: "", runtimeUrl: "", credentials: {}, manifest: null };
let watch: ReturnType<typeof startWatching> | undefined;
let whenServing: (() => void) | undefined;
let stopping = false;
const inFlight = new Map<Call, Promise<void>>();

/** How messages to people name a call. */
export type Naming = (method: string, params: Json) => string;

/** What an integration has handlers for, by name. */
export interface Offer {
  actions: string[];
  webhooks: string[];
}

/** Serves handlers whose names are not the backend's own. */
export function serveIntegration(handlers: Handlers, naming: Naming, offered: Offer): void {
  nameOf = naming;
  offer = offered;
  serve(handlers);
}

/** What there are handlers for, where it is an integration that serves. */
export function offers(): Offer | undefined {
  return offer;
}

/** The global `serve`. */
export function serve(given?: Handlers | Record<string, RpcHandler> | null): void {
  if (handlers) throw new Error("serve() called twice");
  handlers = checked(normalised(given ?? {}));
  readLines(receive, () => stop());
  whenServing?.();
}

/** The RPC methods on offer; undefined until `serve` has been called. */
export function methods(): string[] | undefined {
  return handlers && Object.keys(handlers.rpc ?? {});
}

/** Whether there is a handler for jobs; undefined until `serve` has been called. */
export function takesJobs(): boolean | undefined {
  return handlers && typeof handlers.onJob === "function";
}

/** Lets the caller know of a `serve` that comes after the entry point has been evaluated. */
export function onLateServe(listener: () => void): void {
  whenServing = listener;
}

function normalised(given: Handlers | Record<string, RpcHandler>): Handlers {
  if (HANDLER_KINDS.some((kind) => kind in given)) return given as Handlers;
  if (Object.keys(given).length > 0) {
    globalLog.warn("serve({ method }) is deprecated; write serve({ rpc: { method } })");
  }
  return { rpc: given as Record<string, RpcHandler> };
}

function checked(given: Handlers): Handlers {
  for (const [method, handler] of Object.entries(given.rpc ?? {})) {
    if (typeof handler !== "function") {
      throw new TypeError(`serve(): the handler of "${method}" is of type ${typeof handler}; expected a function`);
    }
  }
  return given;
}

function receive(line: string): void {
  const message = parse(line);
  if (message?.type === "rpc") answer(message);
  else if (message?.type === "job") work(message);
  else if (message && ANSWERS.has(message.type)) settle(String(message.id), message.result, message.error);
  else if (message?.type === "storage_upload_url") settle(String(message.id), message.url, message.error);
  else if (message?.type === "discover") discover(message);
  else if (message?.type === "shutdown") drain();
}

function parse(line: string): Message | undefined {
  try {
    return JSON.parse(line);
  } catch (error) {
    globalLog.error(`a line from the host is not JSON: ${messageOf(error)}`);
    return undefined;
  }
}

function discover(message: Message): void {
  app = {
    appId: String(message.app_id ?? ""),
    runtimeUrl: String(message.runtime_url ?? ""),
    credentials: Object.freeze({ ...(message.credentials as Record<string, string> | undefined) }),
    manifest: message.manifest ?? null,
  };
  if (message.dev === true) watch = startWatching(app);
  if (message.run_onstart === true) start(message.start_call);
}

/** What `onStart` asks for is asked by the app itself, under an id that is good until it has ended. */
async function start(id: unknown): Promise<void> {
  const call: Call | undefined = typeof id === "string" ? { id, over: false } : undefined;
  const run = () => handlers?.onStart?.(makeContext(app, call));
  try {
    await (call ? within(call, run) : run());
  } catch (error) {
    globalLog.error(`onStart error: ${stackOf(error)}`);
  }
  if (!call) return;
  call.over = true;
  send({ type: "rpc_response", id: call.id, result: null });
}

/** One thing that the host wants done. */
interface Work {
  call: Call;
  method: string;
  /** For messages to people. Made before the handler runs, which may change the parameters. */
  name: string;
  handler: RpcHandler | undefined;
  params: Json;
  caller: Caller | null;
  reply: "rpc_response" | "job_result";
}

function answer(message: Message): void {
  const method = String(message.method);
  const params = message.params;
  begin(message, { method, name: nameOf(method, params), handler: find(method), params, reply: "rpc_response" });
}

function work(message: Message): void {
  const onJob = handlers?.onJob?.bind(handlers);
  const job = { id: String(message.msg_id ?? ""), attempt: Number(message.attempt ?? 1) };
  const handler: RpcHandler | undefined = onJob && ((payload, caller, ctx) => onJob(payload, caller, { ...ctx, job }));
  begin(message, { method: "onJob", name: "onJob", handler, params: message.payload, reply: "job_result" });
}

function begin(message: Message, what: Omit<Work, "call" | "caller">): void {
  const call: Call = { id: String(message.id), over: false };
  const caller = (message.caller as Caller | null | undefined) ?? null;
  const done = within(call, () => run({ ...what, call, caller }));
  inFlight.set(call, done);
}

async function run(work: Work): Promise<void> {
  const { call, method, name, handler, params, caller } = work;
  let watched: Watched | undefined;
  try {
    if (handler) watched = watch?.(call, method, params, caller);
    const result = handler ? await handler(params, caller, makeContext(app, call)) : undefined;
    watched?.done(result);
    if (handler) respond(work, result);
    else refuse(work);
  } catch (error) {
    watched?.failed(error);
    if (isUnexpected(error)) globalLog.error(`${name}: ${stackOf(error)}`);
    fail(work, toWire(error));
  }
  inFlight.delete(call);
}

function find(method: string): RpcHandler | undefined {
  const rpc = handlers?.rpc;
  return rpc && Object.hasOwn(rpc, method) ? rpc[method] : undefined;
}

function respond(work: Work, result: unknown): void {
  try {
    send({ type: work.reply, id: work.call.id, result });
    work.call.over = true;
  } catch (error) {
    const message = `the result of ${work.name} cannot be sent: ${messageOf(error)}`;
    fail(work, { message, code: "invalid_result", category: "Poison" });
  }
}

/** There is no handler. An error of a handler cannot say that, whatever its code. */
function refuse({ call, method, reply }: Work): void {
  call.over = true;
  const error = { message: `unknown method: ${method}`, code: "unknown_method", category: "Validation" };
  send({ type: reply, id: call.id, unhandled: true, error });
}

function fail({ call, reply }: Work, error: WireError): void {
  call.over = true;
  send({ type: reply, id: call.id, error });
}

async function drain(): Promise<void> {
  const timeUp = new Promise((resolve) => setTimeout(resolve, DRAIN_MS));
  await Promise.race([Promise.allSettled(inFlight.values()), timeUp]);
  await stop();
}

async function stop(): Promise<void> {
  if (stopping) return;
  stopping = true;
  try {
    await handlers?.onShutdown?.();
  } catch (error) {
    globalLog.error(`onShutdown error: ${stackOf(error)}`);
  }
  exit(0);
}
