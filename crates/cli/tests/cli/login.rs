use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::Machine;

const LOGIN: [&str; 4] = ["--email", "alice@example.com", "--password", "Str0ngPass!x"];

async fn server(setup_required: bool) -> Fake {
    let fake = Fake::ready().await;
    fake.ok("GET /api/v1/auth/mode", &json!({ "setupRequired": setup_required, "passwordLoginEnabled": true, "providers": [] }));
    fake.reply("POST /api/v1/auth/register", 201, &json!({ "user": { "email": "alice@example.com" } }));
    let user = json!({ "id": "u1", "email": "alice@example.com", "displayName": null });
    fake.ok(
        "POST /api/v1/auth/login",
        &json!({ "accessToken": "access-1", "refreshToken": "refresh-1", "expiresIn": 900, "user": user }),
    );
    fake
}

fn stored(machine: &Machine) -> Value {
    serde_json::from_str(&std::fs::read_to_string(machine.login_file()).expect("a login file")).expect("JSON")
}

#[tokio::test]
async fn the_first_user_is_registered_and_told_about_it() {
    let (fake, machine) = (server(true).await, Machine::new());
    let outcome = machine.weft(&[&["login", fake.url.as_str()][..], &LOGIN].concat()).await;
    assert_snapshot!(outcome.shown(&fake));
    assert_eq!(fake.lines(), ["GET /health", "GET /api/v1/auth/mode", "POST /api/v1/auth/register", "POST /api/v1/auth/login"]);
}

#[tokio::test]
async fn the_login_is_kept_for_its_owner_only() {
    let (fake, machine) = (server(false).await, Machine::new());
    let variables = [("WEFT_EMAIL", "alice@example.com"), ("WEFT_PASSWORD", "Str0ngPass!x")];
    let outcome = machine.run(&["login", &fake.url, "--json"], &variables, "").await;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_eq!(outcome.json()["user"]["email"], "alice@example.com");
    assert_eq!(stored(&machine), json!({ "url": fake.url, "accessToken": "access-1", "refreshToken": "refresh-1" }));
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&machine.login_file()), 0o600);
    assert_eq!(mode(machine.login_file().parent().expect("a folder")), 0o700);
    assert!(!fake.lines().contains(&"POST /api/v1/auth/register".to_owned()));
}

#[tokio::test]
async fn without_a_terminal_the_flag_is_named_instead_of_asking() {
    let (fake, machine) = (server(false).await, Machine::new());
    assert_snapshot!(machine.weft(&["login", &fake.url]).await);
}

#[tokio::test]
async fn a_wrong_password_is_the_servers_word() {
    let (fake, machine) = (Fake::ready().await, Machine::new());
    fake.ok("GET /api/v1/auth/mode", &json!({ "setupRequired": false, "passwordLoginEnabled": true }));
    fake.reply("POST /api/v1/auth/login", 401, &json!({ "error": "invalid credentials", "code": "unauthenticated" }));
    let outcome = machine.weft(&[&["login", fake.url.as_str()][..], &LOGIN].concat()).await;
    assert_snapshot!(outcome.shown(&fake));
    assert!(!machine.login_file().exists());
}

#[tokio::test]
async fn an_expired_token_is_refreshed_once_and_saved() {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    fake.reply("GET /api/v1/auth/me", 401, &json!({ "error": "token expired" }));
    fake.ok("GET /api/v1/auth/me", &json!({ "email": "alice@example.com", "displayName": "Alice" }));
    fake.ok("POST /api/v1/auth/refresh", &json!({ "accessToken": "access-2", "expiresIn": 900 }));
    let outcome = machine.weft(&["whoami"]).await;
    assert_eq!(outcome.stdout, format!("Alice <alice@example.com> on {}\n", fake.url));
    assert_eq!(fake.lines(), ["GET /api/v1/auth/me", "POST /api/v1/auth/refresh", "GET /api/v1/auth/me"]);
    assert_eq!(fake.requests()[1].json(), json!({ "refreshToken": "refresh-1" }));
    assert_eq!(fake.requests()[2].header("authorization"), "Bearer access-2");
    assert_eq!(stored(&machine)["accessToken"], "access-2");
}

#[tokio::test]
async fn an_ended_session_asks_for_a_new_login() {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    fake.reply("GET /api/v1/apps", 401, &json!({ "error": "token expired" }));
    fake.reply("POST /api/v1/auth/refresh", 401, &json!({ "error": "session revoked or expired" }));
    assert_snapshot!(machine.weft(&["apps"]).await.shown(&fake));
}

#[tokio::test]
async fn a_token_is_not_shown_to_another_server() {
    let (mine, other) = (Fake::ready().await, Fake::ready().await);
    let machine = Machine::logged_in(&mine);
    assert_snapshot!(machine.weft(&["whoami", "--url", &other.url]).await.shown(&other));
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn variables_override_the_stored_login() {
    let (mine, other) = (Fake::ready().await, Fake::ready().await);
    let machine = Machine::logged_in(&mine);
    other.ok("GET /api/v1/auth/me", &json!({ "email": "robot@example.com" }));
    let outcome = machine.run(&["whoami"], &[("WEFT_URL", &other.url), ("WEFT_TOKEN", "robot-token")], "").await;
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(other.request("GET /api/v1/auth/me").header("authorization"), "Bearer robot-token");
    assert!(mine.requests().is_empty());
}

#[tokio::test]
async fn logging_out_forgets_the_login_even_if_the_server_is_gone() {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    fake.reply("POST /api/v1/auth/logout", 503, &json!({ "error": "not ready" }));
    assert_snapshot!(machine.weft(&["logout"]).await.shown(&fake));
    assert!(!machine.login_file().exists());
    assert_eq!(fake.request("POST /api/v1/auth/logout").json(), json!({ "refreshToken": "refresh-1" }));
}

#[tokio::test]
async fn an_absent_server_is_named_with_the_way_to_start_one() {
    let machine = Machine::new();
    // Port 1 is privileged and unused: nothing answers there.
    let outcome = machine.weft(&["login", "http://127.0.0.1:1"]).await;
    assert_snapshot!(outcome);
    let outcome = machine.weft(&["status", "--url", "http://127.0.0.1:1", "--json"]).await;
    let body: Value = serde_json::from_str(&outcome.stderr).expect("stderr is one JSON value");
    assert_eq!((outcome.code, outcome.stdout.as_str(), &body["code"]), (1, "", &json!("no_server")));
}
