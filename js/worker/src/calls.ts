/**
 * Calls in progress, and the context that their handlers receive. Must not know how messages travel.
 *
 * Identity belongs to the call: what a handler asks or logs carries the call's id. Once a call is over its id is no longer
 * used, so that a timer which outlives its call still reaches the log, but nothing is done in the caller's name.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { format } from "node:util";
import { dataOf } from "./data.ts";
import { fromWire, PlatformActionError } from "./errors.ts";
import { type Message, send } from "./wire.ts";

/** How long the host may take to answer. */
const ANSWER_SECONDS = 30;
/** The host cuts log entries at 8,192 bytes; no more than that need travel. */
const MAX_LOG = 8192;
/** Events of the platform begin with it. */
const RESERVED = "weft.";

export interface Call {
  readonly id: string;
  over: boolean;
}

/** What the host says about the app in its first line. */
export interface App {
  appId: string;
  runtimeUrl: string;
  credentials: Readonly<Record<string, string>>;
  manifest: Json;
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: unknown): void;
  timer: ReturnType<typeof setTimeout>;
}

const current = new AsyncLocalStorage<Call>();
const waiting = new Map<string, Waiting>();
let counter = 0;

/** The global `log`: finds its call by itself. */
export const globalLog: Log = makeLog(() => current.getStore());

/** The global `emit`. */
export function globalEmit(name: string, data: Json = {}): void {
  emit(current.getStore(), name, data);
}

/** The call that the running code belongs to. */
export function currentCall(): Call | undefined {
  return current.getStore();
}

/** Writes an event of the platform itself. */
export function report(call: Call | undefined, name: `${typeof RESERVED}${string}`, data: Json): void {
  send({ type: "event", name, data, ...attribution(call) });
}

/** Runs `work` so that everything it starts is attributed to the call. */
export function within<T>(call: Call, work: () => T): T {
  return current.run(call, work);
}

/** A context bound to one call; without a call (at start) only to the app. */
export function makeContext(app: App, call: Call | undefined): Context {
  const selfAction = (action: string, params: Json = {}) => {
    return ask(call, { type: "self_action", action, params }, `selfAction ${action}`);
  };
  return {
    ...dataOf((message, name) => ask(call, message, name)),
    ...app,
    agentConfig: undefined,
    log: makeLog(() => call),
    emit: (name, data = {}) => emit(call, name, data),
    uploadFile: (content, filename, contentType) => upload(call, content, filename, contentType),
    selfAction,
    action: (actionName, input = {}) => selfAction("triggerAction", { actionName, input }),
    callIntegration: (integrationId, action, input = {}) =>
      selfAction("call_integration", { integrationId, action, input }),
  };
}

/** Hands the host's answer to whoever asked; an answer that nobody waits for any more is dropped. */
export function settle(id: string, result: unknown, error: unknown): void {
  const asked = waiting.get(id);
  if (!asked) return;
  waiting.delete(id);
  clearTimeout(asked.timer);
  if (error === undefined || error === null) asked.resolve(result);
  else asked.reject(fromWire(error));
}

/** The global `uploadFile`. */
export function globalUpload(content: FileContent, filename: string, contentType?: string): Promise<string> {
  return upload(current.getStore(), content, filename, contentType);
}

/** Asks for an address that is good for one upload, and sends the bytes to it. */
async function upload(
  call: Call | undefined,
  content: FileContent,
  name: string,
  contentType = "application/octet-stream",
): Promise<string> {
  const body = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const question = { type: "storage_upload", name, content_type: contentType, size: body.byteLength };
  const url = await ask(call, question, "uploadFile");
  const response = await fetch(url, { method: "POST", body: body as Uint8Array<ArrayBuffer> });
  const answer = (await response.json()) as Json;
  if (response.ok) return answer.file_id;
  const category = response.status >= 500 ? "Transient" : "Validation";
  throw new PlatformActionError(`uploadFile: ${answer?.error ?? response.status}`, { code: answer?.code, category });
}

/** Asks the host for something on behalf of a call. `name` is for messages of errors. */
function ask(call: Call | undefined, message: Message, name: string): Promise<Json> {
  if (!call || call.over) return Promise.reject(callOver(name));
  const { promise, resolve, reject } = Promise.withResolvers<Json>();
  counter += 1;
  const id = `ask_${counter}`;
  try {
    send({ ...message, id, call: call.id });
  } catch (error) {
    return Promise.reject(error);
  }
  const timer = setTimeout(() => {
    waiting.delete(id);
    const message = `${name}: timeout (${ANSWER_SECONDS}s)`;
    reject(new PlatformActionError(message, { code: "timeout", category: "Transient" }));
  }, ANSWER_SECONDS * 1000);
  waiting.set(id, { resolve, reject, timer });
  return promise;
}

function callOver(name: string): PlatformActionError {
  return new PlatformActionError(`${name}: the call it belongs to is over; await it before the handler returns`, {
    code: "call_over",
    category: "Poison",
  });
}

function makeLog(callOf: () => Call | undefined): Log {
  const at =
    (level: keyof Log) =>
    (...values: unknown[]) => {
      const message = values.length === 1 && typeof values[0] === "string" ? values[0] : format(...values);
      send({ type: "log", level, message: message.slice(0, MAX_LOG), ...attribution(callOf()) });
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function emit(call: Call | undefined, name: string, data: Json): void {
  if (name.startsWith(RESERVED)) throw new Error(`emit: names that start with "${RESERVED}" are the platform's own`);
  send({ type: "event", name, data, ...attribution(call) });
}

function attribution(call: Call | undefined): { call?: string } {
  return call && !call.over ? { call: call.id } : {};
}
