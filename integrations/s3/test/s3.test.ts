/**
 * Runs against a store in memory that checks signatures, or with S3_TEST_ENDPOINT, S3_TEST_KEY, S3_TEST_SECRET, S3_TEST_REGION
 * and S3_TEST_BUCKET (an empty bucket) against a real one.
 */
import { afterAll, beforeEach, expect, test } from "bun:test";
import { resolve } from "node:path";
import { startedIn } from "../../../js/worker/test/running.ts";
import { failure, startStore } from "./store.ts";

const FOLDER = resolve(import.meta.dir, "..");
const { S3_TEST_ENDPOINT, S3_TEST_KEY, S3_TEST_SECRET, S3_TEST_REGION, S3_TEST_BUCKET } = process.env;
const bucket = S3_TEST_BUCKET ?? "reports";
const store = startStore(bucket);
const real = S3_TEST_ENDPOINT !== undefined;
const connection = {
  accessKeyId: S3_TEST_KEY ?? store.keys.id,
  secretAccessKey: S3_TEST_SECRET ?? store.keys.secret,
  region: S3_TEST_REGION ?? store.keys.region,
  endpoint: S3_TEST_ENDPOINT ?? `http://127.0.0.1:${store.port}`,
};

const ODD = ["a b+c", "ü/日本/😀", "!*'()", "%2F%zz", "q?x=1&y#z", "<&>\"'", "trailing ", "//double//", "~-._"];

beforeEach(() => {
  store.requests.length = 0;
  store.trouble.answer = undefined;
  store.trouble.ignoreRanges = false;
});
afterAll(() => store.stop());

async function call(action: string, input: Json = {}, changed: Json = {}): Promise<Json> {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  const userCredentials = { ...connection, ...changed };
  const answer = await backend.call("__integration", {
    action,
    input: { bucket, ...input },
    config: {},
    userCredentials,
  });
  expect(JSON.stringify([answer, backend.logs()])).not.toContain(connection.secretAccessKey);
  return answer;
}

async function put(key: string, input: Json): Promise<Json> {
  const { error, result } = await call("put_object", { key, ...input });
  expect(error).toBeUndefined();
  return result;
}

test("what is written is read, with type and metadata", async () => {
  const written = await put("notes/a.txt", { text: "Grüße", content_type: "text/x-note", metadata: { author: "Ada" } });
  expect(written).toEqual({ etag: expect.stringMatching(/^[0-9a-f]{32}$/), version_id: null, size: 7 });
  const about = {
    size: 7,
    content_type: "text/x-note",
    etag: written.etag,
    modified: expect.stringMatching(/^20\d\d-.+Z$/),
    metadata: { author: "Ada" },
  };
  expect((await call("get_object", { key: "notes/a.txt" })).result).toEqual({
    text: "Grüße",
    next_offset: null,
    ...about,
  });
  expect((await call("head_object", { key: "notes/a.txt" })).result).toEqual({ exists: true, ...about });
  expect((await call("head_object", { key: "notes/b.txt" })).result).toEqual({ exists: false });
});

test("keys may be odd, and are signed as they are", async () => {
  for (const name of ODD) {
    await put(`odd/${name}`, { text: name });
    const { error, result } = await call("get_object", { key: `odd/${name}` });
    expect([name, error, result?.text]).toEqual([name, undefined, name]);
  }
  const { result } = await call("list_objects", { prefix: "odd/" });
  expect(result.objects.map(({ key }: Json) => key).toSorted()).toEqual(ODD.map((name) => `odd/${name}`).toSorted());
  for (const name of ODD) {
    const copied = await call("copy_object", {
      from_bucket: bucket,
      from_key: `odd/${name}`,
      to_bucket: bucket,
      to_key: `odd/${name}.copy`,
    });
    expect([name, copied.error, copied.result?.etag]).toEqual([name, undefined, expect.any(String)]);
    for (const key of [`odd/${name}`, `odd/${name}.copy`]) {
      expect((await call("delete_object", { key })).result).toMatchObject({ deleted: true });
    }
  }
  expect((await call("list_objects", { prefix: "odd/" })).result.objects).toEqual([]);
}, 60_000);

