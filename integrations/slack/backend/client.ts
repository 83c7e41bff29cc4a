/**
 * Slack clients, one per token and address, so that connections are reused. Retrying is the platform's business: the SDK
 * reports every failure at once.
 */
import { LogLevel, WebClient } from "@slack/web-api";

const DEFAULT_API_URL = "https://slack.com/api/";
const TIMEOUT_MS = 20_000;
const MAX_CLIENTS = 50;

const clients = new Map<string, WebClient>();

export interface SlackConfig {
  botToken?: string | undefined;
  signingSecret?: string;
  apiUrl?: string;
}

/** The client for a configuration. Throws where it is incomplete. */
export function clientFor({ botToken, apiUrl: configured }: SlackConfig): WebClient {
  if (!botToken) throw notConfigured("save botToken in the integration's configuration");
  const apiUrl = configured || DEFAULT_API_URL;
  if (!URL.canParse(apiUrl)) throw notConfigured(`apiUrl is not a URL; remove it or use ${DEFAULT_API_URL}`);
  const key = `${apiUrl} ${botToken}`;
  const client = clients.get(key) ?? makeClient(botToken, apiUrl);
  // Last used goes last, so the first one is the one to drop.
  clients.delete(key);
  clients.set(key, client);
  if (clients.size > MAX_CLIENTS) clients.delete(clients.keys().next().value ?? key);
  return client;
}

function notConfigured(remedy: string): Error {
  return new ActionError(`Slack is not configured: ${remedy}.`, { code: "not_configured", category: "Auth" });
}

function makeClient(token: string, slackApiUrl: string): WebClient {
  return new WebClient(token, {
    slackApiUrl,
    timeout: TIMEOUT_MS,
    retryConfig: { retries: 0 },
    rejectRateLimitedCalls: true,
    allowAbsoluteUrls: false,
    logLevel: LogLevel.ERROR,
  });
}
