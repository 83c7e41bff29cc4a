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

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn with_real_time_priority_the_server_and_quiet_workers_go_first_and_who_may_not_is_told() {
    const ROUND_ROBIN: u8 = 2;
    let program = match Program::start("[workers]\nreal_time = true", |_| {}).await {
        Ok(program) => program,
        Err(said) => return assert!(said.contains("workers.real_time") && said.contains("CAP_SYS_NICE"), "{said}"),
    };
    let alice = with_integration(&program).await;
    assert_eq!(alice.get("/api/v1/status").await.expect(200).value("/workers/limits/realTime"), json!(true));
    assert_eq!(alice.call("chat", "ping", json!({})).await.expect(200).json, "pong");
    let threads = policies(program.id());
    let first = threads.iter().filter(|(_, policy)| *policy == ROUND_ROBIN).count();
    assert_eq!(first, std::thread::available_parallelism().expect("processors").get(), "those that carry tasks: {threads:?}");

    let (worker, _) = program.processes().into_iter().find(|(_, command)| command.contains("prelude.ts")).expect("a worker");
    let goes_first = || policies(worker).iter().filter(|(_, policy)| *policy == ROUND_ROBIN).count();
    eventually("the worker was quiet for a while", async || (goes_first() == 1).then_some(())).await;
    assert_eq!(alice.call("chat", "burn", json!({})).await.expect(200).json, "burnt");
    eventually("it burnt, and has to give way", async || (goes_first() == 0).then_some(())).await;
    assert_eq!(alice.call("chat", "ping", json!({})).await.expect(200).json, "pong");
    let others = program.processes().into_iter().filter(|(id, _)| *id != program.id());
    let raised: Vec<_> = others.filter(|(id, _)| policies(*id).iter().any(|(_, policy)| *policy != 0)).collect();
    assert!(raised.is_empty(), "the database never goes first: {raised:?}");
}
