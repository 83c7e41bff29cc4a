//! `/api/v1/tenants*`, and what a tenant is to those in it: where one logs in, what switching off and deleting do.

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use weft_testkit::{
    Answer, Api, TestServer,
    server::{PASSWORD, url},
};

use crate::{
    auth::members,
    fixtures::{app, eventually, integration, with},
    oauth::{Account, token},
    secrets::{PLATFORM, set},
};

const TENANTS: &str = "/api/v1/tenants";
const ME: &str = "/api/v1/auth/me";

async fn id(user: &Api) -> String {
    user.get(ME).await.expect(200).text("/id")
}

async fn login(server: &TestServer, body: Value) -> Answer {
    server.anonymous().post("/api/v1/auth/login", body).await
}

fn credentials(email: &str, tenant: &str) -> Value {
    json!({ "email": email, "password": PASSWORD, "tenant": tenant })
}

async fn state(platform: &Api, id: &str) -> Value {
    platform.get(&format!("{TENANTS}/{id}")).await.value("/status")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_made_with_its_administrator_who_is_shown_a_password_once() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let administrator = json!({ "email": "carol@acme.example", "displayName": "Carol" });
    let created = alice.post(TENANTS, json!({ "id": "acme", "name": "Acme", "administrator": administrator })).await.expect(201);
    assert_eq!(created.value("/tenant/status"), json!("active"));
    let password = created.text("/administrator/initialPassword");
    let carol = json!({ "email": "carol@acme.example", "password": password });
    let answer = login(&server, carol).await.expect(200);
    assert_eq!(answer.text("/tenant"), "acme", "the only one that she is a member of");
    let carol = server.anonymous().with_token(answer.text("/accessToken"));
    assert_eq!(carol.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["*"]));
    let roles = carol.get("/api/v1/roles").await.expect(200);
    assert_eq!((roles.text("/0/name"), roles.text("/1/name")), ("admin".into(), "base".into()));

    let change = json!({ "currentPassword": password, "newPassword": PASSWORD });
    carol.put("/api/v1/auth/password", change).await.expect(200);
    login(&server, json!({ "email": "carol@acme.example", "password": password })).await.expect(401);
    let list = alice.get(TENANTS).await.expect(200);
    assert_eq!(members(&list.value("/0")), ["createdAt", "id", "name", "status"]);
    assert_eq!((list.text("/0/id"), list.text("/0/name"), list.text("/1/id")), ("acme".into(), "Acme".into(), "default".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_must_not_be_is_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let create = async |id: &str, name: &str, email: &str| {
        alice.post(TENANTS, json!({ "id": id, "name": name, "administrator": { "email": email } })).await
    };
    for id in ["", "Acme", "a-b", "1a"] {
        assert_eq!(create(id, "x", "c@example.com").await.expect(400).code(), "validation_failed", "{id}");
    }
    create("acme", " ", "c@example.com").await.expect(400);
    assert_eq!(create("acme", "x", "carol").await.expect(400).value("/errors/0/path"), json!("$.email"));
    create("acme", "x", "c@example.com").await.expect(201);
    assert_eq!(create("acme", "x", "d@example.com").await.expect(409).code(), "conflict");
    alice.get(&format!("{TENANTS}/nowhere")).await.expect(404);
    for answer in [
        alice.post(&format!("{TENANTS}/default/disable"), json!({})).await,
        alice.delete(&format!("{TENANTS}/default?confirm=default")).await,
    ] {
        assert_eq!(answer.expect(409).code(), "conflict");
    }
    alice.get(ME).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_of_the_servers_own_tenant_manage_tenants() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.tenant(&alice, "acme", "carol").await;
    for somebody in [&bob, &carol] {
        for answer in [
            somebody.get(TENANTS).await,
            somebody.get(&format!("{TENANTS}/acme")).await,
            somebody.post(TENANTS, json!({ "id": "x", "administrator": { "email": "x@example.com" } })).await,
            somebody.post(&format!("{TENANTS}/acme/disable"), json!({})).await,
            somebody.delete(&format!("{TENANTS}/acme?confirm=acme")).await,
            somebody.post("/api/v1/vault/rotate-key", json!({})).await,
            somebody.post("/api/v1/auth/signing-keys/rotate", json!({})).await,
        ] {
            assert_eq!(answer.expect(403).code(), "forbidden");
        }
    }
    server.grant(&alice, &bob, &["platform:tenants.manage"]).await;
    bob.get(TENANTS).await.expect(200);
    server.grant(&carol, &carol, &["platform:tenants.manage"]).await;
    let refused = carol.get(TENANTS).await.expect(403);
    assert!(refused.text("/error").contains("'default'"), "{refused:?}");
    let keys = carol.get("/api/v1/permissions/available").await.expect(200);
    let listed = |key: &str| keys.json.as_array().into_iter().flatten().any(|entry| entry["key"] == key);
    assert!(listed("admin:secrets.manage") && !listed("platform:tenants.manage") && !listed("admin:vault.rotate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_several_tenants_chooses_one_or_gets_the_one_used_last() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    server.tenant(&alice, "acme", "bob").await;
    let tenant = |answer: Answer| answer.expect(200).text("/tenant");
    assert_eq!(tenant(login(&server, credentials("bob@example.com", "default")).await), "default");
    let anywhere = json!({ "email": "bob@example.com", "password": PASSWORD });
    assert_eq!(tenant(login(&server, anywhere.clone()).await), "default");
    server.advance(Duration::seconds(1));
    assert_eq!(tenant(login(&server, credentials("bob@example.com", "acme")).await), "acme");
    assert_eq!(tenant(login(&server, anywhere.clone()).await), "acme");

    for (body, status) in [
        (credentials("bob@example.com", "nowhere"), 403),
        (credentials("alice@example.com", "acme"), 403),
        (json!({ "email": "bob@example.com", "password": "Wr0ngPass!x", "tenant": "nowhere" }), 401),
    ] {
        login(&server, body).await.expect(status);
    }

    let me = server.login_to("default", "bob@example.com").await.get(ME).await.expect(200);
    let here = |answer: &Answer| {
        let list = answer.value("/memberships").as_array().cloned().unwrap_or_default();
        let mut names: Vec<_> = list.iter().map(|one| one["tenant"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort_unstable();
        (answer.text("/tenant"), names)
    };
    assert_eq!(here(&me), ("default".to_owned(), vec!["acme".to_owned(), "default".to_owned()]));
    let switched = bob.post("/api/v1/auth/switch", json!({ "tenant": "acme" })).await.expect(200);
    let there = server.anonymous().with_token(switched.text("/accessToken"));
    assert_eq!(here(&there.get(ME).await.expect(200)).0, "acme");
    assert_eq!(there.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["*"]));
    assert_eq!(bob.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!([]), "roles are per tenant");
    bob.post("/api/v1/auth/switch", json!({ "tenant": "nowhere" })).await.expect(403);
}

/// Makes a password one's own that an administrator chose.
pub async fn change_password(api: &Api, new: &str) {
    let change = json!({ "currentPassword": PASSWORD, "newPassword": new });
    api.put("/api/v1/auth/password", change).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_an_administrator_chose_opens_no_other_tenant_until_its_owner_replaces_it() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.tenant(&alice, "acme", "bob").await;
    let carol = server.tenant(&alice, "other", "carol").await;
    carol.post("/api/v1/users", json!({ "email": "bob@example.com" })).await.expect(201);
    login(&server, credentials("bob@example.com", "other")).await.expect(403);
    bob.post("/api/v1/auth/switch", json!({ "tenant": "other" })).await.expect(403);
    login(&server, credentials("bob@example.com", "acme")).await.expect(200);
    change_password(&bob, PASSWORD).await;
    login(&server, credentials("bob@example.com", "other")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_proved_nothing_to_the_whole_server_stays_in_its_tenant() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.tenant(&alice, "acme", "bob").await;
    change_password(&bob, PASSWORD).await;
    server.tenant(&alice, "other", "bob").await;
    let mut database = PgConnection::connect(&server.database.url).await.expect("connected");
    // As the single sign-on of the tenant `acme` leaves it.
    sqlx::query("update sessions set spans_tenants = false").execute(&mut database).await.expect("updated");
    alice.post("/api/v1/roles", json!({ "name": "any" })).await.expect(200);
    assert_eq!(bob.post("/api/v1/auth/switch", json!({ "tenant": "other" })).await.expect(403).code(), "forbidden");
    let seen = bob.get(ME).await.expect(200).value("/memberships");
    assert_eq!(seen, json!([{ "tenant": "acme", "name": "acme", "usable": true }]));
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "N3wPassword!" });
    bob.put("/api/v1/auth/password", change).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_added_switched_off_and_removed_by_tenant() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.tenant(&alice, "acme", "carol").await;
    let add = async |body: Value| carol.post("/api/v1/users", body).await;
    let added = add(json!({ "email": "bob@example.com", "roles": ["base"] })).await.expect(201);
    assert_eq!((added.text("/user/id"), added.value("/initialPassword")), (id(&bob).await, Value::Null));
    assert_eq!(add(json!({ "email": "bob@example.com" })).await.expect(409).code(), "conflict");
    add(json!({ "email": "dora@example.com", "roles": ["nothing"] })).await.expect(400);
    let dora = add(json!({ "email": "dora@example.com" })).await.expect(201);
    assert!(!dora.text("/initialPassword").is_empty());
    let emails = async |api: &Api| {
        let list = api.get("/api/v1/users").await.expect(200).json;
        let emails = list.as_array().into_iter().flatten().map(|user| user["email"].as_str().unwrap_or_default().to_owned());
        emails.collect::<Vec<_>>()
    };
    assert_eq!(emails(&carol).await, ["bob@example.com", "carol@example.com", "dora@example.com"]);
    assert_eq!(emails(&alice).await, ["alice@example.com", "bob@example.com"]);

    let (there, bob_id) = (server.login_to("acme", "bob@example.com").await, id(&bob).await);
    carol.post(&format!("/api/v1/users/{bob_id}/disable"), json!({})).await.expect(200);
    there.get(ME).await.expect(401);
    bob.get(ME).await.expect(200);
    login(&server, credentials("bob@example.com", "acme")).await.expect(403);
    carol.post(&format!("/api/v1/users/{bob_id}/enable"), json!({})).await.expect(200);
    let there = server.login_to("acme", "bob@example.com").await;
    carol.delete(&format!("/api/v1/users/{bob_id}")).await.expect(200);
    there.get(ME).await.expect(401);
    bob.get(ME).await.expect(200);
    let carol_id = id(&carol).await;
    assert_eq!(
        carol.post(&format!("/api/v1/users/{carol_id}/disable"), json!({})).await.expect(400).code(),
        "last_administrator"
    );
    alice.post(&format!("/api/v1/users/{carol_id}/disable"), json!({})).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_names_another_tenant_is_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let carol = server.tenant(&alice, "acme", "carol").await;
    for (path, body) in [
        ("/api/v1/service-accounts", json!({ "slug": "ci", "tenantId": "default" })),
        ("/api/v1/users", json!({ "email": "d@example.com", "tenantId": "nowhere" })),
    ] {
        assert_eq!(carol.post(path, body).await.expect(403).code(), "tenant_mismatch", "{path}");
    }
    carol.post("/api/v1/service-accounts", json!({ "slug": "ci", "tenantId": "acme" })).await.expect(201);
    let with_header = async |tenant: &str| carol.send(carol.request(Method::GET, ME).header("x-tenant-id", tenant)).await;
    assert_eq!(with_header("default").await.expect(403).code(), "tenant_mismatch");
    with_header("acme").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_id_is_taken_once_per_server() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let carol = server.tenant(&alice, "acme", "carol").await;
    alice.post("/api/v1/apps", app("crm")).await.expect(200);
    let taken = carol.post("/api/v1/apps", app("crm")).await.expect(409);
    assert_eq!(taken.text("/error"), "the app id 'crm' is taken on this server: choose another");
    carol.get("/api/v1/apps/crm").await.expect(404);
    carol.delete("/api/v1/apps/crm").await.expect(200);
    alice.get("/api/v1/apps/crm").await.expect(200);
}

/// A tenant with one of everything that acts by itself.
struct Busy {
    carol: Api,
    account: Account,
    hook: String,
}

const BACKEND: &str = "serve({ rpc: { ping: () => 'pong', __webhook: () => 'seen' } })";

async fn busy(server: &TestServer, alice: &Api) -> Busy {
    let carol = server.tenant(alice, "acme", "carol").await;
    let manifest = with(app("crm"), json!({ "webhooks": ["news"] }));
    server.deploy(&carol, &manifest, BACKEND).await;
    set(&carol, PLATFORM, "TOKEN", "canary-of-acme").await.expect(200);
    let account = Account::create(&carol, "ci", &["app:crm:*"]).await;
    let hook = carol.get("/api/v1/apps/crm/webhooks").await.expect(200).text("/0/url");
    Busy { carol, account, hook }
}

async fn ping(api: &Api) -> Answer {
    api.post("/api/v1/apps/crm/rpc", json!({ "method": "ping", "params": {} })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_switched_off_lets_nobody_in_and_runs_nothing_until_it_is_on_again() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let Busy { carol, account, hook } = busy(&server, &alice).await;
    let (second, _data_dir) = server.second_node().await;
    let there = carol.clone().at(url(&second));
    let machine = account.login(&server).await;
    for api in [&carol, &there, &machine] {
        ping(api).await.expect(200);
    }
    let running = async || alice.get("/api/v1/status").await.expect(200).value("/workers/running");
    assert_eq!(running().await, json!(0), "workers of other tenants are not counted");
    let mut log = carol.request(Method::GET, "/api/v1/apps/crm/logs").send().await.expect("an open log");

    alice.post(&format!("{TENANTS}/acme/disable"), json!({})).await.expect(200);
    for api in [&carol, &machine] {
        ping(api).await.expect(401);
    }
    eventually("the second node refuses", async || (ping(&there).await.status == 401).then_some(())).await;
    let ended = async { while log.chunk().await.expect("the stream is in order").is_some() {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("the open log ends");
    server.anonymous().post(&hook, json!({})).await.expect(404);
    token(&server, &account.id, &account.key).await.expect(401);
    login(&server, credentials("carol@example.com", "acme")).await.expect(403);
    login(&server, json!({ "email": "carol@example.com", "password": PASSWORD })).await.expect(401);
    assert_eq!(state(&alice, "acme").await, json!("disabled"));

    alice.post(&format!("{TENANTS}/acme/enable"), json!({})).await.expect(200);
    // Sessions were not ended, only refused.
    for api in [&carol, &machine] {
        ping(api).await.expect(200);
    }
    server.anonymous().post(&hook, json!({})).await.expect(200);
    assert_eq!(state(&alice, "acme").await, json!("active"));
    second.stop().await.expect("stopped");
}

/// The tables in which a tenant has rows.
async fn tables_with(server: &TestServer, tenant: &str) -> Vec<String> {
    let mut database = PgConnection::connect(&server.database.url).await.expect("connected");
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.columns where table_schema = 'public' and column_name = 'tenant_id'
         order by 1",
    )
    .fetch_all(&mut database)
    .await
    .expect("tables");
    let mut found = Vec::new();
    for table in tables {
        let statement = format!("select count(*) from \"{table}\" where tenant_id = $1");
        let rows: i64 =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).fetch_one(&mut database).await.expect("counted");
        if rows > 0 {
            found.push(table);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_tenant_destroys_its_keys_and_leaves_nothing_of_it() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    let Busy { carol, hook, .. } = busy(&server, &alice).await;
    server.user("bob").await;
    carol.post("/api/v1/users", json!({ "email": "bob@example.com" })).await.expect(201);
    ping(&carol).await.expect(200);
    carol.runs("crm", 1).await;
    let had = tables_with(&server, "acme").await;
    for table in ["apps", "deployments", "memberships", "runs", "secrets", "service_account_keys", "vault_keys"] {
        assert!(had.iter().any(|name| name == table), "{table} in {had:?}");
    }
    let files = |folder: &str| std::fs::read_dir(server.data_path(folder)).map_or(0, Iterator::count);
    assert_eq!((files("apps"), files("scratch")), (1, 1));

    for confirm in ["", "?confirm=", "?confirm=default"] {
        let refused = alice.delete(&format!("{TENANTS}/acme{confirm}")).await.expect(400);
        assert!(refused.text("/error").contains("confirm=acme"), "{refused:?}");
    }
    alice.delete(&format!("{TENANTS}/acme?confirm=acme")).await.expect(202);
    carol.get(ME).await.expect(401);
    server.anonymous().post(&hook, json!({})).await.expect(404);
    let left = tables_with(&server, "acme").await;
    assert!(!left.iter().any(|table| ["vault_keys", "secrets", "sessions"].contains(&table.as_str())), "at once: {left:?}");
    assert_eq!(alice.delete(&format!("{TENANTS}/acme?confirm=acme")).await.expect(409).code(), "conflict");

    eventually("all rows are gone", async || tables_with(&server, "acme").await.is_empty().then_some(())).await;
    eventually("all files are gone", async || (files("apps") == 0 && files("scratch") == 0).then_some(())).await;
    login(&server, json!({ "email": "carol@example.com", "password": PASSWORD })).await.expect(401);
    server.login("bob@example.com").await.get(ME).await.expect(200);
    assert_eq!(state(&alice, "acme").await, json!("deleting"), "the id stays taken while a call may still end");
    server.advance(Duration::minutes(11));
    server.restart().await;
    let alice = server.login("alice@example.com").await;
    let gone = async || (alice.get(&format!("{TENANTS}/acme")).await.status == 404).then_some(());
    eventually("the tenant is gone", gone).await;
    let again = server.tenant(&alice, "acme", "dora").await;
    assert_eq!(again.get("/api/v1/apps").await.expect(200).json, json!([]));
    assert_eq!(again.get(PLATFORM).await.expect(200).json, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_works_on_every_node_and_survives_a_new_master_key() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (second, _data_dir) = server.second_node().await;
    let carol = server.tenant(&alice, "acme", "carol").await;
    let there = carol.clone().at(url(&second));
    let stored = async || (set(&there, PLATFORM, "TOKEN", "x").await.status == 200).then_some(());
    eventually("the second node has the tenant's key", stored).await;
    second.stop().await.expect("stopped");
    alice.post("/api/v1/vault/rotate-key", json!({})).await.expect(200);
    server.restart().await;
    let carol = carol.at(server.url());
    server.deploy(&carol, &integration("echo", &["echo"]), "defineIntegration({ actions: { echo: () => 1 } })").await;
    set(&carol, "/api/v1/apps/echo/secrets", "KEY", "y").await.expect(200);
    carol.call("echo", "echo", json!({})).await.expect(200);
}
