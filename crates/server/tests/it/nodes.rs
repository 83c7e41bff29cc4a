//! Two servers on one database: what is done through one is seen through the other.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use weft_server::Server;
use weft_testkit::{Answer, Api, TestServer, server::url};

use crate::fixtures::{eventually, integration, with};

fn backend(version: &str) -> String {
    format!(
        "defineIntegration({{
            actions: {{ version: () => '{version}', config: (_, ctx) => ctx.config, token: (_, ctx) => ctx.credentials.TOKEN ?? null }},
            webhooks: {{ push: ({{ body }}) => body }},
        }});"
    )
}

/// Two nodes with an integration deployed through the first, and the administrator's client at each.
struct Pair {
    first: TestServer,
    second: Server,
    here: Api,
    there: Api,
    data_dir: TempDir,
}

impl Pair {
    async fn start() -> Self {
        let first = TestServer::start().await;
        let here = first.user("admin").await;
        let (second, data_dir) = first.second_node().await;
        let there = here.clone().at(url(&second));
        let more = json!({ "webhooks": ["push"], "configSchema": { "properties": { "region": { "type": "string" } } } });
        let manifest = with(integration("chat", &["version", "config", "token"]), more);
        first.deploy(&here, &manifest, &backend("one")).await;
        Self { first, second, here, there, data_dir }
    }

    async fn stop(mut self) {
        self.second.stop().await.expect("the second node stops in order");
        self.first.stop().await;
    }
}

