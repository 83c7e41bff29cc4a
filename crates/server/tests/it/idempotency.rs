//! The header `Idempotency-Key`: the same key, the same answer, once.

use chrono::Duration;
use futures::future::join_all;
use reqwest::{Method, header::HeaderValue};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use weft_testkit::{Answer, Api, TestServer};

use crate::fixtures::{eventually, integration, with};

const BACKEND: &str = "let count = 0;
defineIntegration({ actions: {
    add: async ({ wait, result }) => { count += 1; await Bun.sleep(wait ?? 0); return { count, result }; },
    count: () => count,
    fail: ({ options }) => { count += 1; throw new ActionError('it went wrong', options); },
    hang: () => new Promise(() => {}),
    crash: () => process.exit(1),
    odd: () => 'no object',
} });";

async fn server() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let mut manifest = integration("shop", &["add", "count", "fail", "crash"]);
    let more = json!([
        { "id": "hang", "name": "Hang", "timeoutSeconds": 0.2 },
        { "id": "wait", "name": "Wait", "timeoutSeconds": 300 },
        { "id": "odd", "name": "Odd", "outputSchema": { "type": "object" } },
        { "id": "strict", "name": "Strict", "inputSchema": { "required": ["sku"] } },
    ]);
    let actions = manifest["actions"].as_array().into_iter().chain(more.as_array()).flatten().cloned().collect::<Value>();
    manifest = with(manifest, json!({ "actions": actions }));
    let backend = BACKEND.replace("odd:", "wait: () => new Promise(() => {}), strict: () => ++count, odd:");
    server.deploy(&admin, &manifest, &backend).await;
    (server, admin)
}

async fn call(api: &Api, key: &str, action: &str, input: Value) -> Answer {
    let path = format!("/api/v1/integrations/shop/actions/{action}");
    api.send(api.request(Method::POST, &path).header("Idempotency-Key", key).json(&input)).await
}

