//! Crons: made, changed and removed over HTTP and by manifests, fired by a clock that the tests move, and by hand.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};
use weft_testkit::{Api, TestServer};

use crate::{
    fixtures::{app, eventually, fault_paths, with},
    oauth::Account,
};

const PATH: &str = "/api/v1/apps/crm/crons";

/// Says what it got; waits when the payload says so.
const BACKEND: &str = "serve({ async onJob(payload, caller) {
    while (payload.waits && !(await Bun.file(`${process.env.HOME}/go`).exists())) await Bun.sleep(5);
    return { payload, by: caller.email };
} });";

async fn started() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &app("crm"), BACKEND).await;
    (server, admin)
}

async fn create(api: &Api, body: Value) -> Value {
    let cron = json!({ "name": "daily", "schedule": "0 9 * * *" });
    api.post(PATH, with(cron, body)).await.expect(201).json
}

fn id(cron: &Value) -> String {
    cron["id"].as_str().expect("an id").to_owned()
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no time: {value}"))
}

/// Moves the clock so far beyond the next tick, and logs in again, because tokens end.
async fn pass(server: &TestServer, cron: &Value, beyond: Duration) -> Api {
    server.advance(time(&cron["nextRunAt"]) - server.clock.now() + beyond);
    server.login("admin@example.com").await
}

async fn runs(api: &Api, cron: &Value) -> Vec<Value> {
    let runs = api.get(&format!("{PATH}/{}/runs", id(cron))).await.expect(200).json;
    runs.as_array().expect("a list").clone()
}

/// Waits until the latest firing has this status.
async fn becomes(api: &Api, cron: &Value, status: &str) -> Value {
    eventually(&format!("the last run is {status}"), async || {
        runs(api, cron).await.into_iter().next().filter(|run| run["status"] == status)
    })
    .await
}

