/** Posting to Slack. */
import { clientFor, type SlackConfig } from "./client.ts";
import { asActionError } from "./errors.ts";

type SendMessage = IntegrationManifest["slack"]["actions"]["send_message"];

/** The configuration, and the bot of a workspace that somebody connected. */
interface Acting {
  config: SlackConfig;
  userCredentials: { accessToken?: string } | null;
}

/** The action `send_message`. */
export async function sendMessage(input: SendMessage["input"], ctx: Acting) {
  const { channel, text, thread_ts } = input;
  const client = clientFor({ ...ctx.config, botToken: ctx.userCredentials?.accessToken ?? ctx.config.botToken });
  try {
    const posted = await client.chat.postMessage({ channel, text, ...(thread_ts !== undefined && { thread_ts }) });
    // Slack's types call every field optional; the server holds the answer against the schema.
    return { channel: posted.channel, ts: posted.ts, message: posted.message } as SendMessage["output"];
  } catch (error) {
    throw asActionError(error);
  }
}
