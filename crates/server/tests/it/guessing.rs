//! Guessing passwords is slow, tells nothing, and does not shut the owner out.

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};
use weft_server::ServeArgs;
use weft_testkit::{Answer, TestServer, server::PASSWORD};

const LOGIN: &str = "/api/v1/auth/login";
const REGISTER: &str = "/api/v1/auth/register";

/// A server with these settings in its file.
async fn server(settings: &str) -> TestServer {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weft.toml");
    std::fs::write(&file, settings).expect("written");
    let server = TestServer::start_with(ServeArgs { config: Some(file), ..ServeArgs::default() }).await;
    // What is allowed depends on how much time has passed, which must not be how fast the test runs.
    server.clock.stop();
    server
}

/// A server that believes this machine when it says for whom it asks.
async fn behind_proxy() -> TestServer {
    server("trusted_proxies = [\"127.0.0.1\"]").await
}

async fn login(server: &TestServer, from: &str, email: &str, password: &str) -> Answer {
    let api = server.anonymous();
    let body = json!({ "email": email, "password": password });
    api.send(api.request(Method::POST, LOGIN).header("x-forwarded-for", from).json(&body)).await
}

/// What a caller can tell two answers apart by.
fn told(answer: &Answer) -> (u16, Value, Option<String>) {
    let mut body = answer.json.clone();
    body.as_object_mut().expect("a problem").remove("traceId");
    (answer.status, body, answer.header("retry-after").map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_password_is_guessed_no_faster_with_somebodys_token() {
    let server = server("").await;
    let alice = server.user("alice").await;
    let change = |current: &str| json!({ "currentPassword": current, "newPassword": "N3wPassword!" });
    for _ in 0..5 {
        alice.put("/api/v1/auth/password", change("wrong")).await.expect(400);
    }
    assert_eq!(alice.put("/api/v1/auth/password", change(PASSWORD)).await.expect(429).code(), "rate_limited");
    server.advance(Duration::seconds(1));
    alice.put("/api/v1/auth/password", change(PASSWORD)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_some_failures_each_next_attempt_has_to_wait_and_then_the_right_password_still_fits() {
    let server = server("").await;
    server.user("alice").await;
    let attempt = async |password: &str| {
        server.anonymous().post(LOGIN, json!({ "email": "Alice@example.com", "password": password })).await
    };
    for _ in 0..5 {
        attempt("wrong").await.expect(401);
    }
    let mut waits = Vec::new();
    for _ in 0..4 {
        let refused = attempt(PASSWORD).await.expect(429);
        assert_eq!(refused.code(), "rate_limited");
        let seconds: i64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
        waits.push(seconds);
        server.advance(Duration::seconds(seconds));
        attempt("wrong").await.expect(401);
    }
    assert_eq!(waits, [1, 2, 4, 8]);
    server.advance(Duration::seconds(16));
    attempt(PASSWORD).await.expect(200);
    attempt("wrong").await.expect(401);
    attempt(PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attacker_elsewhere_does_not_lock_the_owner_out() {
    let server = behind_proxy().await;
    server.user("alice").await;
    login(&server, "198.51.100.7", "alice@example.com", PASSWORD).await.expect(200);
    server.advance(Duration::minutes(2));
    let mut refused = 0;
    for n in 0..60 {
        let answer = login(&server, &format!("203.0.113.{n}"), "alice@example.com", "wrong").await;
        refused += u32::from(answer.status == 429);
    }
    assert_eq!(refused, 30);
    login(&server, "198.51.100.7", "alice@example.com", PASSWORD).await.expect(200);
    // From a place where the owner never was it is slow, and for nobody else.
    login(&server, "198.51.100.8", "alice@example.com", PASSWORD).await.expect(429);
    login(&server, "198.51.100.8", "bob@example.com", PASSWORD).await.expect(401);
    server.advance(Duration::seconds(30));
    login(&server, "198.51.100.8", "alice@example.com", PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_gets_only_so_many_attempts_whatever_accounts_it_names_and_whatever_it_says() {
    let server = behind_proxy().await;
    server.user("alice").await;
    let mut refused = 0;
    for n in 0..103 {
        let (api, body) = (server.anonymous(), json!({ "email": "not an address", "password": "x" }));
        let request = api.request(Method::POST, REGISTER).header("x-forwarded-for", format!("10.9.9.{n}, 203.0.113.7"));
        refused += u32::from(api.send(request.json(&body)).await.status == 429);
    }
    assert_eq!(refused, 3);
    login(&server, "203.0.113.7", "alice@example.com", PASSWORD).await.expect(429);
    login(&server, "203.0.113.8", "alice@example.com", PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_exist_and_those_that_do_not_answer_alike_at_every_step_and_cost_the_same() {
    let server = behind_proxy().await;
    let admin = server.user("admin").await;
    server.user("alice").await;
    server.user("disabled").await;
    server.database.execute("update memberships set disabled_at = now() where user_id = (select id from users where email = 'disabled@example.com')").await;
    let link = admin.post("/api/v1/auth/magic-link/generate", json!({ "email": "linked@example.com" })).await.expect(201);
    server.anonymous().get(&link.text("/magicLinkUrl")).await.expect(200);

    let mut seen: Vec<Vec<_>> = Vec::new();
    for (name, password) in [("alice", "wrong"), ("nobody", "wrong"), ("disabled", PASSWORD), ("linked", "wrong")] {
        let mut steps = Vec::new();
        for _ in 0..8 {
            let checks = server.password_checks();
            let answer = login(&server, "203.0.113.9", &format!("{name}@example.com"), password).await;
            steps.push((told(&answer), server.password_checks() - checks));
        }
        seen.push(steps);
    }
    assert_eq!(
        seen[0].iter().map(|step| (step.0.0, step.1)).collect::<Vec<_>>(),
        [[(401, 1); 5].as_slice(), &[(429, 0); 3]].concat()
    );
    for other in &seen[1..] {
        assert_eq!(*other, seen[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_registration_closed_known_and_unknown_addresses_are_refused_alike() {
    let server = server("registration = \"closed\"").await;
    server.user("alice").await;
    let register = async |email: &str, password: &str| {
        server.anonymous().post(REGISTER, json!({ "email": email, "password": password })).await
    };
    for password in [PASSWORD, "weak"] {
        let checks = server.password_checks();
        let (known, unknown) = (register("alice@example.com", password).await, register("nobody@example.com", password).await);
        assert_eq!(told(&known), told(&unknown));
        assert_eq!(server.password_checks(), checks);
    }
    register("alice@example.com", PASSWORD).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_passwords_off_they_serve_only_the_first_user_to_register() {
    let server = server("password_login = \"off\"").await;
    let mode = async || server.anonymous().get("/api/v1/auth/mode").await.expect(200).value("/passwordLoginEnabled");
    assert_eq!(mode().await, json!(true));
    let body = |name: &str| json!({ "email": format!("{name}@example.com"), "password": PASSWORD });
    server.anonymous().post(REGISTER, body("admin")).await.expect(201);
    assert_eq!(mode().await, json!(false));
    let refused = server.anonymous().post(LOGIN, body("admin")).await.expect(403);
    assert!(refused.text("/error").starts_with("password login is disabled"), "{refused:?}");
    let refused = server.anonymous().post(REGISTER, body("other")).await.expect(403);
    assert!(refused.text("/error").starts_with("password registration is disabled"), "{refused:?}");
}
