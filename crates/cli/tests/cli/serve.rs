//! How the program behaves towards the system: signals, and who goes first.

use nix::sys::signal::Signal;
use serde_json::json;
use weft_testkit::eventually;

use crate::{machine::Machine, program::Program};

const BACKEND: &str = "defineIntegration({ actions: {
    ping: () => 'pong',
    burn: () => { const end = Date.now() + 1500; while (Date.now() < end); return 'burnt'; },
    hang: () => new Promise(() => {}),
} });";

async fn with_integration(program: &Program) -> weft_testkit::Api {
    let alice = program.administrator().await;
    let actions = ["ping", "burn", "hang"].map(|id| json!({ "id": id, "name": id, "timeoutSeconds": 60 }));
    let manifest = json!({ "appId": "chat", "name": "chat", "version": "1.0.0", "type": "integration", "actions": actions });
    alice.post("/api/v1/apps", manifest).await.expect(200);
    alice.deploy("chat", &[("index.ts", BACKEND)]).await.expect(200);
    alice
}

#[tokio::test]
async fn a_misspelt_variable_is_named() {
    let variables = [("WEFT_JIAL", "require"), ("WEFT_LISTEN", "127.0.0.1:0"), ("WEFT_PORT_80_TCP", "x"), ("OTHER", "x")];
    let outcome = Machine::new().run(&["serve", "--print-config"], &variables, "").await;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, "! WEFT_JIAL is no variable of Weft, and nothing comes of it\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_wait_for_requests() {
    let mut program = Program::start("", |_| {}).await.expect("it starts");
    let alice = with_integration(&program).await;
    let calling = alice.clone();
    let hanging = tokio::spawn(async move { calling.call("chat", "hang", json!({})).await });
    eventually("the call is at work", async || {
        let workers = alice.get("/api/v1/workers").await.expect(200);
        (workers.value("/workers/chat/callsInFlight") == json!(1)).then_some(())
    })
    .await;
    program.signal(Signal::SIGTERM);
    eventually("it is about to stop", async || program.log().contains("server.stop").then_some(())).await;
    assert!(!hanging.is_finished(), "requests are waited for");
    program.signal(Signal::SIGINT);
    assert!(program.ended().await.success());
    assert!(program.log().contains("SIGINT once more, requests are not waited for"));
    hanging.abort();
}

/// The scheduling policies of a process's threads, by their names: field 41 of `/proc/PID/task/TID/stat`.
#[cfg(target_os = "linux")]
fn policies(process: u32) -> Vec<(String, u8)> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let read = |stat: String| {
        let (name, rest) = stat.rsplit_once(')')?;
        let policy = rest.split_whitespace().nth(38)?.parse().ok()?;
        Some((name.split_once('(')?.1.to_owned(), policy))
    };
    stats.filter_map(read).collect()
}

/// Keeps all processors busy until it is dropped.
#[cfg(target_os = "linux")]
struct Busy(std::sync::Arc<std::sync::atomic::AtomicBool>);

#[cfg(target_os = "linux")]
impl Busy {
    fn new(processors: usize) -> Self {
        let busy = Self(std::sync::Arc::new(true.into()));
        for _ in 0..processors {
            let goes_on = std::sync::Arc::clone(&busy.0);
            std::thread::spawn(move || while goes_on.load(std::sync::atomic::Ordering::Relaxed) {});
        }
        busy
    }
}

#[cfg(target_os = "linux")]
impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn where_processors_are_short_the_server_and_a_quiet_app_go_first_while_it_is_called() {
    const ROUND_ROBIN: u8 = 2;
    let program = Program::start("", |_| {}).await.expect("it starts");
    let alice = with_integration(&program).await;
    if alice.get("/api/v1/status").await.expect(200).value("/workers/limits/realTime") == json!(false) {
        return assert!(program.log().contains("server.real_time"), "who may not is told why: {}", program.log());
    }
    let first = |process| policies(process).iter().filter(|(_, policy)| *policy == ROUND_ROBIN).count();
    let (worker, _) = program.processes().into_iter().find(|(_, command)| command.contains("prelude.ts")).expect("a worker");
    let processors = std::thread::available_parallelism().expect("processors").get();
    let busy = Busy::new(processors);
    eventually("the worker and the threads that carry tasks go first", async || {
        assert_eq!(alice.call("chat", "ping", json!({})).await.expect(200).json, "pong");
        (first(worker) > 1 && first(program.id()) == processors).then_some(())
    })
    .await;
    let others = program.processes().into_iter().filter(|(id, _)| ![program.id(), worker].contains(id));
    let raised: Vec<_> = others.filter(|(id, _)| first(*id) > 0).collect();
    assert!(raised.is_empty(), "the database never does: {raised:?}");
    assert_eq!(alice.call("chat", "burn", json!({})).await.expect(200).json, "burnt");
    eventually("it burnt, and has to give way", async || (first(worker) == 0).then_some(())).await;
    drop(busy);
    eventually("nobody is called, and nobody goes first", async || (first(program.id()) == 0).then_some(())).await;
    assert_eq!(alice.call("chat", "ping", json!({})).await.expect(200).json, "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_first_where_the_operator_does_not_want_that() {
    let program = Program::start("[workers]\nreal_time = false", |_| {}).await.expect("it starts");
    let alice = program.administrator().await;
    assert_eq!(alice.get("/api/v1/status").await.expect(200).value("/workers/limits/realTime"), json!(false));
    assert!(!program.log().contains("server.real_time"), "{}", program.log());
}
