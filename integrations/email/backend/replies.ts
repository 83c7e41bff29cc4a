/** What an answer takes from the message that it answers. */
import type { MessageAddressObject } from "imapflow";
import { type Access, senderOf } from "./account.ts";
import { noSuchEmail } from "./errors.ts";
import { inFolder } from "./mailbox.ts";

type Input = NonNullable<IntegrationManifest["email"]["actions"]["send_email"]["input"]["in_reply_to"]>;

export interface Thread {
  to: string[];
  cc: string[];
  subject: string;
  inReplyTo: string | undefined;
  references: string[];
}

/** Reads the original: its thread, and who gets the answer. */
export function threadOf({ folder, uid, reply_all = false }: Input, access: Access): Promise<Thread> {
  return inFolder(access, { folder, readOnly: true }, async (client) => {
    const wanted = { uid: true, envelope: true, headers: ["references"] };
    const original = await client.fetchOne(uid, wanted, { uid: true });
    if (!original) throw noSuchEmail(uid);
    const { subject = "", messageId, inReplyTo, from, replyTo, to, cc } = original.envelope ?? {};
    const own = bare(senderOf(access));
    const answered = texts(replyTo?.length ? replyTo : from);
    const others = [...texts(to), ...texts(cc)].filter((one) => bare(one) !== own && !answered.includes(one));
    const earlier = original.headers?.toString("latin1").match(/<[^<>\s]+>/g) ?? (inReplyTo ? [inReplyTo] : []);
    return {
      to: answered,
      cc: reply_all ? [...new Set(others)] : [],
      subject: /^re:/i.test(subject) ? subject : `Re: ${subject}`,
      inReplyTo: messageId,
      references: messageId ? [...earlier, messageId] : earlier,
    };
  });
}

function texts(list: MessageAddressObject[] = []): string[] {
  return list.flatMap(({ name, address }) => {
    if (!address) return [];
    return name ? [`"${name.replaceAll(/["\\]/g, "\\$&")}" <${address}>`] : [address];
  });
}

function bare(sender: string): string {
  return (sender.match(/<([^<>]+)>\s*$/)?.[1] ?? sender).trim().toLowerCase();
}