async fn becomes(api: &Api, action: &str, expected: Value) {
    eventually("the other node follows", async || {
        let answer = api.call("chat", action, json!({})).await;
        (answer.status == 200 && answer.json == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_through_one_node_serves_on_the_other() {
    let pair = Pair::start().await;
    becomes(&pair.there, "version", json!("one")).await;
    pair.here.deploy("chat", &[("index.ts", &backend("two"))]).await.expect(200);
    becomes(&pair.there, "version", json!("two")).await;
    pair.there.deploy("chat", &[("index.ts", &backend("three"))]).await.expect(200);
    becomes(&pair.here, "version", json!("three")).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_through_one_node_holds_on_the_other() {
    let pair = Pair::start().await;
    becomes(&pair.there, "version", json!("one")).await;
    pair.here.deploy("chat", &[("index.ts", &backend("two"))]).await.expect(200);
    becomes(&pair.there, "version", json!("two")).await;
    pair.there.post("/api/v1/apps/chat/rollback", json!({})).await.expect(200);
    becomes(&pair.here, "version", json!("one")).await;
    pair.here.post("/api/v1/apps/chat/rollback", json!({ "version": 2 })).await.expect(200);
    becomes(&pair.there, "version", json!("two")).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_deployments_at_once_are_two_versions_and_every_node_serves_the_last() {
    let pair = Pair::start().await;
    becomes(&pair.there, "version", json!("one")).await;
    let (two, three) = (backend("two"), backend("three"));
    let (two, three) = ([("index.ts", two.as_str())], [("index.ts", three.as_str())]);
    let (here, there) = tokio::join!(pair.here.deploy("chat", &two), pair.there.deploy("chat", &three));
    let (here, there) = (here.expect(200), there.expect(200));
    let number = |answer: &Answer| answer.value("/version").as_i64();
    let (last, numbers) = match (number(&here), number(&there)) {
        (earlier, Some(3)) => ("three", [earlier, Some(3)]),
        (later, earlier) => ("two", [earlier, later]),
    };
    assert_eq!(numbers, [Some(2), Some(3)]);
    let listed = pair.here.get("/api/v1/apps/chat/versions").await.expect(200);
    let active = listed.json["data"].as_array().expect("a list").iter().filter(|version| version["active"] == true);
    assert_eq!(active.map(|version| version["number"].clone()).collect::<Vec<_>>(), [json!(3)]);
    becomes(&pair.here, "version", json!(last)).await;
    becomes(&pair.there, "version", json!(last)).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_follows_keeps_the_files_of_the_last_two_versions() {
    let pair = Pair::start().await;
    becomes(&pair.there, "version", json!("one")).await;
    for version in ["two", "three", "four"] {
        pair.here.deploy("chat", &[("index.ts", &backend(version))]).await.expect(200);
        becomes(&pair.there, "version", json!(version)).await;
    }
    eventually("older files are removed", async || {
        let folders = std::fs::read_dir(pair.data_dir.path().join("apps/chat")).expect("a folder").count();
        (folders == 2).then_some(())
    })
    .await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_and_permissions_changed_through_one_node_hold_on_the_other() {
    let pair = Pair::start().await;
    becomes(&pair.there, "config", json!({})).await;
    pair.here.put("/api/v1/integrations/chat/config", json!({ "region": "eu" })).await.expect(200);
    becomes(&pair.there, "config", json!({ "region": "eu" })).await;

    let user = pair.first.user("user").await.at(url(&pair.second));
    user.call("chat", "version", json!({})).await.expect(403);
    pair.first.grant(&pair.here, &user, &["integration:chat:*"]).await;
    becomes(&user, "version", json!("one")).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_set_through_one_node_reaches_the_backend_on_the_other() {
    let pair = Pair::start().await;
    becomes(&pair.there, "token", Value::Null).await;
    pair.here.post("/api/v1/apps/chat/secrets", json!({ "key": "TOKEN", "value": "t" })).await.expect(200);
    becomes(&pair.here, "token", json!("t")).await;
    becomes(&pair.there, "token", json!("t")).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_may_arrive_at_any_node() {
    let pair = Pair::start().await;
    let token = pair.here.get("/api/v1/apps/chat/webhooks").await.expect(200).text("/0/token");
    for node in [&pair.here, &pair.there] {
        let answer = node.post(&format!("/api/v1/hooks/{token}"), json!({ "n": 1 })).await.expect(200);
        assert_eq!(answer.json, json!({ "n": 1 }));
    }
    assert_eq!(pair.there.runs("chat", 2).await.len(), 2);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_and_uninstalling_through_one_node_hold_on_the_other() {
    let pair = Pair::start().await;
    becomes(&pair.there, "version", json!("one")).await;
    pair.here.post("/api/v1/apps/chat/worker/stop", json!({})).await.expect(200);
    eventually("the other node stops the worker", async || {
        let answer = pair.there.call("chat", "version", json!({})).await;
        (answer.status == 503).then_some(())
    })
    .await;
    pair.there.post("/api/v1/apps/chat/worker/start", json!({})).await.expect(200);
    becomes(&pair.here, "version", json!("one")).await;

    pair.here.delete("/api/v1/apps/chat").await.expect(200);
    eventually("the other node forgets the app", async || {
        let answer = pair.there.call("chat", "version", json!({})).await;
        (answer.status == 404).then_some(())
    })
    .await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_holds_on_every_node() {
    let pair = Pair::start().await;
    becomes(&pair.there, "version", json!("one")).await;
    let before = pair.here.runs("chat", 1).await.len();
    let calls = (0..20).map(|n| {
        let api = if n % 2 == 0 { &pair.here } else { &pair.there };
        let request = api.request(Method::POST, "/api/v1/integrations/chat/actions/version").header("Idempotency-Key", "k");
        api.send(request.json(&json!({})))
    });
    let answers = join_all(calls).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    assert!(answers.iter().all(|answer| [200, 409].contains(&answer.status)), "{answers:?}");
    assert_eq!(pair.there.runs("chat", before + 1).await.len(), before + 1);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_ear_for_a_moment_catches_up_and_is_not_taken_for_dead() {
    let pair = Pair::start().await;
    becomes(&pair.there, "version", json!("one")).await;
    let database = sqlx::PgPool::connect(&pair.first.database.url).await.expect("the database answers");
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and query like '%into nodes%' and pid <> pg_backend_pid()";
    let lost: i64 = sqlx::query_scalar(cut).fetch_one(&database).await.expect("connections are cut");
    assert_eq!(lost, 2);
    pair.here.deploy("chat", &[("index.ts", &backend("two"))]).await.expect(200);
    becomes(&pair.there, "version", json!("two")).await;
    let alive = "select count(*) from nodes join pg_locks on locktype = 'advisory' and objid = lock_key and granted
        where database = (select oid from pg_database where datname = current_database())";
    eventually("both nodes hold a lock again", async || {
        let count: i64 = sqlx::query_scalar(alive).fetch_one(&database).await.expect("a count");
        (count == 2).then_some(())
    })
    .await;
    database.close().await;
    pair.stop().await;
}
