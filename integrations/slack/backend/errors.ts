/**
 * From the SDK's errors to what the platform and its callers understand: a category that decides about retries, Slack's
 * own name for the error, and a sentence that says what to do. Unknown names are treated as a fault in the request.
 */
import { WebAPIHTTPError, WebAPIPlatformError, WebAPIRateLimitedError, WebAPIRequestError } from "@slack/web-api";

const RENEW_TOKEN = "Save a valid bot token in the integration's configuration.";
const TRY_AGAIN = "The problem is on Slack's side; try again later.";

const KNOWN: Record<string, [category: ErrorCategory, advice: string]> = {
  invalid_auth: ["Auth", RENEW_TOKEN],
  not_authed: ["Auth", RENEW_TOKEN],
  token_revoked: ["Auth", `The token was revoked. ${RENEW_TOKEN}`],
  token_expired: ["Auth", `The token has expired. ${RENEW_TOKEN}`],
  account_inactive: ["Auth", `The bot or its workspace was deactivated. ${RENEW_TOKEN}`],
  missing_scope: ["Auth", "Add the missing scope in Slack's app settings and install the app again."],
  not_allowed_token_type: ["Auth", "Use a bot token (xoxb-…)."],
  no_permission: ["Auth", "Ask a workspace administrator to let the bot post there."],
  channel_not_found: ["Validation", "Check the channel's name or ID; a private channel must invite the bot first."],
  not_in_channel: ["Validation", "Invite the bot to the channel first."],
  is_archived: ["Validation", "The channel is archived; choose another."],
  restricted_action: ["Validation", "A workspace setting forbids posting there; choose another channel."],
  msg_too_long: ["Validation", "Shorten the text or send it in parts."],
  no_text: ["Validation", "Give the message a text."],
  thread_not_found: ["Validation", "Check thread_ts: it is the ts of the first message of the thread."],
  internal_error: ["Transient", TRY_AGAIN],
  fatal_error: ["Transient", TRY_AGAIN],
  service_unavailable: ["Transient", TRY_AGAIN],
  request_timeout: ["Transient", TRY_AGAIN],
};

/** Any error of a call to Slack as the error that the action fails with. Other errors come back unchanged. */
export function asActionError(thrown: unknown): unknown {
  if (thrown instanceof WebAPIRateLimitedError) return rateLimited(thrown.retryAfter, thrown);
  if (thrown instanceof WebAPIPlatformError) return platformError(thrown);
  if (thrown instanceof WebAPIHTTPError) return httpError(thrown);
  if (thrown instanceof WebAPIRequestError) return unreachable(thrown);
  // The SDK has no class of its own for a 429 without a usable Retry-After header.
  if (thrown instanceof Error && thrown.message.startsWith("Retry header did not"))
    return rateLimited(undefined, thrown);
  return thrown;
}

function rateLimited(retryAfter: number | undefined, cause: unknown): Error {
  const when = retryAfter === undefined ? "later" : `in ${retryAfter} s`;
  const message = `Slack refuses more requests for now (ratelimited). Try again ${when}.`;
  return new ActionError(message, { code: "ratelimited", category: "RateLimited", retryAfter, cause });
}

function platformError(error: WebAPIPlatformError): Error {
  const code = error.data.error;
  // An answer that is no JSON arrives here with its whole text as the name.
  if (!/^[a-z0-9_]{1,100}$/.test(code))
    return transient("Slack's answer was not understood.", "invalid_response", error);
  if (code === "ratelimited" || code === "rate_limited") {
    return rateLimited(error.data.response_metadata?.retryAfter, error);
  }
  const [category, advice] = KNOWN[code] ?? ["Validation", "See Slack's documentation of chat.postMessage."];
  return new ActionError(`Slack refused the message: ${code}. ${advice}`, { code, category, cause: error });
}

function httpError(error: WebAPIHTTPError): Error {
  const code = `http_${error.statusCode}`;
  if (error.statusCode >= 500) return transient(`Slack answered with HTTP ${error.statusCode}.`, code, error);
  const message = `Slack answered with HTTP ${error.statusCode}. Check apiUrl in the integration's configuration.`;
  return new ActionError(message, { code, category: "Validation", cause: error });
}

function unreachable(error: WebAPIRequestError): Error {
  const reason = (error.original as { code?: unknown }).code;
  const why = typeof reason === "string" ? ` (${reason})` : "";
  return new ActionError(`Slack could not be reached${why}. Check the network and apiUrl, then try again.`, {
    code: "unreachable",
    category: "Transient",
    cause: error,
  });
}

function transient(what: string, code: string, cause: unknown): Error {
  return new ActionError(`${what} ${TRY_AGAIN}`, { code, category: "Transient", cause });
}
