//! What all routes share: problems, traces, tokens, metrics, documentation; and the routes about the node itself.

use std::path::Path;

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_testkit::{Answer, Api, TestServer};

use crate::{auth::members, fixtures::eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SOMEBODY: &str = "018f0000-0000-7000-8000-000000000000";

/// Sends a body as it is.
async fn send_raw(api: &Api, path: &str, content_type: &str, body: &str) -> Answer {
    let request = api.request(Method::POST, path).header("content-type", content_type).body(body.to_owned());
    api.send(request).await
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("x-trace-id"), Some(answer.text("/traceId").as_str()));
    assert_eq!(answer.text("/traceId").len(), 32);
    assert_eq!(answer.text("/type"), format!("/docs/errors/{code}"));
    assert_eq!(answer.value("/status"), json!(status));
    assert_eq!(answer.text("/detail"), answer.text("/error"));
    assert!(!answer.text("/error").is_empty() && !answer.text("/title").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_the_same_body() {
    let server = TestServer::start().await;
    let (alice, bob, nobody) = (server.user("alice").await, server.user("bob").await, server.anonymous());
    for (answer, status, code) in [
        (nobody.get("/api/v1/nothing").await, 404, "not_found"),
        (nobody.get("/api").await, 404, "not_found"),
        (nobody.delete("/api/v1/auth/login").await, 405, "method_not_allowed"),
        (nobody.post("/health", json!({})).await, 405, "method_not_allowed"),
        (nobody.get("/api/v1/auth/me").await, 401, "unauthenticated"),
        (bob.get("/api/v1/platform/secrets").await, 403, "forbidden"),
        (alice.get(&format!("/api/v1/users/{SOMEBODY}")).await, 404, "not_found"),
        (alice.get("/api/v1/users/alice").await, 400, "invalid_request"),
        (alice.get("/api/v1/roles/%FF").await, 405, "method_not_allowed"),
        (alice.delete("/api/v1/roles/%FF").await, 400, "invalid_request"),
        (alice.get("/api/v1/apps/Not-A-Name").await, 400, "invalid_request"),
        (alice.get("/api/v1/runs?limit=many").await, 400, "invalid_request"),
    ] {
        assert_problem(&answer, status, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_looks_like_this() {
    let server = TestServer::start().await;
    let body = json!({ "email": "alice", "password": "short" });
    let answer = server.anonymous().post("/api/v1/auth/register", body).await;
    insta::assert_json_snapshot!("problem", answer.json, { ".traceId" => "[32 hexadecimal digits]" });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_path_does_not_take_is_answered_with_those_it_takes() {
    let server = TestServer::start().await;
    let answer = server.anonymous().put("/api/v1/roles", json!({})).await.expect(405);
    let mut allowed: Vec<_> = answer.header("allow").unwrap_or_default().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_fit_is_refused_with_the_place_of_its_fault() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for (path, body, code, place) in [
        ("/api/v1/auth/login", "not JSON", "invalid_request", "$"),
        ("/api/v1/auth/login", r#"{"email": "a", "password": }"#, "invalid_request", "$.password"),
        ("/api/v1/auth/login", r#"{"email": "a""#, "invalid_request", "$"),
        ("/api/v1/auth/login", "[]", "validation_failed", "$"),
        ("/api/v1/auth/login", r#"{"email": 1, "password": "p"}"#, "validation_failed", "$.email"),
        ("/api/v1/auth/login", r#"{"email": "a"}"#, "validation_failed", "$"),
        ("/api/v1/auth/login", "", "validation_failed", "$"),
        ("/api/v1/roles", r#"{"name": "r", "permissions": ["tool:a", 2]}"#, "validation_failed", "$.permissions[1]"),
    ] {
        let answer = send_raw(&alice, path, "application/json", body).await;
        assert_problem(&answer, 400, code);
        assert_eq!(answer.value("/errors/0/path"), json!(place), "{body}: {answer:?}");
    }
    let answer =
        send_raw(&alice, "/api/v1/auth/login", "application/json", "{\"email\":\"a\",\"password\":\"p\"} and more").await;
    assert_problem(&answer, 400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_to_say_that_it_is_json() {
    let server = TestServer::start().await;
    let api = server.anonymous();
    let body = r#"{"email": "a", "password": "p"}"#;
    for refused in ["text/plain", "application/x-www-form-urlencoded", "json", ""] {
        assert_problem(&send_raw(&api, "/api/v1/auth/login", refused, body).await, 415, "unsupported_media_type");
    }
    for taken in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
        assert_problem(&send_raw(&api, "/api/v1/auth/login", taken, body).await, 401, "unauthenticated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_too_large_is_refused_before_it_is_sent() {
    let server = TestServer::start().await;
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).await.expect("connected");
    let head =
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: weft\r\ncontent-type: application/json\r\ncontent-length: 52428801\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // Fails here, rather than never, when the server waits for the rest.
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(std::time::Duration::from_secs(20), reading).await.expect("an answer").expect("read");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains(r#""code":"payload_too_large""#), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_the_database_cannot_hold_is_the_callers_fault() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let named = json!({ "email": "bob@example.com", "password": "Str0ngPass!x", "displayName": "a\u{0}b" });
    for answer in [
        alice.post("/api/v1/auth/register", named).await,
        alice.post("/api/v1/auth/login", json!({ "email": "a\u{0}b", "password": "p" })).await,
        alice.post("/api/v1/roles", json!({ "name": "a\u{0}b" })).await,
        alice.post("/api/v1/roles", json!({ "name": "a", "description": "a\u{0}b" })).await,
        alice.delete("/api/v1/roles/a%00b").await,
        alice.delete("/api/v1/platform/secrets/a%00b").await,
        alice.post("/api/v1/apps", json!({ "appId": "crm", "name": "C", "version": "1.0.0", "x": "a\u{0}b" })).await,
    ] {
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(["invalid_request", "validation_failed"].contains(&answer.code().as_str()), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_taken_over_from_the_caller() {
    let server = TestServer::start().await;
    let api = server.anonymous();
    let with = async |traceparent: String| api.send(api.request(Method::GET, "/x").header("traceparent", traceparent)).await;
    let answer = with(format!("00-{TRACE}-00f067aa0ba902b7-01")).await;
    assert_eq!((answer.text("/traceId").as_str(), answer.header("x-trace-id")), (TRACE, Some(TRACE)));
    for rubbish in ["rubbish".to_owned(), format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))] {
        let answer = with(rubbish).await;
        assert_problem(&answer, 404, "not_found");
        assert_ne!(answer.text("/traceId"), TRACE);
    }
    let (first, second) = (api.get("/health").await, api.get("/health").await);
    assert!(first.header("x-trace-id").is_some());
    assert_ne!(first.header("x-trace-id"), second.header("x-trace-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_missing_garbled_foreign_or_expired_is_asked_for() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let alice = server.user("alice").await;
    let token = alice.token.clone().unwrap_or_default();
    let foreign = other.user("alice").await.token.unwrap_or_default();
    let asks = async |authorization: Option<String>| {
        let request = server.anonymous().request(Method::GET, "/api/v1/auth/me");
        let request = authorization.into_iter().fold(request, |request, value| request.header("authorization", value));
        let answer = alice.send(request).await;
        assert_problem(&answer, 401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    };
    asks(None).await;
    for authorization in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer rubbish".to_owned(),
        format!("Basic {token}"),
        token.clone(),
        format!("Bearer {token}x"),
        format!("Bearer {}", token.replacen("eyJ", "eyK", 1)),
        format!("Bearer {foreign}"),
    ] {
        asks(Some(authorization)).await;
    }
    alice.get("/api/v1/auth/me").await.expect(200);
    server.advance(Duration::minutes(15));
    asks(Some(format!("Bearer {token}"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_public_and_status_needs_a_token() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    assert_eq!(server.anonymous().get("/health").await.expect(200).json, json!({ "status": "ok" }));
    assert_eq!(server.anonymous().get("/health/ready").await.expect(200).json, json!({ "status": "ready" }));
    assert_problem(&server.anonymous().get("/api/v1/status").await, 401, "unauthenticated");

    server.advance(Duration::seconds(90));
    let status = alice.get("/api/v1/status").await.expect(200);
    assert_eq!(members(&status.json), ["postgres", "runtime", "sql", "workers"]);
    assert_eq!(status.value("/postgres"), json!({ "state": "online", "embedded": false }));
    assert_eq!(status.text("/runtime/state"), "online");
    assert!(status.text("/runtime/version").split('.').count() == 3);
    assert!(status.value("/runtime/uptime_seconds").as_i64().is_some_and(|seconds| seconds >= 90));
    assert_eq!(status.value("/workers/running"), json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_only_while_its_database_answers() {
    let server = TestServer::start().await;
    let api = server.anonymous();
    api.get("/health/ready").await.expect(200);
    let (base, name) = server.database.url.rsplit_once('/').expect("a URL with a path");
    let mut admin = PgConnection::connect(&format!("{base}/weft")).await.expect("connected");
    let mut run = async |statement: String| {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.expect("done");
    };
    run(format!("alter database {name} with allow_connections false")).await;
    run(format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")).await;
    assert_problem(&api.get("/health/ready").await, 503, "unavailable");
    api.get("/health").await.expect(200);
    run(format!("alter database {name} with allow_connections true")).await;
    let ready = async || (api.get("/health/ready").await.status == 200).then_some(());
    eventually("the node is ready again", ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route_pattern_and_never_by_identifier() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let unlikely = "018f0000-0000-7000-8000-00000000c0de";
    alice.get(&format!("/api/v1/users/{unlikely}")).await.expect(404);
    alice.get("/no/such/path/c0de").await.expect(404);
    let brew = Method::from_bytes(b"BREWC0DE").expect("a method");
    alice.send(alice.request(brew, "/health")).await.expect(405);

    let answer = server.anonymous().get("/metrics").await.expect(200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    let text = String::from_utf8_lossy(&answer.bytes);
    let counted = |labels: [&str; 3]| {
        text.lines().any(|line| line.starts_with("weft_http_requests_total{") && labels.iter().all(|label| line.contains(label)))
    };
    assert!(counted([r#"method="GET""#, r#"route="/api/v1/users/{id}""#, r#"status="404""#]), "{text}");
    assert!(counted([r#"method="POST""#, r#"route="/api/v1/auth/login""#, r#"status="200""#]));
    assert!(counted([r#"method="GET""#, r#"route="unmatched""#, r#"status="404""#]));
    assert!(counted([r#"method="other""#, r#"route="/health""#, r#"status="405""#]));
    assert!(text.contains("weft_http_request_seconds_bucket{"));
    assert!(!text.to_lowercase().contains("c0de"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_describes_bearer_tokens_and_problems() {
    let server = TestServer::start().await;
    let answer = server.anonymous().get("/api/openapi.json").await.expect(200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    assert!(answer.text("/openapi").starts_with("3.1"));
    assert_eq!(answer.value("/security"), json!([{ "bearer": [] }]));
    let scheme = answer.value("/components/securitySchemes/bearer");
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
    let body = answer.value("/components/schemas/ProblemBody");
    for member in ["error", "code", "traceId", "type", "title", "status", "detail"] {
        assert!(body["properties"].get(member).is_some(), "{member}");
    }
    for (path, operations) in answer.value("/paths").as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()), "{method} {path}");
        }
    }
    let schemas = answer.value("/components/schemas");
    for name in referred(&answer.json) {
        assert!(schemas.get(&name).is_some(), "the document refers to {name}, which it does not have");
    }
}

/// The names of the schemas that a document refers to.
fn referred(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix("#/components/schemas/"));
            own.map(str::to_owned).into_iter().chain(members.values().flat_map(referred)).collect()
        }
        Value::Array(values) => values.iter().flat_map(referred).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_is_a_page_and_every_error_code_has_one() {
    let server = TestServer::start().await;
    let api = server.anonymous();
    for way in ["/docs", "/"] {
        let docs = api.get(way).await.expect(200);
        assert!(docs.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{way}");
    }

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let mut pages = 0;
    for entry in std::fs::read_dir(folder).expect("the pages") {
        let path = entry.expect("a page").path();
        let code = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        if code == "README" {
            continue;
        }
        let answer = api.get(&format!("/docs/errors/{code}")).await.expect(200);
        assert_eq!(answer.header("content-type"), Some("text/markdown; charset=utf-8"));
        assert_eq!(answer.bytes, std::fs::read(&path).expect("a page"), "{code}");
        pages += 1;
    }
    assert!(pages > 20);
    assert_problem(&api.get("/docs/errors/no_such_code").await, 404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_may_call_from_the_configured_origins_only() {
    let server = TestServer::start().await;
    let api = server.anonymous();
    let preflight = async |origin: &str| {
        let request = api.request(Method::OPTIONS, "/api/v1/auth/me").header("origin", origin);
        let request =
            request.header("access-control-request-method", "GET").header("access-control-request-headers", "authorization");
        api.send(request).await
    };
    let allowed = preflight("http://localhost:5173").await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some("http://localhost:5173"));
    assert_eq!(allowed.header("access-control-allow-headers"), Some("authorization"));
    assert_eq!(preflight("http://evil.example.com").await.header("access-control-allow-origin"), None);
}
