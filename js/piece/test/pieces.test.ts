/** Five packages from npm, of both generations of the convention, against vendors that are played here. */
import { afterEach, beforeAll, expect, test } from "bun:test";
import { PlatformActionError } from "../../worker/src/errors.ts";
import { intercept } from "../../worker/src/intercept.ts";
import { describe } from "../describe.ts";
import { pieceOf, servePiece } from "../piece.ts";

type Reply = { status?: number; body: unknown };
type Seen = { method: string; url: URL; headers: Headers; body: Json };

const seen: Seen[] = [];
let vendor: (request: Seen) => Reply = () => ({ status: 500, body: "nobody plays this vendor" });
let handlers: Json;

beforeAll(() => {
  Object.assign(globalThis, {
    ActionError: PlatformActionError,
    serve: (given: Json) => Object.assign(globalThis, { served: given }),
  });
  intercept(async (request) => {
    const text = await request.text();
    const body = request.headers.get("content-type")?.includes("json") && text ? JSON.parse(text) : text;
    const one = { method: request.method, url: new URL(request.url), headers: request.headers, body };
    seen.push(one);
    const { status = 200, body: reply } = vendor(one);
    return Response.json(reply, { status });
  });
});
afterEach(() => {
  seen.length = 0;
});

async function load(name: string): Promise<Json> {
  const module = await import(`@activepieces/piece-${name}`);
  servePiece(module);
  handlers = (globalThis as Json).served;
  return describe(pieceOf(module), name, "1.0.0");
}

function call(action: string, input: Json, userCredentials: Json): Promise<Json> {
  const ctx = { appId: "test", runtimeUrl: "http://127.0.0.1:1" };
  const params = { action, input, config: {}, userCredentials, userId: "u", connectionId: "c" };
  return handlers.rpc.__integration(params, null, ctx);
}

function actionOf(manifest: Json, id: string): Json {
  return manifest.actions.find((action: Json) => action.id === id);
}

test("slack: a message goes out with the bot's token", async () => {
  const manifest = await load("slack");
  expect(manifest.userAuth.schema.properties.botToken).toMatchObject({
    type: "string",
    label: "Bot Token",
    secret: true,
  });
  const input = actionOf(manifest, "send_channel_message").inputSchema;
  expect(input.properties.channel.description).toContain("list_options");
  expect(input.properties.info).toBeUndefined();
  expect(input.required).toEqual(["channel"]);

  vendor = ({ url }) =>
    url.pathname === "/api/chat.postMessage"
      ? { body: { ok: true, channel: "C1", ts: "1.2", message: { text: "hello" } } }
      : { body: { ok: true } };
  const sent = await call("send_channel_message", { channel: "C1", text: "hello" }, { botToken: "xoxb-secret" });
  expect(sent).toMatchObject({ ok: true, ts: "1.2" });
  const message = seen.find(({ url }) => url.pathname === "/api/chat.postMessage");
  expect(message?.headers.get("authorization")).toBe("Bearer xoxb-secret");
  expect(new URLSearchParams(message?.body).get("channel") ?? message?.body.channel).toBe("C1");
});

test("slack: ids are what manifests take, whatever the piece calls its actions", async () => {
  const manifest = await load("slack");
  expect(manifest.actions.filter(({ id }: Json) => !/^[a-z0-9_]+$/.test(id))).toEqual([]);
  expect(actionOf(manifest, "slack_add_reaction_to_message")).toBeDefined();
  vendor = () => ({ body: { ok: true } });
  const input = { channel: "C1", ts: "1700000000.000200", reaction: "eyes" };
  await call("slack_add_reaction_to_message", input, { botToken: "xoxb-secret" });
  expect(seen.some(({ url }) => url.pathname === "/api/reactions.add")).toBeTrue();
});

test("slack: what a channel can be is listed", async () => {
  await load("slack");
  vendor = () => ({ body: { ok: true, channels: [{ id: "C1", name: "general" }], response_metadata: {} } });
  const listed = await call(
    "list_options",
    { action: "send_channel_message", property: "channel" },
    { botToken: "xoxb-secret" },
  );
  expect(listed.options).toEqual([{ label: "general", value: "C1" }]);
});

