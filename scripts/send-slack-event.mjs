#!/usr/bin/env node
/**
 * Posts an event to a webhook the way Slack does, signed with version 0 of its request signature, and prints
 * `{"status", "body"}`. Exits with 1 only when there is no answer at all.
 *
 * usage: node scripts/send-slack-event.mjs <url> --secret-file <file> [--text <text>] [--forged]
 */
import { createHmac, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { "secret-file": { type: "string" }, text: { type: "string" }, forged: { type: "boolean" } },
});
const [url] = positionals;
if (!url || !values["secret-file"]) {
  console.error("usage: node scripts/send-slack-event.mjs <url> --secret-file <file> [--text <text>] [--forged]");
  process.exit(2);
}

const secret = readFileSync(values["secret-file"], "utf8").trim();
const now = Math.floor(Date.now() / 1000);
const body = JSON.stringify({
  type: "event_callback",
  team_id: "T0000000001",
  event_id: `Ev${now}`,
  event_time: now,
  event: { type: "message", channel: "C0000000001", user: "U0000000002", ts: `${now}.000100`, text: values.text ?? "Hello" },
});
// A forger knows everything except the secret.
const key = values.forged ? randomBytes(16).toString("hex") : secret;
const signature = createHmac("sha256", key).update(`v0:${now}:${body}`).digest("hex");

const response = await fetch(url, {
  method: "POST",
  headers: {
    "content-type": "application/json",
    "x-slack-request-timestamp": String(now),
    "x-slack-signature": `v0=${signature}`,
  },
  body,
  signal: AbortSignal.timeout(30_000),
});
console.log(JSON.stringify({ status: response.status, body: await response.text() }));
