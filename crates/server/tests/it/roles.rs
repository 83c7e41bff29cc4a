//! `/api/v1/roles*` and `/api/v1/permissions*`.

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use weft_testkit::{Answer, Api, TestServer, server::url};

use crate::{auth::members, fixtures::eventually};

const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";

async fn id(user: &Api) -> String {
    user.get("/api/v1/auth/me").await.expect(200).text("/id")
}

async fn create(api: &Api, name: &str, inherits: &[&str], permissions: &[&str]) -> Answer {
    api.post("/api/v1/roles", json!({ "name": name, "inherits": inherits, "permissions": permissions })).await
}

async fn assign(api: &Api, user: &str, role: &str) -> Answer {
    api.post("/api/v1/roles/assign", json!({ "userId": user, "role": role })).await
}

async fn revoke(api: &Api, user: &str, role: &str) -> Answer {
    api.post("/api/v1/roles/revoke", json!({ "userId": user, "role": role })).await
}

async fn mine(api: &Api) -> Value {
    api.get("/api/v1/permissions").await.expect(200).json
}

async fn may_list_secrets(api: &Api) -> bool {
    match api.get("/api/v1/platform/secrets").await.status {
        200 => true,
        403 => false,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_created_listed_changed_and_deleted() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let body = json!({ "name": "sales", "description": "Sells", "inherits": ["base"], "permissions": ["app:crm:*"] });
    let answer = alice.post("/api/v1/roles", body.clone()).await.expect(200);
    assert_eq!(answer.json, json!({ "message": "role 'sales' created" }));
    let listed = async || alice.get("/api/v1/roles").await.expect(200).json;
    assert_eq!(listed().await[2], body);

    let change = json!({ "permissions": ["app:crm:invoke", "tool:*"] });
    let answer = alice.patch("/api/v1/roles/sales", change).await.expect(200);
    assert_eq!(answer.json, json!({ "message": "role 'sales' updated" }));
    let role = &listed().await[2];
    assert_eq!(role["permissions"], json!(["app:crm:invoke", "tool:*"]), "a list replaces what was there");
    assert_eq!((&role["description"], &role["inherits"]), (&json!("Sells"), &json!(["base"])), "the rest stays");

    let answer = alice.delete("/api/v1/roles/sales").await.expect(200);
    assert_eq!(answer.json, json!({ "message": "role 'sales' deleted" }));
    assert_eq!(listed().await.as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_server_has_the_roles_admin_and_base() {
    let server = TestServer::start().await;
    let roles = server.user("alice").await.get("/api/v1/roles").await.expect(200).json;
    let summary: Vec<_> = roles.as_array().into_iter().flatten().map(|role| (&role["name"], &role["permissions"])).collect();
    assert_eq!(summary, [(&json!("admin"), &json!(["*"])), (&json!("base"), &json!([]))]);
    assert_eq!(members(&roles[0]), ["description", "inherits", "name", "permissions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_administrator_changes_roles_and_sees_who_holds_them() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.grant(&alice, &bob, &["admin:secrets.manage", "app:*"]).await;
    let bob_id = id(&bob).await;
    for answer in [
        create(&bob, "sales", &[], &[]).await,
        bob.patch("/api/v1/roles/base", json!({ "permissions": ["*"] })).await,
        bob.delete("/api/v1/roles/base").await,
        bob.get("/api/v1/roles/assignments").await,
        assign(&bob, &bob_id, "admin").await,
        revoke(&bob, &bob_id, "admin").await,
        bob.get(&format!("/api/v1/permissions/{}", id(&alice).await)).await,
    ] {
        assert_eq!(answer.expect(403).code(), "forbidden");
    }
    bob.get("/api/v1/roles").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_must_not_be_is_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    create(&alice, "sales", &[], &[]).await.expect(200);
    let long = "x".repeat(129);
    for (name, permissions, message) in [
        ("", &[][..], "a role needs a name"),
        ("  ", &[], "a role needs a name"),
        (&long, &[], "a role needs a name"),
        ("admin", &[], "the role 'admin' cannot be created"),
        ("sales", &[], "role 'sales' already exists"),
        ("other", &["tool:*", "App:crm"], "permission key 'App:crm' must be made of"),
        ("other", &["a,b"], "permission key 'a,b'"),
        ("other", &[""], "permission key ''"),
    ] {
        let answer = create(&alice, name, &[], permissions).await.expect(400);
        assert_eq!(answer.code(), "validation_failed");
        assert!(answer.text("/error").contains(message), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_role_must_not_have_is_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    create(&alice, "sales", &[], &[]).await.expect(200);
    for (name, change, status, message) in [
        ("sales", json!({}), 400, "no fields to update"),
        ("sales", json!({ "permissions": ["A"] }), 400, "permission key 'A'"),
        ("sales", json!({ "inherits": ["sales"] }), 400, "role hierarchy cycle involving 'sales'"),
        ("admin", json!({ "permissions": [] }), 400, "the role 'admin' cannot be"),
        ("admin", json!({ "inherits": ["sales"] }), 400, "the role 'admin' cannot be"),
        ("nobody", json!({ "description": "" }), 404, "role 'nobody' not found"),
    ] {
        let answer = alice.patch(&format!("/api/v1/roles/{name}"), change).await.expect(status);
        assert!(answer.text("/error").contains(message), "{answer:?}");
    }
    alice.patch("/api/v1/roles/admin", json!({ "description": "The boss" })).await.expect(200);
    assert!(alice.delete("/api/v1/roles/admin").await.expect(400).text("/error").contains("'admin' cannot be"));
    assert_eq!(alice.delete("/api/v1/roles/nobody").await.expect(404).code(), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_inherited_through_any_number_of_roles() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    create(&alice, "low", &[], &["tool:a"]).await.expect(200);
    create(&alice, "middle", &["low", "no_such_role"], &["tool:b"]).await.expect(200);
    create(&alice, "high", &["middle", "base"], &["tool:a", "tool:c"]).await.expect(200);
    assign(&alice, &id(&bob).await, "high").await.expect(200);
    let expected = json!({ "roles": ["base", "high", "low", "middle"], "permissions": ["tool:a", "tool:b", "tool:c"] });
    assert_eq!(mine(&bob).await, expected);
    assert_eq!(alice.get(&format!("/api/v1/permissions/{}", id(&bob).await)).await.expect(200).json, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_of_any_length_is_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    assert_eq!(create(&alice, "a", &["a"], &[]).await.expect(400).code(), "validation_failed");
    create(&alice, "a", &[], &[]).await.expect(200);
    create(&alice, "b", &["a"], &[]).await.expect(200);
    create(&alice, "c", &["b"], &[]).await.expect(200);
    let answer = alice.patch("/api/v1/roles/a", json!({ "inherits": ["c"] })).await.expect(400);
    assert_eq!(answer.text("/error"), "role hierarchy cycle involving 'a'");
    // A name may be inherited before there is such a role.
    create(&alice, "d", &["e"], &[]).await.expect(200);
    create(&alice, "e", &["d"], &[]).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_is_refused_even_when_both_halves_come_at_once() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut gate = PgConnection::connect(&server.database.url).await.expect("connected");
    let mut held = gate.begin().await.expect("begun");
    sqlx::query("select from roles for update").execute(&mut *held).await.expect("locked");

    let (first, second) = (alice.clone(), alice.clone());
    let first = tokio::spawn(async move { create(&first, "a", &["b"], &[]).await.status });
    let second = tokio::spawn(async move { create(&second, "b", &["a"], &[]).await.status });
    let mut watch = PgConnection::connect(&server.database.url).await.expect("connected");
    while waiting(&mut watch).await < 2 {
        tokio::task::yield_now().await;
    }
    held.commit().await.expect("released");
    let mut statuses = [first.await.expect("no panic"), second.await.expect("no panic")];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
}

/// Sessions of this database that wait for a lock.
async fn waiting(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
        .fetch_one(connection)
        .await
        .expect("counted")
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_and_taking_a_role_acts_on_the_next_request() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    create(&alice, "keeper", &[], &["admin:secrets.manage"]).await.expect(200);
    let bob_id = id(&bob).await;
    assert!(!may_list_secrets(&bob).await);
    let answer = assign(&alice, &bob_id, "keeper").await.expect(200);
    assert_eq!(answer.json, json!({ "message": "role 'keeper' assigned" }));
    assert!(may_list_secrets(&bob).await);
    let answer = revoke(&alice, &bob_id, "keeper").await.expect(200);
    assert_eq!(answer.json, json!({ "message": "role 'keeper' revoked" }));
    assert!(!may_list_secrets(&bob).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_or_deleting_a_role_acts_on_the_next_request_of_who_holds_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    create(&alice, "keeper", &[], &[]).await.expect(200);
    assign(&alice, &id(&bob).await, "keeper").await.expect(200);
    assert!(!may_list_secrets(&bob).await);
    alice.patch("/api/v1/roles/keeper", json!({ "permissions": ["admin:*"] })).await.expect(200);
    assert!(may_list_secrets(&bob).await);
    alice.delete("/api/v1/roles/keeper").await.expect(200);
    assert!(!may_list_secrets(&bob).await);
    // The assignment went with the role: a new one of that name starts with nobody.
    create(&alice, "keeper", &[], &["admin:*"]).await.expect(200);
    assert!(!may_list_secrets(&bob).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_taken_away_stops_to_act_on_the_other_node() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.grant(&alice, &bob, &["admin:secrets.manage"]).await;
    let (second, _data_dir) = server.second_node().await;
    let there = bob.clone().at(url(&second));
    assert!(may_list_secrets(&there).await);
    let bob_id = id(&bob).await;
    revoke(&alice, &bob_id, &format!("role-of-{bob_id}")).await.expect(200);
    eventually("the second node refuses", async || (!may_list_secrets(&there).await).then_some(())).await;
    second.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn assignments_are_listed_newest_first_and_giving_a_role_twice_is_giving_it_once() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let bob_id = id(&bob).await;
    for _ in 0..2 {
        assign(&alice, &bob_id, "base").await.expect(200);
    }
    let list = alice.get("/api/v1/roles/assignments").await.expect(200).json;
    let pairs: Vec<_> = list.as_array().into_iter().flatten().map(|entry| (&entry["userId"], &entry["role"])).collect();
    assert_eq!(pairs, [(&json!(bob_id), &json!("base")), (&json!(id(&alice).await), &json!("admin"))]);
    assert_eq!(members(&list[0]), ["assignedAt", "role", "userId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_needs_a_user_and_a_role_that_exist() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let bob_id = id(&bob).await;
    let answer = assign(&alice, &bob_id, "nothing").await.expect(400);
    assert_eq!(answer.text("/error"), "role 'nothing' not defined");
    assert_eq!(assign(&alice, NOBODY, "base").await.expect(404).code(), "not_found");
    assert_eq!(assign(&alice, "bob", "base").await.expect(400).value("/errors/0/path"), json!("$.userId"));
    assert_eq!(revoke(&alice, &bob_id, "base").await.expect(404).code(), "not_found");
    assert_eq!(revoke(&alice, NOBODY, "base").await.expect(404).code(), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_administrator_keeps_the_role() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let (alice_id, bob_id) = (id(&alice).await, id(&bob).await);
    assert_eq!(revoke(&alice, &alice_id, "admin").await.expect(400).code(), "last_administrator");
    assert_eq!(revoke(&alice, &bob_id, "admin").await.expect(404).code(), "not_found", "bob is none");
    assign(&alice, &bob_id, "admin").await.expect(200);
    revoke(&bob, &alice_id, "admin").await.expect(200);
    assert_eq!(mine(&alice).await, json!({ "roles": [], "permissions": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_their_own_permissions_and_administrators_those_of_others() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let (alice_id, bob_id) = (id(&alice).await, id(&bob).await);
    bob.get(&format!("/api/v1/permissions/{bob_id}")).await.expect(200);
    bob.get(&format!("/api/v1/permissions/{alice_id}")).await.expect(403);
    bob.get(&format!("/api/v1/permissions/{NOBODY}")).await.expect(403);
    alice.get(&format!("/api/v1/permissions/{bob_id}")).await.expect(200);
    alice.get(&format!("/api/v1/permissions/{NOBODY}")).await.expect(404);
    alice.get("/api/v1/permissions/bob").await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn available_permissions_are_those_that_the_caller_holds() {
    let server = TestServer::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    server.grant(&alice, &bob, &["admin:secrets.*", "admin:secrets.manage", "app:crm:*"]).await;
    let manifest = json!({ "appId": "crm", "name": "CRM", "version": "1.0.0" });
    alice.post("/api/v1/apps", manifest).await.expect(200);
    let keys = async |api: &Api| {
        let list = api.get("/api/v1/permissions/available").await.expect(200).json;
        let keys = list.as_array().into_iter().flatten().map(|entry| entry["key"].as_str().unwrap_or_default().to_owned());
        keys.collect::<Vec<_>>()
    };
    assert_eq!(keys(&carol).await, [""; 0]);
    let bobs = keys(&bob).await;
    assert!(bobs.contains(&"admin:secrets.manage".to_owned()) && bobs.contains(&"app:crm:invoke".to_owned()), "{bobs:?}");
    assert!(!bobs.contains(&"admin:vault.rotate".to_owned()), "{bobs:?}");
    let all = keys(&alice).await;
    assert!(all.contains(&"admin:vault.rotate".to_owned()) && bobs.iter().all(|key| all.contains(key)), "{all:?}");
}
