// Made from manifest.json by `weft types`; changes are lost.

interface IntegrationManifest {
  slack: {
    config: {
      /** Only to be changed for tests or a proxy. */
      apiUrl: string;
      /** Starts with xoxb-. Slack app settings, OAuth & Permissions; needs the scope chat:write. */
      botToken: string;
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
    };
  };
}
