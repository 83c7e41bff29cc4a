/** Messages and their attachments. The message is read whole and parsed here; reading marks nothing as seen. */
import PostalMime, { type Address, type Attachment, type Email } from "postal-mime";
import type { Access } from "./account.ts";
import { dateOf, marks } from "./listing.ts";
import { inFolder, wholeMessage } from "./mailbox.ts";

type GetEmail = IntegrationManifest["email"]["actions"]["get_email"];
type GetAttachment = IntegrationManifest["email"]["actions"]["get_attachment"];

/** The platform takes 1 MiB for a whole answer. */
const LARGEST_ANSWER = 900 * 1024;
/** Becomes 800 KiB as base64. */
const LARGEST_PART = 600 * 1024;

/** The action `get_email`. */
export async function getEmail(input: GetEmail["input"], ctx: Access): Promise<GetEmail["output"]> {
  const { folder, uid, max_characters: most = 50_000 } = input;
  const { size, flags, received, source } = await inFolder(ctx, { folder, readOnly: true }, (client) =>
    wholeMessage(client, uid),
  );
  const email = await parse(source);
  return {
    uid,
    subject: email.subject ?? "",
    from: addresses(email.from && [email.from]),
    to: addresses(email.to),
    cc: addresses(email.cc),
    bcc: addresses(email.bcc),
    reply_to: addresses(email.replyTo),
    date: dateOf(email.date) ?? dateOf(received),
    message_id: email.messageId ?? null,
    in_reply_to: email.inReplyTo ?? null,
    references: (email.references ?? "").split(/\s+/).filter((id) => id !== ""),
    ...marks(flags),
    size,
    ...bodies(email, most),
    attachments: email.attachments.map(described),
  };
}

/** The action `get_attachment`. */
export async function getAttachment(input: GetAttachment["input"], ctx: Access): Promise<GetAttachment["output"]> {
  const { folder, uid, index, offset = 0 } = input;
  const { source } = await inFolder(ctx, { folder, readOnly: true }, (client) => wholeMessage(client, uid));
  const { attachments } = await parse(source);
  const attachment = attachments[index];
  if (!attachment) throw noSuchAttachment(attachments.length);
  const { filename, content_type, size } = described(attachment, index);
  const end = Math.min(size, offset + LARGEST_PART);
  return {
    filename,
    content_type,
    size,
    content_base64: bytesOf(attachment).subarray(offset, end).toString("base64"),
    next_offset: end < size ? end : null,
  };
}

function parse(source: Buffer): Promise<Email> {
  return PostalMime.parse(source, { attachmentEncoding: "arraybuffer", forceRfc822Attachments: true });
}

/** Text and HTML, cut until the answer is small enough. */
function bodies({ text, html }: Pick<Email, "text" | "html">, most: number): Bodies {
  const cut = { text: text?.slice(0, most) ?? null, html: html?.slice(0, most) ?? null };
  if (Buffer.byteLength(JSON.stringify(cut)) > LARGEST_ANSWER) return bodies({ text, html }, most >> 1);
  return { ...cut, truncated: (text?.length ?? 0) > most || (html?.length ?? 0) > most };
}

type Bodies = Pick<GetEmail["output"], "text" | "html" | "truncated">;

function addresses(list: Address[] = []) {
  return list.flatMap((entry) => entry.group ?? [entry]).map(({ name, address = "" }) => ({ name, address }));
}

function described(attachment: Attachment, index: number) {
  const { filename, mimeType, disposition, related } = attachment;
  return {
    index,
    filename: filename ?? `attachment-${index}`,
    content_type: mimeType,
    size: bytesOf(attachment).length,
    inline: disposition === "inline" || related === true,
  };
}

function bytesOf({ content }: Attachment): Buffer {
  return typeof content === "string" ? Buffer.from(content) : Buffer.from(content as ArrayBuffer);
}

function noSuchAttachment(count: number): Error {
  return new ActionError(`The message has ${count} attachments; index counts from 0. See get_email.`, {
    code: "attachment_not_found",
    category: "Validation",
  });
}
