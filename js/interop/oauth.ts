// A client of the server's OAuth endpoints, made of well-known libraries: openid-client gets tokens, jose checks them the way a
// service behind the server would. The server's tests run it; it prints what it saw as one JSON document.

import { calculateJwkThumbprint, createRemoteJWKSet, jwtVerify } from "jose";
import * as oauth from "openid-client";

const { ISSUER = "", CLIENT_ID = "", CLIENT_SECRET = "", SCOPE = "" } = process.env;
const issuer = new URL(ISSUER);

async function discover(secret: string, method: oauth.ClientAuth) {
  // The test's server speaks plain HTTP on this machine.
  const options = { algorithm: "oauth2" as const, execute: [oauth.allowInsecureRequests] };
  return oauth.discovery(issuer, CLIENT_ID, secret, method, options);
}

async function refusal(secret: string, scope: string) {
  const config = await discover(secret, oauth.ClientSecretBasic(secret));
  try {
    await oauth.clientCredentialsGrant(config, { scope });
    return "none";
  } catch (error) {
    if (error instanceof oauth.ResponseBodyError) return `${error.status} ${error.error}`;
    if (error instanceof oauth.WWWAuthenticateChallengeError) return `${error.status} ${error.cause[0]?.scheme}`;
    throw error;
  }
}

const basic = await discover(CLIENT_SECRET, oauth.ClientSecretBasic(CLIENT_SECRET));
const form = await discover(CLIENT_SECRET, oauth.ClientSecretPost(CLIENT_SECRET));
const narrowed = await oauth.clientCredentialsGrant(basic, { scope: SCOPE });
const whole = await oauth.clientCredentialsGrant(form);

const metadata = basic.serverMetadata();
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri ?? ""));
const checks = { issuer: ISSUER, audience: ISSUER, typ: "at+jwt", algorithms: ["ES256"] };
const { payload, protectedHeader } = await jwtVerify(narrowed.access_token, keys, checks);
const published = (await (await fetch(metadata.jwks_uri ?? "")).json()) as { keys: { kid: string }[] };
const thumbprints = await Promise.all(published.keys.map((key) => calculateJwkThumbprint(key)));

console.log(
  JSON.stringify({
    metadata: { scopes: metadata.scopes_supported, grants: metadata.grant_types_supported },
    narrowed: { scope: narrowed.scope, expiresIn: narrowed.expires_in, tokenType: narrowed.token_type },
    whole: { token: whole.access_token, scope: whole.scope ?? null },
    claims: payload,
    namedByThumbprint: thumbprints.every((thumbprint, index) => thumbprint === published.keys[index]?.kid),
    signedWithPublished: thumbprints.includes(protectedHeader.kid ?? ""),
    wrongKey: await refusal("wsk_wrong", SCOPE),
    foreignScope: await refusal(CLIENT_SECRET, "admin:secrets.manage"),
  }),
);
