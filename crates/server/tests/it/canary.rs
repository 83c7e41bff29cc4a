//! Secrets lie nowhere in clear: a canary is put wherever a secret can go, then tables, files and log lines are searched for it.
//! The same is done to the whole program, its traces and its processes included, in the tests of `weft-cli`.

use std::sync::Mutex;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};
use weft_server::ServeArgs;
use weft_testkit::{
    Api, TestServer,
    canary::{assert_files_without, assert_without, plant},
    server::url,
};

use crate::startup::{arguments, data_dir, start};

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_table_or_in_an_answer_that_is_none_of_its_business() {
    let mut server = TestServer::start().await;
    let (secrets, answers) = plant(server.anonymous()).await;
    server.stop().await;
    for answer in answers {
        assert_without(&secrets, &format!("{answer:?}"), "an answer");
        assert_without(&secrets, &String::from_utf8_lossy(&answer.bytes), "an answer");
    }
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

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

// On one thread, which is what the log is captured on.
#[tokio::test]
async fn no_secret_is_in_any_file_or_log_line() {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("debug,weft_server=trace,weft_workers=trace")
        .with_span_events(FmtSpan::FULL)
        .with_writer(|| LOG.make_writer())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // While there is only one subscriber, whichever thread gets to a log line first decides for all whether it is ever written.
    let _another = tracing::Dispatch::new(NoSubscriber::new());
    let folder = data_dir();
    // Where spans are collected, every request has one; a log that is one thread's gets none made for its lines.
    let collected = ServeArgs { otlp_endpoint: Some("http://127.0.0.1:9".to_owned()), ..arguments(folder.path()) };
    let server = start(collected).await.expect("started");
    let (secrets, _) = plant(Api::new(url(&server))).await;
    server.stop().await.expect("stopped");

    let lines = String::from_utf8_lossy(&LOG.lock().expect("no panic")).into_owned();
    assert!(lines.contains("http.request") && lines.contains("/api/v1/hooks/{token}"), "{lines}");
    assert_without(&secrets, &lines, "the log");
    let seen = assert_files_without(&secrets, folder.path());
    assert!(seen > 500, "the database's files are among them: {seen}");
}
