import { afterEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Recording } from "../src/recording.ts";

const VENDOR = "https://vendor.example";
const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

type Answer = (request: { url: string; body: string }) => unknown;

/** A file to record to, and ways to do so. */
function tape(answer: Answer = () => ({})) {
  const folder = mkdtempSync(join(tmpdir(), "recording-"));
  folders.push(folder);
  const path = join(folder, "recordings/demo.json");
  const network = async (url: unknown, init?: RequestInit) => {
    const body = await new Response(init?.body as Uint8Array<ArrayBuffer>).text();
    const given = answer({ url: String(url), body });
    return given instanceof Response ? given : Response.json(given);
  };
  return {
    path,
    text: () => readFileSync(path, "utf8"),
    write: (text: string) => {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    },
    record: () => new Recording(path, true, network as typeof fetch),
    replay: () => new Recording(path, false, network as typeof fetch),
  };
}

async function ask(recording: Recording, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const text = body instanceof URLSearchParams ? body : JSON.stringify(body);
  const method = body === undefined ? "GET" : "POST";
  return (await recording.handle(new Request(VENDOR + path, { method, headers, body: text }))).json() as Promise<Json>;
}

/** What a backend does that goes on with the token it was given. */
async function logIn(recording: Recording): Promise<Json> {
  const { access_token: token } = await ask(recording, "/login", { password: "REQ-SECRET-pw-1" });
  const sent = await ask(recording, `/bot${token}/send`, { text: "hello" });
  return [sent, await ask(recording, `/bot${encodeURIComponent(token)}/end`)];
}

test("a value that is secret by its name is scrubbed wherever it appears, and the recording can be replayed", async () => {
  const { record, replay, text } = tape(({ url }) => {
    if (url.endsWith("/login")) return { access_token: "RESP-SECRET-tok-1", user: "alice" };
    return { note: "sent by RESP-SECRET-tok-1 (REQ-SECRET-pw-1)", "RESP-SECRET-tok-1": 1 };
  });
  await logIn(record());
  expect(text()).not.toContain("SECRET");
  const answer = { note: "sent by [scrubbed] ([scrubbed])", "[scrubbed]": 1 };
  expect(await logIn(replay())).toEqual([answer, answer]);
});

test("secrets in headers, cookies, queries and forms are learned without what is around them", async () => {
  const { record, text } = tape(() => {
    const headers = { "set-cookie": "sid=COOKIE-SECRET-1; Path=/account; HttpOnly" };
    return Response.json({ page: "/account", all: "COOKIE-SECRET-1 COOKIE-SECRET-2 HEAD-SECRET-1" }, { headers });
  });
  const recording = record();
  const headers = { authorization: "Bearer HEAD-SECRET-1", cookie: "a=1; sid=COOKIE-SECRET-2" };
  await ask(recording, "/account?api_key=QUERY%2FSECRET", { note: "QUERY/SECRET" }, headers);
  await ask(recording, "/form", new URLSearchParams({ client_secret: "FORM SECRET", note: "FORM SECRET" }));
  await ask(recording, "/SCHEME-SECRET-1", undefined, { authorization: "Vendor-API-Key SCHEME-SECRET-1" });
  expect(text()).not.toContain("SECRET");
  expect(text()).toContain('"page": "/account"');
});

test("exchanges written before a value was known to be secret are scrubbed and still replayed", async () => {
  const { record, replay, text } = tape(({ url }) => (url.endsWith("/again") ? {} : { token: "DEMO-1" }));
  const work = async (recording: Recording) => {
    await ask(recording, "/issue/DEMO-1/again");
    return ask(recording, "/issue/DEMO-1", { query: "the token is DEMO-1" });
  };
  await work(record());
  expect(text()).not.toContain("DEMO-1");
  const replayed = replay();
  expect(await work(replayed)).toEqual({ token: "[scrubbed]" });
  expect(ask(replayed, "/issue/DEMO-1/other")).rejects.toThrow("is not in");
});

test("keys of issues and numbers are hidden where they have the name of a secret, and tell requests apart elsewhere", async () => {
  const { record, replay } = tape(({ url }) => {
    const key = url.split("/").pop();
    return Response.json({ key, [`of ${key}`]: key }, { headers: { "x-limit-tokens": "200000" } });
  });
  const recording = record();
  for (const path of ["/issue/DEMO-101", "/issue/DEMO-102", "/items/1200000"]) await ask(recording, path);
  const replayed = replay();
  expect(await ask(replayed, "/issue/DEMO-102")).toEqual({ key: "[scrubbed]", "of DEMO-102": "DEMO-102" });
  expect(await ask(replayed, "/items/1200000")).toEqual({ key: "[scrubbed]", "of 1200000": "1200000" });
  expect(ask(replayed, "/issue/DEMO-999")).rejects.toThrow("is not in");
});

test("plain words and addresses under the name of a secret are left alone elsewhere", async () => {
  const { record, text } = tape(() => ({
    token_type: "bearer",
    token_endpoint: `${VENDOR}/oauth`,
    fields: [{ key: "description" }],
    description: "a bearer of news",
  }));
  await ask(record(), "/oauth");
  expect(text()).toContain('"description": "a bearer of news"');
  expect(text()).toContain(`"url": "${VENDOR}/oauth"`);
});

