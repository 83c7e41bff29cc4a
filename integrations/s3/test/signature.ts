/**
 * What a store does with a signature, written anew from the protocol (AWS Signature Version 4) and sharing nothing with the
 * library that signs: tests would otherwise only show that it agrees with itself.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";

export type Verdict = "anonymous" | "ok" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied";

export interface Keys {
  id: string;
  secret: string;
  region: string;
}

/** Checks a request as it came over the wire. */
export function verify(request: Request, body: Uint8Array, keys: Keys): Verdict {
  const url = new URL(request.url);
  const parameters = rawParameters(url);
  const fromQuery = parameters.find(([name]) => name === "X-Amz-Signature") !== undefined;
  const claim = fromQuery ? queryClaim(parameters) : headerClaim(request.headers);
  if (!claim) return "anonymous";
  const [id, day, region, service, end] = claim.credential.split("/");
  if (id !== keys.id) return "InvalidAccessKeyId";
  if (region !== keys.region || service !== "s3" || end !== "aws4_request" || !claim.date.startsWith(day ?? "?")) {
    return "SignatureDoesNotMatch";
  }
  const age = Date.now() - timeOf(claim.date);
  if (age < -60_000 || age > claim.lifetime * 1000) return "AccessDenied";
  const payload = fromQuery ? "UNSIGNED-PAYLOAD" : (request.headers.get("x-amz-content-sha256") ?? "");
  if (!fromQuery && payload !== sha256(body)) return "SignatureDoesNotMatch";
  const canonical = [
    request.method,
    url.pathname,
    parameters
      .filter(([name]) => name !== "X-Amz-Signature")
      .map((pair) => pair.map(strict).join("="))
      .sort()
      .join("&"),
    ...claim.headers.map((name) => `${name}:${(request.headers.get(name) ?? "").trim()}`),
    "",
    claim.headers.join(";"),
    payload,
  ].join("\n");
  const scope = [day, region, service, end].join("/");
  const text = ["AWS4-HMAC-SHA256", claim.date, scope, sha256(canonical)].join("\n");
  const signingKey = [day ?? "", keys.region, "s3", "aws4_request"].reduce<string | Buffer>(
    (key, part) => createHmac("sha256", key).update(part).digest(),
    `AWS4${keys.secret}`,
  );
  const expected = createHmac("sha256", signingKey).update(text).digest();
  const given = Buffer.from(claim.signature, "hex");
  return given.length === expected.length && timingSafeEqual(given, expected) ? "ok" : "SignatureDoesNotMatch";
}

interface Claim {
  credential: string;
  date: string;
  headers: string[];
  signature: string;
  /** Seconds. */
  lifetime: number;
}

function headerClaim(headers: Headers): Claim | undefined {
  const [, credential = "", signed = "", signature = ""] =
    /^AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]+)$/.exec(
      headers.get("authorization") ?? "",
    ) ?? [];
  if (!credential) return undefined;
  const date = headers.get("x-amz-date") ?? "";
  return { credential, date, headers: signed.split(";"), signature, lifetime: 900 };
}

function queryClaim(parameters: [string, string][]): Claim {
  const get = (name: string) => parameters.find(([one]) => one === name)?.[1] ?? "";
  return {
    credential: get("X-Amz-Credential"),
    date: get("X-Amz-Date"),
    headers: get("X-Amz-SignedHeaders").split(";"),
    signature: get("X-Amz-Signature"),
    lifetime: Number(get("X-Amz-Expires")),
  };
}

function rawParameters(url: URL): [string, string][] {
  const pairs = url.search.slice(1).split("&").filter(Boolean);
  return pairs.map((pair) => {
    const [name = "", value = ""] = pair.split("=");
    return [decodeURIComponent(name), decodeURIComponent(value)];
  });
}

function strict(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function timeOf(date: string): number {
  return Date.parse(date.replace(/^(\d{4})(\d\d)(\d\dT\d\d)(\d\d)(\d\dZ)$/, "$1-$2-$3:$4:$5"));
}

function sha256(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}
