//! `/api/v1/auth/magic-link/*`.

use chrono::{DateTime, Duration, Utc};
use futures::future::join_all;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use weft_testkit::{Answer, Api, TestServer};

use crate::{
    auth::members,
    fixtures::{fault_paths, with},
};

const ME: &str = "/api/v1/auth/me";
const GENERATE: &str = "/api/v1/auth/magic-link/generate";
const CONSUME: &str = "/api/v1/auth/magic-link/consume";

async fn make(api: &Api, email: &str, more: Value) -> Answer {
    api.post(GENERATE, with(json!({ "email": email }), more)).await
}

/// The address of a link and the token in it.
async fn link(api: &Api, email: &str, more: Value) -> (String, String) {
    let url = make(api, email, more).await.expect(201).text("/magicLinkUrl");
    let token = Url::parse(&url).expect("an address").query_pairs().next().expect("a token").1.into_owned();
    (url, token)
}

async fn consume(api: &Api, token: &str) -> Answer {
    api.post(CONSUME, json!({ "token": token })).await
}

/// Somebody who may invite, with one role to confer.
async fn inviter(server: &TestServer, admin: &Api) -> Api {
    let user = server.user("inviter").await;
    let id = user.get(ME).await.text("/id");
    admin.post("/api/v1/roles", json!({ "name": "guest", "permissions": ["app:crm:invoke"] })).await.expect(200);
    let role = json!({ "name": "inviter", "permissions": ["auth.invite"], "inherits": ["guest"] });
    admin.post("/api/v1/roles", role).await.expect(200);
    admin.post("/api/v1/roles/assign", json!({ "userId": id, "role": "inviter" })).await.expect(200);
    user
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_makes_an_account_with_its_roles_and_logs_it_in_once() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let before = server.clock.now();
    let answer = make(&admin, " New@Example.com ", json!({ "roles": ["admin"] })).await.expect(201);
    assert_eq!(members(&answer.json), ["expiresAt", "magicLinkUrl"]);
    let expires: DateTime<Utc> = answer.text("/expiresAt").parse().expect("a time");
    assert!((expires - before - Duration::seconds(900)).num_seconds().abs() < 60, "{expires}");
    let url = answer.text("/magicLinkUrl");
    let token = url.strip_prefix(&format!("{}{CONSUME}?token=", server.url())).expect("the server's own address");
    assert_eq!(token.len(), 43);

    let consumed = consume(&server.anonymous(), token).await.expect(200);
    assert_eq!(members(&consumed.json), ["accessToken", "expiresIn", "redirectUri", "refreshToken", "user"]);
    assert_eq!([consumed.text("/user/email"), consumed.value("/redirectUri").to_string()], ["new@example.com", "null"]);
    let user = server.anonymous().with_token(consumed.text("/accessToken"));
    assert_eq!(user.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["*"]));
    server.anonymous().post("/api/v1/auth/refresh", json!({ "refreshToken": consumed.text("/refreshToken") })).await.expect(200);

    let again = consume(&server.anonymous(), token).await.expect(401);
    assert!(again.text("/error").starts_with("token invalid, already used, or expired"), "{again:?}");
    for rubbish in ["", "short", &"!".repeat(43)] {
        assert_eq!(consume(&server.anonymous(), rubbish).await.expect(401).text("/error"), "invalid token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_an_existing_account_in_and_adds_roles_at_once() {
    let server = TestServer::start().await;
    let (admin, alice) = (server.user("admin").await, server.user("alice").await);
    assert_eq!(alice.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!([]));
    let (_, token) = link(&admin, "ALICE@example.com", json!({ "roles": ["admin"] })).await;
    let consumed = consume(&server.anonymous(), &token).await.expect(200);
    assert_eq!(consumed.text("/user/id"), alice.get(ME).await.text("/id"));
    assert_eq!(alice.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["*"]));
    server.login("alice@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_open_a_link_at_once_one_gets_in() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let (_, token) = link(&admin, "new@example.com", json!({})).await;
    let answers = join_all((0..10).map(|_| async { consume(&server.anonymous(), &token).await.status })).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| [200, 401].contains(status)), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_expires_when_it_says_within_a_minute_and_a_day() {
    let server = TestServer::start().await;
    server.clock.stop();
    let admin = server.user("admin").await;
    for (wanted, seconds) in [(json!(120), 120), (json!(1), 60), (json!(10_000_000), 86_400), (json!(null), 900)] {
        // Access tokens live shorter than some links.
        let renewed = server.anonymous().post("/api/v1/auth/refresh", json!({ "refreshToken": admin.refresh_token })).await;
        let admin = server.anonymous().with_token(renewed.expect(200).text("/accessToken"));
        let (_, early) = link(&admin, "new@example.com", json!({ "expiresInSeconds": wanted })).await;
        let (_, late) = link(&admin, "new@example.com", json!({ "expiresInSeconds": wanted })).await;
        server.advance(Duration::seconds(seconds - 5));
        consume(&server.anonymous(), &early).await.expect(200);
        server.advance(Duration::seconds(5));
        consume(&server.anonymous(), &late).await.expect(401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opened_in_a_browser_it_leads_on_with_a_nonce_or_tokens_and_nothing_looks_ahead() {
    let server = TestServer::start().await;
    let (admin, visitor) = (server.user("admin").await, server.anonymous().staying());
    let app = "https://app.example.com/start?a=b";
    let (url, _) = link(&admin, "new@example.com", json!({ "redirectUri": app, "tokenDelivery": "nonce" })).await;
    visitor.send(visitor.request(Method::HEAD, &url)).await.expect(405);
    visitor.send(visitor.request(Method::GET, &url).header("sec-purpose", "prefetch")).await.expect(409);
    let answer = visitor.get(&url).await.expect(307);
    assert_eq!([answer.header("referrer-policy"), answer.header("cache-control")], [Some("no-referrer"), Some("no-store")]);
    let nonce = answer.header("location").and_then(|to| to.strip_prefix(&format!("{app}&auth_nonce="))).expect("a nonce");
    let tokens = visitor.post("/api/v1/auth/nonce-exchange", json!({ "nonce": nonce })).await.expect(200);
    assert_eq!(members(&tokens.json), ["accessToken", "expiresIn", "refreshToken"]);
    server.anonymous().with_token(tokens.text("/accessToken")).get(ME).await.expect(200);

    let (url, _) = link(&admin, "new@example.com", json!({ "redirectUri": app })).await;
    let location = visitor.get(&url).await.expect(307).header("location").expect("an address").to_owned();
    assert!(location.starts_with(&format!("{app}&access_token=")) && location.contains("#access_token="), "{location}");

    let (_, token) = link(&admin, "new@example.com", json!({ "redirectUri": app })).await;
    assert_eq!(consume(&visitor, &token).await.expect(200).text("/redirectUri"), app);

    let (url, _) = link(&admin, "new@example.com", json!({})).await;
    assert_eq!(members(&visitor.get(&url).await.expect(200).json).len(), 5);
    let page = visitor.send(visitor.request(Method::GET, &url).header("accept", "text/html,*/*")).await.expect(401);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    assert!(format!("{page:?}").contains("ask for a new link"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_link_is_named_at_once() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let many = vec!["base"; 33];
    for (email, more, paths) in [
        ("", json!({}), &["$.email"][..]),
        ("nobody", json!({}), &["$.email"]),
        ("a@b.c", json!({ "roles": many }), &["$.roles"]),
        ("a@b.c", json!({ "roles": ["nonsense", ""] }), &["$.roles", "$.roles"]),
        ("x", json!({ "redirectUri": "ftp://a.test" }), &["$.email", "$.redirectUri"]),
        ("a@b.c", json!({ "redirectUri": "https://user:pass@a.test" }), &["$.redirectUri"]),
        ("a@b.c", json!({ "redirectUri": "javascript:alert(1)" }), &["$.redirectUri"]),
    ] {
        let answer = make(&admin, email, more.clone()).await.expect(400);
        assert_eq!(fault_paths(&answer), paths, "{email} {more}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inviter_confers_only_held_roles_and_learns_nothing_of_who_exists() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let inviter = inviter(&server, &admin).await;
    let refused = make(&inviter, "new@example.com", json!({ "roles": ["guest", "admin"] })).await.expect(403);
    assert!(refused.text("/error").ends_with("you do not hold: admin"), "{refused:?}");
    let (_, token) = link(&inviter, "new@example.com", json!({ "roles": ["guest", "inviter"] })).await;
    consume(&server.anonymous(), &token).await.expect(200);

    let known = make(&inviter, "admin@example.com", json!({})).await.expect(201);
    let unknown = make(&inviter, "nobody@example.com", json!({})).await.expect(201);
    assert_eq!([members(&known.json), members(&unknown.json)], [["expiresAt", "magicLinkUrl"]; 2]);
    assert_eq!(known.text("/magicLinkUrl").len(), unknown.text("/magicLinkUrl").len());

    make(&server.user("other").await, "new@example.com", json!({})).await.expect(403);
    make(&server.anonymous(), "new@example.com", json!({})).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_more_than_they_are_by_opening_a_link_of_their_own() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let inviter = inviter(&server, &admin).await;
    let (_, token) = link(&inviter, "admin@example.com", json!({})).await;
    let refused = consume(&server.anonymous(), &token).await.expect(401);
    assert!(refused.text("/error").starts_with("token invalid, already used, or expired"), "{refused:?}");

    // A link is worth what its maker is worth when it is opened.
    let (_, early) = link(&inviter, "new@example.com", json!({ "roles": ["guest"] })).await;
    let (_, late) = link(&inviter, "newer@example.com", json!({})).await;
    let (_, later) = link(&inviter, "newest@example.com", json!({})).await;
    server.grant(&admin, &inviter, &["auth.invite"]).await;
    let id = inviter.get(ME).await.text("/id");
    admin.post("/api/v1/roles/revoke", json!({ "userId": id, "role": "inviter" })).await.expect(200);
    consume(&server.anonymous(), &early).await.expect(401);
    consume(&server.anonymous(), &late).await.expect(200);
    admin.delete(&format!("/api/v1/users/{id}")).await.expect(200);
    consume(&server.anonymous(), &later).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_good_for_the_tenant_of_its_maker() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.user("alice").await;
    let elsewhere = server.tenant(&admin, "acme", "boss").await;
    let (_, token) = link(&elsewhere, "alice@example.com", json!({ "roles": ["admin"] })).await;
    let opened = consume(&server.anonymous(), &token).await.expect(200);
    let there = server.anonymous().with_token(opened.text("/accessToken"));
    assert_eq!(there.get(ME).await.expect(200).text("/tenant"), "acme");
    there.post("/api/v1/auth/switch", json!({ "tenant": "default" })).await.expect(403);
    assert_eq!(server.login("alice@example.com").await.get(ME).await.expect(200).text("/tenant"), "default");

    let (_, token) = link(&elsewhere, "alice@example.com", json!({})).await;
    admin.post("/api/v1/tenants/acme/disable", json!({})).await.expect(200);
    consume(&server.anonymous(), &token).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_account_is_not_let_in() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.user("alice").await;
    let (_, token) = link(&admin, "alice@example.com", json!({})).await;
    server
        .database
        .execute(
            "update memberships set disabled_at = now() where user_id = (select id from users where email = 'alice@example.com')",
        )
        .await;
    consume(&server.anonymous(), &token).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_gone_when_the_link_is_opened_is_left_out() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/roles", json!({ "name": "guest", "permissions": [] })).await.expect(200);
    let (_, token) = link(&admin, "new@example.com", json!({ "roles": ["guest", "base"] })).await;
    admin.delete("/api/v1/roles/guest").await.expect(200);
    consume(&server.anonymous(), &token).await.expect(200);
}
