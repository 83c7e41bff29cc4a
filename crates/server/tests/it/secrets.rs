//! `/api/v1/apps/{app_id}/secrets`, `/api/v1/platform/secrets` and `/api/v1/vault/*`.

use std::{fs, os::unix::fs::PermissionsExt};

use futures::future::join_all;
use serde_json::{Value, json};
use weft_server::ServeArgs;
use weft_testkit::{Answer, Api, TestServer};

use crate::{
    fixtures::{app, eventually, fault_paths, integration, with},
    startup::{arguments, start},
};

pub const PLATFORM: &str = "/api/v1/platform/secrets";
pub const CRM: &str = "/api/v1/apps/crm/secrets";
const ROTATE: &str = "/api/v1/vault/rotate-key";

const ECHO: &str = "defineIntegration({ actions: { echo: (_input, ctx) => ctx.config }, webhooks: { news: () => 'seen' } });";
/// A method that shows what the backend has of its app's secrets.
pub const SHOW: &str = "serve({ rpc: { show: (_params, _caller, ctx) => [process.env.TOKEN ?? null, ctx.credentials] } });";

pub async fn set(api: &Api, path: &str, key: &str, value: &str) -> Answer {
    api.post(path, json!({ "key": key, "value": value })).await
}

async fn names(api: &Api, path: &str) -> Value {
    api.get(path).await.expect(200).json
}

async fn with_crm(server: &TestServer) -> Api {
    let alice = server.user("alice").await;
    alice.post("/api/v1/apps", app("crm")).await.expect(200);
    alice
}

