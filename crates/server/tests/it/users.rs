//! `/api/v1/users`.

use serde_json::json;
use weft_testkit::{Api, TestServer, server::url};

use crate::{fixtures::eventually, oauth::Account};

async fn id(user: &Api) -> String {
    user.get("/api/v1/auth/me").await.expect(200).text("/id")
}

async fn make_administrator(administrator: &Api, user: &Api) {
    let body = json!({ "userId": id(user).await, "role": "admin" });
    administrator.post("/api/v1/roles/assign", body).await.expect(200);
}

async fn delete(api: &Api, id: &str) -> weft_testkit::Answer {
    api.delete(&format!("/api/v1/users/{id}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_with_an_account_sees_the_users_in_order_of_their_addresses() {
    let server = TestServer::start().await;
    let users = [server.user("carol").await, server.user("alice").await, server.user("bob").await];
    let list = users[2].get("/api/v1/users").await.expect(200).json;
    let emails: Vec<_> = list.as_array().into_iter().flatten().filter_map(|user| user["email"].as_str()).collect();
    assert_eq!(emails, ["alice@example.com", "bob@example.com", "carol@example.com"]);
    assert_eq!(list[0]["id"], users[1].get("/api/v1/auth/me").await.json["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_found_by_id() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let found = bob.get(&format!("/api/v1/users/{}", id(&alice).await)).await.expect(200);
    assert_eq!(found.text("/email"), "alice@example.com");
    assert_eq!(bob.get("/api/v1/users/018f0000-0000-7000-8000-000000000000").await.expect(404).code(), "not_found");
    assert_eq!(bob.get("/api/v1/users/alice").await.expect(400).code(), "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_administrator_deletes_users() {
    let server = TestServer::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    server.grant(&alice, &bob, &["admin:secrets.manage"]).await;
    assert_eq!(delete(&bob, &id(&carol).await).await.expect(403).code(), "forbidden");
    let answer = delete(&alice, &id(&carol).await).await.expect(200);
    assert_eq!(answer.json, json!({ "message": "user deleted" }));
    assert_eq!(delete(&alice, "018f0000-0000-7000-8000-000000000000").await.expect(404).code(), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_user_is_refused_at_once_on_every_node() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let (second, _data_dir) = server.second_node().await;
    let there = bob.clone().at(url(&second));
    let bob_id = id(&bob).await;
    there.get("/api/v1/auth/me").await.expect(200);

    delete(&alice, &bob_id).await.expect(200);
    bob.get("/api/v1/auth/me").await.expect(401);
    bob.post("/api/v1/auth/refresh", json!({ "refreshToken": bob.refresh_token })).await.expect(401);
    alice.get(&format!("/api/v1/users/{bob_id}")).await.expect(404);
    let refused = async || (there.get("/api/v1/auth/me").await.status == 401).then_some(());
    eventually("the second node refuses the user", refused).await;
    second.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_registers_again_after_being_deleted_gets_nothing_of_the_old_account() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    make_administrator(&alice, &bob).await;
    delete(&alice, &id(&bob).await).await.expect(200);
    let again = server.user("bob").await;
    assert_eq!(again.get("/api/v1/permissions").await.expect(200).json, json!({ "roles": [], "permissions": [] }));
    bob.get("/api/v1/auth/me").await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_administrator_stays_and_a_former_one_may_go() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let alice_id = id(&alice).await;
    let refused = delete(&alice, &alice_id).await.expect(400);
    assert_eq!(refused.code(), "last_administrator");
    alice.get("/api/v1/auth/me").await.expect(200);
    let machine = Account::create(&alice, "ci", &[]).await;
    alice.post("/api/v1/roles/assign", json!({ "userId": machine.id, "role": "admin" })).await.expect(200);
    assert_eq!(delete(&alice, &alice_id).await.expect(400).code(), "last_administrator", "a machine is nobody to rely on");
    alice.delete(&format!("/api/v1/service-accounts/{}", machine.id)).await.expect(200);

    make_administrator(&alice, &bob).await;
    delete(&alice, &alice_id).await.expect(200);
    alice.get("/api/v1/auth/me").await.expect(401);
    assert_eq!(delete(&bob, &id(&bob).await).await.expect(400).code(), "last_administrator");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_administrators_who_delete_each_other_one_stays() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    make_administrator(&alice, &bob).await;
    let (alice_id, bob_id) = (id(&alice).await, id(&bob).await);
    let (first, second) = tokio::join!(delete(&alice, &bob_id), delete(&bob, &alice_id));
    // Who comes second is no user any more, or is told that the other one is the last.
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert!(matches!(statuses, [200, 400 | 401]), "{statuses:?}");
    let left = if first.status == 200 { &alice } else { &bob };
    assert_eq!(left.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["*"]));
}
