//! `/api/v1/service-accounts*`: accounts of machines, their keys, and who owns them.

use chrono::Duration;
use serde_json::{Value, json};
use weft_server::ServeArgs;
use weft_testkit::{Answer, Api, TestServer, server::url};

use crate::{
    auth::members,
    fixtures::eventually,
    oauth::{Account, form, token},
};

const ACCOUNTS: &str = "/api/v1/service-accounts";
const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";

async fn create(api: &Api, slug: &str) -> Answer {
    api.post(ACCOUNTS, json!({ "slug": slug })).await
}

async fn create_key(api: &Api, account: &str, body: Value) -> Answer {
    api.post(&format!("{ACCOUNTS}/{account}/credentials"), body).await
}

async fn id(user: &Api) -> String {
    user.get("/api/v1/auth/me").await.expect(200).text("/id")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_begins_without_permissions_and_belongs_to_who_made_it() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let created = alice.post(ACCOUNTS, json!({ "slug": "ci-bot", "displayName": "CI" })).await.expect(201);
    assert_eq!(members(&created.json), ["email", "id"]);
    assert_eq!(created.text("/email"), "sa+ci-bot@localhost");
    let list = alice.get(ACCOUNTS).await.expect(200);
    assert_eq!(list.value("/0/ownerOfRecord"), json!(id(&alice).await));
    assert_eq!(list.value("/0/disabled"), json!(false));
    let held = alice.get(&format!("/api/v1/permissions/{}", created.text("/id"))).await.expect(200);
    assert_eq!(held.json, json!({ "roles": [], "permissions": [] }));
    let people = alice.get("/api/v1/users").await.expect(200);
    assert_eq!(people.json.as_array().map(Vec::len), Some(1), "machines are not among the people");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_follows_its_rule_and_is_taken_once() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for slug in ["", "CI", "ci bot", "ci+bot", &"a".repeat(49)] {
        assert_eq!(create(&alice, slug).await.expect(400).code(), "validation_failed", "{slug}");
    }
    create(&alice, "ci").await.expect(201);
    assert_eq!(create(&alice, "ci").await.expect(400).text("/error"), "service account 'ci' already exists");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_several_are_valid_at_once() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let account = create(&alice, "ci").await.expect(201).text("/id");
    let first = create_key(&alice, &account, json!({ "name": "laptop" })).await.expect(201);
    assert_eq!(members(&first.json), ["expiresAt", "id", "key", "note", "prefix"]);
    let key = first.text("/key");
    assert!(key.starts_with("wsk_") && key.len() == 47 && key.starts_with(&first.text("/prefix")), "{key}");
    let second = create_key(&alice, &account, json!({ "name": "server", "expiresInDays": 1 })).await.expect(201);
    for key in [key.clone(), second.text("/key")] {
        token(&server, &account, &key).await.expect(200);
    }
    let listed = alice.get(&format!("{ACCOUNTS}/{account}/credentials")).await.expect(200);
    let names: Vec<_> = listed.json.as_array().into_iter().flatten().map(|key| key["name"].clone()).collect();
    assert_eq!(names, [json!("server"), json!("laptop")]);
    assert!(!String::from_utf8_lossy(&listed.bytes).contains(&key), "never again");
    assert!(listed.value("/0/lastUsedAt").is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_expires_and_its_tokens_expire_with_it() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let account = create(&alice, "ci").await.expect(201).text("/id");
    let key = create_key(&alice, &account, json!({ "name": "k", "expiresInDays": 0 })).await.expect(201).text("/key");
    server.advance(Duration::days(1) - Duration::minutes(5));
    let late = token(&server, &account, &key).await.expect(200);
    assert!(late.value("/expires_in").as_i64().is_some_and(|seconds| seconds <= 300), "{late:?}");
    let machine = server.anonymous().with_token(late.text("/access_token"));
    machine.get("/api/v1/auth/me").await.expect(200);
    server.advance(Duration::minutes(6));
    machine.get("/api/v1/auth/me").await.expect(401);
    assert_eq!(token(&server, &account, &key).await.expect(401).text("/error"), "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_off_revoking_and_deleting_act_at_once_on_every_node() {
    // Nodes behind one address have one name, and take each other's tokens.
    let public_url = Some("https://weft.example.com".to_owned());
    let server = TestServer::start_with(ServeArgs { public_url, ..ServeArgs::default() }).await;
    let alice = server.user("alice").await;
    let (second, _data_dir) = server.second_node().await;
    let refused = async |machine: &Api, here: u16| {
        machine.get("/api/v1/auth/me").await.expect(here);
        let there = machine.clone().at(url(&second));
        eventually("the second node follows", async || (there.get("/api/v1/auth/me").await.status == here).then_some(())).await;
    };
    let account = Account::create(&alice, "ci", &[]).await;
    let machine = account.login(&server).await;
    refused(&machine, 200).await;

    alice.post(&format!("{ACCOUNTS}/{}/disable", account.id), json!({})).await.expect(200);
    refused(&machine, 401).await;
    token(&server, &account.id, &account.key).await.expect(401);
    alice.post(&format!("{ACCOUNTS}/{}/enable", account.id), json!({})).await.expect(200);
    refused(&machine, 200).await;

    let keys = alice.get(&format!("{ACCOUNTS}/{}/credentials", account.id)).await.text("/0/id");
    alice.delete(&format!("{ACCOUNTS}/{}/credentials/{keys}", account.id)).await.expect(200);
    refused(&machine, 401).await;
    token(&server, &account.id, &account.key).await.expect(401);

    let other = Account::create(&alice, "other", &[]).await;
    let machine = other.login(&server).await;
    refused(&machine, 200).await;
    alice.delete(&format!("{ACCOUNTS}/{}", other.id)).await.expect(200);
    refused(&machine, 401).await;
    second.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hands_out_a_key_to_more_than_they_hold() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.grant(&alice, &bob, &["admin:service_accounts.manage", "app:crm:*"]).await;
    let account = Account::create(&alice, "ci", &["app:crm:invoke"]).await;
    create_key(&bob, &account.id, json!({ "name": "k" })).await.expect(201);
    account.grant(&alice, &["app:crm:invoke", "admin:secrets.manage"]).await;
    let answer = create_key(&bob, &account.id, json!({ "name": "k" })).await.expect(403);
    assert!(answer.text("/error").contains("admin:secrets.manage"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_for_an_account_hands_it_over_before_leaving() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.grant(&alice, &bob, &["admin:service_accounts.manage"]).await;
    let account = create(&bob, "ci").await.expect(201).text("/id");
    let bob_id = id(&bob).await;
    assert_eq!(alice.delete(&format!("/api/v1/users/{bob_id}")).await.expect(409).code(), "conflict");
    let transfer = async |to: &str| {
        let path = format!("{ACCOUNTS}/{account}/transfer-ownership");
        alice.post(&path, json!({ "new_owner": to })).await
    };
    assert_eq!(transfer(&account).await.expect(400).code(), "validation_failed", "a machine answers for nothing");
    transfer(NOBODY).await.expect(400);
    let alice_id = id(&alice).await;
    assert_eq!(transfer(&alice_id).await.expect(200).json, json!({ "id": account, "owner_of_record": alice_id }));
    alice.delete(&format!("/api/v1/users/{bob_id}")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_and_keys_have_their_limits() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for answer in [
        alice.delete(&format!("{ACCOUNTS}/{NOBODY}")).await,
        alice.delete(&format!("{ACCOUNTS}/{}", id(&alice).await)).await,
        alice.post(&format!("{ACCOUNTS}/{NOBODY}/disable"), json!({})).await,
        alice.get(&format!("{ACCOUNTS}/{NOBODY}/credentials")).await,
        create_key(&alice, NOBODY, json!({ "name": "k" })).await,
    ] {
        assert_eq!(answer.expect(404).code(), "not_found");
    }
    let account = create(&alice, "ci").await.expect(201).text("/id");
    create_key(&alice, &account, json!({ "name": " " })).await.expect(400);
    for number in 0..20 {
        create_key(&alice, &account, json!({ "name": format!("k{number}") })).await.expect(201);
    }
    assert_eq!(create_key(&alice, &account, json!({ "name": "k" })).await.expect(409).code(), "conflict");
    alice.delete(&format!("{ACCOUNTS}/{account}/credentials/{NOBODY}")).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_acts_with_its_roles_and_its_runs_carry_its_name() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    server.deploy(&alice, &crate::fixtures::integration("echo", &["echo"]), "export async function echo() {}").await;
    let account = Account::create(&alice, "ci", &["integration:echo:*"]).await;
    let machine = account.login(&server).await;
    machine.call("echo", "echo", json!({})).await;
    let runs = alice.runs("echo", 1).await;
    assert_eq!(runs[0]["principal"]["kind"], json!("service_account"));
    assert_eq!(runs[0]["principal"]["email"], json!("sa+ci@localhost"));
    account.grant(&alice, &[]).await;
    machine.call("echo", "echo", json!({})).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_person_changes_passwords_and_tenants() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let machine = Account::create(&alice, "ci", &["*"]).await.login(&server).await;
    machine.post("/api/v1/auth/switch", json!({ "tenant": "default" })).await.expect(403);
    let change = json!({ "currentPassword": "x", "newPassword": "N3wPassword!" });
    machine.put("/api/v1/auth/password", change).await.expect(403);
    let me = machine.get("/api/v1/auth/me").await.expect(200);
    assert_eq!((me.text("/kind").as_str(), me.text("/tenant").as_str()), ("service_account", "default"));
    // What it creates is answered for by the person who answers for it.
    let made = create(&machine, "child").await.expect(201).text("/id");
    let list = alice.get(ACCOUNTS).await.expect(200).json;
    let child = list.as_array().into_iter().flatten().find(|account| account["id"] == json!(made)).cloned();
    assert_eq!(child.map(|account| account["ownerOfRecord"].clone()), Some(json!(id(&alice).await)));
    let wrong = form(&server, "/api/v1/auth/token", &[("grant_type", "client_credentials")]).await;
    assert_eq!(wrong.expect(401).text("/error"), "invalid_client");
}
