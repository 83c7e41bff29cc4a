//! The database goes away in mid-traffic: who is told what, what goes on, and that everything recovers by itself.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use weft_server::ServeArgs;
use weft_testkit::{Answer, Api, TestServer, database::TestDatabase, proxy::Proxy, server::PASSWORD};

use crate::fixtures::{eventually, integration, with};

const BACKEND: &str = "let wiped = 0; let pushed = 0; defineIntegration({
    actions: { ping: () => 'pong', wipe: () => ++wiped, wiped: () => wiped, pushed: () => pushed },
    webhooks: { push: ({ deliveryId, attempt }) => { pushed += 1; return { deliveryId, attempt }; } },
})";
const PING: &str = "/api/v1/integrations/chat/actions/ping";
const WIPE: &str = "/api/v1/integrations/chat/actions/wipe";

/// A server that reaches its database through a proxy, with an integration deployed.
struct Site {
    proxy: Proxy,
    server: TestServer,
    admin: Api,
    hook: String,
}

impl Site {
    async fn start() -> Self {
        let database = TestDatabase::create().await;
        let proxy = Proxy::start(&database);
        let arguments = ServeArgs { database_url: Some(proxy.url.clone()), ..ServeArgs::default() };
        let server = TestServer::start_on(database, arguments).await;
        let admin = server.user("admin").await;
        let mut manifest = with(integration("chat", &["ping", "wiped", "pushed"]), json!({ "webhooks": ["push"] }));
        let wipe = json!({ "id": "wipe", "name": "wipe", "effect": "destructive" });
        manifest["actions"].as_array_mut().expect("a list").push(wipe);
        server.deploy(&admin, &manifest, BACKEND).await;
        let hook = admin.get("/api/v1/apps/chat/webhooks").await.expect(200).text("/0/url");
        // From here on everything that can be remembered is.
        admin.call("chat", "ping", json!({})).await.expect(200);
        admin.call("chat", "wipe", json!({})).await.expect(200);
        admin.post(&hook, json!({})).await.expect(200);
        Self { proxy, server, admin, hook }
    }

    async fn with_key(&self, path: &str, key: &str) -> Answer {
        self.admin.send(self.admin.request(Method::POST, path).header("idempotency-key", key).json(&json!({}))).await
    }

    async fn count(&self, action: &str) -> Value {
        self.admin.call("chat", action, json!({})).await.expect(200).json
    }

    /// Waits until the database is used again, and until nothing is under way any more.
    async fn recovered(&self) {
        eventually("the server is ready again", async || (self.admin.get("/health/ready").await.status == 200).then_some(()))
            .await;
        eventually("no run is left running", async || {
            let running = self.admin.get("/api/v1/runs?status=running").await.expect(200);
            (running.value("/data") == json!([])).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_database_is_refused_and_warm_calls_go_on() {
    let site = Site::start().await;
    let admin = &site.admin;
    site.proxy.cut();
    let login = json!({ "email": "admin@example.com", "password": PASSWORD });
    let anonymous = site.server.anonymous();
    let (wipe, with_key, hook, runs, logged_in, ready) = tokio::join!(
        admin.post(WIPE, json!({})),
        site.with_key(PING, "once"),
        anonymous.post(&site.hook, json!({})),
        admin.get("/api/v1/runs"),
        anonymous.post("/api/v1/auth/login", login),
        anonymous.get("/health/ready"),
    );
    for refused in [wipe, with_key, hook, runs, logged_in, ready] {
        assert_eq!((refused.status, refused.code().as_str()), (503, "unavailable"), "{refused:?}");
    }
    let warm = join_all((0..20).map(|_| admin.post(PING, json!({})))).await;
    assert!(warm.iter().all(|answer| answer.status == 200), "{warm:?}");
    anonymous.get("/health").await.expect(200);
    assert_eq!(admin.get("/api/v1/status").await.expect(200).text("/postgres/state"), "offline");

    site.proxy.restore();
    site.recovered().await;
    assert_eq!(
        (site.count("wiped").await, site.count("pushed").await),
        (json!(1), json!(1)),
        "nothing was begun that was refused"
    );
    admin.post(WIPE, json!({})).await.expect(200);
    assert_eq!(site.with_key(PING, "once").await.expect(200).json, "pong");
    anonymous.post(&site.hook, json!({})).await.expect(200);
    for answer in &warm {
        let run = answer.header("x-weft-run-id").expect("a run");
        eventually("a call made meanwhile is in the history", async || {
            (admin.get(&format!("/api/v1/runs/{run}")).await.status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_keeps_nobody_waiting_for_ever() {
    let site = Site::start().await;
    let (admin, anonymous) = (&site.admin, site.server.anonymous());
    let state = async || admin.get("/api/v1/status").await.expect(200).text("/postgres/state");
    site.proxy.hold("COMMIT");
    let refused = anonymous.post(&site.hook, json!({})).await.expect(503);
    assert_eq!(state().await, "refuses_writes");
    admin.call("chat", "ping", json!({})).await.expect(200);

    site.proxy.release();
    site.recovered().await;
    anonymous.post(&site.hook, json!({})).await.expect(200);
    assert_eq!(state().await, "online");
    let run = admin.get(&format!("/api/v1/runs/{}", refused.text("/runId"))).await.expect(200);
    assert_eq!(run.text("/status"), "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destructive_action_whose_start_is_stored_unheard_is_refused_and_not_left_running() {
    let site = Site::start().await;
    // The run's trace is part of what is written at its start.
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    site.proxy.lose_reply_to(trace);
    let request = site.admin.request(Method::POST, WIPE).header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let refused = site.admin.send(request.json(&json!({}))).await.expect(503);
    site.recovered().await;
    assert_eq!(site.count("wiped").await, json!(1));
    let run = site.admin.get(&format!("/api/v1/runs/{}", refused.text("/runId"))).await.expect(200);
    assert_eq!((run.text("/status"), run.text("/error/code")), ("failed".to_owned(), "unavailable".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_claim_is_stored_unheard_is_given_back() {
    let site = Site::start().await;
    site.proxy.lose_reply_to("COMMIT");
    site.with_key(WIPE, "once").await.expect(503);
    site.recovered().await;
    let second = eventually("the key is free again", async || {
        let answer = site.with_key(WIPE, "once").await;
        (answer.status != 409).then_some(answer)
    })
    .await;
    assert_eq!(second.expect(200).json, json!(2), "the first attempt did nothing");
    assert_eq!(site.with_key(WIPE, "once").await.expect(200).json, json!(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_stored_unheard_is_refused_and_its_run_says_so() {
    let site = Site::start().await;
    site.proxy.lose_reply_to("COMMIT");
    let refused = site.server.anonymous().post(&site.hook, json!({})).await.expect(503);
    assert_eq!((refused.code(), refused.header("retry-after")), ("unavailable".to_owned(), Some("1")));
    site.recovered().await;
    let run = site.admin.get(&format!("/api/v1/runs/{}", refused.text("/runId"))).await.expect(200);
    assert_eq!((run.text("/status"), run.text("/error/code")), ("failed".to_owned(), "unavailable".to_owned()));
    assert_eq!(site.count("pushed").await, json!(1));
}
