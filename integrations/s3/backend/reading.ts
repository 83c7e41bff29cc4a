/** Objects: what they are, and their content in parts that fit into an answer. */
import { ask, reading } from "./client.ts";
import { etagOf } from "./listing.ts";
import { type Access, type Store, storeOf } from "./store.ts";

type HeadObject = IntegrationManifest["s3"]["actions"]["head_object"];
type GetObject = IntegrationManifest["s3"]["actions"]["get_object"];

/** As base64 it becomes 800 KB; the platform takes 1 MiB for a whole answer. */
const LARGEST_PART = 600_000;
const LARGEST_TEXT = 900 * 1024;

/** The action `head_object`. */
export async function headObject({ bucket, key }: HeadObject["input"], ctx: Access): Promise<HeadObject["output"]> {
  const response = await ask(storeOf(ctx), { method: "HEAD", bucket, key, expected: [404] });
  if (response.status === 404) return { exists: false };
  return { exists: true, size: Number(response.headers.get("content-length") ?? 0), ...described(response) };
}

/** The action `get_object`. */
export async function getObject(input: GetObject["input"], ctx: Access): Promise<GetObject["output"]> {
  const { bucket, key, as = "text", offset = 0, max_bytes: most = LARGEST_PART } = input;
  const response = await fetched(storeOf(ctx), bucket, key, offset, most);
  const { bytes, size } = await partOf(response, offset, most);
  const { content, length } = as === "text" ? textOf(bytes, offset + bytes.length < size) : base64Of(bytes);
  const end = offset + length;
  return { ...content, size, next_offset: end < size ? end : null, ...described(response) };
}

async function fetched(store: Store, bucket: string, key: string, offset: number, most: number): Promise<Response> {
  const range = `bytes=${offset}-${offset + most - 1}`;
  const response = await ask(store, { bucket, key, headers: { range }, expected: offset === 0 ? [416] : [] });
  // An empty object has no first byte to ask for.
  if (response.status !== 416) return response;
  await response.body?.cancel();
  return ask(store, { bucket, key });
}

/** The bytes that were asked for, also of a store that knows no ranges and sends everything. */
async function partOf(response: Response, offset: number, most: number): Promise<{ bytes: Buffer; size: number }> {
  const total = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
  const skipped = total === undefined ? offset : 0;
  const read = await reading(response, (answer) => firstBytes(answer, skipped + most));
  const length = response.headers.get("content-length");
  return { bytes: read.subarray(skipped), size: Number(total ?? length ?? read.length) };
}

async function firstBytes(response: Response, most: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= most) break;
  }
  return Buffer.concat(chunks).subarray(0, most);
}

function base64Of(bytes: Buffer) {
  return { content: { base64: bytes.toString("base64") }, length: bytes.length };
}

/** As much of the text as fits into an answer, and no part of a character. */
function textOf(bytes: Buffer, more: boolean): { content: { text: string }; length: number } {
  const length = more ? wholeCharacters(bytes) : bytes.length;
  const text = decoded(bytes.subarray(0, length));
  if (Buffer.byteLength(JSON.stringify(text)) <= LARGEST_TEXT) return { content: { text }, length };
  return textOf(bytes.subarray(0, bytes.length >> 1), true);
}

function decoded(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ActionError("The object is no UTF-8 text, or offset is inside a character. Use as: base64.", {
      code: "not_text",
      category: "Validation",
    });
  }
}

/** The length without a character at the end of which bytes are missing. */
function wholeCharacters(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(4, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needed > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

function described({ headers }: Response) {
  const modified = new Date(headers.get("last-modified") ?? "");
  const metadata = [...headers].flatMap(([name, value]) =>
    name.startsWith("x-amz-meta-") ? [[name.slice("x-amz-meta-".length), value]] : [],
  );
  return {
    content_type: headers.get("content-type"),
    etag: etagOf(headers.get("etag")),
    modified: Number.isNaN(modified.getTime()) ? null : modified.toISOString(),
    metadata: Object.fromEntries(metadata) as Record<string, string>,
  };
}
