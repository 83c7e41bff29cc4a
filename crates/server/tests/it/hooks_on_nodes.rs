//! Hooks where it matters who reads, who writes at the same time, and who dies: every committed change once, in order per record.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_testkit::{Api, TestServer, server::url};

use crate::fixtures::{app, eventually, with};

const HOOKS: &str = "/api/v1/apps/crm/hooks";
const COUNTERS: &str = "/api/v1/apps/crm/collections/counters";

/// Says when it was at work, and fails the first time at some.
const BACKEND: &str = "
    const now = () => performance.timeOrigin + performance.now();
    serve({ async onJob({ record }, caller, ctx) {
        const began = now();
        await Bun.sleep(2);
        if (record?.n === 3 && ctx.job.attempt === 1) throw new Error('not the first time');
        return { began, ended: now() };
    } });";

fn manifest() -> Value {
    let fields = json!([{ "name": "n", "type": "number" }]);
    with(app("crm"), json!({ "dataContract": [{ "entityName": "counters", "fields": fields }] }))
}

async fn counter(api: &Api) -> String {
    api.post(COUNTERS, json!({ "n": 0 })).await.expect(201).text("/id")
}

/// Every row of a list, whatever the pages.
async fn all(api: &Api, path: &str, key: &str, page: impl Fn(&Value) -> String) -> Vec<Value> {
    let (mut rows, mut next): (Vec<Value>, String) = (Vec::new(), String::new());
    loop {
        let listed = api.get(&format!("{path}{next}")).await.expect(200).json;
        let listed = listed.as_array().expect("a list");
        let Some(last) = listed.last() else { return rows };
        next = page(&last[key]);
        rows.extend(listed.iter().cloned());
    }
}

/// The changes of each record as the audit has them, in order.
async fn changes(api: &Api) -> BTreeMap<String, Vec<Value>> {
    let path = "/api/v1/audit?app_id=crm&entity=counters&operation=UPDATE&limit=1000";
    let mut rows = all(api, path, "id", |id| format!("&before={id}")).await;
    rows.reverse();
    let mut of_records: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in rows {
        of_records.entry(row["record_id"].as_str().unwrap_or_default().to_owned()).or_default().push(row["new_record"].clone());
    }
    of_records
}

/// The finished jobs of each record, in the order in which they were enqueued.
async fn jobs(api: &Api) -> BTreeMap<String, Vec<Value>> {
    let path = "/api/v1/apps/crm/jobs?archived=true&limit=1000";
    let mut rows = all(api, path, "msg_id", |id| format!("&before={id}")).await;
    rows.reverse();
    let mut of_records: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in rows {
        of_records.entry(row["payload"]["record_id"].as_str().unwrap_or_default().to_owned()).or_default().push(row);
    }
    of_records
}

async fn wait_for_all(api: &Api) -> BTreeMap<String, Vec<Value>> {
    let wanted: usize = changes(api).await.values().map(Vec::len).sum();
    eventually(&format!("{wanted} jobs are done"), async || {
        let waiting = api.get("/api/v1/apps/crm/jobs?limit=1").await.expect(200).json;
        let idle = waiting.as_array().is_some_and(Vec::is_empty);
        let done = jobs(api).await;
        (idle && done.values().map(Vec::len).sum::<usize>() >= wanted).then_some(done)
    })
    .await
}

/// Every change has exactly one job, and those of a record were done one after the other.
fn check(changes: &BTreeMap<String, Vec<Value>>, jobs: &BTreeMap<String, Vec<Value>>) {
    assert_eq!(jobs.keys().collect::<Vec<_>>(), changes.keys().collect::<Vec<_>>());
    for (record, jobs) in jobs {
        let seen: Vec<_> = jobs.iter().map(|job| &job["payload"]["record"]).collect();
        assert_eq!(seen, changes[record].iter().collect::<Vec<_>>(), "each change of {record} once, in order");
        assert!(jobs.iter().all(|job| job["status"] == "completed"), "{jobs:?}");
        let time = |job: &Value, name: &str| job["result"][name].as_f64().expect("a time");
        for pair in jobs.windows(2) {
            assert!(time(&pair[1], "began") >= time(&pair[0], "ended"), "{record}: one begins before the other has ended");
        }
    }
}

