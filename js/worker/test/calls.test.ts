import { describe, expect, test } from "bun:test";
import { DISCOVER } from "./backend.ts";
import { started } from "./running.ts";

const ALICE = { userId: "u-alice", email: "alice@example.com" };

describe("a call", () => {
  test("reaches its handler with parameters, caller and context", async () => {
    const backend = await started(`serve({ rpc: {
      describe: (params, caller, ctx) => ({ params, caller, appId: ctx.appId, url: ctx.runtimeUrl,
        key: ctx.credentials.API_KEY, version: ctx.manifest.version }),
    } });`);
    const { result } = await backend.call("describe", { n: 1 }, ALICE);
    expect(result).toEqual({
      params: { n: 1 },
      caller: ALICE,
      appId: "crm",
      url: "http://127.0.0.1:9100",
      key: "k-1",
      version: "1.0.0",
    });
  });

  test("of an unknown method is refused, even if every object has such a member", async () => {
    const backend = await started("serve({ rpc: {} });");
    for (const method of ["nope", "constructor", "__proto__"]) {
      const { error } = await backend.call(method);
      expect(error).toEqual({ message: `unknown method: ${method}`, code: "unknown_method", category: "Validation" });
    }
  });

  test("that returns nothing is answered without a result", async () => {
    const backend = await started("serve({ rpc: { quiet() {} } });");
    expect(await backend.call("quiet")).toEqual({ type: "rpc_response", id: "call-1" });
  });

  test("does not wait for the ones before it", async () => {
    const backend = await started(`let open; const gate = new Promise((resolve) => { open = resolve; });
      serve({ rpc: { wait: () => gate, open: () => { open("opened"); return "opening"; } } });`);
    const waiting = backend.begin("wait");
    expect((await backend.call("open")).result).toBe("opening");
    expect((await backend.answer(waiting)).result).toBe("opened");
  });

  test("may arrive in pieces that cut a character in two", async () => {
    const backend = await started("serve({ rpc: { echo: (text) => text } });");
    const bytes = Buffer.from(`${JSON.stringify({ type: "rpc", id: "x", method: "echo", params: "grüße 👋" })}\n`);
    for (const byte of bytes) backend.sendText(Buffer.of(byte) as unknown as string);
    expect((await backend.answer("x")).result).toBe("grüße 👋");
  });

  test("is answered once for each of ten thousand at a time", async () => {
    const backend = await started("serve({ rpc: { double: async (n) => 2 * n } });");
    const ids = Array.from({ length: 10_000 }, (_, n) => backend.begin("double", n));
    await backend.answer(ids.at(-1) ?? "");
    const answers = backend.seen.filter((message) => message.type === "rpc_response");
    expect(answers.map((message) => message.result)).toEqual(ids.map((_, n) => 2 * n));
  });

  test("whose result cannot be sent fails with the reason", async () => {
    const backend = await started(`serve({ rpc: {
      big: () => "x".repeat(2 * 1024 * 1024), odd: () => 1n, round: () => { const a = {}; a.a = a; return a; },
    } });`);
    expect((await backend.call("big")).error).toMatchObject({ code: "invalid_result", category: "Poison" });
    expect((await backend.call("big")).error.message).toContain("at most 1048576 fit");
    expect((await backend.call("odd")).error.message).toContain("the result of odd cannot be sent");
    expect((await backend.call("round")).error.code).toBe("invalid_result");
  });
});

