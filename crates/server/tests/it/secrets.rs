//! `/api/v1/apps/{app_id}/secrets`, `/api/v1/platform/secrets` and `/api/v1/vault/*`.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};
use weft_server::ServeArgs;
use weft_testkit::{
    Answer, Api, TestServer,
    server::{PASSWORD, url},
};

use crate::{
    fixtures::{app, eventually, fault_paths, integration, with},
    startup::{arguments, data_dir, start},
};

const PLATFORM: &str = "/api/v1/platform/secrets";
const CRM: &str = "/api/v1/apps/crm/secrets";
const ROTATE: &str = "/api/v1/vault/rotate-key";
const CANARY: &str = "canary4u7Jq2ZtW9xKp";

const ECHO: &str = "defineIntegration({ actions: { echo: (_input, ctx) => ctx.config }, webhooks: { news: () => 'seen' } });";
const SHOW: &str = "serve({ rpc: { show: (_params, _caller, ctx) => [process.env.TOKEN ?? null, ctx.credentials] } });";

async fn set(api: &Api, path: &str, key: &str, value: &str) -> Answer {
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
async fn deploy_echo(api: &Api) {
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
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(server.data_path("master.key")).expect("the file").permissions());
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

/// Puts the canary wherever a secret can go, has it used, and returns other secrets that came into being on the way.
async fn plant(api: Api) -> Vec<String> {
    let account = json!({ "email": "alice@example.com", "password": PASSWORD });
    api.post("/api/v1/auth/register", account.clone()).await.expect(201);
    let tokens = api.post("/api/v1/auth/login", account).await.expect(200);
    let alice = api.with_token(tokens.text("/accessToken"));

    alice.post("/api/v1/apps", app("crm")).await.expect(200);
    set(&alice, CRM, "APP_SECRET", CANARY).await.expect(200);
    alice.deploy("crm", &[("index.ts", SHOW)]).await.expect(200);
    deploy_echo(&alice).await;
    for value in [CANARY, "replaced"] {
        set(&alice, PLATFORM, "PLATFORM_SECRET", value).await.expect(200);
    }
    alice.put("/api/v1/integrations/echo/config", json!({ "token": CANARY, "url": "plain" })).await.expect(200);
    // Faulty requests that carry the value, and an answer that is kept for those who ask again.
    alice.put("/api/v1/integrations/echo/config", json!({ "url": "plain", "typo": CANARY })).await.expect(400);
    set(&alice, PLATFORM, "not a name", CANARY).await.expect(400);
    let call = alice.request(Method::POST, "/api/v1/integrations/echo/actions/echo").header("idempotency-key", "once");
    let echoed = alice.send(call.json(&json!({ "note": "x" }))).await.expect(200);
    assert_eq!(echoed.json, json!({ "token": CANARY, "url": "plain" }), "the canary is in use");
    let shown = alice.post("/api/v1/apps/crm/rpc", json!({ "method": "show", "params": {} })).await.expect(200);
    assert_eq!(shown.value("/1/APP_SECRET"), json!(CANARY), "the canary is in use");

    let hook = alice.get("/api/v1/apps/echo/webhooks").await.expect(200).text("/0/url");
    Api::new(String::new()).post(&hook, json!({})).await.expect(200);
    let hook_token = hook.rsplit('/').next().unwrap_or_default().to_owned();
    let secrets = [CANARY.to_owned(), hook_token, PASSWORD.to_owned(), tokens.text("/accessToken"), tokens.text("/refreshToken")];
    secrets.to_vec()
}

/// The forms in which a secret may lie around: as it is, in hexadecimal, and in base64 wherever it begins within its group.
fn forms(secret: &str) -> Vec<String> {
    let shifted = (0..3).flat_map(|shift| {
        let text = format!("{}{secret}", "x".repeat(shift));
        // Its outermost characters also depend on what stands beside it.
        [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)].map(|encoded| encoded[4..encoded.len() - 3].to_owned())
    });
    [secret.to_owned(), hex::encode(secret), hex::encode_upper(secret)].into_iter().chain(shifted).collect()
}

#[track_caller]
fn assert_without(secrets: &[String], text: &str, place: &str) {
    for secret in secrets {
        for form in forms(secret) {
            if let Some(position) = text.find(&form) {
                let around: String = text[..position].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                panic!("{place} holds {secret} as {form} after: {around}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_table() {
    let mut server = TestServer::start().await;
    let secrets = plant(server.anonymous()).await;
    server.stop().await;
    let mut database = PgConnection::connect(&server.database.url).await.expect("connected");
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename from pg_tables where schemaname = 'public' order by tablename")
            .fetch_all(&mut database)
            .await
            .expect("tables");
    let mut rows = 0;
    for table in tables {
        let statement = format!("select row_text::text from \"{table}\" as row_text");
        let dump: Vec<String> = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(&mut database).await.expect("rows");
        rows += dump.len();
        assert_without(&secrets, &dump.join("\n"), &table);
    }
    assert!(rows > 20, "what was planted is there: {rows}");
}

/// A place for log lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Every file below a folder, as text.
fn files(folder: &Path, visit: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            files(&entry.path(), visit);
        } else if kind.is_file() {
            visit(&entry.path(), &String::from_utf8_lossy(&fs::read(entry.path()).expect("a file")));
        }
    }
}

// On one thread, which is what the log is captured on.
#[tokio::test]
async fn no_secret_is_in_any_file_or_log_line() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("debug,weft_server=trace,weft_workers=trace")
        .with_span_events(FmtSpan::FULL)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // While there is only one subscriber, whichever thread gets to a log line first decides for all whether it is ever written.
    let _another = tracing::Dispatch::new(NoSubscriber::new());
    let folder = data_dir();
    let server = start(arguments(folder.path())).await.expect("started");
    let secrets = plant(Api::new(url(&server))).await;
    server.stop().await.expect("stopped");

    let lines = String::from_utf8_lossy(&log.0.lock().expect("no panic")).into_owned();
    assert!(lines.contains("http.request") && lines.contains("/api/v1/hooks/{token}"), "{lines}");
    assert_without(&secrets, &lines, "the log");
    let mut seen = 0;
    files(folder.path(), &mut |path, text| {
        seen += 1;
        assert_without(&secrets, text, &path.display().to_string());
    });
    assert!(seen > 500, "the database's files are among them: {seen}");
}

#[test]
fn a_secret_is_found_in_every_form_that_the_searches_look_for() {
    let secrets = [CANARY.to_owned()];
    let around = |before: &str| format!("{before}{CANARY}!?");
    for before in ["", "a", "ab", "abc"] {
        let text = around(before);
        let written =
            [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text), hex::encode(&text), hex::encode_upper(&text)];
        for form in written.into_iter().chain([text]) {
            assert!(std::panic::catch_unwind(|| assert_without(&secrets, &form, "a text")).is_err(), "{form}");
        }
    }
    assert_without(&secrets, &around("")[1..], "a text");
}