/// Changes counters over and over until told to stop, whatever is answered. What was committed is in the audit.
fn writer(api: &Api, counters: &[String], clock: &Arc<AtomicU64>, stop: &CancellationToken) -> JoinHandle<()> {
    let (api, counters, clock, stop) = (api.clone(), counters.to_vec(), Arc::clone(clock), stop.clone());
    tokio::spawn(async move {
        while !stop.is_cancelled() {
            let n = clock.fetch_add(1, Ordering::Relaxed);
            let path = format!("{COUNTERS}/{}", counters[usize::try_from(n).unwrap_or(0) % counters.len()]);
            let request = api.request(reqwest::Method::PATCH, &path).json(&json!({ "n": n }));
            if request.send().await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_writers_on_two_nodes_of_which_one_goes_and_a_reader_that_is_killed_miss_nothing_and_keep_the_order() {
    let mut first = TestServer::start().await;
    let here = first.user("admin").await;
    let (second, _data_dir) = first.second_node().await;
    let there = here.clone().at(url(&second));
    first.deploy(&here, &manifest(), BACKEND).await;
    let mut counters = Vec::new();
    for _ in 0..4 {
        counters.push(counter(&here).await);
    }
    let hook = json!({ "entity": "counters", "operation": "UPDATE", "action_type": "job" });
    here.post(HOOKS, hook).await.expect(200);

    let (clock, stop) = (Arc::new(AtomicU64::new(1)), CancellationToken::new());
    let (mut leaving, mut staying) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        leaving.push(writer(&here, &counters, &clock, &stop));
        staying.push(writer(&there, &counters, &clock, &stop));
    }
    let mut killer = PgConnection::connect(&first.database.url).await.expect("connected");
    let written = async |least: u64| {
        eventually("they write", async || (clock.load(Ordering::Relaxed) >= least).then_some(())).await;
    };
    for round in 1..=5 {
        written(round * 40).await;
        // Whoever is reading events dies in the middle of it.
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and query like '%event_consumers%' and state <> 'idle'",
        )
        .execute(&mut killer)
        .await
        .expect("killed");
    }
    first.stop().await;
    futures::future::join_all(leaving).await;
    let reached = clock.load(Ordering::Relaxed);
    written(reached + 40).await;
    stop.cancel();
    futures::future::join_all(staying).await;

    let jobs = wait_for_all(&there).await;
    let changes = changes(&there).await;
    assert!(changes.values().map(Vec::len).sum::<usize>() > 150, "there was something to check");
    check(&changes, &jobs);
    second.stop().await.expect("the second node stops in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_holds_nobody_back_and_is_heard_when_it_ends() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    let (slow, quick) = (counter(&admin).await, counter(&admin).await);
    let hook = json!({ "entity": "counters", "operation": "UPDATE", "action_type": "job" });
    admin.post(HOOKS, hook).await.expect(200);
    let mut open = Vec::new();
    // One that will be heard, and one that comes to nothing.
    for statement in
        ["update crm.counters set n = 100 where id = $1::uuid", "insert into crm.counters (n, id) values (5, $1::uuid)"]
    {
        let mut connection = PgConnection::connect(&server.database.url).await.expect("connected");
        sqlx::raw_sql("begin").execute(&mut connection).await.expect("begun");
        let id = if open.is_empty() { slow.clone() } else { uuid::Uuid::nil().to_string() };
        sqlx::query(statement).bind(id).execute(&mut connection).await.expect("written");
        open.push(connection);
    }
    for n in 1..=20 {
        admin.patch(&format!("{COUNTERS}/{quick}"), json!({ "n": n + 10 })).await.expect(200);
        if n % 5 == 0 {
            eventually("the others are heard", async || (jobs(&admin).await.get(&quick).map(Vec::len) == Some(n)).then_some(()))
                .await;
        }
    }
    assert!(!jobs(&admin).await.contains_key(&slow));
    sqlx::raw_sql("commit").execute(&mut open[0]).await.expect("committed");
    sqlx::raw_sql("rollback").execute(&mut open[1]).await.expect("rolled back");
    let jobs = wait_for_all(&admin).await;
    check(&changes(&admin).await, &jobs);
    // Nobody needs them any more.
    eventually("what everybody has had is removed", async || {
        tokio::time::sleep(Duration::ZERO).await;
        (server.database.count("events").await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_nobody_hears_of_leave_no_event_and_those_of_one_statement_keep_their_number() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    let many: Vec<_> = (0..600).map(|n| json!({ "n": n })).collect();
    admin.post(&format!("{COUNTERS}/bulk"), Value::Array(many)).await.expect(201);
    assert_eq!(server.database.count("events").await, 0);
    let hook = json!({ "entity": "counters", "operation": "UPDATE", "action_type": "job" });
    admin.post(HOOKS, hook).await.expect(200);
    let set = json!({ "where": { "n": { "$gte": 4 } }, "set": { "n": 7 } });
    admin.post(&format!("{COUNTERS}/bulk/update"), set).await.expect(200);
    let jobs = wait_for_all(&admin).await;
    assert_eq!(jobs.len(), 596);
    check(&changes(&admin).await, &jobs);
}