test.each(["..", "a/../b", "./a", "../other/x", "a/.", "\ud800"])(
  "the key %p cannot mean another object",
  async (key) => {
    for (const action of ["get_object", "delete_object", "presign_url"]) {
      expect((await call(action, { key })).error).toMatchObject({ code: "invalid_name", category: "Validation" });
    }
    expect(store.requests).toEqual([]);
  },
);

test("objects are listed in pages and by folder", async () => {
  for (const key of ["list/a", "list/b", "list/c/d", "list/c/e", "list/f"]) await put(key, { text: key });
  const first = (await call("list_objects", { prefix: "list/", limit: 2 })).result;
  expect(first.objects).toEqual([
    {
      key: "list/a",
      size: 6,
      modified: expect.stringMatching(/^20\d\d-/),
      etag: expect.stringMatching(/^[0-9a-f]{32}$/),
      storage_class: "STANDARD",
    },
    expect.objectContaining({ key: "list/b" }),
  ]);
  const second = (await call("list_objects", { prefix: "list/", limit: 2, token: first.next_token })).result;
  const third = (await call("list_objects", { prefix: "list/", limit: 2, token: second.next_token })).result;
  expect([...second.objects, ...third.objects].map(({ key }: Json) => key)).toEqual(["list/c/d", "list/c/e", "list/f"]);
  expect(third.next_token).toBeNull();
  const grouped = (await call("list_objects", { prefix: "list/", group_by_folder: true })).result;
  expect(grouped.objects.map(({ key }: Json) => key)).toEqual(["list/a", "list/b", "list/f"]);
  expect(grouped.folders).toEqual(["list/c/"]);
  const after = (await call("list_objects", { prefix: "list/", start_after: "list/c/d" })).result;
  expect(after.objects.map(({ key }: Json) => key)).toEqual(["list/c/e", "list/f"]);
}, 30_000);

test("buckets are listed", async () => {
  const { result } = await call("list_buckets", {});
  expect(result.buckets).toContainEqual({ name: bucket, created: expect.stringMatching(/^20\d\d-/) });
});

test("large objects come in parts, and no character is cut", async () => {
  const text = "aä€😀".repeat(30_000);
  await put("large.txt", { text });
  let read = "";
  for (let offset: number | null = 0; offset !== null; ) {
    const { result } = await call("get_object", { key: "large.txt", offset, max_bytes: 99_998 });
    expect(result.size).toBe(300_000);
    read += result.text;
    offset = result.next_offset;
  }
  expect(read === text).toBe(true);
  const part = (await call("get_object", { key: "large.txt", as: "base64", offset: 299_996 })).result;
  expect(part).toMatchObject({ base64: Buffer.from("😀").toString("base64"), next_offset: null });
  const { error } = await call("get_object", { key: "large.txt", offset: 300_000 });
  expect(error).toMatchObject({ code: "InvalidRange", category: "Validation" });
});

test("an answer stays below what the platform takes", async () => {
  await put("control.txt", { text: "\u0001".repeat(500_000) });
  const answer = await call("get_object", { key: "control.txt" });
  expect(answer.result.next_offset).toBeGreaterThan(100_000);
  expect(Buffer.byteLength(JSON.stringify(answer))).toBeLessThan(1024 * 1024);
  await put("large.bin", { base64: Buffer.alloc(700_000, 255).toString("base64") });
  const binary = await call("get_object", { key: "large.bin", as: "base64" });
  expect(binary.result.next_offset).toBe(600_000);
  expect(Buffer.byteLength(JSON.stringify(binary))).toBeLessThan(1024 * 1024);
});

