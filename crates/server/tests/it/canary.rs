//! Secrets lie nowhere in clear: a canary is put wherever a secret can go, then tables, files and log lines are searched for it.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};
use weft_testkit::{
    Api, TestServer,
    server::{PASSWORD, url},
};

use crate::{
    fixtures::app,
    secrets::{CRM, PLATFORM, SHOW, deploy_echo, set},
    startup::{arguments, data_dir, start},
};

const CANARY: &str = "canary4u7Jq2ZtW9xKp";

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
    let wanted = json!({ "email": "bob@example.com", "redirectUri": "http://localhost/", "tokenDelivery": "nonce" });
    let link = alice.post("/api/v1/auth/magic-link/generate", wanted).await.expect(201).text("/magicLinkUrl");
    let opened = alice.clone().staying().get(&link).await.expect(307);
    let last = |address: &str| address.rsplit('=').next().unwrap_or_default().to_owned();
    let (link_token, nonce) = (last(&link), last(opened.header("location").expect("an address")));
    let secrets = [CANARY.to_owned(), hook_token, PASSWORD.to_owned(), tokens.text("/accessToken"), tokens.text("/refreshToken")];
    [secrets.as_slice(), &[link_token, nonce]].concat()
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
