import { expect, test } from "bun:test";
import { started } from "./running.ts";

const SOURCE = `defineIntegration({
  actions: { greet: (input, ctx) => ({ hello: input.name, token: ctx.config.token, user: ctx.userId,
    own: ctx.userCredentials, connection: ctx.connectionId, by: ctx.caller?.userId, app: ctx.appId }),
    relay: (input, ctx) => ctx.callIntegration("other", "act", input),
    keep: (input, ctx) => ctx.updateCredentials(input) },
  webhooks: { message: (call, ctx) => ({ got: call.body, text: atob(call.rawBody), secret: ctx.config.secret }) },
  bind: (call) => ({ mergeConfig: { seen: call.config.token } }),
  authStart: (call) => ({ redirectUrl: "https://login.example/?state=" + call.state }),
  authCallback: async (call) => ({ credentials: { code: call.query.code }, email: "a@example.com" }),
});`;

const CALL = {
  config: { token: "t" },
  userCredentials: { refresh: "r" },
  userId: "u-owner",
  connectionId: "c-1",
};

test("an action gets its input, configuration, credentials and caller", async () => {
  const backend = await started(SOURCE);
  const params = { action: "greet", input: { name: "Ada" }, ...CALL };
  const { result } = await backend.call("__integration", params, { userId: "u-1", email: "" });
  expect(result).toEqual({
    hello: "Ada",
    token: "t",
    user: "u-owner",
    own: { refresh: "r" },
    connection: "c-1",
    by: "u-1",
    app: "crm",
  });
});

test("an action calls others in the name of its own call", async () => {
  const backend = await started(SOURCE);
  const id = backend.begin("__integration", { action: "relay", input: 1, ...CALL });
  expect((await backend.next("self_action")).call).toBe(id);
});

test("an action hands renewed credentials to the host, for the connection of its own call", async () => {
  const backend = await started(SOURCE);
  const id = backend.begin("__integration", { action: "keep", input: { token: "new" }, ...CALL });
  const asked = await backend.next("self_action");
  expect([asked.call, asked.action, asked.params]).toEqual([
    id,
    "update_credentials",
    { credentials: { token: "new" } },
  ]);
});

test("unknown actions and webhooks are refused and the known ones named", async () => {
  const backend = await started(SOURCE);
  expect((await backend.call("__integration", { action: "toString", ...CALL })).error).toEqual({
    message: "unknown action: toString (this integration has: greet, relay, keep)",
    code: "unknown_action",
    category: "Validation",
  });
  expect((await backend.call("__webhook", { name: "x" })).error.code).toBe("unknown_webhook");
});

test("a webhook gets the message and the configuration", async () => {
  const backend = await started(SOURCE);
  const call = { name: "message", headers: {}, body: { a: 1 }, rawBody: btoa("raw"), config: { secret: "s" } };
  expect((await backend.call("__webhook", call)).result).toEqual({ got: { a: 1 }, text: "raw", secret: "s" });
});

test("bind and the two halves of a login are passed through", async () => {
  const backend = await started(SOURCE);
  const config = { token: "t" };
  expect((await backend.call("__bind", { config })).result).toEqual({ mergeConfig: { seen: "t" } });
  expect((await backend.call("__auth_start", { config, state: "s1" })).result.redirectUrl).toEndWith("state=s1");
  const callback = { config, query: { code: "c" } };
  expect((await backend.call("__auth_callback", callback)).result.credentials).toEqual({ code: "c" });
});

test("an action, a webhook and a step whose result cannot be sent are called by the names that people know", async () => {
  const backend = await started(`defineIntegration({ bind: () => 1n, webhooks: { message: () => 1n },
    actions: { greet(input) { input.self = input; return input; }, fail() { throw new Error("odd"); } } });`);
  const message = async (method: string, params: Json) => (await backend.call(method, params)).error.message;
  expect(await message("__integration", { action: "greet", input: {} })).toStartWith(
    "the result of the action `greet` cannot be sent: ",
  );
  expect(await message("__webhook", { name: "message" })).toStartWith("the result of the webhook `message` cannot");
  expect(await message("__bind", {})).toStartWith("the result of `bind` cannot be sent: ");
  await message("__integration", { action: "fail" });
  expect((await backend.next("log")).message).toStartWith("the action `fail`: Error: odd");
});

test("only what is defined is offered", async () => {
  const backend = await started("defineIntegration({ actions: {} });");
  expect(backend.seen[0].methods).toEqual(["__integration"]);
});
