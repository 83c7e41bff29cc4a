/** A store in memory that answers as S3 does and refuses what is not signed. */
import { createHash } from "node:crypto";
import { type Keys, verify } from "./signature.ts";

interface Stored {
  bytes: Uint8Array<ArrayBuffer>;
  headers: Record<string, string>;
}

export interface Store {
  port: number;
  keys: Keys;
  /** Every request, as method and path. */
  requests: string[];
  /** Set to answer otherwise. */
  trouble: { answer?: (() => Response) | undefined; ignoreRanges?: boolean };
  stop(): void;
}

export function startStore(bucket: string): Store {
  const keys = { id: "AKIDEXAMPLE", secret: "s3cret/word+", region: "eu-central-1" };
  const objects = new Map<string, Stored>();
  const requests: string[] = [];
  const trouble: Store["trouble"] = {};
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const body = new Uint8Array(await request.arrayBuffer());
      const url = new URL(request.url);
      requests.push(`${request.method} ${url.pathname}`);
      if (trouble.answer) return trouble.answer();
      const verdict = verify(request, body, keys);
      if (verdict !== "ok") return failure(403, verdict === "anonymous" ? "AccessDenied" : verdict);
      const [, name = "", ...rest] = url.pathname.split("/");
      if (name === "")
        return xml(
          `<ListAllMyBucketsResult><Buckets><Bucket><Name>${bucket}</Name><CreationDate>2026-03-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>`,
        );
      if (name !== bucket) return failure(404, "NoSuchBucket");
      const key = decodeURIComponent(rest.join("/"));
      return key === "" ? list(objects, url.searchParams) : object(objects, request, key, body);
    },
  });

  function object(all: Map<string, Stored>, request: Request, key: string, body: Uint8Array<ArrayBuffer>): Response {
    const source = request.headers.get("x-amz-copy-source");
    if (request.method === "PUT" && source) {
      const original = all.get(decodeURIComponent(source.replace(`/${bucket}/`, "")));
      if (!original) return failure(404, "NoSuchKey");
      all.set(key, original);
      return xml(
        `<CopyObjectResult><LastModified>2026-03-02T00:00:00.000Z</LastModified><ETag>&quot;${etag(original)}&quot;</ETag></CopyObjectResult>`,
      );
    }
    if (request.method === "PUT") {
      const kept = [...request.headers].filter(([name]) => /^(content-type|cache-control|x-amz-meta-.*)$/.test(name));
      all.set(key, { bytes: body, headers: Object.fromEntries(kept) });
      return new Response(null, { headers: { etag: `"${createHash("md5").update(body).digest("hex")}"` } });
    }
    if (request.method === "DELETE") {
      all.delete(key);
      return new Response(null, { status: 204 });
    }
    const found = all.get(key);
    if (!found) return failure(404, "NoSuchKey");
    return content(found, request);
  }

  function content(found: Stored, request: Request): Response {
    const disposition = new URL(request.url).searchParams.get("response-content-disposition");
    const headers = {
      ...found.headers,
      etag: `"${etag(found)}"`,
      "last-modified": "Mon, 02 Mar 2026 00:00:00 GMT",
      ...(disposition && { "content-disposition": disposition }),
    };
    if (request.method === "HEAD") {
      return new Response(null, { headers: { ...headers, "content-length": String(found.bytes.length) } });
    }
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "") ?? [];
    if (from === undefined || trouble.ignoreRanges) return new Response(found.bytes, { headers });
    if (Number(from) >= found.bytes.length) return failure(416, "InvalidRange");
    const part = found.bytes.subarray(Number(from), Number(to) + 1);
    const range = `bytes ${from}-${Number(from) + part.length - 1}/${found.bytes.length}`;
    return new Response(part, { status: 206, headers: { ...headers, "content-range": range } });
  }

  return { port: server.port ?? 0, keys, requests, trouble, stop: () => void server.stop(true) };
}

function list(objects: Map<string, Stored>, query: URLSearchParams): Response {
  const prefix = query.get("prefix") ?? "";
  const delimiter = query.get("delimiter");
  const after = query.get("continuation-token") ?? query.get("start-after") ?? "";
  const encoded = (text: string) => encodeURIComponent(text).replaceAll("%20", "+").replaceAll("%2F", "/");
  const matching = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
  const folderOf = (key: string) => {
    const end = delimiter ? key.indexOf(delimiter, prefix.length) : -1;
    return end < 0 ? undefined : key.slice(0, end + 1);
  };
  const direct = matching.filter((key) => folderOf(key) === undefined);
  const folders = new Set(matching.flatMap((key) => folderOf(key) ?? []));
  const page = direct.slice(0, Number(query.get("max-keys")));
  const more = page.length < direct.length;
  const contents = page.map((key) => {
    const stored = objects.get(key) as Stored;
    return `<Contents><Key>${encoded(key)}</Key><LastModified>2026-03-02T00:00:00.000Z</LastModified><ETag>&quot;${etag(stored)}&quot;</ETag><Size>${stored.bytes.length}</Size><StorageClass>STANDARD</StorageClass></Contents>`;
  });
  const prefixes = [...folders].map((folder) => `<CommonPrefixes><Prefix>${encoded(folder)}</Prefix></CommonPrefixes>`);
  const next = more ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : "";
  return xml(
    `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Prefix>${encoded(prefix)}</Prefix><EncodingType>url</EncodingType><IsTruncated>${more}</IsTruncated>${next}${contents.join("")}${prefixes.join("")}</ListBucketResult>`,
  );
}

function etag({ bytes }: Stored): string {
  return createHash("md5").update(bytes).digest("hex");
}

export function failure(status: number, code: string, more = ""): Response {
  return xml(`<Error><Code>${code}</Code><Message>Something about &lt;it&gt;.</Message>${more}</Error>`, status);
}

function xml(text: string, status = 200): Response {
  const headers = { "content-type": "application/xml" };
  return new Response(`<?xml version="1.0" encoding="UTF-8"?>\n${text}`, { status, headers });
}
