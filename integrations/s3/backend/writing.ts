/** Writes, copies and deletes objects. */
import { ask, textOf } from "./client.ts";
import { notUnderstood, refusalOf } from "./errors.ts";
import { etagOf } from "./listing.ts";
import { type Access, encodedSource, storeOf } from "./store.ts";
import { value } from "./xml.ts";

type PutObject = IntegrationManifest["s3"]["actions"]["put_object"];
type CopyObject = IntegrationManifest["s3"]["actions"]["copy_object"];
type DeleteObject = IntegrationManifest["s3"]["actions"]["delete_object"];

const LARGEST = 10 * 1024 * 1024;

/** The action `put_object`. */
export async function putObject(input: PutObject["input"], ctx: Access): Promise<PutObject["output"]> {
  const { bucket, key, content_type: type, metadata = {}, cache_control: cacheControl } = input;
  const { body, standard } = contentOf(input);
  const notes = Object.entries(metadata).map(([name, text]) => [`x-amz-meta-${name}`, text]);
  const headers = {
    ...Object.fromEntries(notes),
    "content-type": type ?? standard,
    ...(cacheControl && { "cache-control": cacheControl }),
  };
  const response = await ask(storeOf(ctx), { method: "PUT", bucket, key, headers, body });
  return {
    etag: etagOf(response.headers.get("etag")),
    version_id: response.headers.get("x-amz-version-id"),
    size: body.length,
  };
}

/** The action `copy_object`. */
export async function copyObject(input: CopyObject["input"], ctx: Access): Promise<CopyObject["output"]> {
  const store = storeOf(ctx);
  const { from_bucket, from_key, to_bucket: bucket, to_key: key } = input;
  const headers = { "x-amz-copy-source": encodedSource(from_bucket, from_key) };
  const response = await ask(store, { method: "PUT", bucket, key, headers });
  const xml = await textOf(response);
  // A copy that fails half-way has begun to answer with success.
  if (xml.includes("<Error>")) throw refusalOf(response, xml, store);
  if (!xml.includes("<CopyObjectResult")) throw notUnderstood();
  return { etag: etagOf(value(xml, "ETag")), modified: value(xml, "LastModified") ?? null };
}

/** The action `delete_object`. */
export async function deleteObject(
  { bucket, key }: DeleteObject["input"],
  ctx: Access,
): Promise<DeleteObject["output"]> {
  const response = await ask(storeOf(ctx), { method: "DELETE", bucket, key });
  return { deleted: true, version_id: response.headers.get("x-amz-version-id") };
}

function contentOf({ text, base64 }: PutObject["input"]) {
  if ((text === undefined) === (base64 === undefined)) throw invalid("give either text or base64");
  const body =
    text !== undefined ? new TextEncoder().encode(text) : new Uint8Array(Buffer.from(base64 ?? "", "base64"));
  if (body.length > LARGEST)
    throw invalid(`it has ${body.length} bytes; ${LARGEST} are allowed, more with presign_url`);
  return { body, standard: text !== undefined ? "text/plain; charset=utf-8" : "application/octet-stream" };
}

function invalid(what: string): Error {
  return new ActionError(`The content cannot be written: ${what}.`, {
    code: "invalid_content",
    category: "Validation",
  });
}
