//! Jobs where it matters who works on them: two servers on one database, servers that stop, tenants that flood.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::PgPool;
use weft_testkit::{Api, TestServer, server::url};

use crate::fixtures::{app, eventually, integration};

/// Waits for the file that the payload names, or for `go`; notes each attempt in its own scratch folder.
const BACKEND: &str = "
    const file = (name) => Bun.file(`${process.env.HOME}/${name}`);
    serve({ async onJob(payload, caller, ctx) {
        const waits = payload.waits === true ? 'go' : payload.waits;
        while (waits && !(await file(waits).exists())) await Bun.sleep(5);
        return ctx.job.attempt;
    } });";

async fn enqueue(api: &Api, app: &str, payload: Value) -> i64 {
    let answer = api.post(&format!("/api/v1/apps/{app}/jobs"), json!({ "payload": payload })).await.expect(201);
    answer.value("/msg_id").as_i64().expect("a number")
}

async fn becomes(api: &Api, app: &str, id: i64, status: &str) -> Value {
    eventually(&format!("job {id} is {status}"), async || {
        let job = api.get(&format!("/api/v1/apps/{app}/jobs/{id}")).await.expect(200).json;
        (job["status"] == status).then_some(job)
    })
    .await
}

/// How many jobs of an app are in which state.
async fn counts(api: &Api, app: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for query in ["", "&archived=true"] {
        let listed = api.get(&format!("/api/v1/apps/{app}/jobs?limit=1000{query}")).await.expect(200);
        for job in listed.json.as_array().expect("a list") {
            *counts.entry(job["status"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_at_work_when_its_server_stopped_is_done_after_the_next_start() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &app("crm"), BACKEND).await;
    let id = enqueue(&admin, "crm", json!({ "waits": true })).await;
    becomes(&admin, "crm", id, "running").await;
    server.stop().await;
    std::fs::write(server.data_path("scratch/default-crm/go"), "").expect("written");
    server.restart().await;
    let admin = admin.at(server.url());
    let job = becomes(&admin, "crm", id, "completed").await;
    assert_eq!(job["result"], 1, "the attempt that the server itself broke off does not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_the_work_and_one_that_stops_in_the_middle_loses_nothing() {
    let mut first = TestServer::start().await;
    let here = first.user("admin").await;
    let (second, _data_dir) = first.second_node().await;
    let there = here.clone().at(url(&second));
    first.deploy(&here, &app("crm"), BACKEND).await;
    let enqueueing = (0..200).map(|number| {
        let api = if number % 2 == 0 { &here } else { &there };
        enqueue(api, "crm", json!({ "n": number }))
    });
    futures::future::join_all(enqueueing).await;
    first.stop().await;
    eventually("all are done", async || (counts(&there, "crm").await.get("completed") == Some(&200)).then_some(())).await;
    assert_eq!(counts(&there, "crm").await.len(), 1, "and nothing else is left");
    second.stop().await.expect("the second node stops in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_backend_takes_jobs_is_known_where_it_does_not_run() {
    let mut first = TestServer::start().await;
    let here = first.user("admin").await;
    let (second, _data_dir) = first.second_node().await;
    let there = here.clone().at(url(&second));
    // The backend of an integration runs where somebody calls it.
    first.deploy(&here, &integration("mail", &[]), "serve({ rpc: { hello: () => 1 } })").await;
    let jobs = "/api/v1/apps/mail/jobs";
    eventually("the other node refuses jobs", async || (there.post(jobs, json!({})).await.status == 409).then_some(())).await;
    here.post("/api/v1/apps/mail/worker/stop", json!({})).await.expect(200);
    here.post(jobs, json!({})).await.expect(409);
    let cron = json!({ "name": "daily", "schedule": "0 9 * * *" });
    let made = there.post("/api/v1/apps/mail/crons", cron).await.expect(201);
    assert!(made.text("/note").contains("has no `onJob`"), "{made:?}");
    second.stop().await.expect("the second node stops in order");

    // Of a version from before that was kept it is known once its worker has started.
    first.database.execute("update deployments set takes_jobs = null").await;
    first.restart().await;
    let here = here.at(first.url());
    here.post("/api/v1/apps/mail/worker/start", json!({})).await.expect(200);
    assert_eq!(first.database.count("deployments where takes_jobs = false").await, 1);
    here.post("/api/v1/apps/mail/worker/stop", json!({})).await.expect(200);
    here.post(jobs, json!({})).await.expect(409);
    first.deploy(&here, &integration("mail", &[]), BACKEND).await;
    let id = enqueue(&here, "mail", json!({})).await;
    becomes(&here, "mail", id, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_server_that_vanished_runs_out_and_another_one_does_the_job() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    let id = enqueue(&admin, "crm", json!({})).await;
    // What a server that was killed leaves: a lease that nobody extends.
    server
        .database
        .execute("update queue_messages set state = 2, read_count = 1, visible_at = now() + interval '2 minutes'")
        .await;
    admin.deploy("crm", &[("index.ts", BACKEND)]).await.expect(200);
    assert_eq!(becomes(&admin, "crm", id, "running").await["read_ct"], 1);
    server.advance(chrono::Duration::seconds(121));
    assert_eq!(becomes(&admin, "crm", id, "completed").await["result"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_over_which_servers_keep_vanishing_is_given_up() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    let id = enqueue(&admin, "crm", json!({})).await;
    server.database.execute("update queue_messages set read_count = 5").await;
    admin.deploy("crm", &[("index.ts", BACKEND)]).await.expect(200);
    let error = becomes(&admin, "crm", id, "dead").await["error"].clone();
    assert!(error.as_str().is_some_and(|error| error.contains("the worker or the server stopped")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flood_of_one_tenant_or_app_does_not_keep_the_others_waiting() {
    let server = TestServer::start_with_file("[jobs]\nper_node = 4\nper_tenant = 3\nper_app = 2\n").await;
    let admin = server.user("admin").await;
    let other = server.tenant(&admin, "acme", "boss").await;
    server.deploy(&admin, &app("flood"), BACKEND).await;
    server.deploy(&admin, &app("quiet"), BACKEND).await;
    server.deploy(&other, &app("elsewhere"), BACKEND).await;
    let flood = (0..50).map(|_| enqueue(&admin, "flood", json!({ "waits": true })));
    futures::future::join_all(flood).await;
    eventually("the flood has its places", async || (counts(&admin, "flood").await.get("running") == Some(&2)).then_some(()))
        .await;
    let quiet = enqueue(&admin, "quiet", json!({})).await;
    becomes(&admin, "quiet", quiet, "completed").await;
    let elsewhere = enqueue(&other, "elsewhere", json!({})).await;
    becomes(&other, "elsewhere", elsewhere, "completed").await;
    let counted = counts(&admin, "flood").await;
    assert_eq!((counted.get("running"), counted.get("queued")), (Some(&2), Some(&48)), "{counted:?}");
    std::fs::write(server.data_path("scratch/default-flood/go"), "").expect("written");
    eventually("the flood is over", async || (counts(&admin, "flood").await.get("completed") == Some(&50)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_all_nodes_together_and_a_node_that_goes_leaves_its_places_to_the_others() {
    let first = TestServer::start_with_file("[jobs]\nper_node = 8\nper_tenant = 6\nper_app = 4\n").await;
    let admin = first.user("admin").await;
    for name in ["crm", "mail"] {
        first.deploy(&admin, &app(name), BACKEND).await;
    }
    let flood = async |count: usize, waits: Value| {
        let jobs = ["crm", "mail"].into_iter().flat_map(|name| (0..count).map(move |_| name));
        futures::future::join_all(jobs.map(|name| enqueue(&admin, name, json!({ "waits": waits })))).await;
    };
    flood(3, json!("first")).await;
    let leased = async |which: &str| first.database.count(&format!("queue_messages where state = 2 and {which}")).await;
    eventually("the first node has all places", async || (leased("true").await == 6).then_some(())).await;
    flood(17, json!(true)).await;
    let (second, folder) = first.second_node().await;
    let database = PgPool::connect(&first.database.url).await.expect("the database answers");
    let holder = "select holder::text from queue_messages where state = 2 limit 1";
    let holder: String = sqlx::query_scalar(holder).fetch_one(&database).await.expect("a holder");
    database.close().await;
    let elsewhere = format!("holder <> '{holder}'");
    assert_eq!(leased(&elsewhere).await, 0, "what is at work stays where it is");
    let touch = |data: &std::path::Path, file: &str| {
        for name in ["crm", "mail"] {
            std::fs::write(data.join(format!("scratch/default-{name}/{file}")), "").expect("written");
        }
    };
    // What the first node has at work is done, and the places are given anew.
    touch(&first.data_path(""), "first");
    eventually("each node has its half", async || {
        let (all, theirs) = (leased("true").await, leased(&elsewhere).await);
        assert!(theirs <= 3, "{theirs} of six for one of two nodes");
        (all == 6 && theirs == 3).then_some(())
    })
    .await;
    for name in ["crm", "mail"] {
        assert!(leased(&format!("lane = 'default/{name}'")).await <= 4, "the limit of an app");
    }
    let done = async || first.database.count("queue_archive where outcome = 'completed'").await;
    assert_eq!(done().await, 6);
    touch(&first.data_path(""), "go");
    touch(folder.path(), "go");
    eventually("all are done", async || (done().await == 40).then_some(())).await;
    second.stop().await.expect("the second node stops in order");
    flood(4, json!("last")).await;
    eventually("the first node has all places again", async || (leased("true").await == 6).then_some(())).await;
    touch(&first.data_path(""), "last");
    eventually("all are done", async || (done().await == 48).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_held_that_is_gone_is_done_as_soon_as_that_is_noticed() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    let id = enqueue(&admin, "crm", json!({})).await;
    // What a server that was killed leaves: its row, whose lock nobody holds, and a lease.
    let gone = "with gone as (insert into nodes (id, started_at) values (gen_random_uuid(), now()) returning id)
                update queue_messages set state = 2, read_count = 1, visible_at = now() + interval '2 minutes', holder = gone.id from gone";
    server.database.execute(gone).await;
    server.restart().await;
    let admin = admin.at(server.url());
    admin.deploy("crm", &[("index.ts", BACKEND)]).await.expect(200);
    assert_eq!(becomes(&admin, "crm", id, "completed").await["result"], 2);
}
