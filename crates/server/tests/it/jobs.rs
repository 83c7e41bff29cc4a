//! Jobs: enqueued over HTTP, worked on by `onJob`, tried again, given up, looked at and changed by hand.

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};
use weft_testkit::{Answer, Api, TestServer};

use crate::{
    fixtures::{app, eventually, fault_paths, integration},
    oauth::Account,
};

const PATH: &str = "/api/v1/apps/crm/jobs";

/// Says what it got; fails, dies or waits when the payload says so.
const BACKEND: &str = "
    const once = new Set();
    const file = (name) => Bun.file(`${process.env.HOME}/${name}`);
    serve({
        async onJob(payload, caller, ctx) {
            const mark = file(`died-${ctx.job.id}`);
            if (payload.dies && !(await mark.exists())) { await Bun.write(mark, ''); process.exit(1); }
            if (payload.always) process.exit(1);
            if (payload.fails >= ctx.job.attempt) throw new ActionError('not yet', { code: 'later', category: payload.category });
            while (payload.waits && !(await file(payload.waits).exists())) await Bun.sleep(5);
            if (payload.calls) return ctx.callIntegration('echo', 'echo', {});
            return { payload, by: caller.email, attempt: ctx.job.attempt };
        },
    });";

async fn started() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &app("crm"), BACKEND).await;
    (server, admin)
}

async fn enqueue(api: &Api, body: Value) -> i64 {
    id(&api.post(PATH, body).await.expect(201))
}

fn id(answer: &Answer) -> i64 {
    answer.value("/msg_id").as_i64().unwrap_or_else(|| panic!("no msg_id in {answer:?}"))
}

async fn job(api: &Api, id: i64) -> Value {
    api.get(&format!("{PATH}/{id}")).await.expect(200).json
}

async fn becomes(api: &Api, id: i64, status: &str) -> Value {
    eventually(&format!("job {id} is {status}"), async || {
        let job = job(api, id).await;
        (job["status"] == status).then_some(job)
    })
    .await
}

