//! Secrets come out of the whole program nowhere: not in what it logs at the finest level, not in the traces it sends, not on the
//! command line of any process, not in a file.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use weft_testkit::{
    Api,
    canary::{CANARY, assert_files_without, assert_without, plant},
    database::runtime_dir,
};

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

async fn serve(folder: &Path, collector: &str) -> (Child, String) {
    let log = std::fs::File::create(folder.join("log")).expect("a file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "trace", "--data-dir"])
        .arg(folder.join("data"))
        .arg("--runtime-dir")
        .arg(runtime_dir())
        .env_remove("DATABASE_URL")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        .env("WEFT_MASTER_KEY", hexadecimal("master"))
        .env("WEFT_JWT_SECRET", hexadecimal("session"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    while let Some(line) = lines.next_line().await.expect("text") {
        if let Some(url) = line.strip_prefix("Weft is ready at ") {
            let url = url.trim_end_matches('/').to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (child, url);
        }
    }
    panic!("the server does not start: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
}

/// 64 hexadecimal digits that are easy to find again.
fn hexadecimal(name: &str) -> String {
    format!("{:0<64}", CANARY.bytes().chain(name.bytes()).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat())
}

/// The command lines of a process and of everything below it.
fn command_lines(process: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect();
    let own = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let own = String::from_utf8_lossy(&own).replace('\0', " ");
    std::iter::once(own).chain(children.into_iter().flat_map(command_lines)).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_the_program() {
    let folder = tempfile::tempdir().expect("a folder");
    // The accounts of the server's children have to pass through.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("permissions can be set");
    let (endpoint, traces) = collector().await;
    let (mut child, url) = serve(folder.path(), &endpoint).await;
    let (secrets, _) = plant(Api::new(url)).await;
    let process = child.id().expect("it runs");
    let lines = command_lines(process);
    assert!(lines.len() > 5, "the database and the workers are among them: {lines:?}");
    assert_without(&secrets, &lines.join("\n"), "a command line");

    kill(Pid::from_raw(process.try_into().expect("a number")), Signal::SIGTERM).expect("told to stop");
    assert!(child.wait().await.expect("stopped").success());
    let log = std::fs::read_to_string(folder.path().join("log")).expect("a log");
    assert!(log.contains("worker.log") && log.contains("http.request"), "the finest level is on");
    assert_without(&secrets, &log, "the log");
    let traces = String::from_utf8_lossy(&traces.lock().expect("no panic")).into_owned();
    assert!(traces.contains("http.request") && traces.contains("/api/v1/hooks/{token}"), "traces arrived");
    assert_without(&secrets, &traces, "a trace");
    let seen = assert_files_without(&secrets, &folder.path().join("data"));
    assert!(seen > 500, "the database's files are among them: {seen}");
}
