use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::Machine;

async fn logged_in() -> (Fake, Machine) {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    (fake, machine)
}

fn dead() -> Value {
    json!({
        "msg_id": 42, "app_id": "crm", "payload": { "n": 1 }, "user_id": "u1", "read_ct": 5, "enqueued_at": "2026-01-15T10:30:00Z",
        "status": "dead", "priority": 5, "max_attempts": 5, "visible_at": null, "ended_at": "2026-01-15T10:31:00Z", "result": null,
        "error": "given up after 5 of 5 attempts; later: not\u{1b}[2J yet", "run_id": "r1", "cron_id": null
    })
}

fn cron() -> Value {
    json!({
        "id": "019bbf7a-0000-7000-8000-000000000001", "appId": "crm", "name": "daily", "schedule": "0 9 * * *",
        "timezone": "Europe/Berlin", "payload": {}, "overlapPolicy": "skip", "enabled": true, "pgJobId": 7,
        "nextRunAt": "2026-01-15T08:00:00Z", "createdBy": "u1"
    })
}

#[tokio::test]
async fn dead_jobs_are_a_table_and_one_is_shown_in_full() {
    let (fake, machine) = logged_in().await;
    fake.ok("GET /api/v1/apps/crm/jobs?dead=true", &json!([dead()]));
    fake.ok("GET /api/v1/apps/crm/jobs/42", &dead());
    assert_snapshot!(machine.weft(&["jobs", "list", "crm", "--dead"]).await);
    assert_snapshot!(machine.weft(&["jobs", "show", "crm", "42"]).await);
}

#[tokio::test]
async fn a_job_is_enqueued_with_its_options_tried_again_and_cancelled() {
    let (fake, machine) = logged_in().await;
    fake.reply("POST /api/v1/apps/crm/jobs", 201, &json!({ "msg_id": 42 }));
    fake.ok("POST /api/v1/apps/crm/jobs/42/retry", &dead());
    fake.ok("POST /api/v1/apps/crm/jobs/42/cancel", &dead());
    let options = ["--delay", "1.5", "--priority", "9", "--max-attempts", "2", "--idempotency-key", "k"];
    let outcome = machine.weft(&[&["jobs", "enqueue", "crm", r#"{"n":1}"#][..], &options].concat()).await;
    assert_eq!(outcome.stdout, "Enqueued 42\n");
    let sent = json!({ "payload": { "n": 1 }, "delay_seconds": 1.5, "priority": 9, "max_attempts": 2, "idempotency_key": "k" });
    assert_eq!(fake.request("POST /api/v1/apps/crm/jobs").json(), sent);
    assert_eq!(machine.weft(&["jobs", "retry", "crm", "42"]).await.stdout, "Trying again 42\n");
    assert_eq!(machine.weft(&["jobs", "cancel", "crm", "42"]).await.stdout, "Cancelled 42\n");
}

#[tokio::test]
async fn a_cron_is_made_changed_by_its_name_fired_and_looked_at() {
    let (fake, machine) = logged_in().await;
    let path = "/api/v1/apps/crm/crons/019bbf7a-0000-7000-8000-000000000001";
    fake.reply("POST /api/v1/apps/crm/crons", 201, &cron());
    fake.ok("GET /api/v1/apps/crm/crons", &json!([cron()]));
    fake.ok(
        &format!("PATCH {path}"),
        &json!({ "id": "x", "appId": "crm", "name": "daily", "schedule": "0 9 * * *", "enabled": false }),
    );
    fake.ok(&format!("POST {path}/trigger"), &json!({ "msgId": 42 }));
    fake.ok(&format!("DELETE {path}"), &json!({ "message": "cron deleted" }));
    let runs =
        json!([{ "runid": 1, "status": "skipped", "returnMessage": "busy", "startTime": "2026-01-15T08:00:00Z", "msgId": null }]);
    fake.ok(&format!("GET {path}/runs?limit=5"), &runs);
    let create = ["crons", "create", "crm", "daily", "0 9 * * *", "--timezone", "Europe/Berlin", "--payload", r#"{"n":1}"#];
    assert_eq!(machine.weft(&create).await.stdout, "Created daily, next at 2026-01-15 08:00:00 UTC\n");
    let sent = json!({ "name": "daily", "schedule": "0 9 * * *", "timezone": "Europe/Berlin", "payload": { "n": 1 } });
    assert_eq!(fake.request("POST /api/v1/apps/crm/crons").json(), sent);
    assert_eq!(machine.weft(&["crons", "disable", "crm", "daily"]).await.stdout, "Updated daily, which is disabled\n");
    assert_eq!(machine.weft(&["crons", "trigger", "crm", "daily"]).await.stdout, "Enqueued 42\n");
    assert_eq!(machine.weft(&["crons", "rm", "crm", "daily"]).await.stdout, "Deleted daily\n");
    assert_snapshot!(machine.weft(&["crons", "runs", "crm", "daily", "--limit", "5"]).await);
    assert_snapshot!(machine.weft(&["crons", "list", "crm"]).await);
    let unknown = machine.weft(&["crons", "rm", "crm", "nightly"]).await;
    assert_snapshot!(unknown.shown(&fake));
}
