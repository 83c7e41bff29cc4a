/** Posting to Slack. */
import { clientFor, type SlackConfig } from "./client.ts";
import { asActionError } from "./errors.ts";

export interface SendMessage {
  channel: string;
  text: string;
  thread_ts?: string;
}

/** The action `send_message`. */
export async function sendMessage(input: SendMessage, ctx: { config: SlackConfig }) {
  const { channel, text, thread_ts } = input;
  const client = clientFor(ctx.config);
  try {
    const posted = await client.chat.postMessage({ channel, text, ...(thread_ts !== undefined && { thread_ts }) });
    return { channel: posted.channel, ts: posted.ts, message: posted.message };
  } catch (error) {
    throw asActionError(error);
  }
}
