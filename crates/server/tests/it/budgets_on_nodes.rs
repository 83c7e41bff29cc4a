//! Budgets of vendors that servers on one database keep to together.

use chrono::Duration;
use serde_json::json;
use sqlx::PgPool;
use weft_server::ServeArgs;
use weft_testkit::{Api, TestServer, database::TestDatabase, proxy::Proxy, server::url};

use crate::fixtures::{eventually, integration, with};

const BACKEND: &str = "defineIntegration({ actions: { count: () => 1 } });";
/// Twenty at once, and another one each 480 seconds.
const LIMIT: (u32, u32) = (200, 86_400);
const INTERVAL: i64 = 480;

/// What is left after a call that went out; `None` when the budget is used up. Whoever has just come is told to come again in a second.
async fn call(api: &Api) -> Option<u32> {
    loop {
        let answer = api.call("limited", "count", json!({})).await;
        let wait: u64 = answer.header("retry-after").and_then(|wait| wait.parse().ok()).unwrap_or_default();
        match answer.status {
            200 => return Some(left(answer.header("ratelimit").expect("the budget is told"))),
            429 if wait > 10 => {
                assert_eq!(left(answer.header("ratelimit").expect("the budget is told")), 0);
                return None;
            }
            429 => {}
            status => panic!("{status}: {answer:?}"),
        }
    }
}

fn left(header: &str) -> u32 {
    let left = header.strip_prefix("\"vendor\";r=").and_then(|rest| rest.split(';').next()?.parse().ok());
    left.unwrap_or_else(|| panic!("{header}"))
}

/// How many calls go out through nodes that are asked in turn until none of them lets any out.
async fn drain(nodes: &[&Api]) -> usize {
    let mut count = 0;
    loop {
        let before = count;
        for node in nodes {
            count += usize::from(call(node).await.is_some());
        }
        if count == before {
            return count;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_keep_to_a_budget_together_as_they_come_and_go() {
    let first = TestServer::start().await;
    let here = first.user("admin").await;
    let limit = json!({ "rateLimit": { "requests": LIMIT.0, "seconds": LIMIT.1 } });
    first.deploy(&here, &with(integration("limited", &["count"]), limit), BACKEND).await;
    let answer = here.call("limited", "count", json!({})).await.expect(200);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"vendor\";q=200;w=86400"));
    assert_eq!(left(answer.header("ratelimit").expect("told")), 19);
    for expected in (15..19).rev() {
        assert_eq!(call(&here).await, Some(expected));
    }
    assert_eq!(first.database.count("vendor_budgets").await, 0, "a node that is alone asks nobody");

    let (second, _folder) = first.second_node().await;
    let there = here.clone().at(url(&second));
    let rest = drain(&[&there, &here]).await;
    assert!((8..=15).contains(&rest), "{rest} of the 15 that were left");
    first.advance(Duration::seconds(INTERVAL * 10 + INTERVAL / 2));
    let here = first.login("admin@example.com").await;
    let there = here.clone().at(url(&second));
    let rest = drain(&[&here, &there]).await;
    assert!((4..=10).contains(&rest), "{rest} of the 10 that came back");

    // Whoever is alone again knows what the other one has spent, and needs the database no more.
    second.stop().await.expect("the second node stops in order");
    assert_eq!(drain(&[&here]).await, 0);
    first.advance(Duration::seconds(INTERVAL * 3));
    let here = first.login("admin@example.com").await;
    assert_eq!(drain(&[&here]).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_takes_beside_another_one_is_in_the_database() {
    let first = TestServer::start().await;
    let here = first.user("admin").await;
    let limit = json!({ "rateLimit": { "requests": LIMIT.0, "seconds": LIMIT.1 } });
    first.deploy(&here, &with(integration("limited", &["count"]), limit), BACKEND).await;
    // Another node that says nothing yet, and whose lock somebody holds, so that it is not taken for gone.
    let database = PgPool::connect(&first.database.url).await.expect("the database answers");
    let mut held = database.acquire().await.expect("a connection");
    let other = "with other as (insert into nodes (id, started_at) values (gen_random_uuid(), now()) returning lock_key)
                 select pg_advisory_lock(lock_key) from other";
    sqlx::query(other).execute(&mut *held).await.expect("it is there");
    assert!((10..=20).contains(&drain(&[&here]).await));
    assert_eq!(first.database.count("vendor_budgets where connection_id = '00000000-0000-0000-0000-000000000000'").await, 1);
    drop(held);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_each_node_goes_on_with_its_part() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database);
    let arguments = ServeArgs { database_url: Some(proxy.url.clone()), ..ServeArgs::default() };
    let first = TestServer::start_on(database, arguments).await;
    let here = first.user("admin").await;
    let limit = json!({ "rateLimit": { "requests": 600, "seconds": 60 } });
    first.deploy(&here, &with(integration("limited", &["count"]), limit), BACKEND).await;
    let (second, _folder) = first.second_node().await;
    let goes_out = async || (here.call("limited", "count", json!({})).await.status == 200).then_some(());
    eventually("it takes from the row", async || {
        goes_out().await?;
        (first.database.count("vendor_budgets").await == 1).then_some(())
    })
    .await;
    proxy.cut();
    // More than it can have taken before.
    for _ in 0..12 {
        eventually("a call goes out", goes_out).await;
    }
    proxy.restore();
    eventually("the server is ready again", async || (here.get("/health/ready").await.status == 200).then_some(())).await;
    eventually("a call goes out", goes_out).await;
    second.stop().await.expect("the second node stops in order");
}
