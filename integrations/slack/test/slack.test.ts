import { afterAll, beforeEach, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { resolve } from "node:path";
import { startedIn } from "../../../js/worker/test/running.ts";

const FOLDER = resolve(import.meta.dir, "..");
const SUCCESS = { ok: true, channel: "C0123456789", ts: "1700000000.000100", message: { text: "Hello!" } };

const requests: { path: string; token: string | null; fields: Record<string, string> }[] = [];
let reply: () => Response = () => Response.json(SUCCESS);

const vendor = Bun.serve({
  port: 0,
  async fetch(request) {
    const fields = Object.fromEntries(new URLSearchParams(await request.text()));
    requests.push({ path: new URL(request.url).pathname, token: request.headers.get("authorization"), fields });
    return reply();
  },
});

const config = { botToken: "xoxb-1", signingSecret: "shh", apiUrl: `http://127.0.0.1:${vendor.port}/api/` };

beforeEach(() => {
  requests.length = 0;
  reply = () => Response.json(SUCCESS);
});
afterAll(() => vendor.stop(true));

async function sendMessage(input: Json, changed: Json = {}): Promise<Json> {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  return backend.call("__integration", { action: "send_message", input, config: { ...config, ...changed } });
}

test("a connected workspace goes before the bot of everybody", async () => {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  const input = { channel: "#general", text: "Hello!" };
  const userCredentials = { accessToken: "xoxb-other" };
  await backend.call("__integration", { action: "send_message", input, config, userCredentials });
  expect(requests.map(({ token }) => token)).toEqual(["Bearer xoxb-other"]);
});

async function receive(body: Json, headers?: Json, changed: Json = {}): Promise<{ answer: Json; events: Json[] }> {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  const raw = JSON.stringify(body);
  const call = {
    name: "message",
    headers: headers ?? signed(raw),
    body,
    rawBody: Buffer.from(raw).toString("base64"),
    config: { ...config, ...changed },
  };
  const answer = await backend.call("__webhook", call);
  return { answer, events: backend.seen.filter((message) => message.type === "event") };
}

function signed(raw: string): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const signature = createHmac("sha256", "shh").update(`v0:${timestamp}:${raw}`).digest("hex");
  return { "x-slack-request-timestamp": timestamp, "x-slack-signature": `v0=${signature}` };
}

test("a message is posted with the bot's token", async () => {
  const { result } = await sendMessage({ channel: "#general", text: "Hello!", thread_ts: "1699999999.000100" });
  expect(result).toEqual({ channel: SUCCESS.channel, ts: SUCCESS.ts, message: SUCCESS.message });
  expect(requests).toEqual([
    {
      path: "/api/chat.postMessage",
      token: "Bearer xoxb-1",
      fields: { channel: "#general", text: "Hello!", thread_ts: "1699999999.000100" },
    },
  ]);
});

const failures: [string, () => Response, Json][] = [
  ["invalid_auth", () => Response.json({ ok: false, error: "invalid_auth" }), { category: "Auth" }],
  ["missing_scope", () => Response.json({ ok: false, error: "missing_scope" }), { category: "Auth" }],
  ["channel_not_found", () => Response.json({ ok: false, error: "channel_not_found" }), { category: "Validation" }],
  ["name_nobody_knows", () => Response.json({ ok: false, error: "name_nobody_knows" }), { category: "Validation" }],
  ["internal_error", () => Response.json({ ok: false, error: "internal_error" }), { category: "Transient" }],
  [
    "ratelimited",
    () => Response.json({ ok: false, error: "ratelimited" }, { status: 429, headers: { "retry-after": "7" } }),
    { category: "RateLimited", retry_after: 7 },
  ],
  ["ratelimited", () => new Response("", { status: 429 }), { category: "RateLimited" }],
  ["http_503", () => new Response("upstream down", { status: 503 }), { category: "Transient" }],
  ["http_404", () => new Response("<html>", { status: 404 }), { category: "Validation" }],
  ["invalid_response", () => new Response("<html>Hi</html>"), { category: "Transient" }],
];

test.each(failures)("%s is reported once, with its kind and advice", async (code, answer, expected) => {
  reply = answer;
  const { error } = await sendMessage({ channel: "C1", text: "x" });
  expect(error).toEqual({ code, message: expect.stringMatching(/^Slack.{20,}\.$/), ...expected });
  expect(requests).toHaveLength(1);
});

test("an unreachable Slack counts as transient", async () => {
  const { error } = await sendMessage({ channel: "C1", text: "x" }, { apiUrl: "http://127.0.0.1:1/" });
  expect(error).toMatchObject({ code: "unreachable", category: "Transient" });
});

test.each([{ botToken: undefined }, { apiUrl: "slack" }])(
  "with the configuration %p nothing is sent",
  async (changed) => {
    const { error } = await sendMessage({ channel: "C1", text: "x" }, changed);
    expect(error).toMatchObject({ code: "not_configured", category: "Auth" });
    expect(requests).toEqual([]);
  },
);

test("the handshake is answered with its challenge", async () => {
  const { answer } = await receive({ type: "url_verification", token: "t", challenge: "3eZbrw" });
  expect(answer.result).toEqual({ challenge: "3eZbrw" });
});

test("a signed message is acknowledged and announced without its text", async () => {
  const event = { type: "message", channel: "C1", user: "U1", ts: "1.2", text: "private" };
  const { answer, events } = await receive({ type: "event_callback", event_id: "Ev1", event });
  expect(answer.result).toEqual({ ok: true });
  expect(events).toEqual([
    { type: "event", name: "message", data: { channel: "C1", user: "U1", ts: "1.2", event_id: "Ev1" }, call: "call-1" },
  ]);
});

test("a request with a wrong signature or none is refused, even a handshake", async () => {
  for (const headers of [{}, signed("something else")]) {
    const { answer, events } = await receive({ type: "url_verification", challenge: "x" }, headers);
    expect(answer.error).toMatchObject({ code: "invalid_signature", category: "Auth" });
    expect(events).toEqual([]);
  }
});

test("without a signing secret webhooks are refused and the remedy named", async () => {
  const { answer } = await receive({ type: "url_verification" }, undefined, { signingSecret: undefined });
  expect(answer.error).toMatchObject({ code: "signing_secret_missing", category: "Auth" });
  expect(answer.error.message).toContain("signingSecret");
});