test("bytes are not taken for a text, and an empty object is one", async () => {
  await put("bytes", { base64: "/wD/" });
  expect((await call("get_object", { key: "bytes" })).error).toMatchObject({
    code: "not_text",
    category: "Validation",
  });
  expect((await call("get_object", { key: "bytes", as: "base64" })).result).toMatchObject({
    base64: "/wD/",
    content_type: "application/octet-stream",
  });
  await put("empty", { text: "" });
  expect((await call("get_object", { key: "empty" })).result).toMatchObject({ text: "", size: 0, next_offset: null });
});

test("copying keeps type and metadata", async () => {
  await put("original", { text: "x", content_type: "text/x-note", metadata: { author: "Ada" } });
  const copy = { from_bucket: bucket, from_key: "original", to_bucket: bucket, to_key: "copy" };
  expect((await call("copy_object", copy)).result).toMatchObject({ modified: expect.stringMatching(/^20\d\d-/) });
  expect((await call("head_object", { key: "copy" })).result).toMatchObject({
    content_type: "text/x-note",
    metadata: { author: "Ada" },
  });
  expect((await call("copy_object", { ...copy, from_key: "nothing" })).error).toMatchObject({ code: "NoSuchKey" });
});

test("deleting works twice", async () => {
  await put("gone", { text: "x" });
  for (const _ of [1, 2]) expect((await call("delete_object", { key: "gone" })).result.deleted).toBe(true);
  expect((await call("head_object", { key: "gone" })).result).toEqual({ exists: false });
});

test("whoever has a presigned URL can read or write for a while", async () => {
  const key = "shared/ü +1.txt";
  const upload = (await call("presign_url", { key, method: "PUT" })).result;
  expect((await fetch(upload.url, { method: "PUT", body: "uploaded" })).status).toBe(200);
  const download = (await call("presign_url", { key, expires_seconds: 60, filename: "Für Sie.txt" })).result;
  expect(Date.parse(download.expires_at) - Date.now()).toBeWithin(50_000, 61_000);
  const answer = await fetch(download.url);
  expect([answer.status, await answer.text()]).toEqual([200, "uploaded"]);
  expect(answer.headers.get("content-disposition")).toBe("attachment; filename*=UTF-8''F%C3%BCr%20Sie.txt");
  const named = await call("presign_url", { key, method: "PUT", filename: "x" });
  expect(named.error).toMatchObject({ code: "invalid_filename", category: "Validation" });
});

test("a wrong key is refused", async () => {
  const wrong = await call("list_objects", {}, { secretAccessKey: "wrong" });
  expect(wrong.error).toMatchObject({ code: "SignatureDoesNotMatch", category: "Auth" });
  const unknown = await call("list_objects", {}, { accessKeyId: "AKIDUNKNOWN" });
  expect(unknown.error).toMatchObject({ code: "InvalidAccessKeyId", category: "Auth" });
});

test("what does not exist is named", async () => {
  expect((await call("get_object", { key: "nothing" })).error).toMatchObject({
    code: "NoSuchKey",
    category: "Validation",
    message: expect.stringMatching(/^The store refused: NoSuchKey \(.+\)\. Check the key.+\.$/),
  });
  const elsewhere = await call("list_objects", { bucket: "no-such-bucket" });
  expect(elsewhere.error).toMatchObject({ code: "NoSuchBucket", category: "Validation" });
});

test.each([
  [{}, "invalid_content"],
  [{ text: "x", base64: "eA==" }, "invalid_content"],
  [{ base64: "A".repeat(14_000_000) }, "invalid_content"],
  [{ text: "x", bucket: "../x" }, "invalid_name"],
])("what cannot be written is not sent (%#)", async (input, code) => {
  expect((await call("put_object", { key: "x", ...input })).error).toMatchObject({ code, category: "Validation" });
  expect(store.requests).toEqual([]);
});

