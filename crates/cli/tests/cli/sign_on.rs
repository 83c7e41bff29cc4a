//! `weft login` through a browser.

use insta::assert_snapshot;
use reqwest::Url;
use serde_json::json;
use weft_server::ServeArgs;
use weft_testkit::{
    TestServer,
    sign_on::{Browser, Provider},
};

use crate::fake::Fake;
use crate::machine::{Machine, Running};

/// A server where passwords do not serve, with these providers.
async fn server(providers: &[&str]) -> Fake {
    let fake = Fake::ready().await;
    let providers: Vec<_> = providers.iter().map(|id| json!({ "id": id, "displayName": format!("The {id}") })).collect();
    fake.ok("GET /api/v1/auth/mode", &json!({ "setupRequired": false, "passwordLoginEnabled": false, "providers": providers }));
    fake.ok(
        "POST /api/v1/auth/nonce-exchange",
        &json!({ "accessToken": "access-1", "refreshToken": "refresh-1", "expiresIn": 900 }),
    );
    fake.ok("GET /api/v1/auth/me", &json!({ "id": "u1", "email": "alice@example.com", "displayName": "Alice" }));
    fake
}

/// The address that a command shows, and where it wants the browser to be sent in the end.
async fn shown(running: &mut Running) -> (Url, Url) {
    let line = running.line_with("/authorize?").await;
    let address = Url::parse(line.trim()).expect("an address on a line of its own");
    let back = address.query_pairs().find(|(name, _)| name == "redirect_uri").expect("a redirect_uri").1.into_owned();
    (address, Url::parse(&back).expect("an address"))
}

fn with(mut address: Url, parameters: &[(&str, &str)]) -> Url {
    address.query_pairs_mut().extend_pairs(parameters);
    address
}

#[tokio::test]
async fn the_only_provider_is_used_where_passwords_do_not_serve() {
    let (fake, machine) = (server(&["okta"]).await, Machine::new());
    let mut running = machine.start(&["login", &fake.url]);
    let (address, back) = shown(&mut running).await;
    assert!(address.as_str().starts_with(&format!("{}/api/v1/auth/oidc/okta/authorize?", fake.url)), "{address}");
    assert!(address.as_str().ends_with("&token_delivery=nonce"), "{address}");
    assert_eq!(back.host_str(), Some("127.0.0.1"));

    // A page that guesses the port does not get another login in.
    let guessed = back.join("/callback/0?auth_nonce=evil").expect("an address");
    assert_eq!(reqwest::get(guessed).await.expect("an answer").status(), 404);
    let page = reqwest::get(with(back, &[("auth_nonce", "the-nonce")])).await.expect("an answer");
    assert!(page.text().await.expect("a page").contains("Go on in the terminal"));
    running.line_with(&format!("Logged in to {} as Alice <alice@example.com>", fake.url)).await;
    assert_eq!(fake.request("POST /api/v1/auth/nonce-exchange").json(), json!({ "nonce": "the-nonce" }));
    assert_eq!(fake.request("GET /api/v1/auth/me").header("authorization"), "Bearer access-1");
    let stored = std::fs::read_to_string(machine.login_file()).expect("a login file");
    let expected = json!({ "url": fake.url, "accessToken": "access-1", "refreshToken": "refresh-1" });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stored).expect("JSON"), expected);
}

#[tokio::test]
async fn the_tenant_is_named_in_either_way_of_logging_in() {
    let (fake, machine) = (server(&[]).await, Machine::new());
    let mode = |passwords: bool| json!({ "passwordLoginEnabled": passwords, "providers": [{ "id": "sso", "displayName": "S" }] });
    fake.ok("GET /api/v1/auth/mode?tenant=acme", &mode(false));
    let mut running = machine.start(&["login", &fake.url, "--tenant", "acme"]);
    let (address, _) = shown(&mut running).await;
    assert!(address.as_str().ends_with("&tenant=acme"), "{address}");

    let other = server(&[]).await;
    other.ok("GET /api/v1/auth/mode?tenant=acme", &mode(true));
    other
        .ok("POST /api/v1/auth/login", &json!({ "accessToken": "a", "refreshToken": "r", "user": { "email": "a@example.com" } }));
    let arguments = ["login", &other.url, "--tenant", "acme", "--email", "a@example.com", "--password", "p"];
    assert_eq!(machine.weft(&arguments).await.code, 0);
    assert_eq!(other.request("POST /api/v1/auth/login").json()["tenant"], "acme");
}

#[tokio::test]
async fn a_refusal_is_told_and_nothing_is_stored() {
    let (fake, machine) = (server(&["okta", "other"]).await, Machine::new());
    let mut running = machine.start(&["login", &fake.url, "--provider", "other"]);
    let (_, back) = shown(&mut running).await;
    let refused = [("error", "access_denied"), ("error_description", "the provider refused: \u{1b}[2Jaccess_denied")];
    let page = reqwest::get(with(back, &refused)).await.expect("an answer");
    assert!(page.text().await.expect("a page").contains("did not succeed"));
    running.line_with("error: the login was refused: the provider refused: [2Jaccess_denied").await;
    assert!(!machine.login_file().exists());
}

#[tokio::test]
async fn with_several_providers_or_none_the_choice_is_explained() {
    let (several, none) = (server(&["okta", "other"]).await, server(&[]).await);
    let machine = Machine::new();
    assert_snapshot!(machine.weft(&["login", &several.url]).await.shown(&several));
    assert_snapshot!(machine.weft(&["login", &several.url, "--provider", "third"]).await.shown(&several));
    assert_snapshot!(machine.weft(&["login", &none.url, "--browser"]).await.shown(&none));
    assert_snapshot!(machine.weft(&["login", &none.url]).await.shown(&none));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_browser_logs_the_command_in_at_a_real_provider() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weft.toml");
    std::fs::write(&file, "password_login = \"off\"\negress_allow = [\"127.0.0.1\"]\n").expect("written");
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let link = admin.post("/api/v1/auth/magic-link/generate", json!({ "email": "admin@example.com" })).await.expect(201);
    let server = server.restart_with(ServeArgs { config: Some(file), ..ServeArgs::default() }).await;
    let link = link.text("/magicLinkUrl");
    let token = link.rsplit('=').next().expect("a token");
    let tokens = server.anonymous().post("/api/v1/auth/magic-link/consume", json!({ "token": token })).await.expect(200);
    let admin = server.anonymous().with_token(tokens.text("/accessToken"));

    let (provider, browser) = (Provider::start(&server.url()).await, Browser::start().await);
    provider.account(json!({ "sub": "alice", "email": "alice@example.com", "email_verified": true, "name": "Alice" })).await;
    admin.post("/api/v1/auth/oidc/providers", provider.configuration("sso")).await.expect(200);

    let machine = Machine::new();
    let url = server.url().replace("127.0.0.1", "localhost");
    let mut running = machine.start(&["login", &url]);
    let (address, _) = shown(&mut running).await;
    let page = browser.log_in(address.as_str(), "alice").await;
    assert!(page.text.contains("Go on in the terminal"), "{page:?}");
    running.line_with(&format!("Logged in to {url} as Alice <alice@example.com>")).await;
    assert_eq!(machine.weft(&["whoami"]).await.stdout, format!("Alice <alice@example.com> on {url}\n"));

    let mut running = machine.start(&["login", &url, "--browser"]);
    let (address, _) = shown(&mut running).await;
    browser.forget().await;
    browser.cancel(address.as_str()).await;
    running.line_with("access_denied").await;
}
