// Made from manifest.json by `weft types`; changes are lost.

interface IntegrationManifest {
  email: {
    config: {
      /** PEM. Only for servers whose certificate comes from an authority of their own. */
      caCertificate?: string;
      /** What recipients see; absent: the user */
      from?: string;
      /** For reading */
      imapHost?: string;
      /** 993 for tls, 143 for starttls */
      imapPort: number;
      /** As for SMTP */
      imapSecurity: "tls" | "starttls" | "none";
      /** An app password where the provider has them (Gmail, iCloud, Yahoo, Fastmail: in the account's security settings) */
      password?: string;
      /** For sending */
      smtpHost?: string;
      /** Belongs to the SMTP user */
      smtpPassword?: string;
      /** 465 for tls, 587 for starttls */
      smtpPort: number;
      /** tls from the first byte, starttls after a greeting (required, not optional), none only for tests */
      smtpSecurity: "tls" | "starttls" | "none";
      /** Only where sending has a login of its own, as at relays */
      smtpUser?: string;
      /** Login at the mail server, mostly the e-mail address */
      user?: string;
    };
    actions: {
      /** Send an e-mail, or answer one */
      send_email: {
        input: {
          attachments?: {
            content_base64: string;
            /** For images in html: <img src="cid:…"> */
            content_id?: string;
            /** Absent: by the file's name */
            content_type?: string;
            filename: string;
          }[];
          /** Recipients that nobody sees */
          bcc?: string[];
          cc?: string[];
          /** Another sender than the connection's, where the server allows it */
          from?: string;
          /** The message as HTML, beside text */
          html?: string;
          /** The message that is answered; needs IMAP */
          in_reply_to?: {
            /** Path as list_folders gives it */
            folder?: string;
            /** Also to all other recipients of the original */
            reply_all?: boolean;
            /** Number of the message in its folder, from list_emails */
            uid: number;
          };
          /** Where answers go, if not to the sender */
          reply_to?: string[];
          /** Put a copy into the folder for sent messages, where the server does not do so itself; needs IMAP */
          save_copy?: boolean;
          /** Absent with in_reply_to: Re: and the original's */
          subject?: string;
          /** The message as plain text */
          text?: string;
          /** Recipients; may be absent with in_reply_to */
          to?: string[];
        };
        output: {
          /** Recipients that the server took */
          accepted: string[];
          message_id: string;
          /** Recipients that it refused */
          rejected: {
            address: string;
            reason: string;
          }[];
          /** Folder of the copy; null: none was made */
          saved_to: string | null;
        };
      };
      /** List the mailbox's folders */
      list_folders: {
        input: {
          /** Count messages too, which takes longer */
          counts?: boolean;
        };
        output: {
          folders: {
            messages?: number;
            name: string;
            /** Names the folder in other actions */
            path: string;
            /** inbox, sent, drafts, trash, junk, archive, all, flagged */
            special_use: string | null;
            unseen?: number;
          }[];
        };
      };
      /** List or search the e-mails of a folder, newest first */
      list_emails: {
        input: {
          answered?: boolean;
          /** Received before this day */
          before?: string;
          /** next_before_uid of the page before */
          before_uid?: number;
          flagged?: boolean;
          /** Path as list_folders gives it */
          folder?: string;
          /** Part of the sender's name or address */
          from?: string;
          /** Bytes */
          larger_than?: number;
          limit?: number;
          /** Exactly this message */
          message_id?: string;
          /** Only read ones, or with false only unread ones */
          seen?: boolean;
          /** Received on this day or later */
          since?: string;
          /** Part of the subject */
          subject?: string;
          /** Words in the text or the headers; slow in large folders */
          text?: string;
          /** Part of a recipient */
          to?: string;
        };
        output: {
          emails: {
            answered?: boolean;
            /** When it was written, or received if that is not said */
            date: string | null;
            flagged: boolean;
            from: {
              address?: string;
              name?: string;
            }[];
            has_attachments?: boolean;
            message_id?: string | null;
            seen: boolean;
            /** Bytes */
            size: number;
            subject: string;
            to: {
              address?: string;
              name?: string;
            }[];
            uid: number;
          }[];
          /** before_uid of the next page; null: there is none */
          next_before_uid: number | null;
          /** How many fit the filters */
          total: number;
        };
      };
      /** Get the text of an e-mail and the names of its attachments */
      get_email: {
        input: {
          /** Path as list_folders gives it */
          folder?: string;
          /** Where text and html are cut off */
          max_characters?: number;
          /** Number of the message in its folder, from list_emails */
          uid: number;
        };
        output: {
          answered?: boolean;
          attachments: {
            content_type: string;
            filename: string;
            /** For get_attachment */
            index: number;
            /** Whether it belongs into the text, like an image of a signature */
            inline?: boolean;
            /** Bytes */
            size: number;
          }[];
          bcc?: {
            address?: string;
            name?: string;
          }[];
          cc?: {
            address?: string;
            name?: string;
          }[];
          /** When it was written, or received if that is not said */
          date: string | null;
          flagged?: boolean;
          from: {
            address?: string;
            name?: string;
          }[];
          html: string | null;
          in_reply_to?: string | null;
          message_id?: string | null;
          /** Message ids of the thread, oldest first */
          references?: string[];
          reply_to?: {
            address?: string;
            name?: string;
          }[];
          seen?: boolean;
          /** Bytes */
          size?: number;
          subject: string;
          /** null: the message has only HTML */
          text: string | null;
          to: {
            address?: string;
            name?: string;
          }[];
          /** Whether text or html was cut off */
          truncated: boolean;
          uid: number;
        };
      };
      /** Get an attachment of an e-mail, large ones in parts */
      get_attachment: {
        input: {
          /** Path as list_folders gives it */
          folder?: string;
          /** From get_email */
          index: number;
          /** First byte; next_offset of the part before */
          offset?: number;
          /** Number of the message in its folder, from list_emails */
          uid: number;
        };
        output: {
          /** At most 600 KB of it */
          content_base64: string;
          content_type: string;
          filename: string;
          /** Where the next part begins; null: that was all */
          next_offset: number | null;
          /** Bytes of the whole attachment */
          size: number;
        };
      };
      /** Move e-mails to another folder */
      move_email: {
        input: {
          /** Path as list_folders gives it */
          folder?: string;
          /** Path as list_folders gives it; it must exist */
          to_folder: string;
          /** Numbers of the messages in their folder */
          uids: number[];
        };
        output: {
          moved: {
            /** In the new folder; null: the server does not say */
            new_uid: number | null;
            /** In the old folder */
            uid: number;
          }[];
        };
      };
      /** Mark e-mails as read, flagged or answered, or take that back */
      mark_email: {
        input: {
          answered?: boolean;
          flagged?: boolean;
          /** Path as list_folders gives it */
          folder?: string;
          seen?: boolean;
          /** Numbers of the messages in their folder */
          uids: number[];
        };
        output: {
          /** Which of them exist and were concerned */
          uids: number[];
        };
      };
      /** Put e-mails into the trash, or delete them for good */
      delete_email: {
        input: {
          /** Path as list_folders gives it */
          folder?: string;
          /** Delete instead of moving to the trash */
          permanently?: boolean;
          /** Numbers of the messages in their folder */
          uids: number[];
        };
        output: {
          /** Path of the trash; null: they are gone */
          moved_to: string | null;
          /** Which of them existed and were deleted */
          uids: number[];
        };
      };
    };
  };
}
