import { expect, test } from "bun:test";
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

test("a promise that nobody awaits is logged, and the process goes on", async () => {
  const backend = await started(`serve({ rpc: {
    forget() { Promise.reject(new Error("forgotten")); }, ping: () => "pong",
  } });`);
  await backend.call("forget");
  expect((await backend.call("ping")).result).toBe("pong");
  expect((await backend.next("log")).message).toContain("unhandled rejection: Error: forgotten");
});
