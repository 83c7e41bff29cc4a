/** Moves, marks and deletes messages. Uids that do not exist are left out, so that repeating a call does no harm. */
import type { ImapFlow } from "imapflow";
import type { Access } from "./account.ts";
import { imapRefused, noSuchFolder } from "./errors.ts";
import { existing, hasFolder, inFolder, specialFolder } from "./mailbox.ts";

type MoveEmail = IntegrationManifest["email"]["actions"]["move_email"];
type MarkEmail = IntegrationManifest["email"]["actions"]["mark_email"];
type DeleteEmail = IntegrationManifest["email"]["actions"]["delete_email"];

const FLAGS = { seen: "\\Seen", flagged: "\\Flagged", answered: "\\Answered" } as const;

/** The action `move_email`. */
export function moveEmail(input: MoveEmail["input"], ctx: Access): Promise<MoveEmail["output"]> {
  return inFolder(ctx, { folder: input.folder, readOnly: false }, async (client) => {
    const uids = await existing(client, input.uids);
    const places = await move(client, uids, input.to_folder);
    return { moved: uids.map((uid) => ({ uid, new_uid: places.get(uid) ?? null })) };
  });
}

/** The action `mark_email`. */
export function markEmail(input: MarkEmail["input"], ctx: Access): Promise<MarkEmail["output"]> {
  const wanted = (value: boolean) =>
    Object.entries(FLAGS).flatMap(([name, flag]) => (input[name as keyof typeof FLAGS] === value ? [flag] : []));
  const [added, removed] = [wanted(true), wanted(false)];
  if (added.length + removed.length === 0) throw nothingToMark();
  return inFolder(ctx, { folder: input.folder, readOnly: false }, async (client) => {
    const uids = await existing(client, input.uids);
    if (uids.length === 0) return { uids };
    const range = uids.join(",");
    const done =
      (added.length === 0 || (await client.messageFlagsAdd(range, added, { uid: true }))) &&
      (removed.length === 0 || (await client.messageFlagsRemove(range, removed, { uid: true })));
    if (!done) throw imapRefused("the flags were not changed.");
    return { uids };
  });
}

/** The action `delete_email`. */
export function deleteEmail(input: DeleteEmail["input"], ctx: Access): Promise<DeleteEmail["output"]> {
  const { folder = "INBOX", permanently = false } = input;
  return inFolder(ctx, { folder, readOnly: false }, async (client) => {
    const trash = permanently ? null : await trashFor(client, folder);
    const uids = await existing(client, input.uids);
    if (trash !== null) await move(client, uids, trash);
    else if (uids.length > 0 && !(await client.messageDelete(uids.join(","), { uid: true }))) {
      throw imapRefused("the messages were not deleted.");
    }
    return { uids, moved_to: trash };
  });
}

async function move(client: ImapFlow, uids: number[], target: string): Promise<Map<number, number>> {
  if (!(await hasFolder(client, target))) throw noSuchFolder();
  if (uids.length === 0) return new Map();
  const moved = await client.messageMove(uids.join(","), target, { uid: true });
  if (!moved) throw imapRefused("the messages were not moved.");
  return moved.uidMap ?? new Map();
}

async function trashFor(client: ImapFlow, folder: string): Promise<string> {
  const trash = await specialFolder(client, "\\Trash");
  if (trash === undefined) {
    throw new ActionError("The mailbox has no trash. Move the messages with move_email, or set permanently.", {
      code: "no_trash",
      category: "Validation",
    });
  }
  if (trash !== folder) return trash;
  throw new ActionError("The messages are in the trash already. Set permanently to delete them for good.", {
    code: "already_in_trash",
    category: "Validation",
  });
}

function nothingToMark(): Error {
  return new ActionError("Nothing to mark: give seen, flagged or answered.", {
    code: "nothing_to_mark",
    category: "Validation",
  });
}
