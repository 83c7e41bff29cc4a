//! Secrets come out of the whole program nowhere: not in what it logs at the finest level, not in the traces it sends, not on the
//! command line of any process, not in a file.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, routing::post};
use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use weft_testkit::{
    Api,
    canary::{CANARY, assert_files_without, assert_without, plant},
};

use crate::program::Program;

type Received = Arc<Mutex<Vec<u8>>>;

/// A collector of traces; where it is, and everything that it gets.
async fn collector() -> (String, Received) {
    async fn keep(State(received): State<Received>, body: Bytes) {
        received.lock().expect("no panic").extend_from_slice(&body);
    }
    let received = Received::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = Router::new().route("/v1/traces", post(keep)).with_state(Arc::clone(&received));
    tokio::spawn(async move { axum::serve(listener, service).await });
    (format!("http://{address}"), received)
}

/// 64 hexadecimal digits that are easy to find again.
fn hexadecimal(name: &str) -> String {
    format!("{:0<64}", CANARY.bytes().chain(name.bytes()).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_the_program() {
    let (endpoint, traces) = collector().await;
    let started = Program::start("", |command| {
        command
            .args(["--log", "trace"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("WEFT_MASTER_KEY", hexadecimal("master"))
            .env("WEFT_JWT_SECRET", hexadecimal("session"));
    });
    let mut program = started.await.expect("it starts");
    let (secrets, _) = plant(Api::new(program.url.clone())).await;
    let lines: Vec<_> = program.processes().into_iter().map(|(_, command)| command).collect();
    assert!(lines.len() > 5, "the database and the workers are among them: {lines:?}");
    assert_without(&secrets, &lines.join("\n"), "a command line");

    program.signal(Signal::SIGTERM);
    assert!(program.ended().await.success());
    let log = program.log();
    assert!(log.contains("worker.log") && log.contains("http.request"), "the finest level is on");
    assert_without(&secrets, &log, "the log");
    let traces = String::from_utf8_lossy(&traces.lock().expect("no panic")).into_owned();
    assert!(traces.contains("http.request") && traces.contains("/api/v1/hooks/{token}"), "traces arrived");
    assert_without(&secrets, &traces, "a trace");
    let seen = assert_files_without(&secrets, &program.folder.path().join("data"));
    assert!(seen > 500, "the database's files are among them: {seen}");
}
