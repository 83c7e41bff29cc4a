/** Slack: posts messages through the official SDK and receives events. */
import type { SlackConfig } from "./client.ts";
import { receiveEvent } from "./events.ts";
import { sendMessage } from "./messages.ts";

defineIntegration<SlackConfig>({
  actions: { send_message: sendMessage },
  webhooks: { message: receiveEvent },
});