test.each([
  [{ accessKeyId: "" }, "not_configured", "Auth"],
  [{ endpoint: "ftp://x" }, "not_configured", "Auth"],
  [{ endpoint: "http://u:p@127.0.0.1" }, "not_configured", "Auth"],
  [{ region: "eu/../x" }, "not_configured", "Auth"],
  [{ endpoint: "http://127.0.0.1:1" }, "unreachable", "Transient"],
  [{ endpoint: "http://no-such-host.invalid" }, "unreachable", "Transient"],
])("with %p nothing is reached", async (changed, code, category) => {
  expect((await call("list_buckets", {}, changed)).error).toMatchObject({ code, category });
});

const answers: [string, () => Response, Json][] = [
  ["SlowDown", () => failure(503, "SlowDown"), { category: "RateLimited" }],
  [
    "TooManyRequests",
    () => new Response("", { status: 429, headers: { "retry-after": "7" } }),
    { category: "RateLimited", retry_after: 7 },
  ],
  ["InternalError", () => failure(500, "InternalError"), { category: "Transient" }],
  ["http_502", () => new Response("<html>", { status: 502 }), { category: "Transient" }],
  ["ExpiredToken", () => failure(400, "ExpiredToken"), { category: "Auth" }],
  [
    "AuthorizationHeaderMalformed",
    () => failure(400, "AuthorizationHeaderMalformed", "<Region>us-west-2</Region>"),
    { category: "Auth", details: { region: "us-west-2" } },
  ],
  [
    "PermanentRedirect",
    () =>
      new Response("", {
        status: 301,
        headers: { location: "http://127.0.0.1:1/", "x-amz-bucket-region": "eu-west-1" },
      }),
    { category: "Validation", details: { region: "eu-west-1" } },
  ],
  ["InternalError", () => new Response("<Error><Code>InternalError</Code></Error>"), { category: "Transient" }],
  ["invalid_response", () => new Response("<html>Hello</html>"), { category: "Transient" }],
];

test.skipIf(real).each(answers)("%s is reported once, with its kind", async (code, answer, expected) => {
  store.trouble.answer = answer;
  const copy = { from_bucket: bucket, from_key: "a", to_bucket: bucket, to_key: "b" };
  const { error } = await call("copy_object", copy);
  expect(error).toEqual({ code, message: expect.stringMatching(/^The store.{20,}\.$/), ...expected });
  expect(store.requests).toHaveLength(1);
});

test.skipIf(real)("a store that knows no ranges is read all the same", async () => {
  await put("ranges", { text: "0123456789" });
  store.trouble.ignoreRanges = true;
  const { result } = await call("get_object", { key: "ranges", offset: 4, max_bytes: 4 });
  expect(result).toMatchObject({ text: "4567", size: 10, next_offset: 8 });
});

test.skipIf(real)("an answer that breaks off counts as transient", async () => {
  const broken = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        socket.end("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n<ListBucketResult");
      },
    },
  });
  for (const action of ["list_objects", "get_object"]) {
    const { error } = await call(action, { key: "x" }, { endpoint: `http://127.0.0.1:${broken.port}` });
    expect(error).toMatchObject({ code: "unreachable", category: "Transient" });
  }
  broken.stop(true);
});

test.skipIf(real)("the bucket may stand in the host's name", async () => {
  const changed = { addressing: "host", endpoint: "https://s3.example.com" };
  const { result } = await call("presign_url", { key: "a/b" }, changed);
  expect(result.url).toStartWith(`https://${bucket}.s3.example.com/a/b?`);
  const amazon = await call("presign_url", { key: "a/b" }, { endpoint: undefined });
  expect(amazon.result.url).toStartWith(`https://s3.eu-central-1.amazonaws.com/${bucket}/a/b?`);
});

test("without a connection the shared store is used", async () => {
  const backend = await startedIn(FOLDER, "backend/index.ts");
  const call = { action: "list_buckets", input: {}, config: connection, userCredentials: null };
  expect((await backend.call("__integration", call)).result.buckets).not.toEqual([]);
});
