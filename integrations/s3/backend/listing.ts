/** Buckets, and the objects in them. */
import { ask, textOf } from "./client.ts";
import { notUnderstood } from "./errors.ts";
import { type Access, storeOf } from "./store.ts";
import { all, value } from "./xml.ts";

type ListBuckets = IntegrationManifest["s3"]["actions"]["list_buckets"];
type ListObjects = IntegrationManifest["s3"]["actions"]["list_objects"];

/** The platform takes 1 MiB for a whole answer. */
const LARGEST_ANSWER = 900 * 1024;

/** The action `list_buckets`. */
export async function listBuckets(_: ListBuckets["input"], ctx: Access): Promise<ListBuckets["output"]> {
  const response = await ask(storeOf(ctx), {});
  const xml = await textOf(response);
  if (!xml.includes("<ListAllMyBucketsResult")) throw notUnderstood();
  const buckets = all(xml, "Bucket").map((bucket) => ({
    name: value(bucket, "Name") ?? "",
    created: value(bucket, "CreationDate") ?? null,
  }));
  return { buckets };
}

/** The action `list_objects`. */
export async function listObjects(input: ListObjects["input"], ctx: Access): Promise<ListObjects["output"]> {
  const { bucket, prefix, group_by_folder: grouped, limit = 200, token, start_after: after } = input;
  const query = {
    "list-type": "2",
    // Keys may hold characters that XML cannot.
    "encoding-type": "url",
    "max-keys": String(limit),
    ...(prefix && { prefix }),
    ...(grouped && { delimiter: "/" }),
    ...(token && { "continuation-token": token }),
    ...(after && { "start-after": after }),
  };
  const response = await ask(storeOf(ctx), { bucket, query });
  const xml = await textOf(response);
  if (!xml.includes("<ListBucketResult")) throw notUnderstood();
  const plain = value(xml, "EncodingType") === "url" ? decodedKey : (key: string) => key;
  const objects = all(xml, "Contents").map((entry) => ({
    key: plain(value(entry, "Key") ?? ""),
    size: Number(value(entry, "Size") ?? 0),
    modified: value(entry, "LastModified") ?? null,
    etag: etagOf(value(entry, "ETag")),
    storage_class: value(entry, "StorageClass") ?? null,
  }));
  const folders = all(xml, "CommonPrefixes").map((entry) => plain(value(entry, "Prefix") ?? ""));
  const more = value(xml, "IsTruncated") === "true";
  const page = { objects, folders, next_token: more ? (value(xml, "NextContinuationToken") ?? null) : null };
  if (Buffer.byteLength(JSON.stringify(page)) > LARGEST_ANSWER) throw tooLarge();
  return page;
}

/** Without the quotation marks that belong to the header's syntax. */
export function etagOf(tag: string | null | undefined): string | null {
  return tag?.replaceAll('"', "") || null;
}

function decodedKey(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll("+", " "));
  } catch {
    return key;
  }
}

function tooLarge(): Error {
  return new ActionError("The page is too large for one answer. Ask for fewer objects with limit.", {
    code: "answer_too_large",
    category: "Validation",
  });
}