test("notion: databases are listed with the integration's token", async () => {
  const manifest = await load("notion");
  expect(actionOf(manifest, "list_databases")).toMatchObject({ effect: "search", name: "List Databases" });
  vendor = () => ({ body: { object: "list", results: [], has_more: false, next_cursor: null } });
  await call("list_databases", {}, { accessToken: "ntn_secret" });
  expect(seen[0]?.url.host).toBe("api.notion.com");
  expect(seen[0]?.headers.get("authorization")).toBe("Bearer ntn_secret");
});

test("wordpress: a post is made on the site that the connection names", async () => {
  const manifest = await load("wordpress");
  expect(manifest.userAuth.schema.required).toEqual(["username", "password", "website_url"]);
  vendor = ({ method }) => ({ status: method === "POST" ? 201 : 200, body: { id: 7, title: { rendered: "Hello" } } });
  const site = { username: "ada", password: "app-password", website_url: "https://blog.example" };
  const post = await call("create_post", { title: "Hello", content: "World" }, site);
  expect(post).toMatchObject({ status: 201, body: { id: 7 } });
  const made = seen.find(({ method }) => method === "POST");
  expect(made?.url.href).toStartWith("https://blog.example/wp-json/wp/v2/posts");
  expect(made?.headers.get("authorization")).toBe(`Basic ${btoa("ada:app-password")}`);
});

test("drip: a single secret is a field of its own", async () => {
  const manifest = await load("drip");
  expect(manifest.userAuth.schema).toMatchObject({ required: ["secret"], properties: { secret: { secret: true } } });
  vendor = () => ({ body: { subscribers: [] } });
  await call(
    "apply_tag_to_subscriber",
    { account_id: "9", subscriber: "ada@example.com", tag: "vip" },
    { secret: "key" },
  );
  expect(seen[0]?.headers.get("authorization")).toBe(`Basic ${btoa("key")}`);
  expect(JSON.stringify(seen[0]?.body)).toContain("ada@example.com");
});

test("telegram, of the first generation: the token is no part of the input", async () => {
  const manifest = await load("telegram-bot");
  const input = actionOf(manifest, "send_text_message").inputSchema;
  expect(Object.keys(input.properties)).toEqual(["chat_id", "message"]);
  vendor = () => ({ body: { ok: true, result: { message_id: 5 } } });
  await call("send_text_message", { chat_id: "42", message: "hi" }, { secret: "123:abc" });
  expect(seen[0]?.url.href).toBe("https://api.telegram.org/bot123:abc/sendMessage");
});

test("a vendor's refusal says what it was and whose turn it is", async () => {
  await load("notion");
  vendor = () => ({
    status: 401,
    body: { object: "error", status: 401, code: "unauthorized", message: "API token is invalid." },
  });
  const failed = call("list_databases", {}, { accessToken: "gone" });
  await expect(failed).rejects.toMatchObject({ category: "Auth", code: "http_401" });
  await expect(failed).rejects.toThrow("API token is invalid.");
  await expect(failed).rejects.not.toThrow("gone");
});

test("an action that the piece does not have, and one that waits for an answer, are refused", async () => {
  await load("slack");
  await expect(call("nope", {}, {})).rejects.toMatchObject({ category: "Validation" });
});

test("with OAuth wanted, the manifest names the addresses and asks for the app's credentials", async () => {
  const name: string = "slack";
  const module = await import(`@activepieces/piece-${name}`);
  const { userAuth, configSchema } = describe(pieceOf(module), "slack", "1.0.0", "OAUTH2");
  expect(userAuth).toMatchObject({
    type: "oauth2",
    authorizeUrl: "https://slack.com/oauth/v2/authorize",
    tokenUrl: "https://slack.com/api/oauth.v2.access",
  });
  expect(userAuth.extraAuthorizeParams.user_scope).toContain("chat:write");
  expect(configSchema.properties.clientSecret.platformSecret).toBe("SLACK_CLIENT_SECRET");
  expect(() => describe(pieceOf(module), "slack", "1.0.0", "BASIC_AUTH")).toThrow("OAUTH2, CUSTOM_AUTH");
});