describe("self actions", () => {
  const NESTED = `serve({ rpc: {
    forward: (input, caller, ctx) => ctx.callIntegration("slack", "send_message", input),
    own: (input, caller, ctx) => ctx.action("sync_now", input),
    raw: (input, caller, ctx) => ctx.selfAction("anything", input),
  } });`;

  test("carry the id of their call and bring back the answer", async () => {
    const backend = await started(NESTED);
    const id = backend.begin("forward", { text: "hi" }, ALICE);
    const asked = await backend.next("self_action");
    expect(asked).toMatchObject({
      call: id,
      action: "call_integration",
      params: { integrationId: "slack", action: "send_message", input: { text: "hi" } },
    });
    backend.send({ type: "self_action_result", id: asked.id, result: { ts: "1.2" } });
    expect((await backend.answer(id)).result).toEqual({ ts: "1.2" });
  });

  test("name the app's own action", async () => {
    const backend = await started(NESTED);
    backend.begin("own", { full: true });
    expect(await backend.next("self_action")).toMatchObject({
      action: "triggerAction",
      params: { actionName: "sync_now", input: { full: true } },
    });
  });

  test("let another call of the same process be served in between", async () => {
    const backend = await started(NESTED);
    const outer = backend.begin("forward");
    const asked = await backend.next("self_action");
    const inner = backend.begin("own");
    const nested = await backend.find((message) => message.type === "self_action" && message.call === inner);
    backend.send({ type: "self_action_result", id: nested.id, result: "inner" });
    expect((await backend.answer(inner)).result).toBe("inner");
    backend.send({ type: "self_action_result", id: asked.id, result: "outer" });
    expect((await backend.answer(outer)).result).toBe("outer");
  });

  test("that fail reject with code, category and delay, and pass them on", async () => {
    const backend = await started(NESTED);
    const id = backend.begin("forward");
    const error = { message: "slow down", code: "ratelimited", category: "RateLimited", retry_after: 3 };
    backend.send({ type: "self_action_result", id: (await backend.next("self_action")).id, error });
    expect((await backend.answer(id)).error).toEqual(error);
  });

  test("give up after 30 seconds", async () => {
    const backend = await started(`const real = setTimeout;
      globalThis.setTimeout = (work, ms) => real(work, ms === 30_000 ? 0 : ms);
      ${NESTED}`);
    expect((await backend.call("raw")).error).toEqual({
      message: "selfAction anything: timeout (30s)",
      code: "timeout",
      category: "Transient",
    });
  });

  test("are refused once their call is over", async () => {
    const backend = await started(`let kept; serve({ rpc: {
      keep: (params, caller, ctx) => { kept = ctx; },
      use: () => kept.callIntegration("slack", "send_message"),
    } });`);
    await backend.call("keep");
    expect((await backend.call("use")).error.code).toBe("call_over");
    expect(backend.seen.some((message) => message.type === "self_action")).toBeFalse();
  });
});

describe("logs and events", () => {
  test("of two interleaved calls go to the right call, also through console and globals", async () => {
    const backend = await started(`const gates = {}; const gate = (name) =>
        new Promise((resolve) => { gates[name] = resolve; });
      serve({ rpc: {
        work: async (name, caller, ctx) => {
          console.log(name, "begins"); await gate(name);
          log.warn(name + " ends"); emit("done", { name }); ctx.log.info(name + " says"); ctx.emit("bye");
        },
        open: (name) => gates[name](),
      } });`);
    const [a, b] = [backend.begin("work", "a"), backend.begin("work", "b")];
    backend.begin("open", "b");
    await backend.answer(b);
    backend.begin("open", "a");
    await backend.answer(a);
    const of = (call: string) => backend.seen.filter((m) => m.call === call).map((m) => m.message ?? m.name);
    expect(of(a)).toEqual(["a begins", "a ends", "done", "a says", "bye"]);
    expect(of(b)).toEqual(["b begins", "b ends", "done", "b says", "bye"]);
  });

  test("outside of a call belong to nobody", async () => {
    const backend = await started(`log.debug("loading", { depth: { of: 1 } }); console.error("careful");
      serve({ onStart() {} });`);
    expect(backend.seen.slice(0, 2)).toEqual([
      { type: "log", level: "debug", message: "loading { depth: { of: 1 } }" },
      { type: "log", level: "error", message: "careful" },
    ]);
  });

  test("written after the end of their call are kept, but no longer name it", async () => {
    const backend = await started(`let later; serve({ rpc: {
      plan: () => { new Promise((resolve) => { later = resolve; }).then(() => log.info("late")); },
      now: () => later(),
    } });`);
    await backend.call("plan");
    backend.begin("now");
    const late = await backend.find((message) => message.message === "late");
    expect(late).toEqual({ type: "log", level: "info", message: "late" });
  });

  test("survive raw output of the backend, finished or not", async () => {
    const backend = await started(`serve({ rpc: { mix() {
      log.info("one"); process.stdout.write("raw line\\n"); process.stdout.write("no newline"); return "ok";
    } } });`);
    expect((await backend.call("mix")).result).toBe("ok");
    expect(backend.seen.slice(1).map((message) => message.line ?? message.type)).toEqual([
      "log",
      "raw line",
      "no newline",
      "rpc_response",
    ]);
  });
});

test("a broken line from the host is reported and the next one still served", async () => {
  const backend = await started("serve({ rpc: { ping: () => 'pong' } });", DISCOVER);
  backend.sendText("{ nonsense\n\n");
  expect((await backend.call("ping")).result).toBe("pong");
  expect(backend.logs()[0]).toContain("a line from the host is not JSON");
});