fn let_go(server: &TestServer, tenant: &str, app: &str, name: &str) {
    std::fs::write(server.data_path(&format!("scratch/{tenant}-{app}/{name}")), "").expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_as_whoever_enqueued_it_and_its_result_is_kept() {
    let (server, admin) = started().await;
    let user = server.user("ann").await;
    user.post(PATH, json!({ "payload": { "n": 1 } })).await.expect(403);
    server.grant(&admin, &user, &["app:crm:invoke"]).await;
    let id = enqueue(&user, json!({ "payload": { "n": 1 } })).await;
    let job = becomes(&user, id, "completed").await;
    assert_eq!(job["result"], json!({ "payload": { "n": 1 }, "by": "ann@example.com", "attempt": 1 }));
    assert_eq!(
        (&job["app_id"], &job["payload"], &job["read_ct"], &job["error"]),
        (&json!("crm"), &json!({ "n": 1 }), &json!(1), &Value::Null)
    );
    let run = user.runs("crm", 1).await.remove(0);
    assert_eq!((&run["id"], &run["kind"], &run["action"]), (&job["run_id"], &json!("job"), &json!("onJob")));
    assert_eq!(run["principal"]["id"], job["user_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_with_growing_pauses_until_it_works() {
    let (server, admin) = started().await;
    let id = enqueue(&admin, json!({ "payload": { "fails": 2 } })).await;
    for attempt in 1..=2 {
        let waiting = eventually("the attempt fails", async || {
            let job = job(&admin, id).await;
            (job["status"] == "waiting" && job["read_ct"] == attempt).then_some(job)
        })
        .await;
        assert_eq!(waiting["error"], "later: not yet");
        server.advance(Duration::seconds(4));
    }
    assert_eq!(becomes(&admin, id, "completed").await["result"]["attempt"], 3);
    let attempts: Vec<_> = admin.runs("crm", 3).await.iter().map(|run| run["attempts"].clone()).collect();
    assert_eq!(attempts, [3, 2, 1], "a run per attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_works_lies_with_the_dead_letters_says_why_and_can_be_tried_again() {
    let (server, admin) = started().await;
    let id = enqueue(&admin, json!({ "payload": { "fails": 2 }, "max_attempts": 2 })).await;
    becomes(&admin, id, "waiting").await;
    server.advance(Duration::seconds(4));
    let dead = becomes(&admin, id, "dead").await;
    assert_eq!(dead["error"], "given up after 2 of 2 attempts; later: not yet");
    let listed = admin.get(&format!("{PATH}?dead=true")).await.expect(200);
    assert_eq!(listed.value("/0/msg_id"), id);
    assert_eq!(admin.get(PATH).await.expect(200).json, json!([]));
    admin.post(&format!("{PATH}/{id}/retry"), json!({})).await.expect(200);
    becomes(&admin, id, "waiting").await;
    admin.post(&format!("{PATH}/{id}/retry"), json!({})).await.expect(200);
    assert_eq!(becomes(&admin, id, "dead").await["read_ct"], 2, "it had all its attempts again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_get_better_is_not_tried_again() {
    let (_server, admin) = started().await;
    let id = enqueue(&admin, json!({ "payload": { "fails": 9, "category": "Validation" } })).await;
    assert_eq!(becomes(&admin, id, "dead").await["read_ct"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_a_handler_gets_no_jobs_and_those_that_wait_say_why_nobody_does_them() {
    let (server, admin) = started().await;
    let waits = enqueue(&admin, json!({ "delay_seconds": 60 })).await;
    let cron = json!({ "name": "daily", "schedule": "0 9 * * *" });
    let cron = admin.post("/api/v1/apps/crm/crons", cron).await.expect(201).text("/id");
    server.deploy(&admin, &app("crm"), "serve({ rpc: {} })").await;
    let refused = admin.post(PATH, json!({ "payload": {} })).await.expect(409);
    assert!(refused.text("/error").contains("has no `onJob`"), "{}", refused.text("/error"));
    admin.post(&format!("/api/v1/apps/crm/crons/{cron}/trigger"), json!({})).await.expect(409);
    assert_eq!(admin.get(&format!("{PATH}?limit=9")).await.expect(200).json.as_array().map(Vec::len), Some(1));
    let note = async || admin.get("/api/v1/apps/crm/crons").await.expect(200).value("/0/note");
    assert!(note().await.as_str().is_some_and(|note| note.contains("has no `onJob`")), "{}", note().await);
    server.advance(Duration::seconds(61));
    let dead = becomes(&admin, waits, "dead").await;
    assert_eq!(dead["error"], "unknown_method: the backend has no `onJob`: deploy one that has, then try the job again");
    assert_eq!(dead["read_ct"], 1, "it is not sent round");
    server.deploy(&admin, &app("crm"), BACKEND).await;
    assert_eq!(note().await, json!(null));
    admin.post(&format!("{PATH}/{waits}/retry"), json!({})).await.expect(200);
    becomes(&admin, waits, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_its_worker_died_over_is_done_again_and_one_that_kills_every_worker_is_given_up() {
    let (server, admin) = started().await;
    let dies = enqueue(&admin, json!({ "payload": { "dies": true } })).await;
    becomes(&admin, dies, "waiting").await;
    server.advance(Duration::seconds(2));
    assert_eq!(becomes(&admin, dies, "completed").await["result"]["attempt"], 2);
    let poison = enqueue(&admin, json!({ "payload": { "always": true }, "max_attempts": 1 })).await;
    let error = becomes(&admin, poison, "dead").await["error"].clone();
    assert!(error.as_str().is_some_and(|error| error.contains("the backend stopped before it answered")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_job_waits_and_the_urgent_one_comes_first() {
    let server = TestServer::start_with_file("[jobs]\nper_app = 1\n").await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &app("crm"), BACKEND).await;
    let delayed = enqueue(&admin, json!({ "delay_seconds": 600 })).await;
    let first = enqueue(&admin, json!({ "payload": { "waits": "go" } })).await;
    becomes(&admin, first, "running").await;
    let low = enqueue(&admin, json!({ "priority": 1 })).await;
    let high = enqueue(&admin, json!({ "priority": 9 })).await;
    let_go(&server, "default", "crm", "go");
    let ended = async |id| becomes(&admin, id, "completed").await["ended_at"].as_str().map(str::to_owned);
    assert!(ended(high).await < ended(low).await);
    assert_eq!(job(&admin, delayed).await["status"], "waiting");
    server.advance(Duration::seconds(601));
    becomes(&admin, delayed, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_enqueues_once() {
    let (_server, admin) = started().await;
    let post = async |key: &str, body: Value| {
        admin.send(admin.request(Method::POST, PATH).header("Idempotency-Key", key).json(&body)).await
    };
    let first = post("k", json!({ "payload": { "n": 1 } })).await.expect(201);
    let again = post("k", json!({ "payload": { "n": 1 } })).await.expect(200);
    assert_eq!(id(&first), id(&again));
    assert_eq!(post("k", json!({ "payload": { "n": 2 } })).await.expect(422).code(), "idempotency_mismatch");
    becomes(&admin, id(&first), "completed").await;
    assert_eq!(id(&post("k", json!({ "payload": { "n": 1 } })).await.expect(200)), id(&first), "also when it is over");
    assert_eq!(admin.runs("crm", 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_somebody_who_may_no_longer_is_refused_and_stays_visible_with_the_reason() {
    let (server, admin) = started().await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    for user in [&ann, &bob] {
        server.grant(&admin, user, &["app:crm:invoke"]).await;
    }
    let mut ids = Vec::new();
    for user in [&ann, &bob] {
        ids.push(enqueue(user, json!({ "delay_seconds": 60 })).await);
    }
    let ann_id = ann.get("/api/v1/auth/me").await.expect(200).text("/id");
    admin.post(&format!("/api/v1/users/{ann_id}/disable"), json!({})).await.expect(200);
    let bob_id = bob.get("/api/v1/auth/me").await.expect(200).text("/id");
    admin.delete(&format!("/api/v1/users/{bob_id}")).await.expect(200);
    server.advance(Duration::seconds(61));
    for id in ids {
        let dead = becomes(&admin, id, "dead").await;
        assert_eq!(dead["error"], "refused: whoever the job acts for was switched off or is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_do_no_more_than_the_token_that_enqueued_it() {
    let (server, admin) = started().await;
    server.deploy(&admin, &integration("echo", &["echo"]), "defineIntegration({ actions: { echo: () => 'echoed' } })").await;
    let account = Account::create(&admin, "machine", &["app:crm:invoke", "integration:echo:*"]).await;
    let all = account.login(&server).await;
    let narrow = account.scoped(&server, "app:crm:invoke").await.expect(200).text("/access_token");
    let narrow = server.anonymous().with_token(narrow);
    let body = json!({ "payload": { "calls": true } });
    let (may, may_not) = (enqueue(&all, body.clone()).await, enqueue(&narrow, body).await);
    assert_eq!(becomes(&admin, may, "completed").await["result"], "echoed");
    let error = becomes(&admin, may_not, "dead").await["error"].clone();
    assert!(error.as_str().is_some_and(|error| error.contains("integration:echo:echo")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_can_be_done_as_an_account_that_one_may_act_as() {
    let (_server, admin) = started().await;
    let account = Account::create(&admin, "machine", &["app:crm:invoke"]).await;
    let body = json!({ "user_id": account.id, "delay_seconds": 60 });
    admin.post(PATH, body.clone()).await.expect(403);
    let admin_id = admin.get("/api/v1/auth/me").await.expect(200).text("/id");
    let path = format!("/api/v1/service-accounts/{}/act-as", account.id);
    admin.post(&path, json!({ "userId": admin_id })).await.expect(200);
    let (one, other) = (enqueue(&admin, body.clone()).await, enqueue(&admin, body).await);
    admin.post(&format!("{PATH}/{one}/retry"), json!({})).await.expect(200);
    let done = becomes(&admin, one, "completed").await;
    assert_eq!(done["user_id"], account.id.as_str());
    admin.send(admin.request(Method::DELETE, &path).json(&json!({ "userId": admin_id }))).await.expect(200);
    admin.post(&format!("{PATH}/{other}/retry"), json!({})).await.expect(200);
    let refused = becomes(&admin, other, "dead").await["error"].clone();
    assert!(refused.as_str().is_some_and(|error| error.starts_with("refused: ")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_others_are_seen_and_changed_with_the_permission_only() {
    let (server, admin) = started().await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    for user in [&ann, &bob] {
        server.grant(&admin, user, &["app:crm:invoke"]).await;
    }
    let id = enqueue(&ann, json!({ "delay_seconds": 60 })).await;
    let path = format!("{PATH}/{id}");
    bob.get(&path).await.expect(404);
    bob.post(&format!("{path}/cancel"), json!({})).await.expect(404);
    assert_eq!(ann.get(PATH).await.expect(403).value("/requires"), json!(["app:crm:job.read"]));
    server.grant(&admin, &bob, &["app:crm:invoke", "app:crm:job.read"]).await;
    bob.get(&path).await.expect(200);
    assert_eq!(bob.get(PATH).await.expect(200).value("/0/msg_id"), id);
    assert_eq!(
        bob.post(&format!("{path}/cancel"), json!({})).await.expect(403).value("/requires"),
        json!(["app:crm:job.manage"])
    );
    server.grant(&admin, &bob, &["app:crm:job.manage"]).await;
    assert_eq!(bob.post(&format!("{path}/cancel"), json!({})).await.expect(200).value("/status"), "cancelled");
    assert_eq!(ann.post(&format!("{path}/cancel"), json!({})).await.expect(409).code(), "conflict");
    assert_eq!(ann.post(&format!("{path}/retry"), json!({})).await.expect(409).code(), "conflict");
    let archived = admin.get(&format!("{PATH}?archived=true")).await.expect(200);
    assert_eq!(archived.value("/0/status"), "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_worked_on_cannot_be_cancelled() {
    let (server, admin) = started().await;
    let id = enqueue(&admin, json!({ "payload": { "waits": "go" } })).await;
    becomes(&admin, id, "running").await;
    admin.post(&format!("{PATH}/{id}/cancel"), json!({})).await.expect(409);
    let_go(&server, "default", "crm", "go");
    becomes(&admin, id, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_an_app_that_has_no_backend_or_was_stopped() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    let early = enqueue(&admin, json!({})).await;
    admin.deploy("crm", &[("index.ts", BACKEND)]).await.expect(200);
    becomes(&admin, early, "completed").await;
    admin.post("/api/v1/apps/crm/worker/stop", json!({})).await.expect(200);
    let late = enqueue(&admin, json!({})).await;
    assert_eq!(job(&admin, late).await["status"], "queued");
    admin.post("/api/v1/apps/crm/worker/start", json!({})).await.expect(200);
    assert_eq!(becomes(&admin, late, "completed").await["read_ct"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_an_app_go_with_it() {
    let (server, admin) = started().await;
    let done = enqueue(&admin, json!({})).await;
    becomes(&admin, done, "completed").await;
    enqueue(&admin, json!({ "delay_seconds": 60 })).await;
    admin.delete("/api/v1/apps/crm").await.expect(200);
    admin.get(PATH).await.expect(404);
    for table in ["queue_messages", "queue_archive"] {
        assert_eq!(server.database.count(table).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_say_what_is_wrong() {
    let (_server, admin) = started().await;
    let wrong = json!({ "delay_seconds": -1, "priority": 10, "max_attempts": 0, "timeout_seconds": 0, "idempotency_key": "" });
    let answer = admin.post(PATH, wrong).await.expect(400);
    let paths = ["$.delay_seconds", "$.idempotency_key", "$.max_attempts", "$.priority", "$.timeout_seconds"];
    assert_eq!(fault_paths(&answer), paths);
    admin.post(PATH, json!({ "user_id": "nobody" })).await.expect(400);
    let large = json!({ "payload": "x".repeat(1024 * 1024) });
    assert_eq!(admin.post(PATH, large).await.expect(413).code(), "payload_too_large");
    admin.post("/api/v1/apps/other/jobs", json!({})).await.expect(404);
    admin.get(&format!("{PATH}/4711")).await.expect(404);
    admin.get(&format!("{PATH}?limit=0")).await.expect(400);
    let odd = enqueue(&admin, json!({ "payload": "a \u{0} b" })).await;
    assert_eq!(becomes(&admin, odd, "completed").await["payload"], "a \u{0} b");
}
