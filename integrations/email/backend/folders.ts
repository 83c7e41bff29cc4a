/** The mailbox's folders. */
import type { Access } from "./account.ts";
import { inMailbox } from "./mailbox.ts";

type ListFolders = IntegrationManifest["email"]["actions"]["list_folders"];

/** The action `list_folders`. */
export function listFolders({ counts = false }: ListFolders["input"], ctx: Access): Promise<ListFolders["output"]> {
  return inMailbox(ctx, async (client) => {
    const listed = await client.list(counts ? { statusQuery: { messages: true, unseen: true } } : {});
    const folders = listed
      // What cannot be opened only groups others.
      .filter(({ flags }) => !flags.has("\\Noselect") && !flags.has("\\NonExistent"))
      .map(({ path, name, specialUse, status }) => ({
        path,
        name,
        special_use: specialUse ? specialUse.replace("\\", "").toLowerCase() : null,
        ...(status?.messages !== undefined && { messages: status.messages }),
        ...(status?.unseen !== undefined && { unseen: status.unseen }),
      }));
    return { folders };
  });
}
