//! Many crons at once, and more than one server: each tick fires once.

use chrono::{DateTime, Duration, Utc};
use serde_json::json;
use sqlx::PgPool;
use weft_testkit::TestServer;

use crate::fixtures::{app, eventually, with};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_crons_that_are_due_at_the_same_second_fire_once_each_on_two_nodes() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    let (second, _data_dir) = server.second_node().await;
    let crons: Vec<_> = (0..10_000).map(|number| json!({ "name": format!("c{number}"), "schedule": "0 9 * * *" })).collect();
    // Without a backend the jobs stay where they can be counted.
    admin.post("/api/v1/apps", with(app("crm"), json!({ "crons": crons }))).await.expect(200);
    let listed = admin.get("/api/v1/apps/crm/crons?limit=1").await.expect(200);
    let due: DateTime<Utc> = listed.text("/0/nextRunAt").parse().expect("a time");
    server.advance(due - server.clock.now() + Duration::milliseconds(1));
    let database = PgPool::connect(&server.database.url).await.expect("the database answers");
    let count = async |query: &'static str| -> i64 { sqlx::query_scalar(query).fetch_one(&database).await.expect("a count") };
    eventually("all have fired", async || (count("select count(*) from cron_firings").await >= 10_000).then_some(())).await;
    let once = "select count(distinct cron_id) from cron_firings where outcome = 'enqueued' and message_id is not null";
    assert_eq!((count("select count(*) from cron_firings").await, count(once).await), (10_000, 10_000));
    assert_eq!(count("select count(distinct tag) from queue_messages").await, 10_000);
    assert_eq!(count("select count(*) from queue_messages").await, 10_000);
    database.close().await;
    second.stop().await.expect("the second node stops in order");
    server.stop().await;
}
