/** From the store's errors to what the platform and its callers understand. Stores share Amazon's names for them. */
import type { Store } from "./store.ts";
import { value } from "./xml.ts";

const RENEW = "Connect the store again with a valid key.";
const LATER = "The problem is on the store's side; try again later.";

const KNOWN: Record<string, [category: ErrorCategory, advice: string]> = {
  InvalidAccessKeyId: ["Auth", RENEW],
  SignatureDoesNotMatch: ["Auth", `The secret access key does not belong to the access key ID. ${RENEW}`],
  ExpiredToken: ["Auth", `The temporary key has expired. ${RENEW}`],
  InvalidToken: ["Auth", RENEW],
  AccessDenied: [
    "Auth",
    "Give the key the right for this, or check bucket and key: without s3:ListBucket missing objects look like this.",
  ],
  AllAccessDisabled: ["Auth", "The account has no access; ask its administrator."],
  RequestTimeTooSkewed: ["Transient", "The clocks of platform and store differ; ask the platform's operator."],
  AuthorizationHeaderMalformed: ["Auth", "Mostly the region is wrong: save the bucket's own in the connection."],
  PermanentRedirect: [
    "Validation",
    "The bucket is in another region or at another endpoint: save that one in the connection.",
  ],
  NoSuchBucket: ["Validation", "Check the bucket's name, region and endpoint; see list_buckets."],
  NoSuchKey: ["Validation", "Check the key; see list_objects. Capitals count."],
  NoSuchVersion: ["Validation", "Check the key; see list_objects."],
  InvalidBucketName: ["Validation", "Check the bucket's name; see list_buckets."],
  InvalidRange: ["Validation", "offset is beyond the end of the object."],
  InvalidArgument: ["Validation", "Check the input; a token belongs to one bucket and prefix."],
  EntityTooLarge: ["Validation", "Upload with a URL of presign_url, or in smaller objects."],
  InvalidObjectState: ["Validation", "The object is archived and must be restored first."],
  InvalidRequest: ["Validation", "Common causes are a copy of more than 5 GB, or of an object onto itself."],
  SlowDown: ["RateLimited", "Make fewer requests."],
  RequestLimitExceeded: ["RateLimited", "Make fewer requests."],
  TooManyRequests: ["RateLimited", "Make fewer requests."],
};

/** Answers to HEAD have no body, so the status has to do. */
const BY_STATUS: Record<number, string> = {
  301: "PermanentRedirect",
  307: "PermanentRedirect",
  403: "AccessDenied",
  404: "NoSuchKey",
  416: "InvalidRange",
  429: "TooManyRequests",
};

/** What an answer that is no success means for the caller. */
export async function refusal(response: Response, store: Store): Promise<Error> {
  return refusalOf(response, await response.text().catch(() => ""), store);
}

/** The same with a body that was read already: some errors come with the status 200. */
export function refusalOf({ status, headers }: Response, body: string, store: Store): Error {
  const given = value(body, "Code");
  const code = given && /^[A-Za-z0-9_.]{1,100}$/.test(given) ? given : (BY_STATUS[status] ?? `http_${status}`);
  const [category, advice] = KNOWN[code] ?? (status >= 500 || code === "InternalError" ? ["Transient", LATER] : OTHER);
  const region = headers.get("x-amz-bucket-region") ?? value(body, "Region");
  const retryAfter = Number(headers.get("retry-after") ?? Number.NaN);
  const hint = region && region !== store.region ? ` The bucket's region is ${region}.` : "";
  return new ActionError(`The store refused: ${code}${said(body)}. ${advice}${hint}`, {
    code,
    category,
    ...(Number.isFinite(retryAfter) && { retryAfter }),
    ...(region && { details: { region } }),
  });
}

const OTHER: [ErrorCategory, string] = ["Validation", "Check the input, and the endpoint of the connection."];

/** The store's own sentence, which never contains the secret key. */
function said(body: string): string {
  const message = value(body, "Message")?.replaceAll(/\s+/g, " ").trim().replace(/\.$/, "").slice(0, 300);
  return message ? ` (${message})` : "";
}

export function unreachable(host: string, cause: unknown): Error {
  const { code, name } = cause as { code?: unknown; name?: string };
  const why = typeof code === "string" ? code : (name ?? "no answer");
  const certificate = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ALTNAME/.test(why);
  const advice = certificate
    ? "Its certificate must be one that is trusted publicly."
    : "Check endpoint, region and network, then try again; a private network must be opened by the platform's operator.";
  return new ActionError(`The store ${host} could not be reached (${why}). ${advice}`, {
    code: certificate ? "certificate_refused" : "unreachable",
    category: certificate ? "Validation" : "Transient",
  });
}

/** An answer that is not what a store says: mostly the endpoint is something else. */
export function notUnderstood(): Error {
  return new ActionError("The store's answer was not understood. Check the endpoint of the connection.", {
    code: "invalid_response",
    category: "Transient",
  });
}
