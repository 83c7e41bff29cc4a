// A vendor with OAuth 1.0a (RFC 5849) whose signatures are checked by the package `oauth-1.0a`, and an API behind it that takes signed
// requests only, each nonce once. Everybody who comes to agree does so at once.
//
//   node oauth1.mjs <JSON: {"key": …, "secret": …, "method": "HMAC-SHA1" | "HMAC-SHA256" | "PLAINTEXT"}>
//
// Prints `{"url": …}` on stdout once it listens, then obeys one JSON command per line on stdin and answers each with one line:
//
//   {"refused": true}   why requests were refused so far
//   {"revoke": true}    does not take the tokens that are out any more

import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import OAuth from "oauth-1.0a";

const { key, secret, method } = JSON.parse(process.argv[2]);
const hash = { "HMAC-SHA1": "sha1", "HMAC-SHA256": "sha256" }[method];
const options = { consumer: { key, secret }, signature_method: method };
if (hash) {
  options.hash_function = (base, signingKey) => createHmac(hash, signingKey).update(base).digest("base64");
}
const verifier = new OAuth(options);

/** Secrets of tokens that are good: temporary ones with their verifiers, and those that stay. */
const temporary = new Map();
const tokens = new Map();
const nonces = new Set();
const refused = [];
let count = 0;

function protocolParameters(header) {
  const found = {};
  for (const [, name, value] of (header ?? "").matchAll(/(\w+)="([^"]*)"/g)) {
    found[name] = decodeURIComponent(value);
  }
  return found;
}

/** All parameters of some queries and forms, those of one name as a list. */
function parameters(...sources) {
  const all = {};
  for (const [name, value] of sources.flatMap((source) => [...new URLSearchParams(source)])) {
    all[name] = name in all ? [all[name], value].flat() : value;
  }
  return all;
}

/** Why a request is refused, or nothing. */
function fault(request, url, body, protocol) {
  const { oauth_signature: signature, realm: _, ...signed } = protocol;
  const known =
    signed.oauth_token === undefined
      ? ""
      : (temporary.get(signed.oauth_token)?.secret ?? tokens.get(signed.oauth_token));
  if (signed.oauth_consumer_key !== key) return "consumer_key_unknown";
  if (known === undefined) return "token_rejected";
  if (signed.oauth_signature_method !== method) return "signature_method_rejected";
  if (nonces.has(signed.oauth_nonce) || !Number(signed.oauth_timestamp)) return "nonce_used";
  nonces.add(signed.oauth_nonce);
  const isForm = request.headers["content-type"]?.startsWith("application/x-www-form-urlencoded");
  const data = parameters(url.search, isForm ? body : "");
  const expected = verifier.getSignature(
    { url: `${url.origin}${url.pathname}`, method: request.method, data },
    known,
    signed,
  );
  return signature === expected ? undefined : "signature_invalid";
}

function answer(request, url, body, response) {
  if (url.pathname === "/authorize") {
    const asked = temporary.get(url.searchParams.get("oauth_token"));
    const back = new URL(asked.callback);
    back.searchParams.set("oauth_token", url.searchParams.get("oauth_token"));
    back.searchParams.set("oauth_verifier", asked.verifier);
    return response.writeHead(302, { location: back.href }).end();
  }
  const protocol = protocolParameters(request.headers.authorization);
  const problem = fault(request, url, body, protocol);
  if (problem) {
    refused.push(problem);
    return response
      .writeHead(401, { "content-type": "application/x-www-form-urlencoded" })
      .end(`oauth_problem=${problem}`);
  }
  count += 1;
  const form = (values) =>
    response.writeHead(200, { "content-type": "text/plain" }).end(new URLSearchParams(values).toString());
  if (url.pathname === "/request_token") {
    temporary.set(`temporary-${count}`, {
      secret: `temporary secret & ${count}`,
      verifier: `v-${count}`,
      callback: protocol.oauth_callback,
    });
    return form({
      oauth_token: `temporary-${count}`,
      oauth_token_secret: `temporary secret & ${count}`,
      oauth_callback_confirmed: "true",
    });
  }
  if (url.pathname === "/access_token") {
    if (temporary.get(protocol.oauth_token)?.verifier !== protocol.oauth_verifier) {
      return response.writeHead(401).end("oauth_problem=verifier_invalid");
    }
    temporary.delete(protocol.oauth_token);
    tokens.set(`token-${count}`, `the token's secret/${count}`);
    return form({
      oauth_token: `token-${count}`,
      oauth_token_secret: `the token's secret/${count}`,
      screen_name: "ada",
    });
  }
  if (temporary.has(protocol.oauth_token) || !protocol.oauth_token) {
    return response.writeHead(401).end();
  }
  const told = { account: "ada", method: request.method, parameters: parameters(url.search), body };
  return response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(told));
}

const server = createServer(async (request, response) => {
  const body = await text(request);
  answer(request, new URL(request.url, `http://${request.headers.host}`), body, response);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const commands = {
  refused: () => refused,
  revoke: () => tokens.clear(),
};

console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` }));
for await (const line of createInterface({ input: process.stdin })) {
  const [[command, argument]] = Object.entries(JSON.parse(line));
  console.log(JSON.stringify({ result: (await commands[command](argument)) ?? null }));
}
process.exit(0);
