import { describe, expect, test } from "bun:test";
import { DISCOVER } from "./backend.ts";
import { spawned, started } from "./running.ts";

describe("start", () => {
  test("announces protocol and methods once the entry point has been evaluated", async () => {
    const backend = await started("await Promise.resolve(); serve({ rpc: { a() {}, b() {} } });");
    expect(backend.seen).toEqual([{ type: "discover", protocol: 2, methods: ["a", "b"], jobs: false }]);
  });

  test("announces what an integration has handlers for", async () => {
    const backend = await started(
      "defineIntegration({ actions: { send() {}, list() {} }, webhooks: { pushed() {} } });",
    );
    expect(backend.seen[0]).toMatchObject({ actions: ["send", "list"], webhooks: ["pushed"] });
  });

  test("takes null for what an integration has not got", async () => {
    const backend = await started("defineIntegration({ actions: { send: () => 1 }, webhooks: null });");
    expect(backend.seen[0]).toMatchObject({ actions: ["send"], webhooks: [] });
  });

  test("keeps what arrives while the entry point is still being evaluated", async () => {
    const backend = spawned(`serve({ rpc: { ping: (p, c, ctx) => ctx.appId } });
      await new Promise((resolve) => { globalThis.finish = resolve; setTimeout(resolve); });`);
    backend.send(DISCOVER);
    expect((await backend.call("ping")).result).toBe("crm");
  });

  test("announces again when serve comes late", async () => {
    const backend = spawned("setTimeout(() => serve({ rpc: { late: () => 1 } }));");
    backend.send(DISCOVER);
    await backend.find((message) => message.protocol === 2);
    expect((await backend.call("late")).result).toBe(1);
  });

  test("runs onStart only where asked, and outlives its failure", async () => {
    const source = `serve({ onStart(ctx) { log.info("hello " + ctx.appId); throw new Error("sorry"); },
      rpc: { ping: () => "pong" } });`;
    const first = await started(source, { ...DISCOVER, run_onstart: true });
    expect((await first.call("ping")).result).toBe("pong");
    expect(first.logs()[0]).toBe("hello crm");
    expect(first.logs()[1]).toContain("onStart error: Error: sorry");
    const second = await started(source);
    await second.call("ping");
    expect(second.logs()).toEqual([]);
  });

  test("takes a bare map of methods with a warning", async () => {
    const backend = await started("serve({ ping: () => 'pong' });");
    expect((await backend.call("ping")).result).toBe("pong");
    expect(backend.logs()[0]).toContain("deprecated");
  });

  test("takes no handlers at all", async () => {
    const backend = await started("serve(null);");
    expect((await backend.call("x")).error.code).toBe("unknown_method");
  });
});

describe("a backend that speaks the protocol by hand", () => {
  test("finds every line on stdin, even after a slow start", async () => {
    const backend = spawned(`
      import { createInterface } from "node:readline";
      await new Promise((resolve) => setTimeout(resolve));
      createInterface({ input: process.stdin }).on("line", (line) => {
        const { type, id, app_id } = JSON.parse(line);
        if (type === "discover") process.stdout.write(JSON.stringify({ type: "hello", app_id }) + "\\n");
        if (type === "rpc") process.stdout.write(JSON.stringify({ type: "rpc_response", id, result: "by hand" }) + "\\n");
        if (type === "shutdown") process.exit(0);
      });`);
    backend.send(DISCOVER);
    const id = backend.begin("anything");
    expect(await backend.next("discover")).toEqual({ type: "discover", protocol: 1, methods: [] });
    expect(await backend.next("hello")).toEqual({ type: "hello", app_id: "crm" });
    expect((await backend.answer(id)).result).toBe("by hand");
    backend.send({ type: "shutdown" });
    expect(await backend.ended()).toBe(0);
  });

  test("hears why it ends if it does nothing at all", async () => {
    const backend = spawned("export default 1;");
    expect(await backend.ended()).toBe(0);
    expect(backend.logs()[0]).toContain("did the entry point call serve()?");
  });
});

