/**
 * Slack's request signature, version 0: an HMAC-SHA256 over timestamp and raw body. Pure; must not know where the request came from.
 * Every failure has one name for people; none tells a forger which signature would have been right.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

const TOLERANCE_SECONDS = 5 * 60;
const FORM = /^v0=[0-9a-f]{64}$/;

export type Verdict = { valid: true } | { valid: false; reason: string };

/** Checks a request against the app's signing secret. Header names in lower case; `now` in seconds since 1970. */
export function verifySignature(
  secret: string,
  headers: Record<string, string | undefined>,
  rawBody: Uint8Array,
  now: number,
): Verdict {
  const timestamp = headers["x-slack-request-timestamp"];
  const signature = headers["x-slack-signature"];
  if (secret === "") return refused("no signing secret is configured");
  if (!timestamp || !signature) return refused("X-Slack-Request-Timestamp or X-Slack-Signature is missing");
  if (!/^\d{1,12}$/.test(timestamp)) return refused("X-Slack-Request-Timestamp is not a Unix time");
  if (Math.abs(now - Number(timestamp)) > TOLERANCE_SECONDS)
    return refused("the request was signed more than five minutes ago or ahead");
  if (!FORM.test(signature)) return refused("X-Slack-Signature is not of the form v0=<64 hex digits>");
  const expected = Buffer.from(sign(secret, timestamp, rawBody));
  const given = Buffer.from(signature);
  if (!timingSafeEqual(expected, given)) return refused("the signature does not match: check the signing secret");
  return { valid: true };
}

function sign(secret: string, timestamp: string, rawBody: Uint8Array): string {
  return `v0=${createHmac("sha256", secret).update(`v0:${timestamp}:`).update(rawBody).digest("hex")}`;
}

function refused(reason: string): Verdict {
  return { valid: false, reason };
}
