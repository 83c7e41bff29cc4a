/** IMAP sessions: one per call, logged out at its end. Servers limit how many a mailbox may have, so none is kept. */
import { ImapFlow } from "imapflow";
import { type Access, imapServer } from "./account.ts";
import { imapError, noSuchEmail, noSuchFolder } from "./errors.ts";

/** The largest message that is read whole. */
const LARGEST_MESSAGE = 25 * 1024 * 1024;

/** Runs `work` in a session. */
export async function inMailbox<T>(access: Access, work: (client: ImapFlow) => Promise<T>): Promise<T> {
  const server = imapServer(access);
  const client = new ImapFlow({
    host: server.host,
    port: server.port,
    secure: server.security === "tls",
    doSTARTTLS: server.security === "starttls",
    tls: server.ca ? { ca: server.ca } : {},
    auth: { user: server.user, pass: server.password },
    logger: false,
    disableAutoIdle: true,
    connectionTimeout: 15_000,
    greetingTimeout: 15_000,
    socketTimeout: 60_000,
  });
  // Without a listener an error between two commands would end the process. The next command fails by itself.
  client.on("error", () => {});
  try {
    await client.connect();
    return await work(client);
  } catch (error) {
    throw imapError(error, server.host);
  } finally {
    leave(client);
  }
}

/** Says goodbye without keeping the caller waiting for the answer. */
function leave(client: ImapFlow): void {
  const goodbye = client.usable ? client.logout() : Promise.resolve();
  goodbye.catch(() => {}).finally(() => client.close());
}

/** Runs `work` in a session in which a folder is open. */
export function inFolder<T>(
  access: Access,
  { folder = "INBOX", readOnly }: { folder: string | undefined; readOnly: boolean },
  work: (client: ImapFlow) => Promise<T>,
): Promise<T> {
  return inMailbox(access, async (client) => {
    await client.mailboxOpen(folder, { readOnly }).catch(async (error: unknown) => {
      // Few servers say why they refuse a folder.
      throw client.usable && !(await hasFolder(client, folder)) ? noSuchFolder() : error;
    });
    return work(client);
  });
}

/** Which of the messages there are, in ascending order. Servers ignore the others silently. */
export async function existing(client: ImapFlow, uids: number[]): Promise<number[]> {
  const found = await client.search({ uid: uids.join(",") }, { uid: true });
  return (found || []).toSorted((a, b) => a - b);
}

/** A message as it was sent, with its flags. */
export async function wholeMessage(client: ImapFlow, uid: number) {
  const known = await client.fetchOne(uid, { uid: true, size: true, flags: true, internalDate: true }, { uid: true });
  if (!known) throw noSuchEmail(uid);
  const size = known.size ?? 0;
  if (size > LARGEST_MESSAGE) throw tooLarge(size);
  const fetched = await client.fetchOne(uid, { uid: true, source: true }, { uid: true });
  if (!fetched || fetched.source === undefined) throw noSuchEmail(uid);
  return { size, flags: known.flags ?? new Set<string>(), received: known.internalDate, source: fetched.source };
}

export async function hasFolder(client: ImapFlow, folder: string): Promise<boolean> {
  const folders = await client.list();
  return folders.some(({ path }) => path === folder);
}

/** The path of the folder for a purpose, such as `\Trash`. */
export async function specialFolder(client: ImapFlow, use: string): Promise<string | undefined> {
  const folders = await client.list();
  return folders.find(({ specialUse }) => specialUse === use)?.path;
}

function tooLarge(size: number): Error {
  return new ActionError(`The message has ${size} bytes; ${LARGEST_MESSAGE} can be read at most.`, {
    code: "email_too_large",
    category: "Validation",
  });
}
