/** Signed requests, each made once. Redirects are not followed: they would carry the signature to somebody else. */
import { createHash } from "node:crypto";
import { AwsClient } from "aws4fetch";
import { refusal, unreachable } from "./errors.ts";
import { addressOf, encoded, type Store } from "./store.ts";

const TIMEOUT_MS = 50_000;

export interface Ask {
  method?: "GET" | "HEAD" | "PUT" | "DELETE";
  bucket?: string;
  key?: string;
  query?: Record<string, string>;
  headers?: Record<string, string>;
  body?: Uint8Array<ArrayBuffer>;
  /** Answers besides success that the caller understands. */
  expected?: number[];
}

/** Asks the store. Throws what the action fails with, unless the answer is a success or expected. */
export async function ask(store: Store, wish: Ask): Promise<Response> {
  const { method = "GET", bucket, key, query = {}, headers = {}, body, expected = [] } = wish;
  const url = addressOf(store, bucket, key);
  url.search = queryText(query);
  const hash = createHash("sha256")
    .update(body ?? "")
    .digest("hex");
  const signed = await signerOf(store).sign(url.href, {
    method,
    headers: { ...headers, "x-amz-content-sha256": hash },
    ...(body && { body }),
  });
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(signed, { redirect: "manual", signal }).catch((cause: unknown) => {
    throw unreachable(url.host, cause);
  });
  if (response.ok || expected.includes(response.status)) return response;
  throw await refusal(response, store);
}

/** Reads an answer's body, which may break off as well. */
export async function reading<T>(response: Response, read: (response: Response) => Promise<T>): Promise<T> {
  try {
    return await read(response);
  } catch (cause) {
    throw unreachable(new URL(response.url).host, cause);
  }
}

/** The body as text. */
export function textOf(response: Response): Promise<string> {
  return reading(response, (answer) => answer.text());
}

/** An address that carries its signature. */
export async function presigned(store: Store, { method = "GET", bucket, key, query = {} }: Ask): Promise<string> {
  const url = addressOf(store, bucket, key);
  url.search = queryText(query);
  const signed = await signerOf(store).sign(url.href, { method, aws: { signQuery: true } });
  // The library leaves + for spaces, which not every store understands.
  const finished = new URL(signed.url);
  finished.search = queryText(Object.fromEntries(finished.searchParams));
  return finished.href;
}

function signerOf({ accessKeyId, secretAccessKey, sessionToken, region }: Store): AwsClient {
  return new AwsClient({
    accessKeyId,
    secretAccessKey,
    ...(sessionToken && { sessionToken }),
    region,
    service: "s3",
    retries: 0,
  });
}

function queryText(query: Record<string, string>): string {
  return Object.entries(query)
    .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
    .join("&");
}
