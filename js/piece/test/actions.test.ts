/** The adapter itself, with a small piece: what its actions are called, and how files come to them. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { PlatformActionError } from "../../worker/src/errors.ts";
import { describe } from "../describe.ts";
import { actionsOf, type Piece, servePiece } from "../piece.ts";

const LARGEST = 25 * 1024 * 1024;
let handlers: Json;
let vendor: Bun.Server<undefined>;
let folder: string;
/** Bytes of the endless file that were asked for. */
let drawn = 0;

beforeAll(async () => {
  Object.assign(globalThis, {
    ActionError: PlatformActionError,
    serve: (given: Json) => Object.assign(globalThis, { served: given }),
  });
  folder = await mkdtemp(`${tmpdir()}/weft-piece-`);
  await writeFile(`${folder}/secret.txt`, "canary");
  vendor = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: ({ url }) => answer(new URL(url).pathname) });
});
afterAll(async () => {
  await vendor.stop(true);
  await rm(folder, { recursive: true });
});

function answer(path: string): Response {
  if (path === "/largest.bin") return new Response(new Uint8Array(LARGEST));
  if (path === "/away") return Response.redirect(`file://${folder}/secret.txt`, 302);
  if (path !== "/endless.bin") return new Response("hello");
  const mebibyte = new Uint8Array(1024 * 1024);
  const pull = (controller: ReadableStreamDefaultController) => {
    drawn += mebibyte.length;
    controller.enqueue(mebibyte);
  };
  return new Response(new ReadableStream({ pull }));
}

function pieceWith(actions: Record<string, Json>): Piece {
  const run = async ({ propsValue }: Json) => propsValue;
  const whole = ([name, props]: [string, Json]) => [name, { name, props, run }];
  return { displayName: "C++", _actions: Object.fromEntries(Object.entries(actions).map(whole)) };
}

function call(piece: Piece, action: string, input: Json): Promise<Json> {
  servePiece({ piece });
  handlers = (globalThis as Json).served;
  return handlers.rpc.__integration({ action, input, config: {} }, null, {
    appId: "t",
    runtimeUrl: "http://127.0.0.1:1",
  });
}

function upload(file: Json): Promise<Json> {
  return call(pieceWith({ upload: { file: { type: "FILE" } } }), "upload", { file });
}

test("ids are lower-case, take no name of the platform's, and are unique", async () => {
  const names = [
    "create-contact",
    "createContact",
    "create_contact",
    "sendEmail",
    "GET /things",
    "manage",
    "proxy",
    "*",
    "list_options",
  ];
  const piece = pieceWith(Object.fromEntries(names.map((name) => [name, {}])));
  expect([...actionsOf(piece).keys()]).toEqual([
    "create_contact_2",
    "create_contact_3",
    "create_contact",
    "send_email",
    "get_things",
    "vendor_manage",
    "vendor_proxy",
    "action",
    "vendor_list_options",
  ]);
  expect(describe(piece, "c", "1.0.0").actions.map(({ id }: Json) => id)).toEqual([...actionsOf(piece).keys()]);
  expect(await call(piece, "send_email", {})).toEqual({});
  await expect(call(piece, "sendEmail", {})).rejects.toMatchObject({ category: "Validation" });
});

test("what a property can be is listed by the action's id", async () => {
  const options = async () => ({ options: [{ label: "One", value: 1 }] });
  const piece = pieceWith({ "send-email": { to: { type: "DROPDOWN", options } } });
  const listed = await call(piece, "list_options", { action: "send_email", property: "to" });
  expect(listed.options).toEqual([{ label: "One", value: 1 }]);
});

test("a file is fetched from the web", async () => {
  const { file } = await upload(`${vendor.url}notes.txt`);
  expect(file).toMatchObject({ filename: "notes.txt", extension: "txt", base64: btoa("hello") });
  const largest = await upload({ url: `${vendor.url}largest.bin`, filename: "l.bin" });
  expect(largest.file.data.length).toBe(LARGEST);
});

test("no file of this machine is read, by whatever address", async () => {
  const places = [
    `file://${folder}/secret.txt`,
    `FILE://${folder}/secret.txt`,
    `${folder}/secret.txt`,
    "data:,x",
    "blob:x",
    "",
  ];
  for (const address of [...places, `${vendor.url}away`]) {
    await expect(upload({ url: address, filename: "x" }), address).rejects.toBeInstanceOf(PlatformActionError);
  }
  for (const address of places.filter(Boolean)) {
    await expect(upload(address), address).rejects.toMatchObject({ category: "Validation" });
  }
});

test("a file that does not end is given up", async () => {
  await expect(upload(`${vendor.url}endless.bin`)).rejects.toMatchObject({
    category: "Validation",
    message: expect.stringContaining("more than 25 MiB"),
  });
  expect(drawn).toBeLessThan(4 * LARGEST);
});
