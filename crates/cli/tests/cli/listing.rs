use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::Machine;

async fn logged_in() -> (Fake, Machine) {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    (fake, machine)
}

fn runs() -> [Value; 2] {
    let succeeded = json!({
        "id": "run-1", "operation": "slack.send_message", "kind": "action", "provider": "slack", "action": "send_message",
        "appId": null, "principal": { "id": "u1", "email": "alice@example.com", "kind": "user" }, "connectionId": null,
        "status": "succeeded", "attempts": 1, "startedAt": "2026-01-15T10:30:00.123Z", "completedAt": "2026-01-15T10:30:00.200Z",
        "durationMs": 77, "inputBytes": 40, "outputBytes": 12, "error": null, "traceId": "t1"
    });
    let failed = json!({
        "id": "run-2", "operation": "gmail.list_messages", "kind": "action", "provider": "gmail", "action": "list_messages",
        "appId": "crm", "principal": { "id": "svc-1", "email": "", "kind": "service" }, "connectionId": "conn-1",
        "status": "failed", "attempts": 3, "startedAt": "2026-01-15T10:31:00Z", "completedAt": "2026-01-15T10:31:02Z",
        "durationMs": 2100, "inputBytes": 2, "outputBytes": 0,
        "error": { "code": "quota_exceeded", "category": "RateLimited", "message": "Gmail refuses: quota exceeded" }, "traceId": "t2"
    });
    [succeeded, failed]
}

#[tokio::test]
async fn runs_are_a_table_with_the_way_to_more() {
    let (fake, machine) = logged_in().await;
    fake.ok("GET /api/v1/runs", &json!({ "data": runs(), "nextCursor": "c2" }));
    assert_snapshot!(machine.weft(&["runs"]).await);
}

#[tokio::test]
async fn filters_reach_the_server() {
    let (fake, machine) = logged_in().await;
    let line = "GET /api/v1/runs?provider=slack&action=send_message&status=failed&limit=5&cursor=a%2Fb";
    fake.ok(line, &json!({ "data": [], "nextCursor": null }));
    let flags = ["--integration", "slack", "--action", "send_message", "--status", "failed", "--limit", "5", "--cursor", "a/b"];
    let outcome = machine.weft(&[&["runs"][..], &flags].concat()).await;
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", "No runs\n"));
    let outcome = machine.weft(&[&["runs", "--json"][..], &flags].concat()).await;
    assert_eq!(outcome.json(), json!({ "data": [], "nextCursor": null }));
}

#[tokio::test]
async fn one_run_is_shown_in_full() {
    let (fake, machine) = logged_in().await;
    let [_, failed] = runs();
    fake.ok("GET /api/v1/runs/run-2", &failed);
    assert_snapshot!(machine.weft(&["runs", "show", "run-2"]).await);
}

#[tokio::test]
async fn apps_are_a_table() {
    let (fake, machine) = logged_in().await;
    let slack = json!({ "id": "slack", "name": "Slack", "version": "1.0.0", "status": "installed", "type": "integration" });
    let crm = json!({ "id": "crm", "name": "My\u{1b}[2J CRM", "version": "0.1.0", "status": "installed", "type": "app" });
    fake.ok("GET /api/v1/apps", &json!([slack, crm]));
    assert_snapshot!(machine.weft(&["apps"]).await);
}

#[tokio::test]
async fn removing_an_app_needs_a_yes() {
    let (fake, machine) = logged_in().await;
    fake.ok("DELETE /api/v1/apps/crm", &json!({ "message": "app 'crm' uninstalled" }));
    assert_snapshot!(machine.weft(&["apps", "rm", "crm"]).await.shown(&fake));
    assert!(fake.requests().is_empty());
    assert_eq!(machine.weft(&["apps", "rm", "crm", "--yes"]).await.stdout, "Removed crm\n");
    assert_eq!(fake.lines(), ["DELETE /api/v1/apps/crm"]);
}

#[tokio::test]
async fn the_worker_is_started_and_asked_for_its_state() {
    let (fake, machine) = logged_in().await;
    fake.ok("POST /api/v1/apps/crm/worker/start", &json!({ "message": "worker 'crm' started" }));
    fake.ok("GET /api/v1/apps/crm/worker/status", &json!({ "app_id": "crm", "status": "running" }));
    assert_eq!(machine.weft(&["worker", "start", "crm"]).await.stdout, "worker 'crm' started\n");
    assert_eq!(machine.weft(&["worker", "status", "crm"]).await.stdout, "running\n");
}

#[tokio::test]
async fn status_says_how_the_server_is_and_who_i_am() {
    let (fake, machine) = logged_in().await;
    fake.ok("GET /api/v1/auth/me", &json!({ "email": "alice@example.com" }));
    fake.ok(
        "GET /api/v1/status",
        &json!({
            "runtime": { "version": "0.1.0", "state": "online" }, "postgres": { "state": "online" },
            "workers": { "confinement": {
                "jail": "auto", "files": true, "network": true, "system_calls": true, "resource_limits": true, "namespaces": false,
                "separate_account": true, "missing": [{ "part": "namespaces", "reason": "this machine allows none" }],
            } },
        }),
    );
    assert_snapshot!(machine.weft(&["status"]).await.shown(&fake));
    let stranger = Machine::new().weft(&["status", "--url", &fake.url]).await;
    assert_snapshot!(stranger.shown(&fake));
}

#[tokio::test]
async fn completions_name_the_commands() {
    let outcome = Machine::new().weft(&["completions", "bash"]).await;
    assert!(outcome.code == 0 && outcome.stdout.contains("deploy"));
}
