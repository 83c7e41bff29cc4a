import { expect, test } from "bun:test";
import { DISCOVER } from "./backend.ts";
import { started } from "./running.ts";

test("an ActionError reaches the caller with everything it says, and nothing is logged", async () => {
  const backend = await started(`serve({ rpc: { fail() {
    throw new ActionError("no such channel", { code: "channel_not_found", category: "Validation", details: { channel: "#x" } });
  }, wait() { throw new ActionError("slow down", { category: "RateLimited", retryAfter: 7 }); } } });`);
  expect((await backend.call("fail")).error).toEqual({
    message: "no such channel",
    code: "channel_not_found",
    category: "Validation",
    details: { channel: "#x" },
  });
  expect((await backend.call("wait")).error).toEqual({ message: "slow down", category: "RateLimited", retry_after: 7 });
  expect(backend.logs()).toEqual([]);
});

test("an unexpected error reaches the caller without its stack, which goes to the log of that call", async () => {
  const backend = await started(`function deep() { throw new TypeError("cannot read x"); }
    serve({ rpc: { fail: () => deep() } });`);
  const { id, error } = await backend.call("fail");
  expect(error).toEqual({ message: "cannot read x" });
  const logged = await backend.next("log");
  expect(logged).toMatchObject({ level: "error", call: id });
  expect(logged.message).toContain("fail: TypeError: cannot read x");
  expect(logged.message).toContain("index.ts:1");
});

const odd: [string, string, Json][] = [
  ["a text", `"just text"`, { message: "just text" }],
  ["nothing", "undefined", { message: "the backend threw undefined instead of an Error with a message" }],
  ["null", "null", { message: "the backend threw null instead of an Error with a message" }],
  [
    "an object without a message",
    "{ secret: 1 }",
    { message: "the backend threw object instead of an Error with a message" },
  ],
  ["an error without a message", "new RangeError()", { message: "RangeError" }],
  [
    "an error that carries a stack in its message",
    `new Error("failed\\n    at f (/srv/app/index.ts:1:2)")`,
    { message: "failed" },
  ],
  [
    "a plain object with the right fields",
    `{ message: "gone", code: "gone", category: "Auth", retryAfter: 2, details: [1] }`,
    { message: "gone", code: "gone", category: "Auth", retry_after: 2, details: [1] },
  ],
  [
    "fields of the wrong type",
    `Object.assign(new Error("odd"), { code: 42, category: "Oops", retryAfter: "soon", details: 1n })`,
    { message: "odd" },
  ],
  [
    "a system error",
    `Object.assign(new Error("refused"), { code: "ECONNREFUSED" })`,
    { message: "refused", code: "ECONNREFUSED" },
  ],
];

test.each(odd)("throwing %s is answered sensibly", async (_, thrown, expected) => {
  const backend = await started(`serve({ rpc: { fail() { throw ${thrown}; } } });`);
  expect((await backend.call("fail")).error).toEqual(expected);
});

const hostile: [string, string, Json][] = [
  ...["code", "category", "retryAfter", "details", "stack"].map((name): [string, string, Json] => [
    `an error whose ${name} throws`,
    `Object.defineProperty(new Error("m"), "${name}", { get() { throw 1; } })`,
    { message: "m" },
  ]),
  [
    "an error whose message throws",
    `Object.defineProperty(new Error("m"), "message", { get() { throw 1; } })`,
    { message: "an error that cannot be read" },
  ],
  [
    "a proxy that throws",
    `new Proxy(new Error("m"), { get() { throw 1; }, getPrototypeOf() { throw 1; } })`,
    { message: "an error that cannot be read" },
  ],
  [
    "an error whose stack is no text",
    `Object.assign(new Error("m"), { stack: { toString() { throw 1; } } })`,
    { message: "m" },
  ],
  ["details whose toJSON throws", `new ActionError("m", { details: { toJSON() { throw 1; } } })`, { message: "m" }],
];

test.each(hostile)("%s is answered with what can be read of it", async (_, thrown, expected) => {
  const source = `serve({ rpc: { fail() { throw ${thrown}; }, ping: () => "pong" } });`;
  for (const dev of [false, true]) {
    const backend = await started(source, { ...DISCOVER, dev });
    backend.begin("fail");
    expect((await backend.call("ping")).result).toBe("pong");
    const answer = backend.seen.find((message) => message.type === "rpc_response" && message.id === "call-1");
    expect(answer?.error).toEqual(expected);
  }
});

test("details are read once, for they may be others the next time", async () => {
  const backend = await started(`let reads = 0; const details = { toJSON() { if (reads++) throw 1; return { n: 1 }; } };
    serve({ rpc: { fail() { throw new ActionError("m", { details }); } } });`);
  expect((await backend.call("fail")).error).toEqual({ message: "m", details: { n: 1 } });
});

test("half a surrogate pair becomes a replacement character wherever it is sent", async () => {
  const backend = await started(String.raw`serve({ rpc: {
    long() { throw new Error("a" + "😀".repeat(3000)); },
    fail() { throw new ActionError("m\ud800", { code: "c\udc00", details: { "k\ud800": "C:\\udata \udfff 😀" } }); },
    log() { log.info("a\ud800"); emit("b\ud800"); return JSON.rawJSON('"\\ud83d\\ude00"'); },
  } });`);
  expect((await backend.call("long")).error.message).toBe(`a${"😀".repeat(2047)}\ufffd`);
  expect((await backend.call("fail")).error).toEqual({
    message: "m\ufffd",
    code: "c\ufffd",
    details: { "k\ufffd": "C:\\udata \ufffd 😀" },
  });
  expect((await backend.call("log")).result).toBe("😀");
  expect(backend.logs().at(-1)).toBe("a\ufffd");
  expect((await backend.next("event")).name).toBe("b\ufffd");
});

test("details that are nested too deep for the host are left out", async () => {
  const backend = await started(`serve({ rpc: { fail(levels) {
    throw new ActionError("m", { details: JSON.parse("[".repeat(levels) + "]".repeat(levels)) });
  } } });`);
  expect((await backend.call("fail", 100)).error.details).toBeArray();
  for (const levels of [101, 300, 30_000]) expect((await backend.call("fail", levels)).error).toEqual({ message: "m" });
});

test("an error cannot claim that there is no handler, and keeps a code that sounds like it", async () => {
  const backend = await started(`const unknown = () => { throw new ActionError("x", { code: "unknown_method" }); };
    serve({ rpc: { unknown }, onJob: unknown });`);
  const answer = await backend.call("unknown");
  expect(answer.error).toEqual({ message: "x", code: "unknown_method" });
  expect(answer.unhandled).toBeUndefined();
  backend.send({ type: "job", id: "j", payload: {}, msg_id: "42", attempt: 1, timeout_ms: 1000 });
  expect((await backend.next("job_result")).error).toEqual({ message: "x", code: "unknown_method" });
  expect((await backend.call("missing")).unhandled).toBe(true);
});

test("a promise that nobody awaits is logged, and the process goes on", async () => {
  const backend = await started(`serve({ rpc: {
    forget() { Promise.reject(new Error("forgotten")); }, ping: () => "pong",
  } });`);
  await backend.call("forget");
  expect((await backend.call("ping")).result).toBe("pong");
  expect((await backend.next("log")).message).toContain("unhandled rejection: Error: forgotten");
});