describe("an entry point that cannot be loaded", () => {
  async function fatal(source: string | Record<string, string>, entryPoint?: string): Promise<string> {
    const backend = spawned(source, entryPoint);
    expect(await backend.ended()).toBe(1);
    expect(backend.seen.at(-1).type).toBe("fatal");
    return backend.seen.at(-1).error.message;
  }

  test("is described by name, message and place", async () => {
    const message = await fatal({
      "index.ts": `import "./lib/boot";`,
      "lib/boot.ts": `\nthrow new TypeError("boom");`,
    });
    expect(message).toMatch(/^TypeError: boom \(at lib\/boot\.ts:2:\d+\)$/);
  });

  test("names every compile error with its line", async () => {
    const message = await fatal("const a: = 3;\nlet b = ;\n");
    expect(message).toBe(
      "BuildMessage: Unexpected = (at index.ts:1:10)\n    const a: = 3;\nBuildMessage: Unexpected ; (at index.ts:2:9)\n    let b = ;",
    );
  });

  test("names a missing package", async () => {
    const message = await fatal(`import { z } from "no-such-package"; console.log(z);`);
    expect(message).toBe("ResolveMessage: Cannot find package 'no-such-package' imported from index.ts");
  });

  test("is named when it is missing", async () => {
    expect(await fatal("", "backend/index.ts")).toContain("the entry point backend/index.ts does not exist");
  });

  test.each([
    ["a huge error", `throw new Error("B".repeat(5e6));`, /^Error: B{4096} \(at index.ts:1:\d+\)$/],
    ["a long text", `throw "B".repeat(9e5);`, /^the entry point threw string: B{10000}/],
    ["half a pair", `throw new Error("a" + "😀".repeat(3000));`, /^Error: a(😀){2047}\ufffd \(at index.ts:1:\d+\)$/],
    [
      "problems that cannot be read",
      `throw new AggregateError([null, { toString: null }, new Error("c")]);`,
      /^the entry point threw object: null\nan error that cannot be read\nError: c \(at index.ts:1:\d+\)$/,
    ],
    [
      "a message that throws",
      `throw Object.defineProperty(new Error("m"), "message", { get() { throw new Error("n"); } });`,
      /^Error: an error that cannot be read \(at index.ts:1:\d+\)$/,
    ],
    [
      "a proxy that throws",
      `throw new Proxy(new Error("m"), { get() { throw 1; }, getPrototypeOf() { throw 1; } });`,
      /^an error that cannot be read$/,
    ],
  ])("is described however odd it is: %s", async (_, source, expected) => {
    expect(await fatal(source)).toMatch(expected);
  });

  test("is described after all that the backend said before", async () => {
    const source = `for (let n = 0; n < 500; n++) log.info("B".repeat(8000)); throw new Error("late");`;
    expect(await fatal(source)).toStartWith("Error: late");
  });

  test("cannot serve twice, nor serve what is no function", async () => {
    expect(await fatal("serve({}); serve({});")).toContain("serve() called twice");
    expect(await fatal("serve({ rpc: { a: 1 } });")).toContain(`the handler of "a" is of type number`);
  });
});

describe("the end", () => {
  const SOURCE = `let open; const gate = new Promise((resolve) => { open = resolve; });
    serve({ onShutdown: async () => { await null; log.info("closed"); },
      rpc: { wait: () => gate, open: () => open("done") } });`;

  test("on shutdown waits for the calls in flight, then for onShutdown", async () => {
    const backend = await started(SOURCE);
    const waiting = backend.begin("wait");
    backend.send({ type: "shutdown" });
    backend.begin("open");
    expect(await backend.ended()).toBe(0);
    expect((await backend.answer(waiting)).result).toBe("done");
    expect(backend.seen.at(-1)).toEqual({ type: "log", level: "info", message: "closed" });
  });

  test("comes at once when the host has gone", async () => {
    const backend = await started(SOURCE);
    backend.begin("wait");
    backend.closeStdin();
    expect(await backend.ended()).toBe(0);
    expect(backend.logs()).toEqual(["closed"]);
  });

  test("comes even if onShutdown fails", async () => {
    const backend = await started(`serve({ onShutdown() { throw new Error("stuck"); } });`);
    backend.send({ type: "shutdown" });
    expect(await backend.ended()).toBe(0);
    expect(backend.logs()[0]).toContain("onShutdown error: Error: stuck");
  });

  test("waits until the host has read the last answers", async () => {
    const backend = await started(`serve({ rpc: { big: () => "B".repeat(9e5) } });`);
    const ids = [1, 2, 3].map(() => backend.begin("big"));
    backend.send({ type: "shutdown" });
    expect(await backend.ended()).toBe(0);
    for (const id of ids) expect((await backend.answer(id)).result).toHaveLength(9e5);
  });

  test("chosen by the backend loses no line", async () => {
    const backend = await started(`serve({ rpc: { quit() { log.info("last words"); process.exit(3); } } });`);
    backend.begin("quit");
    expect(await backend.ended()).toBe(3);
    expect(backend.logs()).toEqual(["last words"]);
  });
});
