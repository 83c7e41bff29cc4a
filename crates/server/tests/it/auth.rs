//! `/api/v1/auth/*`.

use chrono::Duration;
use futures::future::join_all;
use serde_json::{Value, json};
use weft_server::ServeArgs;
use weft_testkit::{
    Answer, Api, TestServer,
    server::{PASSWORD, url},
};

use crate::fixtures::{eventually, fault_paths, with};

const ME: &str = "/api/v1/auth/me";

/// The names of an object's members, sorted.
pub fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().into_iter().flat_map(|object| object.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names
}

async fn register(api: &Api, email: &str) -> Answer {
    api.post("/api/v1/auth/register", json!({ "email": email, "password": PASSWORD })).await
}

async fn login(api: &Api, email: &str, password: &str) -> Answer {
    api.post("/api/v1/auth/login", json!({ "email": email, "password": password })).await
}

async fn refresh(api: &Api, token: Option<&String>) -> Answer {
    api.post("/api/v1/auth/refresh", json!({ "refreshToken": token })).await
}

async fn log_out(api: &Api) -> Answer {
    api.post("/api/v1/auth/logout", json!({ "refreshToken": api.refresh_token })).await
}

/// What a caller can tell two refusals apart by.
fn without_trace(answer: &Answer) -> Value {
    let mut body = answer.json.clone();
    body.as_object_mut().expect("a problem").remove("traceId");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_user_becomes_administrator_and_the_second_does_not() {
    let server = TestServer::start().await;
    let first = server.user("alice").await;
    let second = server.user("bob").await;
    assert_eq!(first.get("/api/v1/permissions").await.value("/permissions"), json!(["*"]));
    assert_eq!(second.get("/api/v1/permissions").await.value("/permissions"), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_first_registrations_exactly_one_becomes_administrator() {
    let server = TestServer::start().await;
    let api = server.anonymous();
    let emails: Vec<String> = (0..8).map(|number| format!("user{number}@example.com")).collect();
    for answer in join_all(emails.iter().map(|email| register(&api, email))).await {
        answer.expect(201);
    }
    let mut administrators = 0;
    for email in &emails {
        let permissions = server.login(email).await.get("/api/v1/permissions").await.value("/permissions");
        administrators += usize::from(permissions == json!(["*"]));
    }
    assert_eq!(administrators, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_answers_the_user_and_no_tokens() {
    let server = TestServer::start().await;
    let answer = register(&server.anonymous(), "  alice@example.com ").await.expect(201);
    assert_eq!(members(&answer.json), ["user"]);
    assert_eq!(members(&answer.value("/user")), ["createdAt", "displayName", "email", "id"]);
    assert_eq!(answer.text("/user/email"), "alice@example.com");
    assert_eq!(answer.value("/user/displayName"), Value::Null);
    assert!(chrono::DateTime::parse_from_rfc3339(&answer.text("/user/createdAt")).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_name_is_taken_in_either_spelling() {
    let server = TestServer::start().await;
    for (field, email) in [("displayName", "alice@example.com"), ("display_name", "bob@example.com")] {
        let body = json!({ "email": email, "password": PASSWORD, field: "A Name" });
        let answer = server.anonymous().post("/api/v1/auth/register", body).await.expect(201);
        assert_eq!(answer.text("/user/displayName"), "A Name", "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_registration_is_named_at_once() {
    let server = TestServer::start().await;
    for (email, password, faults) in [
        ("alice@example.com", "Sh0rtPass", &["at least 10 characters"][..]),
        ("alice@example.com", "alllowercase1", &["upper-case letter"]),
        ("alice@example.com", "ALLUPPERCASE1", &["lower-case letter"]),
        ("alice@example.com", "NoDigitsHere", &["digit"]),
        ("alice@example.com", "", &["at least 10 characters", "upper-case letter", "lower-case letter", "digit"]),
        ("alice", "short", &["at least 10 characters", "upper-case letter", "digit", "e-mail address"]),
    ] {
        let body = json!({ "email": email, "password": password });
        let answer = server.anonymous().post("/api/v1/auth/register", body).await.expect(400);
        assert_eq!(answer.code(), "validation_failed");
        let text = answer.text("/error");
        assert!(faults.iter().all(|fault| text.contains(fault)), "{password}: {text}");
        assert_eq!(fault_paths(&answer).len(), faults.len(), "{answer:?}");
        assert_eq!(fault_paths(&answer).contains(&"$.email".to_owned()), email == "alice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_email_address_is_refused() {
    let server = TestServer::start().await;
    let long = format!("{}@example.com", "a".repeat(250));
    for email in ["", "@", "alice", "alice@", "@example.com", "a b@example.com", "a@b@c", "a\u{0}@example.com", &long] {
        let answer = register(&server.anonymous(), email).await.expect(400);
        assert_eq!(fault_paths(&answer), ["$.email"], "{email:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_is_one_account_in_whatever_case_it_is_written() {
    let server = TestServer::start().await;
    server.user("alice").await;
    for email in ["alice@example.com", "Alice@Example.COM"] {
        let answer = register(&server.anonymous(), email).await.expect(400);
        assert_eq!(answer.code(), "validation_failed");
        assert_eq!(answer.text("/error"), format!("email '{email}' already taken"));
    }
    let answer = login(&server.anonymous(), "ALICE@example.com", PASSWORD).await.expect(200);
    assert_eq!(answer.text("/user/email"), "alice@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_server_takes_the_first_user_and_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weft.toml");
    std::fs::write(&file, "registration = \"closed\"\n").expect("written");
    let server = TestServer::start_with(ServeArgs { config: Some(file), ..ServeArgs::default() }).await;
    let administrator = server.user("alice").await;
    let answer = register(&server.anonymous(), "bob@example.com").await.expect(403);
    assert_eq!(answer.code(), "forbidden");
    assert_eq!(administrator.get("/api/v1/users").await.json.as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_in_answers_two_tokens_and_the_user() {
    let server = TestServer::start().await;
    server.user("alice").await;
    let answer = login(&server.anonymous(), "alice@example.com", PASSWORD).await.expect(200);
    assert_eq!(members(&answer.json), ["accessToken", "expiresIn", "refreshToken", "tenant", "user"]);
    assert_eq!(answer.value("/expiresIn"), json!(900));
    let me = server.anonymous().with_token(answer.text("/accessToken")).get(ME).await.expect(200);
    assert_eq!(members(&answer.value("/user")), ["createdAt", "displayName", "email", "id"]);
    let here = json!({ "tenant": "default", "name": "Default", "usable": true });
    let more = json!({ "kind": "user", "tenant": "default", "memberships": [here] });
    assert_eq!(me.json, with(answer.value("/user"), more));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_user_look_the_same() {
    let server = TestServer::start().await;
    server.user("alice").await;
    let wrong = login(&server.anonymous(), "alice@example.com", "Str0ngPass!y").await.expect(401);
    let unknown = login(&server.anonymous(), "nobody@example.com", PASSWORD).await.expect(401);
    assert_eq!(wrong.text("/error"), "invalid credentials");
    assert_eq!(without_trace(&wrong), without_trace(&unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_serves_only_its_own_use() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (access, refresh_token) = (alice.token.clone(), alice.refresh_token.clone());
    let as_access = server.anonymous().with_token(refresh_token.unwrap_or_default()).get(ME).await.expect(401);
    assert_eq!(as_access.code(), "unauthenticated");
    assert_eq!(refresh(&server.anonymous(), access.as_ref()).await.expect(401).code(), "unauthenticated");
    assert_eq!(
        server.anonymous().post("/api/v1/auth/logout", json!({ "refreshToken": access })).await.expect(401).code(),
        "unauthenticated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_access_token_is_refused_until_it_is_refreshed() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    alice.get(ME).await.expect(200);
    server.advance(Duration::minutes(15));
    assert!(alice.get(ME).await.expect(401).text("/error").contains("expired"));

    let answer = refresh(&server.anonymous(), alice.refresh_token.as_ref()).await.expect(200);
    assert_eq!(members(&answer.json), ["accessToken", "expiresIn"]);
    assert_eq!(answer.value("/expiresIn"), json!(900));
    alice.with_token(answer.text("/accessToken")).get(ME).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_every_token_of_it_end_after_thirty_days() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    server.advance(Duration::days(30) - Duration::minutes(1));
    let answer = refresh(&server.anonymous(), alice.refresh_token.as_ref()).await.expect(200);
    assert!(answer.value("/expiresIn").as_i64().is_some_and(|seconds| seconds <= 60), "{answer:?}");
    let late = server.anonymous().with_token(answer.text("/accessToken"));
    late.get(ME).await.expect(200);

    server.advance(Duration::minutes(1));
    late.get(ME).await.expect(401);
    refresh(&server.anonymous(), alice.refresh_token.as_ref()).await.expect(401);
    server.login("alice@example.com").await.get(ME).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_ends_the_tokens_of_that_session_at_once_and_no_others() {
    let server = TestServer::start().await;
    let (here, elsewhere) = (server.user("alice").await, server.login("alice@example.com").await);
    for session in [&here, &elsewhere] {
        session.get(ME).await.expect(200);
    }
    assert_eq!(log_out(&here).await.expect(200).json, json!({ "message": "logged out" }));
    here.get(ME).await.expect(401);
    refresh(&here, here.refresh_token.as_ref()).await.expect(401);
    elsewhere.get(ME).await.expect(200);
    log_out(&here).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_reaches_the_other_node() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (second, _data_dir) = server.second_node().await;
    let there = alice.clone().at(url(&second));
    there.get(ME).await.expect(200);
    log_out(&alice).await.expect(200);
    eventually("the second node refuses the session", async || (there.get(ME).await.status == 401).then_some(())).await;
    second.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_refresh_token_neither_refreshes_nor_logs_out() {
    let server = TestServer::start().await;
    for token in ["", "rubbish", "a.b.c"] {
        for route in ["/api/v1/auth/refresh", "/api/v1/auth/logout"] {
            let answer = server.anonymous().post(route, json!({ "refreshToken": token })).await.expect(401);
            assert_eq!(answer.code(), "unauthenticated");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_tells_whether_somebody_has_to_set_the_server_up() {
    let server = TestServer::start().await;
    let mode = |setup_required: bool| {
        json!({
            "authRequired": true,
            "setupRequired": setup_required,
            "passwordLoginEnabled": true,
            "magicLinkEnabled": true,
            "providers": [],
        })
    };
    assert_eq!(server.anonymous().get("/api/v1/auth/mode").await.expect(200).json, mode(true));
    server.user("alice").await;
    assert_eq!(server.anonymous().get("/api/v1/auth/mode").await.expect(200).json, mode(false));
}
