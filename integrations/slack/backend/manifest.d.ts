// Made from manifest.json by `weft types`; changes are lost.

interface IntegrationManifest {
  slack: {
    config: {
      /** Only to be changed for tests or a proxy. */
      apiUrl: string;
      /** For everybody who has not connected a workspace; starts with xoxb-. Slack app settings, OAuth & Permissions. Needs the scope chat:write, and those that the actions name which you use. */
      botToken?: string;
      /** For connecting workspaces. Slack app settings, Basic Information, App Credentials. The callback address of this server has to be among the redirect URLs (OAuth & Permissions). */
      clientId?: string;
      /** On the same page. */
      clientSecret?: string;
      /** Slack app settings, Basic Information. Needed to receive webhooks. */
      signingSecret?: string;
    };
    actions: {
      /** Post a message to a Slack channel */
      send_message: {
        input: {
          /** Channel name (#general) or ID (C0123456789) */
          channel: string;
          /** Message content, as mrkdwn */
          text: string;
          /** ts of the first message of a thread, to answer in that thread */
          thread_ts?: string;
        };
        output: {
          /** ID of the channel */
          channel: string;
          /** The message as Slack stored it */
          message?: Record<string, unknown>;
          /** Identifies the message within the channel */
          ts: string;
        };
      };
      /** List the channels that the bot sees, with their IDs (scope channels:read, for others groups:read, mpim:read, im:read) */
      list_channels: {
        input: {
          /** Also archived ones */
          include_archived?: boolean;
          /** How many at most */
          limit?: number;
          /** Which kinds: mpim are group messages, im direct ones */
          types?: ("public_channel" | "private_channel" | "mpim" | "im")[];
        };
        output: {
          channels: {
            /** For all other actions */
            id: string;
            is_archived?: boolean;
            /** Whether the bot is in it */
            is_member?: boolean;
            is_private?: boolean;
            /** Absent for direct messages */
            name?: string;
            num_members?: number;
            purpose?: string;
            topic?: string;
            /** ID of the other person, for direct messages */
            user?: string;
          }[];
          /** Whether there are more than limit */
          more: boolean;
        };
      };
      /** Read the messages of a channel that the bot is in, newest first, without the answers in threads (scope channels:history, for others groups:history, mpim:history, im:history) */
      get_channel_history: {
        input: {
          /** ID of the channel (C0123456789), not its name: see list_channels */
          channel: string;
          /** Also the messages at oldest and latest themselves */
          inclusive?: boolean;
          /** Only messages before this ts or moment */
          latest?: string;
          /** How many at most */
          limit?: number;
          /** Only messages after this ts or moment (seconds since 1970, with a fraction) */
          oldest?: string;
        };
        output: {
          messages: {
            bot_id?: string;
            /** Names of files */
            files?: string[];
            /** ts of the last answer */
            latest_reply?: string;
            reactions?: {
              count?: number;
              name?: string;
              users?: string[];
            }[];
            /** Answers in its thread */
            reply_count?: number;
            /** What kind of message, if no ordinary one: channel_join, bot_message, … */
            subtype?: string;
            /** mrkdwn */
            text?: string;
            /** ts of the first message of its thread, if it is in one */
            thread_ts?: string;
            /** Identifies the message within the channel */
            ts: string;
            /** ID of who wrote it */
            user?: string;
          }[];
          /** Whether there are more than limit */
          more: boolean;
        };
      };
      /** Read a thread: its first message, then the answers, oldest first (scopes as for get_channel_history) */
      get_thread: {
        input: {
          /** ID of the channel (C0123456789), not its name: see list_channels */
          channel: string;
          /** How many at most */
          limit?: number;
          /** ts of the first message of the thread */
          thread_ts: string;
        };
        output: {
          messages: {
            bot_id?: string;
            /** Names of files */
            files?: string[];
            /** ts of the last answer */
            latest_reply?: string;
            reactions?: {
              count?: number;
              name?: string;
              users?: string[];
            }[];
            /** Answers in its thread */
            reply_count?: number;
            /** What kind of message, if no ordinary one: channel_join, bot_message, … */
            subtype?: string;
            /** mrkdwn */
            text?: string;
            /** ts of the first message of its thread, if it is in one */
            thread_ts?: string;
            /** Identifies the message within the channel */
            ts: string;
            /** ID of who wrote it */
            user?: string;
          }[];
          /** Whether there are more than limit */
          more: boolean;
        };
      };
      /** Replace the text of a message that the bot has posted (scope chat:write) */
      update_message: {
        input: {
          /** ID of the channel (C0123456789), not its name: see list_channels */
          channel: string;
          /** The whole new text, as mrkdwn */
          text: string;
          /** ts of the message */
          ts: string;
        };
        output: {
          channel: string;
          text?: string;
          ts: string;
        };
      };
      /** Delete a message that the bot has posted (scope chat:write) */
      delete_message: {
        input: {
          /** ID of the channel (C0123456789), not its name: see list_channels */
          channel: string;
          /** ts of the message */
          ts: string;
        };
        output: {
          channel: string;
          ts: string;
        };
      };
      /** Put an emoji below a message (scope reactions:write) */
      add_reaction: {
        input: {
          /** ID of the channel (C0123456789), not its name: see list_channels */
          channel: string;
          /** Name of the emoji without colons */
          name: string;
          /** ts of the message */
          ts: string;
        };
        output: {
          added: boolean;
        };
      };
      /** List the people and bots of the workspace (scope users:read, for addresses also users:read.email) */
      list_users: {
        input: {
          /** How many at most */
          limit?: number;
        };
        output: {
          /** Whether there are more than limit */
          more: boolean;
          users: {
            /** Whether the account was deactivated */
            deleted?: boolean;
            display_name?: string;
            /** Only with the scope users:read.email */
            email?: string;
            /** For <@U0123456789> in a text, and for open_conversation */
            id: string;
            is_admin?: boolean;
            is_bot?: boolean;
            name: string;
            real_name?: string;
            title?: string;
            tz?: string;
          }[];
        };
      };
      /** Find a person by the address of their account (scope users:read.email) */
      find_user_by_email: {
        input: {
          /** Address of the person */
          email: string;
        };
        output: {
          /** Whether the account was deactivated */
          deleted?: boolean;
          display_name?: string;
          /** Only with the scope users:read.email */
          email?: string;
          /** For <@U0123456789> in a text, and for open_conversation */
          id: string;
          is_admin?: boolean;
          is_bot?: boolean;
          name: string;
          real_name?: string;
          title?: string;
          tz?: string;
        };
      };
      /** Open a direct message with one person or several and get its ID, which send_message takes as channel (scope im:write, for several mpim:write) */
      open_conversation: {
        input: {
          /** IDs of the people, without the bot */
          users: string[];
        };
        output: {
          /** ID of the conversation */
          channel: string;
        };
      };
    };
  };
}
