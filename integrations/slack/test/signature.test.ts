import { expect, test } from "bun:test";
import { verifySignature } from "../backend/signature.ts";

// The example in Slack's documentation of signed requests.
const SECRET = "8f742231b10e8888abcd99yyyzzz85a5";
const TIMESTAMP = 1531420618;
const SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
const BODY = Buffer.from(
  "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar" +
    "&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=" +
    "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN" +
    "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
);
const HEADERS = { "x-slack-request-timestamp": String(TIMESTAMP), "x-slack-signature": SIGNATURE };

test.each([0, 300, -300])("the documented request is accepted %d s later", (age) => {
  expect(verifySignature(SECRET, HEADERS, BODY, TIMESTAMP + age)).toEqual({ valid: true });
});

const refused: [string, Partial<{ secret: string; headers: object; body: Buffer; age: number }>, string][] = [
  ["another secret", { secret: "other" }, "does not match"],
  ["no secret", { secret: "" }, "no signing secret"],
  ["another body", { body: Buffer.concat([BODY, Buffer.from("&x=1")]) }, "does not match"],
  ["an old request", { age: 301 }, "more than five minutes ago or ahead"],
  ["a request from the future", { age: -301 }, "more than five minutes ago or ahead"],
  ["no timestamp", { headers: { "x-slack-request-timestamp": undefined } }, "is missing"],
  ["no signature", { headers: { "x-slack-signature": undefined } }, "is missing"],
  ["a timestamp in words", { headers: { "x-slack-request-timestamp": "now" } }, "not a Unix time"],
  ["a short signature", { headers: { "x-slack-signature": SIGNATURE.slice(0, -1) } }, "not of the form"],
  ["another version", { headers: { "x-slack-signature": SIGNATURE.replace("v0", "v1") } }, "not of the form"],
  ["another timestamp", { headers: { "x-slack-request-timestamp": String(TIMESTAMP + 1) } }, "does not match"],
];

test.each(refused)("%s is refused", (_, { secret = SECRET, headers = {}, body = BODY, age = 0 }, reason) => {
  const verdict = verifySignature(secret, { ...HEADERS, ...headers }, body, TIMESTAMP + age);
  expect(verdict).toEqual({ valid: false, reason: expect.stringContaining(reason) });
});
