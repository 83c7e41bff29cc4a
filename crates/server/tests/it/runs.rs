//! `/api/v1/runs`: what is remembered of every call, and who may see it.

use std::collections::HashSet;

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;
use weft_model::RunId;
use weft_testkit::{Api, TestServer};

use crate::fixtures::{eventually, integration, with};

const BACKEND: &str = "defineIntegration({
    actions: {
        ping: () => ({ pong: true }),
        fail: ({ category }) => { throw new ActionError('no such channel', { code: 'channel_not_found', category }); },
        slow: () => Bun.sleep(30),
    },
    webhooks: { push: () => ({ ok: true }) },
});";

async fn server() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let manifest = with(integration("chat", &["ping", "fail", "slow"]), json!({ "webhooks": ["push"] }));
    server.deploy(&admin, &manifest, BACKEND).await;
    (server, admin)
}

/// The ids of a page, and the cursor of the next one.
async fn page(api: &Api, query: &str) -> (Vec<String>, Option<String>) {
    let page = api.get(&format!("/api/v1/runs?{query}")).await.expect(200);
    let runs = page.value("/data").as_array().cloned().unwrap_or_default();
    let ids = runs.iter().filter_map(|run| run["id"].as_str().map(str::to_owned)).collect();
    (ids, page.value("/nextCursor").as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_what_happened() {
    let (_server, admin) = server().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let path = "/api/v1/integrations/chat/actions/slow";
    let request = admin.request(Method::POST, path).header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let answer = admin.send(request.json(&json!({ "a": 1 }))).await.expect(200);
    assert_eq!(answer.header("x-trace-id"), Some(trace));

    let run = admin.runs("chat", 1).await.remove(0);
    let me = admin.get("/api/v1/auth/me").await.text("/id");
    let started = run["startedAt"].as_str().unwrap_or_default().to_owned();
    let completed = run["completedAt"].as_str().unwrap_or_default().to_owned();
    let duration = run["durationMs"].as_f64().unwrap_or_default();
    assert!(started < completed && duration >= 30.0, "{run}");
    let expected = json!({
        "id": answer.header("x-weft-run-id"), "kind": "action", "operation": "chat.slow", "provider": "chat", "action": "slow",
        "appId": null, "principal": { "id": me, "kind": "user", "email": "admin@example.com" }, "connectionId": null,
        "parentId": null, "status": "succeeded", "attempts": 1, "startedAt": started, "completedAt": completed,
        "durationMs": duration, "inputBytes": 7, "outputBytes": 4, "error": null, "hosts": [], "traceId": trace,
    });
    assert_eq!(run, expected);
    let alone = admin.get(&format!("/api/v1/runs/{}", answer.header("x-weft-run-id").unwrap_or_default())).await.expect(200);
    assert_eq!(alone.json, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_tells_why() {
    let (_server, admin) = server().await;
    let failed = admin.call("chat", "fail", json!({ "category": "Auth" })).await.expect(424);
    let run = admin.runs("chat", 1).await.remove(0);
    assert_eq!((&run["status"], &run["outputBytes"]), (&json!("failed"), &Value::Null));
    assert_eq!(run["error"], json!({ "code": "channel_not_found", "category": "Auth", "message": "no such channel" }));
    assert_eq!((run["id"].as_str(), run["traceId"].as_str()), (Some(&*failed.text("/runId")), Some(&*failed.text("/traceId"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_input_and_missing_configuration_are_runs_too() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let manifest = with(
        integration("chat", &[]),
        json!({
            "actions": [{ "id": "send", "name": "Send", "inputSchema": { "required": ["to"] } }],
            "configSchema": { "properties": { "token": { "platformSecret": "T" } }, "required": ["token"] },
        }),
    );
    server.deploy(&admin, &manifest, "defineIntegration({ actions: { send: () => 1 } })").await;
    admin.call("chat", "send", json!({})).await.expect(400);
    admin.call("chat", "send", json!({ "to": "me" })).await.expect(409);
    let runs = admin.runs("chat", 2).await;
    let codes: Vec<_> = runs.iter().map(|run| (&run["error"]["code"], &run["error"]["category"])).collect();
    assert_eq!(codes, [(&json!("not_configured"), &json!("Auth")), (&json!("invalid_input"), &json!("Validation"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rpcs_and_webhooks_are_recorded_as_what_they_are() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "serve({ rpc: { hello: () => 'hi', __webhook: () => ({ ok: true }) } })";
    server.deploy(&admin, &with(integration("chat", &[]), json!({ "webhooks": ["push"] })), backend).await;
    let rpc = admin.post("/api/v1/apps/chat/rpc", json!({ "method": "hello", "params": { "a": 1 } })).await.expect(200);
    let url = admin.get("/api/v1/apps/chat/webhooks").await.expect(200).text("/0/url");
    let hook = server.anonymous().post(&url, json!({ "b": 2 })).await.expect(200);
    let runs = admin.runs("chat", 2).await;
    let seen: Vec<_> = runs
        .iter()
        .map(|run| json!([run["id"], run["kind"], run["operation"], run["inputBytes"], run["principal"]["email"]]))
        .collect();
    let expected = [
        json!([hook.header("x-weft-run-id"), "webhook", "chat.push", 7, null]),
        json!([rpc.header("x-weft-run-id"), "rpc", "chat.hello", 7, "admin@example.com"]),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_filtered_by_what_they_are() {
    let (server, admin) = server().await;
    server.deploy(&admin, &integration("mail", &["ping"]), BACKEND).await;
    admin.call("chat", "ping", json!({})).await.expect(200);
    admin.call("chat", "fail", json!({ "category": "Auth" })).await.expect(424);
    let last = admin.call("chat", "fail", json!({ "category": "Validation" })).await.expect(422).text("/traceId");
    admin.call("mail", "ping", json!({})).await.expect(200);
    admin.post("/api/v1/apps/mail/rpc", json!({ "method": "nope" })).await.expect(404);
    admin.runs("chat", 3).await;
    admin.runs("mail", 2).await;
    for (query, count) in [
        ("", 5),
        ("provider=chat", 3),
        ("provider=mail&action=ping", 1),
        ("action=ping", 2),
        ("kind=rpc", 1),
        ("kind=webhook", 0),
        ("status=failed", 3),
        ("status=succeeded&provider=chat", 1),
        ("status=running", 0),
        ("category=Auth", 1),
        ("category=Validation&kind=action", 1),
        ("provider=gone", 0),
        ("since=2999-01-01T00:00:00Z", 0),
        ("until=2999-01-01T00:00:00Z", 5),
        (&format!("traceId={last}"), 1),
    ] {
        assert_eq!(page(&admin, query).await.0.len(), count, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_without_gaps_or_repeats() {
    let (_server, admin) = server().await;
    for _ in 0..23 {
        admin.call("chat", "ping", json!({})).await.expect(200);
    }
    admin.runs("chat", 23).await;
    let (all, none) = page(&admin, "limit=200").await;
    assert_eq!((all.len(), none), (23, None));
    assert!(all.is_sorted_by(|newer, older| newer > older), "newest first");

    let (mut collected, mut cursor) = page(&admin, "limit=10").await;
    while let Some(next) = cursor {
        // What arrives meanwhile is newer than every page that is still to come.
        admin.call("chat", "ping", json!({})).await.expect(200);
        let (ids, following) = page(&admin, &format!("limit=10&cursor={next}")).await;
        collected.extend(ids);
        cursor = following;
    }
    assert_eq!(collected, all);
    assert_eq!(page(&admin, "limit=1").await.0.len(), 1);
    let distinct: HashSet<_> = collected.iter().collect();
    assert_eq!(distinct.len(), 23);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_their_own_runs_and_with_the_permission_those_of_others() {
    let (server, admin) = server().await;
    let (user, auditor) = (server.user("user").await, server.user("auditor").await);
    server.grant(&admin, &user, &["integration:chat:*"]).await;
    server.grant(&admin, &auditor, &["admin:runs.read"]).await;
    let url = admin.get("/api/v1/apps/chat/webhooks").await.expect(200).text("/0/url");
    server.anonymous().post(&url, json!({})).await.expect(200);
    admin.call("chat", "ping", json!({})).await.expect(200);
    user.call("chat", "ping", json!({})).await.expect(200);
    let theirs = admin.runs("chat", 3).await.iter().find(|run| run["principal"]["email"] == "admin@example.com").cloned();
    let theirs = theirs.as_ref().and_then(|run| run["id"].as_str()).expect("the administrator's run");

    let own = user.runs("chat", 1).await;
    assert_eq!((own.len(), &own[0]["principal"]["email"]), (1, &json!("user@example.com")));
    assert_eq!(user.get(&format!("/api/v1/runs/{theirs}")).await.expect(404).code(), "not_found");
    assert_eq!(auditor.runs("chat", 3).await.len(), 3);
    auditor.get(&format!("/api/v1/runs/{theirs}")).await.expect(200);
    server.anonymous().get("/api/v1/runs").await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_make_no_sense_are_refused() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    for query in [
        "cursor=rubbish",
        "cursor=",
        "limit=0",
        "limit=201",
        "limit=many",
        "status=done",
        "kind=cron",
        "category=auth",
        "since=yesterday",
    ] {
        let refused = admin.get(&format!("/api/v1/runs?{query}")).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_request"), "{query}: {refused:?}");
    }
    admin.get("/api/v1/runs/no-uuid").await.expect(400);
    admin.get("/api/v1/runs/018f0000-0000-7000-8000-000000000000").await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_its_server_left_behind_is_ended_at_the_next_start() {
    let (mut server, admin) = server().await;
    admin.call("chat", "ping", json!({})).await.expect(200);
    let finished = admin.runs("chat", 1).await.remove(0);
    server.stop().await;
    let mut database = PgConnection::connect(&server.database.url).await.expect("a connection");
    let left = RunId::generate(server.clock.now()).to_string();
    let orphan = "with gone as (insert into nodes (id, started_at) values (gen_random_uuid(), now()) returning id)
                  insert into runs (id, tenant_id, node_id, kind, provider, action, status, attempts, started_at,
                      input_bytes, trace_id)
                  select $1::uuid, 'default', gone.id, 'action', 'chat', 'ping', 'running', 1, now(), 2, '' from gone";
    sqlx::query(orphan).bind(&left).execute(&mut database).await.expect("inserted");
    server.restart().await;
    let admin = admin.at(server.url());
    let ended = eventually("the run is ended", async || {
        let run = admin.get(&format!("/api/v1/runs/{left}")).await.expect(200);
        (run.value("/status") == "failed").then_some(run)
    })
    .await;
    assert_eq!((ended.text("/error/code"), ended.text("/error/category")), ("interrupted".to_owned(), "Transient".to_owned()));
    let untouched = admin.get(&format!("/api/v1/runs/{}", finished["id"].as_str().unwrap_or_default())).await.expect(200);
    assert_eq!(untouched.json, finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_cannot_be_stored_do_not_hold_up_the_history() {
    let (server, admin) = server().await;
    let odd = "serve({ rpc: { fail: () => { throw new ActionError('a\\0b', { code: 'c\\0d', category: 'Validation' }); } } })";
    server.deploy(&admin, &crate::fixtures::app("odd"), odd).await;
    for method in ["a\0b", "new\nline", &"x".repeat(201)] {
        let refused = admin.post("/api/v1/apps/odd/rpc", json!({ "method": method })).await.expect(400);
        assert_eq!(refused.code(), "invalid_request");
    }
    admin.post("/api/v1/apps/odd/rpc", json!({ "method": "fail" })).await.expect(422);
    let run = admin.runs("odd", 1).await.remove(0);
    assert_eq!((&run["error"]["code"], &run["error"]["message"]), (&json!("cd"), &json!("ab")));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_deliveries_are_forgotten_after_their_time() {
    let (mut server, admin) = server().await;
    let url = admin.get("/api/v1/apps/chat/webhooks").await.expect(200).text("/0/url");
    server.anonymous().post(&url, json!({})).await.expect(200);
    let run = admin.runs("chat", 1).await.remove(0);
    let mut database = PgConnection::connect(&server.database.url).await.expect("a connection");
    for (days, deliveries_left, run_left) in [(13, 1, 200), (2, 0, 200), (76, 0, 404)] {
        server.advance(Duration::days(days));
        server.restart().await;
        let admin = server.login("admin@example.com").await;
        let path = format!("/api/v1/runs/{}", run["id"].as_str().unwrap_or_default());
        let database = Mutex::new(&mut database);
        eventually("the server has tidied up", async || {
            let count = sqlx::query_scalar::<_, i64>("select count(*) from webhook_deliveries");
            let deliveries = count.fetch_one(&mut **database.lock().await).await.expect("a count");
            let status = admin.get(&path).await.status;
            ((deliveries, status) == (deliveries_left, run_left)).then_some(())
        })
        .await;
    }
}