async fn cron(api: &Api, name: &str) -> Option<Value> {
    let crons = api.get(PATH).await.expect(200).json;
    crons.as_array().expect("a list").iter().find(|cron| cron["name"] == name).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_is_a_job_with_the_crons_payload_done_as_whoever_made_the_cron() {
    let (server, admin) = started().await;
    let body = json!({ "timezone": "America/New_York", "payload": { "task": "check" } });
    let cron = create(&admin, body).await;
    let local = time(&cron["nextRunAt"]).with_timezone(&chrono::FixedOffset::west_opt(5 * 3600).expect("an offset"));
    assert!(["09:00", "08:00"].contains(&local.format("%H:%M").to_string().as_str()), "9 in New York, summer or winter: {cron}");
    assert_eq!((&cron["enabled"], &cron["overlapPolicy"], &cron["declared"]), (&json!(true), &json!("skip"), &json!(false)));
    assert!(cron["pgJobId"].is_i64());

    let admin = pass(&server, &cron, Duration::seconds(1)).await;
    let run = becomes(&admin, &cron, "succeeded").await;
    assert_eq!((&run["tick"], &run["jobPid"]), (&cron["nextRunAt"], &Value::Null));
    let job = admin.get(&format!("/api/v1/apps/crm/jobs/{}", run["msgId"])).await.expect(200).json;
    let payload = json!({ "task": "check", "cron_id": cron["id"] });
    assert_eq!(job["result"], json!({ "payload": payload, "by": "admin@example.com" }));
    assert_eq!((&job["cron_id"], &job["user_id"]), (&cron["id"], &cron["createdBy"]));
    let later = self::cron(&admin, "daily").await.expect("there");
    assert!(time(&later["nextRunAt"]) - time(&cron["nextRunAt"]) >= Duration::hours(23));
    assert_eq!(runs(&admin, &cron).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_is_skipped_while_an_earlier_job_is_not_done_unless_it_is_to_queue() {
    let (server, admin) = started().await;
    let often = json!({ "schedule": "10 seconds", "payload": { "waits": true } });
    let skips = create(&admin, with(often.clone(), json!({ "name": "skips" }))).await;
    let queues = create(&admin, with(often, json!({ "name": "queues", "overlapPolicy": "queue" }))).await;
    server.advance(Duration::seconds(11));
    for cron in [&skips, &queues] {
        becomes(&admin, cron, "running").await;
    }
    server.advance(Duration::seconds(10));
    let skipped = becomes(&admin, &skips, "skipped").await;
    assert_eq!((&skipped["msgId"], &skipped["returnMessage"]), (&Value::Null, &json!("a job of an earlier tick was not done")));
    eventually("both jobs of the other cron run", async || {
        let runs = runs(&admin, &queues).await;
        (runs.len() == 2 && runs.iter().all(|run| run["status"] == "running")).then_some(())
    })
    .await;
    std::fs::write(server.data_path("scratch/default-crm/go"), "").expect("written");
    becomes(&admin, &queues, "succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_cron_does_not_tick_and_a_changed_one_ticks_anew() {
    let (server, admin) = started().await;
    let before = create(&admin, json!({ "schedule": "10 seconds" })).await;
    let path = format!("{PATH}/{}", id(&before));
    let off = admin.patch(&path, json!({ "enabled": false })).await.expect(200).json;
    assert_eq!((&off["pgJobId"], &off["nextRunAt"], &off["enabled"]), (&Value::Null, &Value::Null, &json!(false)));
    server.advance(Duration::seconds(60));
    let change = json!({ "enabled": true, "schedule": "0 9 $ * *", "timezone": "Europe/Berlin", "payload": { "n": 2 } });
    let on = admin.patch(&path, change).await.expect(200).json;
    assert_ne!(on["pgJobId"], before["pgJobId"]);
    assert_eq!(
        (&on["schedule"], &on["timezone"], &on["payload"]),
        (&json!("0 9 $ * *"), &json!("Europe/Berlin"), &json!({ "n": 2 }))
    );
    assert_eq!(admin.patch(&path, json!({ "timezone": null })).await.expect(200).value("/timezone"), Value::Null);
    assert_eq!(runs(&admin, &before).await.len(), 0);
    admin.delete(&path).await.expect(200);
    admin.delete(&path).await.expect(404);
    assert_eq!(admin.get(PATH).await.expect(200).json, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_can_be_fired_by_hand_even_when_it_is_disabled() {
    let (_server, admin) = started().await;
    let cron = create(&admin, json!({ "enabled": false, "payload": { "n": 1 } })).await;
    let msg_id = admin.post(&format!("{PATH}/{}/trigger", id(&cron)), json!({})).await.expect(200).value("/msgId");
    let run = becomes(&admin, &cron, "succeeded").await;
    assert_eq!((&run["msgId"], &run["tick"]), (&msg_id, &Value::Null));
    let job = admin.get(&format!("/api/v1/apps/crm/jobs/{msg_id}")).await.expect(200);
    assert_eq!(job.value("/payload"), json!({ "n": 1, "cron_id": cron["id"] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ticks_that_were_missed_one_is_made_up_for_within_an_hour_and_none_after() {
    let (mut server, admin) = started().await;
    let cron = create(&admin, json!({ "schedule": "*/10 * * * *" })).await;
    server.stop().await;
    server.advance(time(&cron["nextRunAt"]) - server.clock.now() + Duration::minutes(25));
    server.restart().await;
    let admin = server.login("admin@example.com").await;
    let run = becomes(&admin, &cron, "succeeded").await;
    assert_eq!(time(&run["tick"]) - time(&cron["nextRunAt"]), Duration::minutes(20), "the last of three");
    assert_eq!(runs(&admin, &cron).await.len(), 1);

    let daily = create(&admin, json!({ "name": "once" })).await;
    server.stop().await;
    server.advance(time(&daily["nextRunAt"]) - server.clock.now() + Duration::minutes(61));
    server.restart().await;
    let admin = server.login("admin@example.com").await;
    let missed = becomes(&admin, &daily, "missed").await;
    assert_eq!((&missed["tick"], &missed["msgId"]), (&daily["nextRunAt"], &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_whose_owner_may_no_longer_is_refused_and_says_so() {
    let (server, admin) = started().await;
    let ann = server.user("ann").await;
    server.grant(&admin, &ann, &["app:crm:invoke", "app:crm:cron.write", "app:crm:cron.read"]).await;
    let cron = create(&ann, json!({ "schedule": "10 seconds" })).await;
    let ann_id = ann.get("/api/v1/auth/me").await.expect(200).text("/id");
    admin.post(&format!("/api/v1/users/{ann_id}/disable"), json!({})).await.expect(200);
    server.advance(Duration::seconds(11));
    let refused = becomes(&admin, &cron, "refused").await;
    assert_eq!(refused["returnMessage"], "whoever it acts for was switched off or is gone");
    admin.delete(&format!("/api/v1/users/{ann_id}")).await.expect(200);
    let orphan = self::cron(&admin, "daily").await.expect("it stays");
    assert_eq!(orphan["createdBy"], Value::Null, "nobody adopts it");
    admin.post(&format!("{PATH}/{}/trigger", id(&cron)), json!({})).await.expect(409);
    assert_eq!(server.database.count("queue_messages").await + server.database.count("queue_archive").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn crons_of_others_are_found_with_the_permission_only() {
    let (server, admin) = started().await;
    let own = create(&admin, json!({})).await;
    let ann = server.user("ann").await;
    let rights = ["app:crm:cron.read", "app:crm:cron.write", "app:crm:cron.trigger"];
    server.grant(&admin, &ann, &rights).await;
    create(&ann, json!({ "name": "hers" })).await;
    let path = format!("{PATH}/{}", id(&own));
    let names = async || {
        let crons = ann.get("/api/v1/crons").await.expect(200).json;
        let crons = crons.as_array().expect("a list").iter().map(|cron| cron["name"].as_str().unwrap_or_default().to_owned());
        crons.collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["hers"]);
    ann.patch(&path, json!({ "enabled": false })).await.expect(404);
    ann.post(&format!("{path}/trigger"), json!({})).await.expect(404);
    ann.get(&format!("{path}/runs")).await.expect(404);
    ann.delete(&path).await.expect(404);
    server.grant(&admin, &ann, &[&rights[..], &["app:crm:cron.manage_others"]].concat()).await;
    assert_eq!(names().await, ["daily", "hers"]);
    ann.patch(&path, json!({ "enabled": false })).await.expect(200);
    let behind = ann.get("/api/v1/crons?after=crm/daily&limit=1").await.expect(200);
    assert_eq!(behind.value("/0/name"), "hers");

    // Whoever says what a job does has to be allowed to act for whom it is done.
    ann.patch(&path, json!({ "payload": { "by": "ann" } })).await.expect(200);
    let job = ann.post(&format!("{path}/trigger"), json!({})).await.expect(200).value("/msgId").to_string();
    let dead = eventually("the job is refused", async || {
        let job = admin.get(&format!("/api/v1/apps/crm/jobs/{job}")).await.expect(200);
        (job.text("/status") == "dead").then_some(job)
    });
    assert!(dead.await.text("/error").contains("refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_has_an_end() {
    let (_server, admin) = started().await;
    let large = json!({ "name": "large", "schedule": "0 9 * * *", "payload": { "text": "x".repeat(1 << 20) } });
    let refused = admin.post(PATH, large.clone()).await.expect(400);
    assert_eq!(fault_paths(&refused), ["$.payload"]);
    let declared = with(app("large"), json!({ "crons": [large] }));
    assert_eq!(fault_paths(&admin.post("/api/v1/apps", declared).await.expect(400)), ["$.crons[0].payload"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_can_act_for_an_account_that_one_may_act_as() {
    let (server, admin) = started().await;
    let account = Account::create(&admin, "machine", &["app:crm:invoke"]).await;
    let body = json!({ "runAs": account.id, "schedule": "10 seconds" });
    admin.post(PATH, with(json!({ "name": "robot" }), body.clone())).await.expect(403);
    let admin_id = admin.get("/api/v1/auth/me").await.expect(200).text("/id");
    let path = format!("/api/v1/service-accounts/{}/act-as", account.id);
    admin.post(&path, json!({ "userId": admin_id })).await.expect(200);
    let cron = create(&admin, body).await;
    assert_eq!(cron["createdBy"], account.id.as_str());
    server.advance(Duration::seconds(11));
    becomes(&admin, &cron, "succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_crons_of_a_manifest_come_change_and_go_with_it_and_others_stay() {
    let (server, admin) = started().await;
    create(&admin, json!({ "name": "by-hand" })).await;
    let install = async |crons: Value| {
        admin.post("/api/v1/apps", with(app("crm"), json!({ "crons": crons }))).await.expect(200);
    };
    install(json!([
        { "name": "sync", "schedule": "10 seconds", "method": "sync", "payload": { "n": 1 } },
        { "name": "clean", "schedule": "0 3 * * *", "timezone": "Europe/Berlin", "overlapPolicy": "queue" },
    ]))
    .await;
    let sync = cron(&admin, "sync").await.expect("declared");
    assert_eq!((&sync["payload"], &sync["declared"]), (&json!({ "n": 1, "method": "sync" }), &json!(true)));
    assert_eq!(cron(&admin, "clean").await.expect("declared")["overlapPolicy"], "queue");
    admin.patch(&format!("{PATH}/{}", id(&sync)), json!({ "enabled": false })).await.expect(200);
    install(json!([{ "name": "sync", "schedule": "20 seconds" }])).await;
    let again = cron(&admin, "sync").await.expect("declared");
    assert_eq!((&again["id"], &again["schedule"], &again["payload"]), (&sync["id"], &json!("20 seconds"), &json!({})));
    assert_eq!((&again["enabled"], &again["nextRunAt"]), (&json!(false), &Value::Null), "who switched it off is heard");
    assert!(cron(&admin, "clean").await.is_none());
    install(json!([])).await;
    assert!(cron(&admin, "sync").await.is_none() && cron(&admin, "by-hand").await.is_some());
    admin.delete("/api/v1/apps/crm").await.expect(200);
    assert_eq!(server.database.count("crons").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_say_what_is_wrong() {
    let (_server, admin) = started().await;
    let wrong = json!({ "name": "a b", "schedule": "61 * * * *", "payload": [] });
    assert_eq!(fault_paths(&admin.post(PATH, wrong).await.expect(400)), ["$.name", "$.payload", "$.schedule"]);
    let wrong = json!({ "name": "a", "schedule": "0 9 * * *", "timezone": "Mars/Olympus" });
    assert_eq!(fault_paths(&admin.post(PATH, wrong).await.expect(400)), ["$.timezone"]);
    admin.post(PATH, json!({ "name": "a" })).await.expect(400);
    admin.post(PATH, json!({ "name": "a", "schedule": "* * * * *", "overlapPolicy": "maybe" })).await.expect(400);
    let cron = create(&admin, json!({})).await;
    assert_eq!(admin.post(PATH, json!({ "name": "daily", "schedule": "* * * * *" })).await.expect(409).code(), "conflict");
    admin.patch(&format!("{PATH}/{}", id(&cron)), json!({ "schedule": "never" })).await.expect(400);
    admin.patch(&format!("{PATH}/nothing"), json!({})).await.expect(400);
    admin.get("/api/v1/apps/other/crons").await.expect(404);
    admin.get(&format!("{PATH}/{}/runs?limit=501", id(&cron))).await.expect(400);
}
