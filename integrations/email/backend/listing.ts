/** Lists of messages, newest first. Pages go by uid, so that new messages do not shift them. */
import type { FetchMessageObject, MessageAddressObject, MessageStructureObject, SearchObject } from "imapflow";
import type { Access } from "./account.ts";
import { inFolder } from "./mailbox.ts";

type ListEmails = IntegrationManifest["email"]["actions"]["list_emails"];

/** The action `list_emails`. */
export function listEmails(input: ListEmails["input"], ctx: Access): Promise<ListEmails["output"]> {
  const { folder, limit = 20, before_uid: before = Number.POSITIVE_INFINITY } = input;
  return inFolder(ctx, { folder, readOnly: true }, async (client) => {
    const found = (await client.search(filters(input), { uid: true })) || [];
    const older = found.filter((uid) => uid < before).toSorted((a, b) => b - a);
    const page = older.slice(0, limit);
    const wanted = { uid: true, envelope: true, flags: true, size: true, bodyStructure: true, internalDate: true };
    const messages = page.length > 0 ? await client.fetchAll(page.join(","), wanted, { uid: true }) : [];
    return {
      emails: messages.toSorted((a, b) => b.uid - a.uid).map(summary),
      total: found.length,
      next_before_uid: older.length > page.length ? (page.at(-1) ?? null) : null,
    };
  });
}

function filters(input: ListEmails["input"]): SearchObject {
  const { seen, flagged, answered, from, to, subject, text, since, before, message_id, larger_than } = input;
  const given = { seen, flagged, answered, from, to, subject, text, since, before, larger: larger_than };
  const filter: SearchObject = { all: true };
  for (const [name, value] of Object.entries(given)) if (value !== undefined) Object.assign(filter, { [name]: value });
  if (message_id !== undefined) filter.header = { "message-id": message_id };
  return filter;
}

function summary({ uid, envelope = {}, flags = new Set(), size = 0, bodyStructure, internalDate }: FetchMessageObject) {
  return {
    uid,
    subject: envelope.subject ?? "",
    from: addresses(envelope.from),
    to: addresses(envelope.to),
    date: dateOf(envelope.date) ?? dateOf(internalDate),
    message_id: envelope.messageId ?? null,
    ...marks(flags),
    size,
    has_attachments: hasAttachments(bodyStructure),
  };
}

/** The flags that the actions know. */
export function marks(flags: Set<string>) {
  return { seen: flags.has("\\Seen"), flagged: flags.has("\\Flagged"), answered: flags.has("\\Answered") };
}

function addresses(list: MessageAddressObject[] = []) {
  return list.map(({ name = "", address = "" }) => ({ name, address }));
}

/** In ISO 8601; null if the sender wrote something else. */
export function dateOf(date: Date | string | undefined): string | null {
  const parsed = date === undefined ? Number.NaN : new Date(date).getTime();
  return Number.isNaN(parsed) ? null : new Date(parsed).toISOString();
}

function hasAttachments(node: MessageStructureObject | undefined): boolean {
  if (!node) return false;
  return node.disposition?.toLowerCase() === "attachment" || (node.childNodes ?? []).some(hasAttachments);
}
