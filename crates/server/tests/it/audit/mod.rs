//! `/api/v1/audit/events` and `/api/v1/audit/export`: what was done is told, to those who may know it, and cannot be untold.

mod changes;
mod crowds;
mod tampering;

use std::collections::BTreeSet;

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use weft_attest::{
    KeySet,
    verify::{Finding, Report, Trust, verify},
};
use weft_testkit::{Api, TestServer};

use crate::fixtures::eventually;

const EVENTS: &str = "/api/v1/audit/events";
const EXPORT: &str = "/api/v1/audit/export";

/// A page of events, newest first.
async fn list(api: &Api, query: &str) -> Vec<Value> {
    let answer = api.get(&format!("{EVENTS}?{query}")).await.expect(200);
    answer.value("/data").as_array().cloned().expect("a list")
}

fn actions(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["action"].as_str().unwrap_or_default()).collect()
}

/// An export as one keeps it, line by line.
async fn export(api: &Api) -> Vec<String> {
    let answer = api.get(EXPORT).await.expect(200);
    String::from_utf8(answer.bytes).expect("text").lines().map(str::to_owned).collect()
}

/// Every key that the server ever signed with, got apart from the export.
async fn keys(api: &Api) -> KeySet {
    let list = api.get("/api/v1/auth/signing-keys").await.expect(200).json;
    let keys: Vec<&Value> = list.as_array().expect("a list").iter().map(|key| &key["jwk"]).collect();
    serde_json::from_value(json!({ "keys": keys })).expect("a key set")
}

/// What somebody finds who has nothing but the export and the keys.
async fn checked(api: &Api) -> Report {
    let trust = Trust { keys: Some(keys(api).await), earlier: None };
    verify(export(api).await.into_iter().map(Ok), &trust).expect("readable")
}

async fn findings(api: &Api) -> Vec<Finding> {
    checked(api).await.findings
}

async fn database(server: &TestServer) -> PgConnection {
    PgConnection::connect(&server.database.url).await.expect("connected")
}

async fn sql(database: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(database).await.expect("done");
}

