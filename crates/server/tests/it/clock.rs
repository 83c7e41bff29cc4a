//! A clock that jumps, a day forward and an hour back: whoever calls notices nothing but what time is about.

use chrono::{DateTime, Duration, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use weft_testkit::{Answer, Api, TestServer};

use crate::fixtures::{eventually, integration};

const BACKEND: &str = "let calls = 0; defineIntegration({ actions: {
    count: () => ++calls,
    wait: async () => { while (!(await Bun.file(`${process.env.HOME}/go`).exists())) await Bun.sleep(5); return 'waited'; },
} })";

async fn server() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["count", "wait"]), BACKEND).await;
    (server, admin)
}

async fn counted(api: &Api, key: &str) -> Answer {
    let request = api.request(Method::POST, "/api/v1/integrations/chat/actions/count").header("idempotency-key", key);
    api.send(request.json(&json!({}))).await
}

fn time(run: &Value, name: &str) -> DateTime<Utc> {
    run[name].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("a time {name} in {run}"))
}

/// A call that is at work while the clock jumps, and its run.
async fn call_across(server: &TestServer, admin: &Api, jump: Duration) -> Value {
    let go = server.data_path("scratch/default-chat/go");
    let _ = std::fs::remove_file(&go);
    let waiting = {
        let admin = admin.clone();
        tokio::spawn(async move { admin.call("chat", "wait", json!({})).await })
    };
    eventually("the call is at work", async || {
        let workers = admin.get("/api/v1/workers").await.expect(200);
        (workers.value("/workers/chat/callsInFlight") == json!(1)).then_some(())
    })
    .await;
    server.advance(jump);
    std::fs::write(go, "").expect("written");
    let answer = waiting.await.expect("answered").expect(200);
    let run = answer.header("x-weft-run-id").expect("a run").to_owned();
    let admin = server.login("admin@example.com").await;
    eventually("the run is recorded", async || {
        let run = admin.get(&format!("/api/v1/runs/{run}")).await;
        (run.status == 200).then_some(run.json)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_at_work_outlives_both_jumps_and_its_run_never_ends_before_it_began() {
    let (server, admin) = server().await;
    for jump in [Duration::hours(-1), Duration::days(1)] {
        let admin = admin.clone().with_token(server.login("admin@example.com").await.token.expect("a token"));
        let run = call_across(&server, &admin, jump).await;
        assert_eq!(run["status"], "succeeded");
        assert!(time(&run, "completedAt") >= time(&run, "startedAt"), "{run}");
        let took = run["durationMs"].as_f64().unwrap_or_else(|| panic!("a duration in {run}"));
        assert!((0.0..60_000.0).contains(&took), "measured apart from the clock: {run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_day_forward_access_has_ended_and_the_session_has_not() {
    let (server, admin) = server().await;
    server.advance(Duration::days(1));
    admin.call("chat", "count", json!({})).await.expect(401);
    let refreshed = admin.post("/api/v1/auth/refresh", json!({ "refreshToken": admin.refresh_token })).await.expect(200);
    let admin = admin.with_token(refreshed.text("/accessToken"));
    admin.call("chat", "count", json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_hour_back_tokens_sessions_and_keys_hold_on() {
    let (mut server, admin) = server().await;
    assert_eq!(counted(&admin, "before").await.expect(200).json, json!(1));
    server.advance(Duration::hours(-1));
    assert_eq!(counted(&admin, "before").await.expect(200).json, json!(1), "the key is still known");
    assert_eq!(counted(&admin, "after").await.expect(200).json, json!(2));
    server.restart().await;
    let admin = admin.at(server.url());
    admin.call("chat", "count", json!({})).await.expect(200);
    let later = server.login("admin@example.com").await;
    assert_eq!(counted(&later, "before").await.expect(200).json, json!(1), "whatever tidied up left the key alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_in_the_order_of_its_times_across_jumps_and_pages() {
    let (server, _) = server().await;
    for jump in [0, 24, -1, -1, 3] {
        server.advance(Duration::hours(jump));
        let admin = server.login("admin@example.com").await;
        admin.call("chat", "count", json!({})).await.expect(200);
    }
    let admin = server.login("admin@example.com").await;
    admin.runs("chat", 5).await;
    let (mut times, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("/api/v1/runs?provider=chat&limit=2{cursor}")).await.expect(200);
        times.extend(page.json["data"].as_array().into_iter().flatten().map(|run| time(run, "startedAt")));
        match page.json["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(times.len(), 5);
    assert!(times.is_sorted_by(|later, earlier| later >= earlier), "{times:?}");
}