/// Installs an integration whose action `echo` returns its configuration, with one secret and one plain field.
pub async fn deploy_echo(api: &Api) {
    let fields = json!({ "token": { "type": "string", "platformSecret": "ECHO_TOKEN" }, "url": { "type": "string" } });
    let more = json!({ "configSchema": { "type": "object", "properties": fields }, "webhooks": ["news"] });
    api.post("/api/v1/apps", with(integration("echo", &["echo"]), more)).await.expect(200);
    api.deploy("echo", &[("index.ts", ECHO)]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_set_listed_by_name_replaced_and_deleted() {
    let server = TestServer::start().await;
    let alice = with_crm(&server).await;
    for (path, set_text, deleted_text) in [
        (CRM, json!({ "message": "secret 'B_KEY' set" }), json!({ "message": "secret 'B_KEY' deleted" })),
        (
            PLATFORM,
            json!({ "message": "platform secret 'B_KEY' set", "workers_restarted": 0 }),
            json!({ "message": "platform secret 'B_KEY' deleted", "workers_restarted": 0 }),
        ),
    ] {
        assert_eq!(names(&alice, path).await, json!([]));
        for value in ["one", "two", "three", "four"] {
            assert_eq!(set(&alice, path, "B_KEY", value).await.expect(200).json, set_text);
        }
        set(&alice, path, "_a1", "").await.expect(200);
        assert_eq!(names(&alice, path).await, json!(["B_KEY", "_a1"]), "names only, each once");
        let answer = alice.delete(&format!("{path}/B_KEY")).await.expect(200);
        assert_eq!(answer.json, deleted_text);
        assert_eq!(names(&alice, path).await, json!(["_a1"]));
        assert_eq!(alice.delete(&format!("{path}/B_KEY")).await.expect(404).text("/error"), "secret 'B_KEY' not found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secrets_of_an_app_are_its_own() {
    let server = TestServer::start().await;
    let alice = with_crm(&server).await;
    alice.post("/api/v1/apps", app("erp")).await.expect(200);
    set(&alice, CRM, "TOKEN", "of the CRM").await.expect(200);
    set(&alice, PLATFORM, "SHARED", "x").await.expect(200);
    assert_eq!(names(&alice, "/api/v1/apps/erp/secrets").await, json!([]));
    assert_eq!(names(&alice, CRM).await, json!(["TOKEN"]));
    alice.delete("/api/v1/apps/erp/secrets/TOKEN").await.expect(404);
    for answer in [
        alice.get("/api/v1/apps/nothing/secrets").await,
        set(&alice, "/api/v1/apps/nothing/secrets", "TOKEN", "x").await,
        alice.delete("/api/v1/apps/nothing/secrets/TOKEN").await,
    ] {
        assert_eq!(answer.expect(404).code(), "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_has_to_follow_the_grammar() {
    let server = TestServer::start().await;
    let alice = with_crm(&server).await;
    let long = "A".repeat(129);
    for path in [CRM, PLATFORM] {
        for key in ["", "1A", "A-B", "A B", "A.B", "Ä", "A=B", "A\u{0}", &long] {
            let answer = set(&alice, path, key, "x").await.expect(400);
            assert_eq!(
                (answer.code().as_str(), fault_paths(&answer)),
                ("validation_failed", vec!["$.key".to_owned()]),
                "{key:?}"
            );
        }
        set(&alice, path, &long[1..], "x").await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_secret_cannot_take_the_place_of_what_the_backends_environment_needs() {
    let server = TestServer::start().await;
    let alice = with_crm(&server).await;
    for key in ["PATH", "HOME", "TMPDIR", "IFS", "WEFT_X", "ROOTCX_X", "LD_PRELOAD", "DYLD_X", "BUN_X", "NODE_OPTIONS", "NPM_X"] {
        let answer = set(&alice, CRM, key, "x").await.expect(400);
        assert!(answer.text("/error").contains("reserved"), "{key}: {answer:?}");
    }
    assert_eq!(names(&alice, CRM).await, json!([]));
    set(&alice, CRM, "PATHS", "x").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_no_environment_can_hold_is_refused() {
    let server = TestServer::start().await;
    let alice = with_crm(&server).await;
    let long = "x".repeat(64 * 1024);
    for path in [CRM, PLATFORM] {
        for value in ["a\u{0}b", &format!("{long}x")] {
            assert_eq!(fault_paths(&set(&alice, path, "KEY", value).await.expect(400)), ["$.value"]);
        }
        set(&alice, path, "KEY", &long).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_need_their_own_permission_and_nothing_more() {
    let server = TestServer::start().await;
    let alice = with_crm(&server).await;
    let bob = server.user("bob").await;
    for (granted, status) in [(&["app:*", "integration:*", "admin:vault.rotate"][..], 403), (&["admin:secrets.manage"], 200)] {
        server.grant(&alice, &bob, granted).await;
        for path in [CRM, PLATFORM] {
            set(&bob, path, "KEY", "x").await.expect(status);
            bob.get(path).await.expect(status);
            bob.delete(&format!("{path}/KEY")).await.expect(status);
        }
    }
    bob.post(ROTATE, json!({})).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_gets_the_secrets_of_its_app_and_follows_their_changes() {
    let server = TestServer::start().await;
    let alice = with_crm(&server).await;
    set(&alice, CRM, "TOKEN", "first").await.expect(200);
    set(&alice, PLATFORM, "SHARED", "not for apps").await.expect(200);
    alice.deploy("crm", &[("index.ts", SHOW)]).await.expect(200);
    let shown = async || alice.post("/api/v1/apps/crm/rpc", json!({ "method": "show", "params": {} })).await.json;
    assert_eq!(shown().await, json!(["first", { "TOKEN": "first" }]));
    set(&alice, CRM, "TOKEN", "second").await.expect(200);
    let second = json!(["second", { "TOKEN": "second" }]);
    eventually("the backend has the new value", async || (shown().await == second).then_some(())).await;
    alice.delete(&format!("{CRM}/TOKEN")).await.expect(200);
    eventually("the backend has no value", async || (shown().await == json!([null, {}])).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_secret_reaches_the_next_call_of_an_integration() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    deploy_echo(&alice).await;
    for value in ["first", "second"] {
        set(&alice, PLATFORM, "ECHO_TOKEN", value).await.expect(200);
        assert_eq!(alice.call("echo", "echo", json!({})).await.expect(200).json, json!({ "token": value }));
    }
    alice.delete(&format!("{PLATFORM}/ECHO_TOKEN")).await.expect(200);
    assert_eq!(alice.call("echo", "echo", json!({})).await.expect(200).json, json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_key_leaves_every_value_readable_and_the_old_key_useless() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    deploy_echo(&alice).await;
    set(&alice, PLATFORM, "ECHO_TOKEN", "kept").await.expect(200);
    let old = fs::read(server.data_path("master.key")).expect("the key");

    let answer = alice.post(ROTATE, json!({})).await.expect(200);
    let new = fs::read_to_string(server.data_path("master.key")).expect("the key");
    assert_ne!(new.as_bytes(), old);
    assert_eq!(answer.text("/masterKeyId"), weft_vault::MasterKey::from_hex(&new).expect("a key").id());
    assert!(!answer.text("/message").contains(new.trim()));
    let mode = fs::metadata(server.data_path("master.key")).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!server.data_path("master.key.next").exists());
    assert_eq!(alice.call("echo", "echo", json!({})).await.expect(200).json, json!({ "token": "kept" }));

    server.restart().await;
    let alice = alice.at(server.url());
    let kept = async || (alice.call("echo", "echo", json!({})).await.json == json!({ "token": "kept" })).then_some(());
    eventually("the value is readable after a restart", kept).await;
    set(&alice, PLATFORM, "ECHO_TOKEN", "new").await.expect(200);

    server.stop().await;
    fs::write(server.data_path("master.key"), &old).expect("written");
    let arguments = ServeArgs { database_url: Some(server.database.url.clone()), ..arguments(server.data_dir.path()) };
    let message = start(arguments).await.err().expect("the old key does not open").to_string();
    assert!(message.contains(&answer.text("/masterKeyId")), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_at_the_same_time_take_turns() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    set(&alice, PLATFORM, "KEY", "x").await.expect(200);
    for answer in join_all((0..5).map(|_| alice.post(ROTATE, json!({})))).await {
        answer.expect(200);
    }
    server.restart().await;
    assert_eq!(names(&alice.at(server.url()), PLATFORM).await, json!(["KEY"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_from_the_environment_is_rotated_to_one_that_is_given() {
    let (old, new) = ("a".repeat(64), "b".repeat(64));
    let mut server = TestServer::start_with(ServeArgs { master_key: Some(old), ..ServeArgs::default() }).await;
    let alice = server.user("alice").await;
    for body in [json!({}), json!({ "newMasterKey": "short" })] {
        assert_eq!(alice.post(ROTATE, body).await.expect(400).code(), "validation_failed");
    }
    let answer = alice.post(ROTATE, json!({ "newMasterKey": new })).await.expect(200);
    assert!(answer.text("/message").contains("WEFT_MASTER_KEY") && !answer.text("/message").contains(&new));
    assert!(!server.data_path("master.key").exists());
    server.stop().await;
    let arguments =
        ServeArgs { database_url: Some(server.database.url.clone()), master_key: Some(new), ..arguments(server.data_dir.path()) };
    start(arguments).await.expect("the new key opens").stop().await.expect("stopped");
}
