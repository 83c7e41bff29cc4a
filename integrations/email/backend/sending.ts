/** Sending: the message is composed once, handed over once, and the copy is the very same bytes. */
import addressparser from "nodemailer/lib/addressparser";
import MailComposer from "nodemailer/lib/mail-composer";
import { type Access, senderOf, smtpServer } from "./account.ts";
import { inMailbox, specialFolder } from "./mailbox.ts";
import { type Thread, threadOf } from "./replies.ts";
import { handOver } from "./smtp.ts";

type SendEmail = IntegrationManifest["email"]["actions"]["send_email"];

const LARGEST_ATTACHMENTS = 10 * 1024 * 1024;

/** The action `send_email`. */
export async function sendEmail(input: SendEmail["input"], ctx: Access): Promise<SendEmail["output"]> {
  const server = smtpServer(ctx);
  const thread = input.in_reply_to && (await threadOf(input.in_reply_to, ctx));
  const { id, from, to, message } = await compose(input, thread, senderOf(ctx));
  const receipt = await handOver(server, { from, to, message });
  const saved = input.save_copy ? await saveCopy(message, ctx) : null;
  return { message_id: id, ...receipt, saved_to: saved };
}

async function compose(input: SendEmail["input"], thread: Thread | undefined, sender: string) {
  const { text, html, bcc, reply_to: replyTo } = input;
  for (const list of [input.to, input.cc, bcc, replyTo]) list?.forEach(checkAddress);
  if (text === undefined && html === undefined) throw incomplete("Give the message text or html");
  const node = new MailComposer({
    from: input.from ?? sender,
    to: input.to ?? thread?.to ?? [],
    cc: input.cc ?? thread?.cc ?? [],
    subject: input.subject ?? thread?.subject ?? "",
    ...(bcc && { bcc }),
    ...(replyTo && { replyTo }),
    ...(text !== undefined && { text }),
    ...(html !== undefined && { html }),
    ...(thread?.inReplyTo && { inReplyTo: thread.inReplyTo, references: thread.references }),
    attachments: attachmentsOf(input),
    // Nothing that a caller writes may name a file or an address to read from.
    disableFileAccess: true,
    disableUrlAccess: true,
  }).compile();
  const { from, to } = node.getEnvelope();
  const recipients = Array.isArray(to) ? to : to ? [to] : [];
  if (!from) throw incomplete("The sender is not an e-mail address");
  if (recipients.length === 0) throw incomplete("Give at least one recipient in to, cc or bcc, as name@example.com");
  return { id: node.messageId(), from, to: recipients, message: await node.build() };
}

/** What is no address would be left out silently. */
function checkAddress(entry: string): void {
  const found = addressparser(entry, { flatten: true });
  if (found.length > 0 && found.every(({ address }) => /^[^@\s]+@[^@\s]+$/.test(address))) return;
  throw incomplete(
    `${JSON.stringify(entry)} is not an e-mail address such as ada@example.com or Ada <ada@example.com>`,
  );
}

function attachmentsOf({ attachments = [] }: SendEmail["input"]) {
  const read = attachments.map(({ filename, content_base64, content_type, content_id }) => ({
    filename,
    content: Buffer.from(content_base64, "base64"),
    ...(content_type && { contentType: content_type }),
    ...(content_id && { cid: content_id, contentDisposition: "inline" as const }),
  }));
  const bytes = read.reduce((sum, { content }) => sum + content.length, 0);
  if (bytes > LARGEST_ATTACHMENTS) {
    throw incomplete(`The attachments have ${bytes} bytes; ${LARGEST_ATTACHMENTS} are allowed. Send a link instead`);
  }
  return read;
}

/** The message is sent by now, so a copy that cannot be made is no failure of the call. */
async function saveCopy(message: Buffer, ctx: Access): Promise<string | null> {
  try {
    return await inMailbox(ctx, async (client) => {
      const sent = await specialFolder(client, "\\Sent");
      if (sent === undefined) return null;
      return (await client.append(sent, message, ["\\Seen"])) ? sent : null;
    });
  } catch (error) {
    ctx.log?.warn("the message was sent, but no copy was saved:", (error as Error).message);
    return null;
  }
}

function incomplete(what: string): Error {
  return new ActionError(`${what}.`, { code: "invalid_message", category: "Validation" });
}
