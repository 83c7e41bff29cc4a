//! Inbound webhooks: their addresses, and the way of a request to the backend and back.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};
use weft_testkit::{Answer, Api, TestServer};

use crate::fixtures::{app, eventually, integration, with};

const ECHO: &str = "serve({ rpc: { __webhook: (call, caller) => ({ call, caller }), onPull: () => ['pulled', null, 1.5] } })";

fn manifest() -> Value {
    with(
        integration("chat", &[]),
        json!({
            "webhooks": ["push", { "name": "pull", "method": "onPull" }],
            "configSchema": { "properties": { "secret": { "type": "string", "platformSecret": "CHAT_SECRET" } } },
        }),
    )
}

async fn url(api: &Api, app: &str, name: &str) -> String {
    let list = api.get(&format!("/api/v1/apps/{app}/webhooks")).await.expect(200).json;
    let webhook = list.as_array().into_iter().flatten().find(|webhook| webhook["name"] == name).cloned();
    webhook.expect("a webhook of that name")["url"].as_str().expect("a URL").to_owned()
}

async fn post(server: &TestServer, url: &str, content_type: &str, body: &[u8]) -> Answer {
    let api = server.anonymous();
    let request = api.request(Method::POST, url).header("Content-Type", content_type).header("X-Custom-Header", "Value");
    api.send(request.body(body.to_vec())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_listed_with_an_address_that_works() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    server.deploy(&admin, &manifest(), ECHO).await;
    let list = admin.get("/api/v1/apps/chat/webhooks").await.expect(200);
    for (index, name, method) in [(0, "pull", "onPull"), (1, "push", "__webhook")] {
        let of = |member: &str| list.text(&format!("/{index}/{member}"));
        assert_eq!((of("name"), of("method")), (name.to_owned(), method.to_owned()));
        assert_eq!(of("url"), format!("{}/api/v1/hooks/{}", server.url(), of("token")));
        assert!(of("token").len() >= 43 && of("token").starts_with(&of("prefix")), "{list:?}");
        server.anonymous().post(&of("url"), json!({})).await.expect(200);
    }
    assert_eq!(list.value("/2"), Value::Null);

    let denied = user.get("/api/v1/apps/chat/webhooks").await.expect(403);
    assert!(denied.text("/error").contains("app:chat:webhook.read"), "{denied:?}");
    server.grant(&admin, &user, &["app:chat:webhook.read"]).await;
    user.get("/api/v1/apps/chat/webhooks").await.expect(200);
    admin.get("/api/v1/apps/gone/webhooks").await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_hands_over_everything_and_answers_what_the_handler_returns() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), ECHO).await;
    admin.put("/api/v1/integrations/chat/config", json!({ "secret": "s" })).await.expect(200);
    let push = url(&admin, "chat", "push").await;
    let body = br#"{ "event": "message",  "n": [1] }"#;
    let answer = post(&server, &push, "application/json", body).await.expect(200);
    assert_eq!(answer.value("/caller"), Value::Null);
    let call = answer.value("/call");
    assert_eq!((&call["name"], &call["config"]), (&json!("push"), &json!({ "secret": "s" })));
    assert_eq!(
        (&call["headers"]["x-custom-header"], &call["headers"]["content-type"]),
        (&json!("Value"), &json!("application/json"))
    );
    assert_eq!((&call["body"], &call["rawBody"]), (&json!({ "event": "message", "n": [1] }), &json!(STANDARD.encode(body))));
    assert!(answer.header("x-weft-run-id").is_some());

    let pull = url(&admin, "chat", "pull").await;
    assert_eq!(post(&server, &pull, "application/json", b"{}").await.expect(200).bytes, br#"["pulled",null,1.5]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_arrives_as_text_and_byte_for_byte() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), ECHO).await;
    let push = url(&admin, "chat", "push").await;
    for (content_type, body, text) in [
        ("application/x-www-form-urlencoded", &b"a=1&b=2"[..], "a=1&b=2"),
        ("application/json", b"{ broken", "{ broken"),
        ("text/plain", b"", ""),
        ("application/octet-stream", b"\xff\x00", "\u{fffd}\0"),
    ] {
        let call = post(&server, &push, content_type, body).await.expect(200).value("/call");
        assert_eq!((&call["body"], &call["rawBody"]), (&json!(text), &json!(STANDARD.encode(body))), "{content_type}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_on_disk_before_the_backend_sees_it() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "let release; serve({ rpc: {
        __webhook: () => new Promise((resolve) => { release = () => resolve('released'); }),
        release: () => { if (!release) return false; release(); return true; },
    } })";
    server.deploy(&admin, &manifest(), backend).await;
    let push = url(&admin, "chat", "push").await;
    let sender = server.anonymous();
    let sending = tokio::spawn(async move { sender.post(&push, json!({ "n": 1 })).await });

    let mut database = PgConnection::connect(&server.database.url).await.expect("a connection");
    let row = eventually_stored(&mut database).await;
    assert!(!sending.is_finished(), "the handler has not answered yet");
    let sealed = String::from_utf8_lossy(&row.get::<Vec<u8>, _>("sealed")).into_owned();
    assert!(!sealed.contains("application/json"), "what was sent is sealed");
    let run: sqlx::types::Uuid = row.get("run_id");
    assert_eq!(admin.get(&format!("/api/v1/runs/{run}")).await.expect(200).text("/status"), "running");

    eventually("the handler has begun", async || {
        let answer = admin.post("/api/v1/apps/chat/rpc", json!({ "method": "release" })).await.expect(200);
        (answer.json == true).then_some(())
    })
    .await;
    let answer = sending.await.expect("answered").expect(200);
    assert_eq!((answer.json.clone(), answer.header("x-weft-run-id")), (json!("released"), Some(&*run.to_string())));
}

async fn eventually_stored(database: &mut PgConnection) -> sqlx::postgres::PgRow {
    let database = tokio::sync::Mutex::new(database);
    eventually("the delivery is stored", async || {
        let mut database = database.lock().await;
        let query = sqlx::query("select sealed, run_id from webhook_deliveries");
        query.fetch_optional(&mut **database).await.expect("the table is readable")
    })
    .await
}

/// As if the server had died over its last webhook: its run belongs to a node whose lock nobody holds.
async fn break_off(server: &TestServer, attempts: i32) -> String {
    let mut database = PgConnection::connect(&server.database.url).await.expect("a connection");
    let orphan = "with gone as (insert into nodes (id, started_at) values (gen_random_uuid(), now()) returning id)
                  update runs set node_id = gone.id, status = 'running', completed_at = null, attempts = $1
                  from gone where kind = 'webhook' returning runs.id::text";
    sqlx::query_scalar(orphan).bind(attempts).fetch_one(&mut database).await.expect("updated")
}

async fn ended(api: &Api, run: &str) -> Answer {
    eventually("the run is ended", async || {
        let run = api.get(&format!("/api/v1/runs/{run}")).await.expect(200);
        (run.value("/status") != "running").then_some(run)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_its_server_died_over_is_handed_over_again_as_it_was() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "const calls = []; serve({ rpc: { __webhook: (call) => { calls.push(call); }, calls: () => calls } })";
    server.deploy(&admin, &with(manifest(), json!({ "keepRunning": true })), backend).await;
    let push = url(&admin, "chat", "push").await;
    let body = b"{ \"n\": [1.0] }\n\xff";
    let api = server.anonymous();
    let request = api.request(Method::POST, &push).header("Authorization", "Basic cmVwZWF0").body(body.to_vec());
    api.send(request).await.expect(200);
    let calls = json!({ "method": "calls" });
    let first = admin.post("/api/v1/apps/chat/rpc", calls.clone()).await.expect(200).value("/0");
    assert_eq!((&first["attempt"], &first["headers"]["authorization"]), (&json!(1), &json!("Basic cmVwZWF0")));
    admin.runs("chat", 2).await;
    let run = break_off(&server, 1).await;
    assert_eq!(first["deliveryId"], run.as_str());

    server.restart().await;
    let admin = admin.at(server.url());
    let ended = ended(&admin, &run).await;
    assert_eq!((ended.text("/status"), ended.value("/attempts")), ("succeeded".to_owned(), json!(2)));
    let second = admin.post("/api/v1/apps/chat/rpc", calls).await.expect(200).json;
    assert_eq!(second, json!([with(first, json!({ "attempt": 2 }))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_servers_keep_dying_over_is_given_up_and_its_run_says_so() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), ECHO).await;
    let push = url(&admin, "chat", "push").await;
    server.anonymous().post(&push, json!({})).await.expect(200);
    admin.runs("chat", 1).await;
    let run = break_off(&server, 3).await;
    server.restart().await;
    let ended = ended(&admin.at(server.url()), &run).await;
    assert_eq!((ended.text("/error/code"), ended.value("/attempts")), ("interrupted".to_owned(), json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_removed_before_it_is_handed_over_again_ends_with_a_reason() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), ECHO).await;
    let push = url(&admin, "chat", "push").await;
    server.anonymous().post(&push, json!({})).await.expect(200);
    admin.runs("chat", 1).await;
    let run = break_off(&server, 1).await;
    admin.post("/api/v1/apps", with(manifest(), json!({ "webhooks": [] }))).await.expect(200);
    server.restart().await;
    assert_eq!(ended(&admin.at(server.url()), &run).await.text("/error/code"), "webhook_removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_handler_answers_the_sender_with_a_fitting_status() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "serve({ rpc: { __webhook: ({ body }) => {
        if (body === 'crash') process.exit(1);
        throw body === 'plain' ? new Error('oops') : new ActionError('refused', { category: body, retryAfter: 4 });
    } } })";
    server.deploy(&admin, &manifest(), backend).await;
    let push = url(&admin, "chat", "push").await;
    for (body, status, code) in [
        ("Auth", 401, "unauthenticated"),
        ("Validation", 400, "invalid_request"),
        ("RateLimited", 429, "rate_limited"),
        ("Transient", 502, "vendor_unavailable"),
        ("plain", 502, "action_failed"),
        ("crash", 502, "action_failed"),
    ] {
        let failed = post(&server, &push, "text/plain", body.as_bytes()).await;
        assert_eq!((failed.status, failed.code().as_str()), (status, code), "{body}: {failed:?}");
        assert_eq!(failed.header("retry-after"), ["RateLimited", "Transient"].contains(&body).then_some("4"));
        assert!(failed.header("x-weft-run-id").is_some());
    }
    admin.post("/api/v1/apps/chat/worker/stop", json!({})).await.expect(200);
    assert_eq!(post(&server, &push, "text/plain", b"Auth").await.expect(503).code(), "worker_not_running");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_nobody_gave_out_leads_nowhere() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), ECHO).await;
    let token = admin.get("/api/v1/apps/chat/webhooks").await.expect(200).text("/0/token");
    for wrong in ["unknown", &token[..42], &token.to_lowercase()] {
        let refused = server.anonymous().post(&format!("/api/v1/hooks/{wrong}"), json!({})).await.expect(404);
        assert_eq!(refused.code(), "not_found");
    }
    server.anonymous().get(&format!("/api/v1/hooks/{token}")).await.expect(405);
    let mut database = PgConnection::connect(&server.database.url).await.expect("a connection");
    let stored: i64 =
        sqlx::query_scalar("select count(*) from webhook_deliveries").fetch_one(&mut database).await.expect("a count");
    assert_eq!(stored, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_the_method_answers_502() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &with(app("crm"), json!({ "webhooks": ["push"] })), "serve({})").await;
    let push = url(&admin, "crm", "push").await;
    let failed = post(&server, &push, "application/json", b"{}").await.expect(502);
    assert_eq!(failed.code(), "action_failed");
    assert!(failed.text("/error").contains("__webhook"), "{failed:?}");
}
