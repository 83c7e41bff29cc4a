/**
 * What Slack's Events API sends. Nothing in a request is believed before its signature has been checked.
 */
import type { SlackConfig } from "./client.ts";
import { verifySignature } from "./signature.ts";

interface Envelope {
  type?: string;
  challenge?: string;
  event_id?: string;
  event?: { type?: string; channel?: string; user?: string; ts?: string };
}

/** The webhook `message`: answers Slack's handshake and announces events. */
export function receiveEvent(call: WebhookCall<SlackConfig>, ctx: Pick<Context, "emit">) {
  checkSignature(call);
  const envelope: Envelope = call.body ?? {};
  if (envelope.type === "url_verification") return { challenge: envelope.challenge };
  if (envelope.type === "event_callback") announce(envelope, ctx);
  return { ok: true };
}

function checkSignature({ config, headers, rawBody }: WebhookCall<SlackConfig>): void {
  if (!config.signingSecret) {
    throw refusal(
      "Slack's webhooks need signingSecret (Slack app settings, Basic Information) in the integration's configuration.",
      "signing_secret_missing",
    );
  }
  const now = Math.floor(Date.now() / 1000);
  const verdict = verifySignature(config.signingSecret, headers, Buffer.from(rawBody, "base64"), now);
  if (!verdict.valid) throw refusal(`The webhook request was refused: ${verdict.reason}.`, "invalid_signature");
}

function announce({ event_id, event = {} }: Envelope, ctx: Pick<Context, "emit">): void {
  const { type, channel, user, ts } = event;
  if (type === "message") ctx.emit("message", { channel, user, ts, event_id });
}

function refusal(message: string, code: string): Error {
  return new ActionError(message, { code, category: "Auth" });
}
