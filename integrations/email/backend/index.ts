/** E-mail: sends over SMTP, reads and sorts over IMAP. */
import type { Settings } from "./account.ts";
import { listFolders } from "./folders.ts";
import { listEmails } from "./listing.ts";
import { getAttachment, getEmail } from "./reading.ts";
import { sendEmail } from "./sending.ts";
import { deleteEmail, markEmail, moveEmail } from "./sorting.ts";

defineIntegration<Settings, Settings>({
  actions: {
    send_email: sendEmail,
    list_folders: listFolders,
    list_emails: listEmails,
    get_email: getEmail,
    get_attachment: getAttachment,
    move_email: moveEmail,
    mark_email: markEmail,
    delete_email: deleteEmail,
  },
});
