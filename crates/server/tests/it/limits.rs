//! What one worker may use, seen over HTTP: refusals, deaths and their codes, workers that sleep.

use serde_json::{Value, json};
use tempfile::TempDir;
use weft_server::ServeArgs;
use weft_testkit::{Api, TestServer};

use crate::fixtures::{app, eventually, integration, with};

/// A server with these lines in the section `[workers]` of its settings.
async fn server(workers: &str) -> (TestServer, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("weft.toml");
    std::fs::write(&config, format!("[workers]\n{workers}\n")).expect("written");
    (TestServer::start_with(ServeArgs { config: Some(config), ..ServeArgs::default() }).await, folder)
}

async fn workers(api: &Api) -> Value {
    api.get("/api/v1/workers").await.expect(200).value("/workers")
}

async fn status(api: &Api, id: &str) -> Value {
    api.get(&format!("/api/v1/apps/{id}/worker/status")).await.expect(200).value("/status")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_too_many_is_refused_and_told_when_to_come_back() {
    let (server, _settings) = server("max_calls = 1\nmax_queue = 0").await;
    let admin = server.user("admin").await;
    let backend = "defineIntegration({ actions: {
        wait: async () => { while (!(await Bun.file(`${process.env.HOME}/go`).exists())) await Bun.sleep(5); return 'waited'; },
        ping: () => 'pong',
    } })";
    server.deploy(&admin, &integration("chat", &["wait", "ping"]), backend).await;
    let waiting = {
        let admin = admin.clone();
        // A ping may be in the only place when it comes.
        tokio::spawn(async move {
            loop {
                let answer = admin.call("chat", "wait", json!({})).await;
                if answer.status != 503 {
                    return answer;
                }
            }
        })
    };
    let refused = eventually("the worker is full", async || {
        let answer = admin.call("chat", "ping", json!({})).await;
        (answer.status != 200).then_some(answer)
    })
    .await
    .expect(503);
    assert_eq!((refused.code(), refused.header("retry-after")), ("worker_busy".to_owned(), Some("1")));
    assert_eq!(workers(&admin).await["chat"]["callsInFlight"], 1);
    let run = refused.text("/runId");
    eventually("the refusal is recorded", async || {
        let run = admin.get(&format!("/api/v1/runs/{run}")).await;
        (run.value("/error/code") == "worker_busy" && run.value("/error/category") == "Transient").then_some(())
    })
    .await;

    std::fs::write(server.data_path("scratch/default-chat/go"), "").expect("written");
    assert_eq!(waiting.await.expect("answered").expect(200).json, "waited");
    assert_eq!(admin.call("chat", "ping", json!({})).await.expect(200).json, "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_calls_its_own_integration_needs_no_second_place() {
    let (server, _settings) = server("max_calls = 1\nmax_queue = 0").await;
    let admin = server.user("admin").await;
    let backend = "defineIntegration({ actions: {
        outer: (input, ctx) => ctx.selfAction('triggerAction', { actionName: 'inner', input }), inner: (input) => input,
    } })";
    server.deploy(&admin, &integration("chat", &["outer", "inner"]), backend).await;
    assert_eq!(admin.call("chat", "outer", json!({ "n": 1 })).await.expect(200).json, json!({ "n": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_eats_memory_is_killed_and_its_run_says_so() {
    let (server, _settings) = server("memory_mib = 4096").await;
    let admin = server.user("admin").await;
    let backend = "const kept = [];
        const grow = () => { for (let i = 0; i < 16; i++) kept.push(new Uint8Array(1 << 20).fill(1)); setTimeout(grow, 20); };
        defineIntegration({ actions: { grow: () => { grow(); return new Promise(() => {}); }, ping: () => 'pong' } })";
    let manifest = with(integration("hog", &["grow", "ping"]), json!({ "limits": { "memoryMib": 200 } }));
    server.deploy(&admin, &manifest, backend).await;
    server.deploy(&admin, &integration("calm", &["pid"]), "defineIntegration({ actions: { pid: () => process.pid } })").await;
    let pid = admin.call("calm", "pid", json!({})).await.expect(200).json;

    let died = admin.call("hog", "grow", json!({})).await.expect(502);
    assert_eq!(died.code(), "action_failed");
    let message = died.text("/error");
    assert!(message.contains("out of memory: it used") && message.contains("of the 200 MiB it may use"), "{message}");
    let runs = admin.runs("hog", 1).await;
    assert_eq!(runs[0]["error"]["code"], "out_of_memory");

    assert_eq!(admin.call("hog", "ping", json!({})).await.expect(200).json, "pong");
    assert_eq!(admin.call("calm", "pid", json!({})).await.expect(200).json, pid);
    let workers = workers(&admin).await;
    assert_eq!((&workers["hog"]["status"], &workers["hog"]["lastDeath"]["kind"]), (&json!("running"), &json!("out_of_memory")));
    assert_eq!(workers["calm"].get("lastDeath"), None);
    let figures = String::from_utf8(server.anonymous().get("/metrics").await.bytes).expect("text");
    assert!(figures.contains("weft_worker_deaths_total{kind=\"out_of_memory\"}"), "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_integration_sleeps_and_a_call_wakes_it_while_an_app_stays_up() {
    let (server, _settings) = server("idle_minutes = 0.001").await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["ping"]), "defineIntegration({ actions: { ping: () => 'pong' } })").await;
    server.deploy(&admin, &app("crm"), "serve({})").await;
    for _ in 0..2 {
        eventually("the integration sleeps", async || (status(&admin, "chat").await == "stopped").then_some(())).await;
        assert_eq!(admin.call("chat", "ping", json!({})).await.expect(200).json, "pong");
    }
    assert_eq!(status(&admin, "crm").await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_up_starts_only_what_works_by_itself() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "defineIntegration({ actions: { ping: () => 'pong' } })";
    server.deploy(&admin, &integration("chat", &["ping"]), backend).await;
    server.deploy(&admin, &with(integration("poll", &["ping"]), json!({ "keepRunning": true })), backend).await;
    server.deploy(&admin, &app("crm"), "serve({})").await;
    server.deploy(&admin, &with(app("quiet"), json!({ "keepRunning": false })), "serve({})").await;
    server.restart().await;
    let admin = admin.at(server.url());
    let started = eventually("what works by itself is up", async || {
        let workers = workers(&admin).await;
        let running = ["crm", "poll"].iter().all(|id| workers[id]["status"] == "running");
        running.then_some(workers)
    })
    .await;
    assert_eq!(started.as_object().map(serde_json::Map::len), Some(2), "{started}");
    assert_eq!(status(&admin, "chat").await, "stopped");
    assert_eq!(admin.call("chat", "ping", json!({})).await.expect(200).json, "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_shown_and_workers_only_to_those_who_may_deploy() {
    let (server, _settings) = server("memory_mib = 300\nmax_calls = 7\nmax_queue = 0\nidle_minutes = 0").await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    let limits = user.get("/api/v1/status").await.expect(200).value("/workers/limits");
    assert_eq!(
        limits,
        json!({ "memoryMib": 300, "memoryEnforced": cfg!(target_os = "linux"), "maxCalls": 7, "maxQueue": 0, "realTime": false })
    );
    assert_eq!(workers(&admin).await, json!({}));
    assert_eq!(user.get("/api/v1/workers").await.expect(403).code(), "forbidden");
    server.anonymous().get("/api/v1/workers").await.expect(401);
}
