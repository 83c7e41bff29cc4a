/**
 * Reports of calls to the person who is writing the backend: input, output, outgoing HTTP. Only in a deployment made for
 * development; the server stores none of it. Texts are short and without what looks like a secret.
 */
import { type App, type Call, currentCall, report } from "./calls.ts";
import { toWire } from "./errors.ts";
import { observe } from "./outgoing.ts";
import { Scrubber, secretFields } from "./secrets.ts";

const MAX_SHOWN = 2048;
const MAX_URL = 500;

/** What happens to a call after it was reported. */
export interface Watched {
  done(result: unknown): void;
  failed(error: unknown): void;
}

/** Two processes report at once while one replaces the other. */
const PROCESS = Math.random().toString(36).slice(2, 8);
let counter = 0;

/** Begins to report; returns what is to be told of each call. */
export function startWatching(app: App): (call: Call, method: string, params: Json, caller: Caller | null) => Watched {
  const scrubber = new Scrubber("[masked]");
  scrubber.learn(app.credentials);
  // An id of its own: a call's real id is its identity, and no log may hold it.
  const ids = new WeakMap<Call, string>();
  observe(() => {
    const call = currentCall();
    return ({ url, ...seen }) => {
      const shown = scrubber.url(url).slice(0, MAX_URL);
      report(call, "weft.http", { id: call && ids.get(call), url: shown, ...seen });
    };
  });
  return (call, method, params, caller) => {
    counter += 1;
    const [id, started] = [`${PROCESS}-${counter}`, performance.now()];
    ids.set(call, id);
    scrubber.learn([secretFields(app.manifest, params?.config), params?.userCredentials]);
    const { isShown, input, ...what } = describe(method, params);
    const shown = (value: unknown) => (isShown ? preview(scrubber, value) : undefined);
    const ended = () => ({ id, phase: "end", ms: Math.round((performance.now() - started) * 10) / 10 });
    report(call, "weft.call", { id, phase: "begin", ...what, by: caller?.email ?? null, input: shown(input) });
    return {
      done: (result) => report(call, "weft.call", { ...ended(), output: shown(result) }),
      failed: (error) => report(call, "weft.call", { ...ended(), error: failure(scrubber, error) }),
    };
  };
}

interface Described {
  kind: "action" | "webhook" | "rpc" | "job" | "platform";
  name: string;
  input?: unknown;
  /** What the platform asks by itself is about credentials. */
  isShown: boolean;
}

function describe(method: string, params: Json): Described {
  if (method === "__integration") return { kind: "action", name: params?.action, input: params?.input, isShown: true };
  if (method === "__webhook") return { kind: "webhook", name: params?.name, input: params?.body, isShown: true };
  if (method.startsWith("__")) return { kind: "platform", name: method.slice(2), isShown: false };
  const kind = method === "onJob" ? "job" : "rpc";
  return { kind, name: method, input: params, isShown: true };
}

function failure(scrubber: Scrubber, error: unknown): Json {
  const { message, code, category } = toWire(error);
  return { message: scrubber.text(message).slice(0, MAX_SHOWN), code, category };
}

/** The value as JSON, without secrets and not too long. */
function preview(scrubber: Scrubber, value: unknown): string {
  try {
    const text = JSON.stringify(scrubber.json(JSON.parse(JSON.stringify(value ?? null))));
    return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
  } catch {
    return "(not JSON)";
  }
}