async fn count(api: &Api) -> Value {
    api.call("shop", "count", json!({})).await.expect(200).json
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_answers_the_same_result_and_runs_once() {
    let (server, admin) = server().await;
    let first = call(&admin, "order-1", "add", json!({ "result": "canary" })).await.expect(200);
    assert_eq!(first.json, json!({ "count": 1, "result": "canary" }));
    for _ in 0..3 {
        let again = call(&admin, "order-1", "add", json!({ "result": "canary" })).await.expect(200);
        assert_eq!(again.bytes, first.bytes);
        assert_eq!(again.header("x-weft-run-id"), first.header("x-weft-run-id"));
    }
    assert_eq!(count(&admin).await, 1);
    let mut database = PgConnection::connect(&server.database.url).await.expect("a connection");
    let kept: Vec<u8> =
        sqlx::query_scalar("select sealed_answer from idempotency_keys").fetch_one(&mut database).await.expect("one key");
    assert!(!String::from_utf8_lossy(&kept).contains("canary"), "what is kept is sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_requests_with_one_key_one_runs() {
    let (_server, admin) = server().await;
    let calls = (0..20).map(|_| call(&admin, "order-1", "add", json!({ "wait": 50 })));
    let answers = join_all(calls).await;
    let (done, others): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!done.is_empty());
    for answer in done {
        assert_eq!(answer.value("/count"), 1);
    }
    for answer in others {
        assert_eq!((answer.status, answer.code().as_str()), (409, "idempotency_in_progress"), "{answer:?}");
    }
    assert_eq!(count(&admin).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_input_of_one_action_of_one_caller() {
    let (server, admin) = server().await;
    let user = server.user("user").await;
    server.grant(&admin, &user, &["integration:shop:*"]).await;
    call(&admin, "k", "add", json!({ "result": 1 })).await.expect(200);
    let other_input = call(&admin, "k", "add", json!({ "result": 2 })).await.expect(422);
    assert_eq!(other_input.code(), "idempotency_mismatch");
    assert_eq!(call(&user, "k", "add", json!({ "result": 2 })).await.expect(200).json, json!({ "count": 2, "result": 2 }));
    assert_eq!(call(&admin, "k", "count", json!({})).await.expect(200).json, 2);
    assert_eq!(call(&admin, "k", "add", json!({ "result": 1 })).await.expect(200).json, json!({ "count": 1, "result": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_without_effect_gives_the_key_back() {
    let (_server, admin) = server().await;
    for (index, category) in ["Validation", "Auth", "RateLimited"].into_iter().enumerate() {
        for _ in 0..2 {
            let failed = call(&admin, "k", "fail", json!({ "options": { "category": category } })).await;
            assert!((400..500).contains(&failed.status), "{failed:?}");
        }
        assert_eq!(count(&admin).await, 2 * (index + 1), "{category}");
    }
    call(&admin, "k", "strict", json!({})).await.expect(400);
    call(&admin, "k", "strict", json!({ "sku": 1 })).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_may_have_had_an_effect_is_repeated_as_it_was() {
    let (_server, admin) = server().await;
    for (action, input) in [
        ("fail", json!({ "options": { "category": "Poison", "code": "card_declined" } })),
        ("fail", json!({ "options": { "category": "Transient", "retryAfter": 3 } })),
        ("hang", json!({})),
        ("odd", json!({})),
        ("crash", json!({})),
    ] {
        let key = format!("{action}-{input}").replace(' ', "");
        let (first, again) = (call(&admin, &key, action, input.clone()).await, call(&admin, &key, action, input).await);
        assert!(first.status >= 500, "{first:?}");
        assert_eq!(first.header("retry-after"), again.header("retry-after"));
        for member in ["status", "code", "error", "vendorCode", "errors", "runId"] {
            let pointer = format!("/{member}");
            assert_eq!(first.value(&pointer), again.value(&pointer), "{member} of {first:?} and {again:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_refused() {
    let (_server, admin) = server().await;
    let long = "k".repeat(256);
    for key in ["", "two words", long.as_str(), "schl\u{fc}ssel"] {
        let value = HeaderValue::from_bytes(key.as_bytes()).expect("a header value");
        let request = admin.request(Method::POST, "/api/v1/integrations/shop/actions/add").header("Idempotency-Key", value);
        let refused = admin.send(request).await.expect(400);
        assert_eq!(refused.code(), "invalid_request", "{key}");
    }
    call(&admin, &"k".repeat(255), "add", json!({})).await.expect(200);
    assert_eq!(count(&admin).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_outlives_a_restart_and_is_kept_for_a_day() {
    let (mut server, admin) = server().await;
    let first = call(&admin, "k", "add", json!({ "result": "before" })).await.expect(200);
    server.restart().await;
    let again = call(&admin.at(server.url()), "k", "add", json!({ "result": "before" })).await.expect(200);
    assert_eq!(again.bytes, first.bytes);

    server.advance(Duration::hours(23));
    server.restart().await;
    let admin = server.login("admin@example.com").await;
    assert_eq!(call(&admin, "k", "add", json!({ "result": "before" })).await.expect(200).bytes, first.bytes);
    server.advance(Duration::hours(2));
    server.restart().await;
    let admin = server.login("admin@example.com").await;
    eventually("the key is free again", async || {
        let answer = call(&admin, "k", "add", json!({ "result": "after" })).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_broke_off_is_not_repeated() {
    let (server, admin) = server().await;
    let hanging = {
        let admin = admin.clone();
        tokio::spawn(async move { call(&admin, "k", "wait", json!({})).await })
    };
    let run = eventually("the start is on disk", async || {
        let list = admin.get("/api/v1/runs?action=wait&status=running").await.expect(200);
        list.json.pointer("/data/0/id").and_then(Value::as_str).map(str::to_owned)
    })
    .await;
    // As if the node that works on it had gone: the run belongs to one whose lock nobody holds.
    let mut database = PgConnection::connect(&server.database.url).await.expect("a connection");
    let orphan = "with gone as (insert into nodes (id, started_at) values (gen_random_uuid(), now()) returning id)
                  update runs set node_id = gone.id from gone where runs.id = $1::uuid";
    sqlx::query(orphan).bind(&run).execute(&mut database).await.expect("updated");
    let (node, _data_dir) = server.second_node().await;
    let ended = eventually("the run is ended by a node that lives", async || {
        let run = admin.get(&format!("/api/v1/runs/{run}")).await.expect(200);
        (run.value("/status") == "failed").then_some(run)
    })
    .await;
    assert_eq!((ended.text("/error/code"), ended.text("/error/category")), ("interrupted".to_owned(), "Transient".to_owned()));
    assert_ne!(ended.value("/completedAt"), Value::Null);
    let refused = call(&admin, "k", "wait", json!({})).await.expect(409);
    assert_eq!(refused.code(), "conflict");
    assert!(refused.text("/error").contains("broke off"), "{refused:?}");
    hanging.abort();
    node.stop().await.expect("stopped in order");
}
