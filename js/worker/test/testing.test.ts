import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { Recording } from "../src/recording.ts";

const PRELOAD = resolve(import.meta.dir, "../src/testing.ts");
const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

const MANIFEST = {
  appId: "demo",
  configSchema: {
    properties: {
      apiKey: { type: "string", platformSecret: "DEMO_KEY" },
      region: { type: "string", default: "eu" },
    },
  },
};
const BACKEND = `import https from "node:https";
const node = (url) => new Promise((resolve, reject) => https.get(url, (answer) => {
  let text = ""; answer.on("data", (part) => { text += part; }); answer.on("end", () => resolve(text));
}).on("error", reject));
defineIntegration({
  actions: {
    region: (_, ctx) => ctx.config.region,
    fetched: async (_, ctx) => {
      const headers = { authorization: "Bearer " + ctx.config.apiKey };
      return (await fetch("https://vendor.example/a?k=" + ctx.config.apiKey, { headers })).json();
    },
    node: () => node("https://vendor.example/b"),
    hidden: async () => { try { await fetch("https://vendor.example/c"); } catch { throw new ActionError("vendor is down"); } },
    fail: () => { throw new ActionError("no", { code: "nope" }); },
  },
  webhooks: { event: ({ headers, body, rawBody }) => ({ headers, body, rawBody }) },
});`;
const RECORDED = {
  exchanges: [
    {
      request: { method: "GET", url: "https://vendor.example/a?k=[scrubbed]", headers: {} },
      response: { status: 200, headers: { "content-type": "application/json" }, body: { from: "fetch" } },
    },
    {
      request: { method: "GET", url: "https://vendor.example/b", headers: {} },
      response: { status: 200, headers: {}, body: "from node" },
    },
  ],
};

/** Runs a test file as `weft test` does. */
async function run(tests: string): Promise<{ code: number; text: string }> {
  const folder = mkdtempSync(join(tmpdir(), "testing-"));
  folders.push(folder);
  const files = {
    "manifest.json": JSON.stringify(MANIFEST),
    "backend/index.ts": BACKEND,
    "test/demo.test.ts": `import { expect, test } from "bun:test";\nconst demo = await testIntegration();\n${tests}`,
    "test/recordings/demo.json": JSON.stringify(RECORDED),
  };
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  const bun = Bun.spawn([process.execPath, "test", "--preload", PRELOAD], {
    cwd: folder,
    stderr: "pipe",
    stdout: "pipe",
  });
  const text = (await new Response(bun.stdout).text()) + (await new Response(bun.stderr).text());
  return { code: await bun.exited, text };
}

test("actions and webhooks run in the test's process, with defaults and errors as on the server", async () => {
  const { code, text } = await run(`
    test("all", async () => {
      expect(await demo.call("region")).toBe("eu");
      expect(demo.call("fail")).rejects.toMatchObject({ message: "no", code: "nope" });
      const answer = await demo.webhook("event", { headers: { "X-Sign": "1" }, body: { a: 1 } });
      expect(answer).toEqual({ headers: { "x-sign": "1" }, body: { a: 1 }, rawBody: btoa('{"a":1}') });
    });`);
  expect(text).toContain("1 pass");
  expect(code).toBe(0);
});

test("requests are answered from the recording, whatever the secrets are now", async () => {
  const { code, text } = await run(`
    test("all", async () => {
      expect(await demo.call("fetched", {}, { config: { apiKey: "another-key" } })).toEqual({ from: "fetch" });
      expect(await demo.call("node")).toBe("from node");
    });`);
  expect(text).toContain("1 pass");
  expect(code).toBe(0);
});

test("an unrecorded request fails the test even if the backend hides it", async () => {
  const { code, text } = await run(`test("all", () => demo.call("hidden"));`);
  expect(text).toContain("GET https://vendor.example/c is not in test/recordings/demo.json: run `weft test --record`");
  expect(code).toBe(1);
});

test("a recording holds no secret and answers as the vendor did", async () => {
  const folder = mkdtempSync(join(tmpdir(), "recording-"));
  folders.push(folder);
  const path = join(folder, "deep/file.json");
  const vendor = async (_: unknown, init?: RequestInit) => {
    expect(new Headers(init?.headers).get("authorization")).toBe("Bearer canary-1");
    const headers = { "set-cookie": "canary-2", "x-kept": "yes" };
    return Response.json(
      { access_token: "canary-3", note: "by canary-config", usage: { total_tokens: 7 } },
      { headers },
    );
  };
  const ask = () =>
    new Request("https://vendor.example/x?api_key=canary-4&page=1", {
      method: "POST",
      headers: { authorization: "Bearer canary-1", "x-api-key": "canary-5", "content-type": "application/json" },
      body: JSON.stringify({ client_secret: "canary-6", text: "hello canary-config" }),
    });
  const recorded = new Recording(path, true, vendor as typeof fetch);
  recorded.scrubber.learn({ apiKey: "canary-config" });
  expect(await (await recorded.handle(ask())).json()).toMatchObject({ access_token: "canary-3" });
  expect(existsSync(path)).toBe(true);
  const text = readFileSync(path, "utf8");
  expect(text).not.toContain("canary");
  expect(text).toContain("yes");

  const replayed = new Recording(path, false, vendor as typeof fetch);
  replayed.scrubber.learn({ apiKey: "canary-config" });
  const answer = await replayed.handle(ask());
  expect(answer.headers.get("x-kept")).toBe("yes");
  const body = { access_token: "[scrubbed]", note: "by [scrubbed]", usage: { total_tokens: 7 } };
  expect(await answer.json()).toEqual(body);
});

test("equal requests are answered in the order in which they were recorded", async () => {
  const folder = mkdtempSync(join(tmpdir(), "recording-"));
  folders.push(folder);
  let count = 0;
  const vendor = async () => Response.json(++count);
  const path = join(folder, "file.json");
  const ask = () => new Request("https://vendor.example/");
  const recorded = new Recording(path, true, vendor as unknown as typeof fetch);
  for (let n = 0; n < 2; n += 1) await recorded.handle(ask());
  const replayed = new Recording(path, false, vendor as unknown as typeof fetch);
  const answers = [];
  for (let n = 0; n < 3; n += 1) answers.push(await (await replayed.handle(ask())).json());
  expect(answers).toEqual([1, 2, 2]);
});
