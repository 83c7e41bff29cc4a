//! `/oauth/token`, `/api/v1/auth/token`, the published keys, and how tokens of machines are checked.

use std::{path::Path, process::Stdio};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::Duration;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::process::Command;
use weft_server::ServeArgs;
use weft_testkit::{Answer, Api, TestServer, server::url};

use crate::fixtures::eventually;

const ME: &str = "/api/v1/auth/me";
const ROTATE: &str = "/api/v1/auth/signing-keys/rotate";

/// A service account with a key.
pub struct Account {
    pub id: String,
    pub key: String,
}

impl Account {
    /// A service account whose role grants exactly these permissions.
    pub async fn create(administrator: &Api, slug: &str, permissions: &[&str]) -> Self {
        let id = administrator.post("/api/v1/service-accounts", json!({ "slug": slug })).await.expect(201).text("/id");
        let path = format!("/api/v1/service-accounts/{id}/credentials");
        let key = administrator.post(&path, json!({ "name": "test" })).await.expect(201).text("/key");
        let account = Self { id, key };
        account.grant(administrator, permissions).await;
        account
    }

    pub async fn grant(&self, administrator: &Api, permissions: &[&str]) {
        let role = format!("role-of-{}", self.id);
        let _ = administrator.delete(&format!("/api/v1/roles/{role}")).await;
        administrator.post("/api/v1/roles", json!({ "name": role, "permissions": permissions })).await.expect(200);
        administrator.post("/api/v1/roles/assign", json!({ "userId": self.id, "role": role })).await.expect(200);
    }

    /// A client with a token that carries all that the account may do.
    pub async fn login(&self, server: &TestServer) -> Api {
        let answer = token(server, &self.id, &self.key).await.expect(200);
        server.anonymous().with_token(answer.text("/access_token"))
    }

    /// Asks for a token that carries these scopes only.
    pub async fn scoped(&self, server: &TestServer, scope: &str) -> Answer {
        let fields = [("client_id", self.id.as_str()), ("client_secret", self.key.as_str()), ("scope", scope)];
        form(server, "/oauth/token", &[&[("grant_type", "client_credentials")], &fields[..]].concat()).await
    }
}

/// Sends a form without a token.
pub async fn form(server: &TestServer, path: &str, fields: &[(&str, &str)]) -> Answer {
    let api = server.anonymous();
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    let request = api.request(Method::POST, path).header("content-type", "application/x-www-form-urlencoded");
    api.send(request.body(body.finish())).await
}

/// Asks for a token with the credentials in the form.
pub async fn token(server: &TestServer, client: &str, key: &str) -> Answer {
    let fields = [("grant_type", "client_credentials"), ("client_id", client), ("client_secret", key)];
    form(server, "/api/v1/auth/token", &fields).await
}