async fn make_role(api: &Api, name: &str) -> u16 {
    api.post("/api/v1/roles", json!({ "name": name })).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_listed_by_who_what_whom_and_when_in_pages() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    server.clock.stop();
    for name in ["sales", "support", "finance"] {
        assert_eq!(make_role(&alice, name).await, 200);
        server.advance(Duration::minutes(4));
    }
    let all = list(&alice, "").await;
    let expected = ["role.created", "role.created", "role.created", "login.succeeded", "user.registered"];
    assert_eq!(actions(&all), expected);
    let numbers: Vec<_> = all.iter().map(|event| event["seq"].as_i64().expect("a number")).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);

    let id = alice.get("/api/v1/auth/me").await.expect(200).text("/id");
    let second = all[1]["at"].as_str().expect("a time");
    for (query, seen) in [
        ("action=role.created".to_owned(), vec![5, 4, 3]),
        (format!("actor={id}&action=login.succeeded"), vec![2]),
        ("target=role:support".to_owned(), vec![4]),
        (format!("since={second}"), vec![5, 4]),
        (format!("until={second}&action=role.created"), vec![3]),
        (format!("traceId={}", all[0]["traceId"].as_str().expect("a trace")), vec![5]),
        ("target=role:nothing".to_owned(), vec![]),
    ] {
        let found = list(&alice, &query).await;
        let numbers: Vec<_> = found.iter().map(|event| event["seq"].as_i64().expect("a number")).collect();
        assert_eq!(numbers, seen, "{query}");
    }

    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = alice.get(&format!("{EVENTS}?limit=2{cursor}")).await.expect(200);
        seen.extend(page.value("/data").as_array().cloned().expect("a list"));
        // What is added meanwhile moves nothing.
        make_role(&alice, &format!("role{}", seen.len())).await;
        let Some(next) = page.value("/nextCursor").as_str().map(str::to_owned) else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, all);
    for wrong in ["action=nothing", "limit=0", "cursor=x", "since=yesterday", "actor=alice"] {
        assert_eq!(alice.get(&format!("{EVENTS}?{wrong}")).await.expect(400).code(), "invalid_request", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_says_who_did_what_from_where_and_on_whose_behalf() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = alice.request(Method::POST, "/api/v1/roles").json(&json!({ "name": "sales", "permissions": ["app:crm:*"] }));
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    alice.send(request).await.expect(200);
    let me = alice.get("/api/v1/auth/me").await.expect(200).text("/id");
    let event = list(&alice, "action=role.created").await.remove(0);
    assert_eq!(event["chain"], "default");
    assert_eq!(event["actor"], json!({ "id": me, "kind": "user", "name": "alice@example.com" }));
    assert_eq!(event["target"], json!({ "kind": "role", "id": "sales" }));
    assert_eq!(event["details"], json!({ "permissions": ["app:crm:*"], "inherits": [] }));
    assert_eq!((&event["traceId"], &event["address"]), (&json!(trace), &json!("127.0.0.1")));

    let account = crate::oauth::Account::create(&alice, "ci", &["admin:secrets.manage"]).await;
    let machine = account.login(&server).await;
    machine.post("/api/v1/platform/secrets", json!({ "key": "TOKEN", "value": "v" })).await.expect(200);
    let event = list(&alice, "action=secret.set").await.remove(0);
    assert_eq!((&event["actor"]["kind"], &event["actor"]["id"]), (&json!("service_account"), &json!(account.id)));
    assert!(event["actor"]["credential"].is_string(), "{event}");
    assert_eq!(event["onBehalfOf"], json!({ "id": me, "kind": "user", "name": "alice@example.com" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_a_log_of_its_own_and_reading_it_is_a_right() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.tenant(&alice, "acme", "carol").await;
    assert_eq!(make_role(&carol, "sales").await, 200);
    assert_eq!(actions(&list(&carol, "").await), ["role.created", "login.succeeded", "tenant.created"]);
    assert!(list(&alice, "target=role:sales").await.is_empty());
    let both = [checked(&alice).await, checked(&carol).await];
    assert_eq!(both.each_ref().map(|report| report.chain.as_str()), ["default", "acme"]);
    assert!(both.iter().all(|report| report.findings.is_empty()), "{both:?}");

    for path in [EVENTS, EXPORT] {
        assert_eq!(bob.get(path).await.expect(403).value("/requires"), json!(["admin:audit.read"]));
    }
    server.grant(&alice, &bob, &["admin:audit.read"]).await;
    bob.get(EVENTS).await.expect(200);
    for range in ["?from=0", "?from=1000", "?from=x"] {
        assert_eq!(bob.get(&format!("{EXPORT}{range}")).await.expect(400).code(), "invalid_request", "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_takes_its_log_along_and_leaves_how_it_ended() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let carol = server.tenant(&alice, "acme", "carol").await;
    make_role(&carol, "sales").await;
    let head = checked(&carol).await.head.expect("in order");
    alice.delete("/api/v1/tenants/acme?confirm=acme").await.expect(202);
    let deleted = list(&alice, "action=tenant.deleted").await.remove(0);
    assert_eq!(deleted["details"], json!({ "auditEvents": head.seq, "auditHash": head.hash.to_string() }));
    let left = async || {
        let count = "select count(*) from audit_events where tenant_id = 'acme'";
        let left: i64 = sqlx::query_scalar(count).fetch_one(&mut database(&server).await).await.expect("counted");
        (left == 0).then_some(())
    };
    eventually("the log of the tenant is gone", left).await;
    assert_eq!(findings(&alice).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_where_an_earlier_one_ended_also_after_the_keys_were_replaced() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    let first = checked(&alice).await.head.expect("in order");
    server.restart().await;
    let alice = alice.at(server.url());
    let once = async || Some(checked(&alice).await).filter(|report| report.checkpoints >= 1);
    eventually("a checkpoint of the first key", once).await;
    alice.post("/api/v1/auth/signing-keys/rotate", json!({})).await.expect(200);
    server.advance(Duration::minutes(11));
    server.restart().await;
    let alice = server.login("alice@example.com").await;
    make_role(&alice, "sales").await;
    let twice = async || Some(checked(&alice).await).filter(|report| report.checkpoints >= 2);
    let whole = eventually("checkpoints of both keys", twice).await;
    assert_eq!((&whole.findings, whole.signed_by.len()), (&vec![], 2));

    let rest = alice.get(&format!("{EXPORT}?from={}", first.seq + 1)).await.expect(200);
    let lines: Vec<_> = String::from_utf8(rest.bytes).expect("text").lines().map(str::to_owned).collect();
    let trust = Trust { keys: Some(keys(&alice).await), earlier: Some(first.clone()) };
    let report = verify(lines.into_iter().map(Ok), &trust).expect("readable");
    assert_eq!((report.findings, report.events), (vec![], whole.events - first.seq));
    let names: BTreeSet<_> = whole.signed_by.iter().cloned().collect();
    assert_eq!(names, keys(&alice).await.ids().map(str::to_owned).collect());
}
