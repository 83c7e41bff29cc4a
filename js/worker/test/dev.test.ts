import { afterAll, expect, test } from "bun:test";
import { DISCOVER } from "./backend.ts";
import { started } from "./running.ts";

const vendor = Bun.serve({ port: 0, fetch: () => Response.json({ fine: true }, { status: 201 }) });
afterAll(() => vendor.stop(true));

const ADDRESS = `http://127.0.0.1:${vendor.port}`;
const MANIFEST = { appId: "crm", configSchema: { properties: { apiKey: { type: "string", platformSecret: "KEY" } } } };
const DEV = { ...DISCOVER, manifest: MANIFEST, dev: true };
const ALICE = { userId: "u-alice", email: "alice@example.com" };

const BACKEND = `import { get } from "node:http";
const ask = (url) => new Promise((resolve, reject) => get(url, (r) => { r.resume(); r.on("end", resolve); }).on("error", reject));
defineIntegration({ actions: {
  ask: async ({ url }) => { await fetch(url, { method: "POST", body: "secret body" }); await ask(url); return { asked: url }; },
  echo: (input) => input,
  fail: () => { throw new ActionError("no luck with canary-config", { code: "nope", category: "Validation" }); },
  broken: async () => { await fetch("http://127.0.0.1:1/").catch(() => {}); },
} });`;

async function reports(action: string, input: Json, discover: Json = DEV): Promise<Json[]> {
  const backend = await started(BACKEND, discover);
  await backend.call("__integration", { action, input, config: { apiKey: "canary-config" } }, ALICE);
  return backend.seen.filter(({ type, name }) => type === "event" && name.startsWith("weft."));
}

test("a call is reported with who, input, output and outgoing requests", async () => {
  const url = `${ADDRESS}/items?page=2&token=canary-query`;
  const seen = await reports("ask", { url });
  expect(seen.map(({ name, data }) => [name, data.phase ?? data.method])).toEqual([
    ["weft.call", "begin"],
    ["weft.http", "POST"],
    ["weft.http", "GET"],
    ["weft.call", "end"],
  ]);
  const [begin, posted, got, end] = seen.map(({ data }) => data);
  expect(begin).toMatchObject({ kind: "action", name: "ask", by: ALICE.email });
  for (const http of [posted, got]) {
    expect(http).toMatchObject({ id: begin.id, url: `${ADDRESS}/items?page=2&token=[masked]`, status: 201 });
  }
  expect(end).toMatchObject({ id: begin.id, output: expect.stringContaining('{"asked":') });
  expect(JSON.stringify(seen)).not.toContain("secret body");
});

test("what looks like a secret is masked by its name and by its value", async () => {
  const input = { password: "canary-1", nested: { apiKey: ["canary-2"] }, note: "k-canary-config!", max_tokens: 5 };
  const [begin, end] = await reports("echo", input);
  const shown = { password: "[masked]", nested: { apiKey: ["[masked]"] }, note: "k-[masked]!", max_tokens: 5 };
  expect(JSON.parse(begin.data.input)).toEqual(shown);
  expect(JSON.parse(end.data.output)).toEqual(shown);
  const failed = await reports("fail", {});
  expect(failed.at(-1).data.error).toEqual({ message: "no luck with [masked]", code: "nope", category: "Validation" });
});

test("long values are cut, and a request that fails says how", async () => {
  const [begin] = await reports("echo", { text: "x".repeat(10_000) });
  expect(begin.data.input.length).toBeLessThan(2100);
  const seen = await reports("broken", {});
  expect(seen[1].data.status).toBeUndefined();
  expect(seen[1].data.error).toBe("ECONNREFUSED");
});

test("the call's real id is in no report", async () => {
  for (const { call, data } of await reports("echo", {})) expect(JSON.stringify(data)).not.toContain(call);
});

test("an ordinary deployment reports nothing", async () => {
  expect(await reports("ask", { url: ADDRESS }, { ...DISCOVER, manifest: MANIFEST })).toEqual([]);
});

test("a backend cannot use the platform's names", async () => {
  const backend = await started(`serve({ rpc: { lie: () => emit("weft.call", {}) } });`);
  const { error } = await backend.call("lie");
  expect(error.message).toContain("weft.");
});
