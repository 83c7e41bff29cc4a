// An OpenID provider for tests: oidc-provider with a login page of its own, and a way to lie.
//
//   node provider.mjs <redirect URI of the client>
//
// Prints `{"issuer": …}` on stdout once it listens, then obeys one JSON command per line on stdin and answers each with one
// line on stdout:
//
//   {"account": {"sub": "alice", "email": …}}   who may log in, and with which claims
//   {"rotate": true}                            replaces the signing key; the old one is gone
//   {"tamper": {"claims": {…}, "header": {…}}}  changes every ID token from now on; {"tamper": null} ends it
//   {"sign": {"claims": {…}, "header": {…}}}    answers an ID token for the client with these changes
//   {"plain": true}                             leaves e-mail and name to the userinfo endpoint, as the standard has it
//   {"count": "jwks"}                           answers how often the keys were fetched
//
// A header with `alg: none` makes a token without signature, one with `alg: HS256` a token whose secret is the public key.

import { createHmac, createPublicKey } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import * as jose from "jose";
import { Provider } from "oidc-provider";

// The library's notices must not end up among the answers.
console.info = console.error;

const CLIENT = { id: "weft", secret: "the client's secret" };
const redirectUri = process.argv[2];

const accounts = new Map();
const visits = { jwks: 0 };
let tamper = null;
let plain = false;
let key;
let handler;
let keys = 0;

const server = createServer((request, response) => handler(request, response));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

async function newKey() {
  keys += 1;
  const { privateKey } = await jose.generateKeyPair("RS256", { extractable: true });
  key = { ...(await jose.exportJWK(privateKey)), kid: `key-${keys}`, alg: "RS256", use: "sig" };
}

function newProvider() {
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: CLIENT.id,
        client_secret: CLIENT.secret,
        redirect_uris: [redirectUri, new URL("/api/v1/integrations/auth/callback", redirectUri).href],
        grant_types: ["authorization_code", "refresh_token"],
      },
    ],
    // Good once, whatever scopes were asked for.
    issueRefreshToken: () => true,
    rotateRefreshToken: true,
    jwks: { keys: [key] },
    cookies: { keys: ["a test has no secrets"] },
    claims: {
      openid: ["sub"],
      email: ["email", "email_verified"],
      profile: ["name", "preferred_username", "groups", "role"],
    },
    conformIdTokenClaims: plain,
    features: { devInteractions: { enabled: false }, revocation: { enabled: true } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_, id) => accounts.has(id) && { accountId: id, claims: () => accounts.get(id) },
    // Whoever logs in has agreed.
    async loadExistingGrant({ oidc }) {
      const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
      grant.addOIDCScope("openid email profile");
      await grant.save();
      return grant;
    },
  });
  provider.use(interactions(provider));
  provider.use(async (context, next) => {
    if (context.path === "/jwks") visits.jwks += 1;
    await next();
    if (context.path === "/token" && context.body?.id_token && tamper) {
      context.body = { ...context.body, id_token: await changed(jose.decodeJwt(context.body.id_token), tamper) };
    }
  });
  handler = provider.callback();
}

/** A login page: any password will do for an account that is known; `Cancel` refuses. */
function interactions(provider) {
  return async (context, next) => {
    const [, uid, verb] = context.path.match(/^\/interaction\/([^/]+)(?:\/(login|cancel))?$/) ?? [];
    if (!uid) return next();
    if (verb === "cancel") {
      const result = { error: "access_denied", error_description: "the person said <no>" };
      return provider.interactionFinished(context.req, context.res, result, { mergeWithLastSubmission: false });
    }
    if (verb === "login") {
      const login = new URLSearchParams(await text(context.req)).get("login");
      return provider.interactionFinished(context.req, context.res, { login: { accountId: login } });
    }
    context.type = "html";
    context.body = `<!doctype html><title>Provider</title><form method="post" action="/interaction/${uid}/login">
      <input name="login" required><input name="password" type="password" required>
      <button name="submit">Sign in</button></form><a href="/interaction/${uid}/cancel">Cancel</a>`;
  };
}

async function changed(claims, { claims: newClaims = {}, header = {} }) {
  const body = Object.fromEntries(Object.entries({ ...claims, ...newClaims }).filter(([, value]) => value !== null));
  const head = { alg: "RS256", kid: key.kid, ...header };
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode(head)}.${encode(body)}`;
  if (head.alg === "none") return `${signed}.`;
  if (head.alg === "HS256") {
    const secret = createPublicKey({ key, format: "jwk" }).export({ type: "spki", format: "pem" });
    return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  }
  return new jose.SignJWT(body).setProtectedHeader(head).sign(await jose.importJWK(key, "RS256"));
}

const commands = {
  account: (claims) => {
    accounts.set(claims.sub, claims);
  },
  rotate: async () => {
    await newKey();
    newProvider();
  },
  tamper: (wanted) => {
    tamper = wanted;
  },
  plain: (wanted) => {
    plain = wanted;
    newProvider();
  },
  sign: async (wanted) => {
    const now = Math.floor(Date.now() / 1000);
    return changed({ iss: issuer, aud: CLIENT.id, iat: now, exp: now + 3600 }, wanted);
  },
  count: (what) => visits[what],
};

await newKey();
newProvider();
console.log(JSON.stringify({ issuer }));
for await (const line of createInterface({ input: process.stdin })) {
  const [[command, argument]] = Object.entries(JSON.parse(line));
  console.log(JSON.stringify({ result: (await commands[command](argument)) ?? null }));
}
process.exit(0);