async fn basic(server: &TestServer, credentials: &str, fields: &[(&str, &str)]) -> Answer {
    let api = server.anonymous();
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    let request = api.request(Method::POST, "/oauth/token").header("content-type", "application/x-www-form-urlencoded");
    let header = format!("Basic {}", STANDARD.encode(credentials));
    api.send(request.header("authorization", header).body(body.finish())).await
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_exchanged_for_a_token_by_form_and_by_basic() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let account = Account::create(&alice, "ci", &["app:crm:*"]).await;
    let grant = ("grant_type", "client_credentials");
    let by_basic = basic(&server, &format!("{}:{}", account.id, account.key), &[grant]).await;
    for answer in [token(&server, &account.id, &account.key).await, by_basic] {
        let answer = answer.expect(200);
        assert_eq!(crate::auth::members(&answer.json), ["access_token", "expires_in", "token_type"]);
        assert_eq!((answer.text("/token_type").as_str(), answer.value("/expires_in")), ("Bearer", json!(900)));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let claims = claims(&answer.text("/access_token"));
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(account.id), &json!(account.id)));
        assert_eq!((&claims["tenantId"], &claims["iss"]), (&json!("default"), &json!(server.url())));
        let machine = server.anonymous().with_token(answer.text("/access_token"));
        assert_eq!(machine.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["app:crm:*"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_a_token_is_one_of_rfc_6749() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let account = Account::create(&alice, "ci", &["connections:read"]).await;
    let (id, key) = (account.id.as_str(), account.key.as_str());
    let grant = ("grant_type", "client_credentials");
    let both = format!("{id}:{key}");
    for (answer, status, error) in [
        (form(&server, "/oauth/token", &[]).await, 400, "invalid_request"),
        (form(&server, "/oauth/token", &[("grant_type", "password")]).await, 400, "unsupported_grant_type"),
        (form(&server, "/oauth/token", &[grant]).await, 401, "invalid_client"),
        (form(&server, "/oauth/token", &[grant, ("client_id", id)]).await, 401, "invalid_client"),
        (token(&server, id, "wsk_wrong").await, 401, "invalid_client"),
        (token(&server, "no-id", key).await, 401, "invalid_client"),
        (token(&server, "018f0000-0000-7000-8000-000000000000", key).await, 401, "invalid_client"),
        (form(&server, "/oauth/token", &[grant, grant]).await, 400, "invalid_request"),
        (basic(&server, &both, &[grant, ("client_secret", key)]).await, 400, "invalid_request"),
        (basic(&server, &both, &[grant, ("client_id", "other")]).await, 400, "invalid_request"),
        (basic(&server, "no colon", &[grant]).await, 401, "invalid_client"),
        (account.scoped(&server, "openid PROFILE").await, 400, "invalid_scope"),
        (account.scoped(&server, "integration.connections.write").await, 400, "invalid_scope"),
        (server.anonymous().post("/oauth/token", json!({ "grant_type": "client_credentials" })).await, 400, "invalid_request"),
    ] {
        assert_eq!((answer.status, answer.text("/error").as_str()), (status, error), "{answer:?}");
        assert!(!answer.text("/error_description").is_empty() && !answer.code().is_empty());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(key));
    }
    let challenge = basic(&server, &format!("{id}:wrong"), &[grant]).await.expect(401);
    assert_eq!(challenge.header("www-authenticate"), Some("Basic realm=\"weft\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_token_does_no_more_than_its_scopes_and_no_more_than_its_account() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let account = Account::create(&alice, "ci", &["admin:*", "connections:read"]).await;
    let answer = account.scoped(&server, "integration.runs.read  admin:secrets.manage integration.runs.read").await.expect(200);
    assert_eq!(answer.text("/scope"), "admin:secrets.manage integration.runs.read", "each once, in order");
    let machine = server.anonymous().with_token(answer.text("/access_token"));
    let held = async || machine.get("/api/v1/permissions").await.expect(200).value("/permissions");
    assert_eq!(held().await, json!(["admin:runs.read", "admin:secrets.manage"]));
    machine.get("/api/v1/platform/secrets").await.expect(200);
    let refused = machine.get("/api/v1/service-accounts").await.expect(403);
    assert_eq!(refused.value("/requires"), json!(["admin:service_accounts.manage"]));
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"admin:service_accounts.manage\"";
    assert_eq!(refused.header("www-authenticate"), Some(challenge));
    account.grant(&alice, &["admin:runs.read"]).await;
    assert_eq!(held().await, json!(["admin:runs.read"]), "what the account loses its tokens lose");
}

#[tokio::test(flavor = "multi_thread")]
async fn well_known_client_libraries_get_tokens_and_check_them() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let account = Account::create(&alice, "ci", &["connections:*"]).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let bun = weft_server::find_bun(Some(&root.join("runtime"))).expect("Bun, from `make runtime`");
    let output = Command::new(bun)
        .arg(root.join("js/interop/oauth.ts"))
        .env("ISSUER", server.url())
        .env("CLIENT_ID", &account.id)
        .env("CLIENT_SECRET", &account.key)
        .env("SCOPE", "integration.connections.read")
        .stdin(Stdio::null())
        .output()
        .await
        .expect("Bun runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(seen["narrowed"], json!({ "scope": "integration.connections.read", "expiresIn": 900, "tokenType": "bearer" }));
    assert_eq!(seen["metadata"]["scopes"].as_array().map(Vec::len), Some(7));
    let claims = (&seen["claims"]["tenantId"], &seen["claims"]["sub"], &seen["claims"]["scope"]);
    assert_eq!(claims, (&json!("default"), &json!(account.id), &json!("integration.connections.read")));
    assert_eq!((&seen["namedByThumbprint"], &seen["signedWithPublished"]), (&json!(true), &json!(true)));
    assert_eq!((&seen["wrongKey"], &seen["foreignScope"]), (&json!("401 basic"), &json!("400 invalid_scope")));
    let whole = server.anonymous().with_token(seen["whole"]["token"].as_str().unwrap_or_default());
    assert_eq!(whole.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["connections:*"]));
}

/// A token with another header, claim or signature.
fn forged(token: &str, change: impl Fn(&mut Value, &mut Value)) -> String {
    let mut parts = token.split('.');
    let (header, body, signature) =
        (parts.next().expect("a header"), parts.next().expect("a body"), parts.next().expect("a signature"));
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON");
    let (mut header, mut body) = (read(header), read(body));
    change(&mut header, &mut body);
    let write = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", write(&header), write(&body))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_another_algorithm_key_kind_or_claim_is_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let account = Account::create(&alice, "ci", &["*"]).await;
    let machine = token(&server, &account.id, &account.key).await.expect(200).text("/access_token");
    let person = alice.token.clone().unwrap_or_default();
    let refused = async |token: String| {
        let answer = server.anonymous().with_token(token.clone()).get(ME).await;
        assert_eq!(answer.status, 401, "{token}: {answer:?}");
    };
    for token in [&machine, &person] {
        server.anonymous().with_token(token.clone()).get(ME).await.expect(200);
        for alg in ["none", "HS256", "HS384", "ES256", "ES384", "RS256", "EdDSA", "rot13"] {
            if *token == person && alg == "HS256" || *token == machine && alg == "ES256" {
                continue;
            }
            refused(forged(token, |header, _| header["alg"] = json!(alg))).await;
        }
        let unsigned = forged(token, |header, _| header["alg"] = json!("none"));
        refused(format!("{}.", unsigned.rsplit_once('.').expect("three parts").0)).await;
        for claim in ["sub", "exp", "tenantId", "iat"] {
            refused(forged(token, |_, body| _ = body.as_object_mut().expect("claims").remove(claim))).await;
        }
        refused(forged(token, |_, body| body["tenantId"] = json!("other"))).await;
        refused(forged(token, |header, _| header["typ"] = json!("other+jwt"))).await;
        refused(forged(token, |header, _| header["kid"] = json!("other"))).await;
        for cut in 1..token.len() {
            if cut % 37 == 0 {
                refused(token.get(..cut).unwrap_or_default().to_owned()).await;
            }
        }
    }
    // The published key is no secret: neither its document nor its coordinates serve as the secret of an HMAC.
    let published = server.anonymous().get("/.well-known/jwks.json").await.expect(200);
    let jwk = published.value("/keys/0");
    for secret in [jwk.to_string(), published.text("/keys/0/x"), String::from_utf8_lossy(&published.bytes).into_owned()] {
        let mut parts = person.split('.');
        let signed = format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
        mac.update(signed.as_bytes());
        refused(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_published_before_it_signs_and_after_it_stopped() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let account = Account::create(&alice, "ci", &[]).await;
    let kids = async || {
        let answer = server.anonymous().get("/.well-known/jwks.json").await.expect(200);
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        let keys = answer.value("/keys").as_array().cloned().unwrap_or_default();
        keys.iter().map(|key| key["kid"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let signer = async || {
        let token = token(&server, &account.id, &account.key).await.expect(200).text("/access_token");
        let header = token.split('.').next().unwrap_or_default().to_owned();
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).expect("base64")).expect("JSON");
        (header["kid"].as_str().unwrap_or_default().to_owned(), server.anonymous().with_token(token))
    };
    let (first, machine) = signer().await;
    assert_eq!(kids().await, [first.as_str()]);

    let second = alice.post(ROTATE, json!({})).await.expect(200).text("/id");
    assert!(kids().await.contains(&second), "published before it signs");
    assert_eq!(signer().await.0, first);
    server.advance(Duration::minutes(11));
    let (now, newer) = signer().await;
    assert_eq!(now, second);
    for machine in [&machine, &newer] {
        machine.get(ME).await.expect(200);
    }
    assert!(kids().await.contains(&first), "tokens of it may still be about");
    server.advance(Duration::hours(2));
    assert_eq!(kids().await, [second.as_str()], "nothing that the old key signed is good any more");

    let (_, machine) = signer().await;
    let third = alice_again(&server).await.post(ROTATE, json!({ "revoke": true })).await.expect(200).text("/id");
    assert_eq!(kids().await, [third.as_str()]);
    machine.get(ME).await.expect(401);
    assert_eq!(signer().await.0, third);
    let all = alice_again(&server).await.get("/api/v1/auth/signing-keys").await.expect(200);
    let ids: Vec<_> = all.json.as_array().into_iter().flatten().map(|key| key["id"].clone()).collect();
    assert_eq!(ids, [json!(third), json!(second), json!(first)], "what they signed may still have to be checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_withdrawn_before_it_signed_takes_none_with_it() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let account = Account::create(&alice, "ci", &[]).await;
    alice.post(ROTATE, json!({})).await.expect(200);
    server.advance(Duration::minutes(1));
    alice.post(ROTATE, json!({ "revoke": true })).await.expect(200);
    server.advance(Duration::hours(2));
    account.login(&server).await.get(ME).await.expect(200);
}

/// The administrator's access token does not outlive the clock's jumps.
async fn alice_again(server: &TestServer) -> Api {
    server.login("alice@example.com").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_node_is_good_on_another_and_survives_a_restart() {
    // Nodes behind one address have one name.
    let public_url = Some("https://weft.example.com".to_owned());
    let mut server = TestServer::start_with(ServeArgs { public_url, ..ServeArgs::default() }).await;
    let alice = server.user("alice").await;
    let account = Account::create(&alice, "ci", &[]).await;
    let (second, _data_dir) = server.second_node().await;
    let there = account.login(&server).await.at(url(&second));
    there.get(ME).await.expect(200);

    let revoked = alice.post(ROTATE, json!({ "revoke": true })).await.expect(200);
    eventually("the second node withdraws the key", async || (there.get(ME).await.status == 401).then_some(())).await;
    let machine = account.login(&server).await;
    machine.clone().at(url(&second)).get(ME).await.expect(200);
    second.stop().await.expect("stopped");
    server.restart().await;
    let keys = server.anonymous().get("/.well-known/jwks.json").await.expect(200);
    assert_eq!((keys.text("/keys/0/kid"), keys.value("/keys/1")), (revoked.text("/id"), Value::Null));
    machine.at(server.url()).get(ME).await.expect(200);
}
