//! `/api/v1/apps/{app_id}/worker/*`, `/rpc` and `/logs`: the running backend.

use reqwest::Method;
use serde_json::{Value, json};
use weft_testkit::{Answer, Api, TestServer};

use crate::fixtures::{app, eventually, fault_paths, integration};

async fn status(api: &Api, id: &str) -> String {
    api.get(&format!("/api/v1/apps/{id}/worker/status")).await.expect(200).text("/status")
}

async fn rpc(api: &Api, id: &str, method: &str, params: Value) -> Answer {
    api.post(&format!("/api/v1/apps/{id}/rpc"), json!({ "method": method, "params": params })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_started_and_stopped_by_hand() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.get("/api/v1/apps/crm/worker/status").await.expect(404);
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    assert_eq!(status(&admin, "crm").await, "stopped");
    assert_eq!(admin.post("/api/v1/apps/crm/worker/start", json!({})).await.expect(409).code(), "not_deployed");

    admin.deploy("crm", &[("index.ts", "serve({ rpc: { ping: () => 'pong' } })")]).await.expect(200);
    let serving = admin.get("/api/v1/apps/crm").await.expect(200).value("/deploymentId");
    assert_eq!(
        admin.get("/api/v1/apps/crm/worker/status").await.expect(200).json,
        json!({ "app_id": "crm", "status": "running", "deployment_id": serving })
    );
    let stopped = admin.post("/api/v1/apps/crm/worker/stop", json!({})).await.expect(200);
    assert_eq!(stopped.text("/message"), "worker 'crm' stopped");
    assert_eq!(status(&admin, "crm").await, "stopped");
    assert_eq!(rpc(&admin, "crm", "ping", json!({})).await.expect(503).code(), "worker_not_running");

    for _ in 0..2 {
        let started = admin.post("/api/v1/apps/crm/worker/start", json!({})).await.expect(200);
        assert_eq!(started.text("/message"), "worker 'crm' started");
        assert_eq!(rpc(&admin, "crm", "ping", json!({})).await.expect(200).json, "pong");
    }
    assert_eq!(status(&admin, "crm").await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_a_running_worker_leaves_its_process_alone() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &app("crm"), "serve({ rpc: { pid: () => process.pid } })").await;
    let pid = rpc(&admin, "crm", "pid", json!({})).await.expect(200).json;
    admin.post("/api/v1/apps/crm/worker/start", json!({})).await.expect(200);
    assert_eq!(rpc(&admin, "crm", "pid", json!({})).await.expect(200).json, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_stays_stopped_over_a_restart_until_it_is_started_or_deployed() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["ping"]), "defineIntegration({ actions: { ping: () => 1 } })").await;
    admin.post("/api/v1/apps/chat/worker/stop", json!({})).await.expect(200);
    server.restart().await;
    let admin = admin.at(server.url());
    let refused = admin.call("chat", "ping", json!({})).await.expect(503);
    assert_eq!(refused.code(), "worker_not_running");
    assert!(refused.text("/error").contains("/api/v1/apps/chat/worker/start"), "{refused:?}");
    assert_eq!(status(&admin, "chat").await, "stopped");
    admin.deploy("chat", &[("index.ts", "defineIntegration({ actions: { ping: () => 2 } })")]).await.expect(200);
    assert_eq!(admin.call("chat", "ping", json!({})).await.expect(200).json, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_and_stopping_need_the_right_to_deploy() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    server.deploy(&admin, &app("crm"), "serve({})").await;
    server.grant(&admin, &user, &["app:crm:*"]).await;
    for verb in ["start", "stop"] {
        let refused = user.post(&format!("/api/v1/apps/crm/worker/{verb}"), json!({})).await.expect(403);
        assert!(refused.text("/error").contains("admin:apps.deploy"), "{refused:?}");
    }
    assert_eq!(status(&user, "crm").await, "running");
    server.anonymous().get("/api/v1/apps/crm/worker/status").await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_fails_the_calls_in_flight_at_once_and_none_after() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "serve({ rpc: { crash: () => process.exit(7), hang: () => new Promise(() => {}), ping: () => 'pong' } })";
    server.deploy(&admin, &app("crm"), backend).await;
    let hanging = {
        let admin = admin.clone();
        tokio::spawn(async move { rpc(&admin, "crm", "hang", json!({})).await })
    };
    for _ in 0..2 {
        let crashed = rpc(&admin, "crm", "crash", json!({})).await.expect(502);
        assert_eq!(crashed.code(), "action_failed");
        assert!(crashed.text("/error").contains("exited with code 7"), "{crashed:?}");
        assert_eq!(rpc(&admin, "crm", "ping", json!({})).await.expect(200).json, "pong");
    }
    assert_eq!(hanging.await.expect("answered").expect(502).code(), "action_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_answers_what_the_handler_returns_and_nothing_around_it() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "serve({ rpc: {
        echo: (params) => params, nothing: () => {}, later: async () => 'later',
        who: (_, caller) => caller, app: (_, caller, ctx) => [ctx.appId, ctx.manifest.version],
    } })";
    server.deploy(&admin, &app("crm"), backend).await;
    for value in [json!({ "a": [1, 2.5, "é"] }), json!([]), json!("text"), json!(0), json!(false), Value::Null] {
        let answer = rpc(&admin, "crm", "echo", value.clone()).await.expect(200);
        assert_eq!(answer.json, value);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.header("x-weft-run-id").is_some());
    }
    assert_eq!(rpc(&admin, "crm", "nothing", json!({})).await.expect(200).bytes, b"null");
    assert_eq!(rpc(&admin, "crm", "later", json!({})).await.expect(200).json, "later");
    assert_eq!(rpc(&admin, "crm", "app", json!({})).await.expect(200).json, json!(["crm", "1.0.0"]));
    let me = admin.get("/api/v1/auth/me").await.text("/id");
    let caller = json!({ "userId": me, "email": "admin@example.com" });
    assert_eq!(rpc(&admin, "crm", "who", json!({})).await.expect(200).json, caller);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_without_params_gets_an_empty_object() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &app("crm"), "serve({ rpc: { echo: (params) => ({ params }) } })").await;
    let answer = admin.post("/api/v1/apps/crm/rpc", json!({ "method": "echo" })).await.expect(200);
    assert_eq!(answer.json, json!({ "params": {} }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_that_cannot_be_made_says_why() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    server.deploy(&admin, &app("crm"), "serve({ rpc: { __integration: () => 1, __webhook: () => 1, ping: () => 1 } })").await;
    admin.post("/api/v1/apps", app("empty")).await.expect(200);

    let unknown = rpc(&admin, "crm", "nope", json!({})).await.expect(404);
    assert_eq!((unknown.code(), unknown.text("/error").contains("`nope`")), ("unknown_method".to_owned(), true), "{unknown:?}");
    for method in ["__integration", "__webhook", "__bind"] {
        assert_eq!(rpc(&admin, "crm", method, json!({})).await.expect(400).code(), "invalid_request", "{method}");
    }
    let missing = admin.post("/api/v1/apps/crm/rpc", json!({ "params": {} })).await.expect(400);
    assert!(missing.text("/error").contains("method"), "{missing:?}");
    let wrong = admin.post("/api/v1/apps/crm/rpc", json!({ "method": 5 })).await.expect(400);
    assert_eq!(fault_paths(&wrong), ["$.method"]);
    assert_eq!(rpc(&admin, "empty", "ping", json!({})).await.expect(409).code(), "not_deployed");
    assert_eq!(rpc(&admin, "gone", "ping", json!({})).await.expect(404).code(), "not_found");

    let denied = rpc(&user, "crm", "ping", json!({})).await.expect(403);
    assert!(denied.text("/error").contains("app:crm:invoke"), "{denied:?}");
    server.grant(&admin, &user, &["app:crm:invoke"]).await;
    rpc(&user, "crm", "ping", json!({})).await.expect(200);
    rpc(&server.anonymous(), "crm", "ping", json!({})).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_throws_reaches_the_caller_without_the_stack() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "serve({ rpc: {
        error: () => { throw new TypeError('contacts is undefined'); },
        nested: () => { const error = new Error('outer'); error.message += '\\n    at inner (/secret/path.ts:1:1)'; throw error; },
        text: () => { throw 'just text'; }, nothing: () => { throw undefined; },
        huge: () => 'x'.repeat(1100000),
    } })";
    server.deploy(&admin, &app("crm"), backend).await;
    for (method, message) in [
        ("error", "contacts is undefined"),
        ("nested", "outer"),
        ("text", "just text"),
        ("nothing", "threw undefined"),
        ("huge", "cannot be sent"),
    ] {
        let failed = rpc(&admin, "crm", method, json!({})).await.expect(502);
        assert_eq!(failed.code(), "action_failed", "{method}");
        let error = failed.text("/error");
        assert!(error.contains(message) && !error.contains("    at ") && !error.contains(".ts:"), "{method}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_an_app_reach_its_backend_after_it_was_started_again() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "serve({ rpc: { token: (_, caller, ctx) => [process.env.TOKEN ?? null, ctx.credentials.TOKEN ?? null] } })";
    server.deploy(&admin, &app("crm"), backend).await;
    server.deploy(&admin, &app("other"), backend).await;
    assert_eq!(rpc(&admin, "crm", "token", json!({})).await.expect(200).json, json!([null, null]));

    let becomes = async |expected: Value| {
        eventually("the worker sees the change", async || {
            let answer = rpc(&admin, "crm", "token", json!({})).await.expect(200);
            (answer.json == expected).then_some(())
        })
        .await;
    };
    for value in ["first", "second"] {
        admin.post("/api/v1/apps/crm/secrets", json!({ "key": "TOKEN", "value": value })).await.expect(200);
        becomes(json!([value, value])).await;
    }
    assert_eq!(rpc(&admin, "other", "token", json!({})).await.expect(200).json, json!([null, null]));
    admin.delete("/api/v1/apps/crm/secrets/TOKEN").await.expect(200);
    becomes(json!([null, null])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_crashes_for_want_of_a_secret_gets_it() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "if (!process.env.TOKEN) setTimeout(() => process.exit(1), 1);
        serve({ rpc: { token: () => process.env.TOKEN ?? null } })";
    server.deploy(&admin, &app("crm"), backend).await;
    admin.post("/api/v1/apps/crm/secrets", json!({ "key": "TOKEN", "value": "t" })).await.expect(200);
    eventually("the backend starts with the secret", async || {
        let answer = rpc(&admin, "crm", "token", json!({})).await;
        (answer.json == "t").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_sees_nothing_of_the_servers_environment() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &app("crm"), "serve({ rpc: { names: () => Object.keys(process.env).sort() } })").await;
    let names = rpc(&admin, "crm", "names", json!({})).await.expect(200).json;
    let expected = ["HOME", "PATH", "ROOTCX_APP_ID", "ROOTCX_RUNTIME_URL", "TMPDIR", "WEFT_APP_ID", "WEFT_RUNTIME_URL"];
    assert_eq!(names, json!(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_followed_as_server_sent_events() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "serve({ rpc: { talk: () => {
        log.info('from log', { a: 1 }); log.warn('careful'); console.log('from console'); console.error('from error');
        console.debug('from debug'); emit('order', { id: 7 }); process.stdout.write('plain line\\n'); log.info('done');
    } } })";
    server.deploy(&admin, &app("crm"), backend).await;
    server.anonymous().get("/api/v1/apps/crm/logs").await.expect(401);
    admin.get("/api/v1/apps/gone/logs").await.expect(404);

    let mut stream = admin.request(Method::GET, "/api/v1/apps/crm/logs").send().await.expect("a stream");
    let media = stream.headers().get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!((stream.status().as_u16(), media.as_deref()), (200, Some("text/event-stream")));
    rpc(&admin, "crm", "talk", json!({})).await.expect(200);
    let mut text = String::new();
    while !text.contains(r#""done""#) {
        let chunk = stream.chunk().await.expect("the stream is readable").expect("the stream goes on");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    let lines: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let expected = [
        ("info", "from log { a: 1 }"),
        ("warn", "careful"),
        ("info", "from console"),
        ("error", "from error"),
        ("debug", "from debug"),
        ("event", r#"order: {"id":7}"#),
        ("stdout", "plain line"),
        ("info", "done"),
    ];
    assert_eq!(lines, expected.map(|(level, message)| json!({ "level": level, "message": message })));
}
