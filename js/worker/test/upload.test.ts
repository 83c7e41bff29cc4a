import { afterAll, describe, expect, test } from "bun:test";
import { started } from "./running.ts";

const seen: { path: string; body: string }[] = [];
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  async fetch(request) {
    const { pathname } = new URL(request.url);
    seen.push({ path: pathname, body: await request.text() });
    if (pathname === "/full") return Response.json({ error: "no room", code: "storage_full" }, { status: 507 });
    return Response.json({ file_id: "f1" }, { status: 201 });
  },
});
afterAll(() => server.stop(true));

const call = { type: "rpc", id: "c1", params: {}, caller: null, timeout_ms: 1000 };
const SOURCE = `serve({ rpc: {
  text: (_, caller, ctx) => ctx.uploadFile("grüße", "a.txt", "text/plain"),
  bytes: () => uploadFile(new Uint8Array([104, 105]), "b.bin"),
} });`;

describe("a file", () => {
  test("is uploaded to the address that the host gives, as the call that asks for it", async () => {
    const backend = await started(SOURCE);
    backend.send({ ...call, method: "text" });
    const asked = await backend.next("storage_upload");
    expect(asked).toEqual({
      type: "storage_upload",
      id: expect.any(String),
      call: "c1",
      name: "a.txt",
      content_type: "text/plain",
      size: 7,
    });
    backend.send({ type: "storage_upload_url", id: asked.id, url: `${server.url}once` });
    expect((await backend.next("rpc_response")).result).toBe("f1");
    expect(seen.at(-1)).toEqual({ path: "/once", body: "grüße" });
  });

  test("may be bytes of no particular kind", async () => {
    const backend = await started(SOURCE);
    backend.send({ ...call, method: "bytes" });
    const asked = await backend.next("storage_upload");
    expect([asked.size, asked.content_type]).toEqual([2, "application/octet-stream"]);
    backend.send({ type: "storage_upload_url", id: asked.id, url: `${server.url}again` });
    await backend.next("rpc_response");
    expect(seen.at(-1)).toEqual({ path: "/again", body: "hi" });
  });

  test("that the host does not take is an error of the call", async () => {
    const backend = await started(SOURCE);
    backend.send({ ...call, method: "text" });
    const refused = await backend.next("storage_upload");
    backend.send({ type: "storage_upload_url", id: refused.id, error: { message: "too large", code: "too_large" } });
    expect((await backend.next("rpc_response")).error.code).toBe("too_large");
  });

  test("that has no room is one that may be tried again", async () => {
    const backend = await started(SOURCE);
    backend.send({ ...call, method: "text" });
    const asked = await backend.next("storage_upload");
    backend.send({ type: "storage_upload_url", id: asked.id, url: `${server.url}full` });
    const { error } = await backend.next("rpc_response");
    expect([error.code, error.category]).toEqual(["storage_full", "Transient"]);
  });
});