test("a stand-in for a secret may read like a field or a header", async () => {
  const { record, replay } = tape(() => Response.json({ secret: "a" }, { headers: { "x-request-secret": "b" } }));
  await ask(record(), "/", { client_secret: "a", headers: {} });
  const replayed = replay();
  replayed.scrubber.learn(["secret", "request", "headers"]);
  expect(await ask(replayed, "/", { client_secret: "c", headers: {} })).toEqual({ secret: "[scrubbed]" });
  const again = record();
  again.scrubber.learn(["secret", "request", "headers"]);
  await ask(again, "/other");
  expect(await ask(replay(), "/other")).toEqual({ secret: "[scrubbed]" });
});

test("a secret whose text is part of the replacement leaves the replacement whole", async () => {
  const { record, text } = tape(() => ({ password: "scrubbed", note: "all scrubbed" }));
  const recording = record();
  recording.scrubber.learn("scrubbed");
  for (let n = 0; n < 2; n += 1) await ask(recording, "/");
  expect(text()).not.toContain("[[");
});

test("addresses within bodies lose their secrets as the addresses of requests do", async () => {
  const next = "/items?page=2&api_key=URL-SECRET-8#access_token=URL-SECRET-7";
  const { record, replay, text } = tape(({ url }) => {
    const link = `<${VENDOR}/items?token=URL-SECRET-6>; rel=next`;
    const other = `See (http://x/?q=a%20b&amp;api_key=URL-SECRET-5), or http://me:URL-SECRET-4@x/.`;
    return Response.json({ next, other, url }, { headers: { link } });
  });
  const body = { url: "http://x/?api_key=URL-SECRET-9", plain: "http://x?q=a%20b", note: "URL-SECRET-9" };
  await ask(record(), "/", body);
  expect(text()).not.toContain("SECRET");
  expect(text()).toContain('"url": "http://x/?api_key=[scrubbed]"');
  expect(text()).toContain('"plain": "http://x?q=a%20b"');
  expect(await ask(replay(), "/", body)).toEqual({
    next: "/items?page=2&api_key=[scrubbed]#access_token=[scrubbed]",
    other: "See (http://x/?q=a%20b&amp;api_key=[scrubbed]), or http://me:[scrubbed]@x/.",
    url: `${VENDOR}/`,
  });
});

test("what is not asked again stays, what is asked again is answered anew", async () => {
  let count = 0;
  const { path, record, replay } = tape(() => {
    count += 1;
    return count;
  });
  const first = record();
  for (const path of ["/one", "/one", "/two"]) await ask(first, path);
  await ask(record(), "/one");
  const replayed = replay();
  expect(await ask(replayed, "/one")).toBe(4);
  expect(await ask(replayed, "/one")).toBe(4);
  expect(await ask(replayed, "/two")).toBe(3);
  expect(readdirSync(dirname(path))).toEqual(["demo.json"]);
});

test("a secret found by a later run is scrubbed from what an earlier run recorded", async () => {
  const { record, text } = tape(({ url }) => (url.endsWith("/login") ? { token: "LATE-SECRET-1" } : {}));
  await ask(record(), "/LATE-SECRET-1");
  expect(text()).toContain("SECRET");
  await ask(record(), "/login");
  expect(text()).not.toContain("SECRET");
});

test("a request of which only the body differs says where", async () => {
  const { record, replay } = tape();
  const known = { token: "BODY-SECRET-1", items: [{ name: "a" }], note: "b" };
  const recording = record();
  await ask(recording, "/json", known);
  await ask(recording, "/form", new URLSearchParams({ a: "1", b: "2" }));
  const replayed = replay();
  const differs = async (path: string, body: unknown, where: string) => {
    const error = await ask(replayed, path, body).catch((error) => error);
    expect(error.message).toContain(`POST ${VENDOR}${path} is in `);
    expect(error.message).toContain(`demo.json, but ${where}: run \`weft test --record\` to record it`);
    expect(replayed.takeMissing()?.message).toBe(error.message);
  };
  await differs("/json", { ...known, extra: "BODY-SECRET-2" }, 'the body differs at "extra"');
  await differs("/json", { ...known, items: [{ name: "c" }] }, 'the body differs at "items.0.name"');
  await differs("/json", { token: "BODY-SECRET-1", items: [] }, 'the body differs at "items.0"');
  await differs("/json", { items: known.items, note: "b", token: "x" }, "the body differs in the order of its fields");
  await differs("/json", ["text"], "the body differs");
  await differs("/form", new URLSearchParams({ a: "1", b: "3" }), 'the body differs at "b"');
});

test("a file that is no recording is named, and can be recorded anew", async () => {
  const { write, record, replay } = tape(() => ({ fine: true }));
  for (const text of ['{ "exchanges": [ {', '{ "exchanges": 1 }', '{ "exchanges": [{}] }', "null", ""]) {
    write(text);
    expect(replay).toThrow(/demo\.json cannot be read: run `weft test --record` to record it again/);
    await ask(record(), "/");
    expect(await ask(replay(), "/")).toEqual({ fine: true });
  }
});
