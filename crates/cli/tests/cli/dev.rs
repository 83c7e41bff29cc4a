use serde_json::{Value, json};
use weft_testkit::eventually;

use crate::deploy::{manifest, project, server};
use crate::fake::Fake;
use crate::machine::Machine;

const DEPLOY: &str = "POST /api/v1/apps/slack/deploy?dev=true";
const STATUS: &str = "GET /api/v1/apps/slack/worker/status";

/// A server that accepts deployments for development, with these lines in the log.
async fn developing(log: &[Value]) -> Fake {
    let fake = server(true).await;
    fake.ok(DEPLOY, &json!({ "message": "deployed" }));
    let events: Vec<String> = log.iter().map(|line| format!("data: {line}\n\n")).collect();
    fake.text("GET /api/v1/apps/slack/logs", 200, "text/event-stream", &events.concat());
    fake
}

/// A server that accepts these deployments, and whose log ends at once.
async fn deploying(versions: &[(u32, &str)]) -> Fake {
    let fake = server(true).await;
    fake.text("GET /api/v1/apps/slack/logs", 200, "text/event-stream", "");
    for (version, id) in versions {
        fake.ok(DEPLOY, &json!({ "message": "deployed", "version": version, "deploymentId": id }));
    }
    fake
}

fn deployments(fake: &Fake) -> usize {
    fake.lines().iter().filter(|line| *line == DEPLOY).count()
}

/// Waits until the server was asked so often how the worker is.
async fn asked(fake: &Fake, times: usize) {
    let count = || fake.lines().iter().filter(|line| *line == STATUS).count();
    eventually("the server is asked how it is", async || (count() >= times).then_some(())).await;
}

fn report(name: &str, data: &Value) -> Value {
    json!({ "level": "event", "message": format!("{name}: {data}") })
}

#[tokio::test]
async fn a_change_is_live_again_and_an_untouched_project_is_not_sent() {
    let fake = developing(&[]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("✓ live").await;
    dev.line_with("Watching slack").await;
    machine.write("slack/backend/notes.test.ts", "not deployed");
    machine.write("slack/backend/index.ts", "defineIntegration({ actions: {} });\n");
    let line = dev.line_with("✓ live").await;
    assert!(line.contains("backend/index.ts"), "{line}");
    let mut sent = Vec::new();
    for request in fake.requests().into_iter().filter(|request| request.line == DEPLOY) {
        sent.push(request.parts().await.into_iter().map(|(name, ..)| name).collect::<Vec<_>>());
    }
    assert_eq!(sent, [vec!["manifest", "archive"], vec!["archive"]], "the manifest did not change");
}

#[tokio::test]
async fn a_changed_manifest_is_installed_and_its_types_are_written() {
    let fake = developing(&[]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching").await;
    let mut changed = manifest();
    changed["actions"][0]["inputSchema"] = json!({ "type": "object", "properties": { "channel": { "type": "string" } } });
    machine.write("slack/manifest.json", &changed.to_string());
    dev.line_with("✓ live  manifest.json").await;
    let types = std::fs::read_to_string(machine.path("slack/backend/manifest.d.ts")).expect("the types");
    assert!(types.contains("channel?: string;"), "{types}");
}

#[tokio::test]
async fn a_mistake_is_told_with_its_place_and_the_version_before_serves() {
    let fake = developing(&[]).await;
    fake.reply(DEPLOY, 422, &json!({ "error": "The backend does not start: index.ts:1:1", "code": "deploy_failed" }));
    let faults = json!([{ "path": "$.actions[0].name", "message": "is required" }]);
    fake.reply(DEPLOY, 400, &json!({ "error": "the manifest has 1 fault", "errors": faults }));
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching").await;
    machine.write("slack/backend/index.ts", "oops(");
    dev.line_with("error: The backend does not start: index.ts:1:1").await;
    dev.line_with("✗ not deployed: the version before goes on serving").await;
    machine.write("slack/manifest.json", "{ \"appId\": \"slack\" ");
    dev.line_with("manifest.json:1:").await;
    machine.write("slack/manifest.json", r#"{"appId":"slack","name":"Other"}"#);
    dev.line_with("$.actions[0].name: is required").await;
}

#[tokio::test]
async fn calls_are_trees_and_other_lines_appear_as_they_come() {
    let begin = json!({ "phase": "begin", "id": "a-1", "kind": "action", "name": "send_message", "by": "ada@example.com",
        "input": "{\"channel\":\"#general\"}" });
    let http =
        json!({ "id": "a-1", "method": "POST", "url": "https://slack.com/api/chat.postMessage", "ms": 98.2, "status": 200 });
    let error = json!({ "message": "not in channel", "code": "not_in_channel", "category": "Validation" });
    let log = [
        report("weft.call", &begin),
        json!({ "level": "info", "message": "hello" }),
        report("weft.http", &http),
        report("weft.call", &json!({ "phase": "end", "id": "a-1", "ms": 123.0, "error": error })),
        report("mine", &json!({ "n": 1 })),
    ];
    let fake = developing(&log).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("info   hello").await;
    for expected in [
        "✗ send_message  ada@example.com  123 ms",
        "    in    {\"channel\":\"#general\"}",
        "    http  POST https://slack.com/api/chat.postMessage  200  98 ms",
        "    error not in channel (not_in_channel, Validation)",
        "event  mine: {\"n\":1}",
    ] {
        assert_eq!(dev.line_with(expected).await, expected);
    }
}

#[tokio::test]
async fn type_problems_are_told_and_hold_nothing_up() {
    let fake = developing(&[]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    machine.write("slack/tsconfig.json", "{}");
    machine.program("slack/node_modules/.bin/tsc", "#!/bin/sh\necho 'backend/index.ts(1,1): error TS1: wrong'\nexit 2\n");
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("✓ live").await;
    dev.line_with("! 1 type problem").await;
    assert_eq!(dev.line_with("error TS1").await, "  backend/index.ts(1,1): error TS1: wrong");
}

#[tokio::test]
async fn a_project_without_typescript_says_how_types_are_checked() {
    let fake = developing(&[]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    machine.write("slack/tsconfig.json", "{}");
    let mut dev = machine.start(&["dev", "slack"]);
    let line = dev.line_with("Types are not checked").await;
    assert!(line.ends_with("npm install --save-dev typescript"), "{line}");
}

#[tokio::test]
async fn a_folder_that_goes_and_comes_back_is_watched_again() {
    let fake = developing(&[]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    machine.write("slack/backend/lib/a.ts", "export const a = 1;\n");
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    let rename = |from: &str, to: &str| std::fs::rename(machine.path(from), machine.path(to)).expect("it moves");
    for folder in ["slack/backend", "slack/backend/lib"] {
        rename(folder, "away");
        dev.line_with(if folder == "slack/backend" { "there is no backend folder" } else { "✓ live" }).await;
        rename("away", folder);
        dev.line_with("✓ live").await;
        machine.write("slack/backend/lib/a.ts", &format!("export const a = \"{folder}\";\n"));
        dev.line_with("✓ live  backend/lib/a.ts").await;
    }
    std::fs::remove_dir_all(machine.path("slack/backend")).expect("it is removed");
    dev.line_with("there is no backend folder").await;
    machine.write("slack/backend/new/b.ts", "export const b = 1;\n");
    dev.line_with("✓ live").await;
    machine.write("slack/backend/new/b.ts", "export const b = 2;\n");
    dev.line_with("✓ live  backend/new/b.ts").await;
}

#[tokio::test]
async fn a_server_that_goes_away_is_waited_for() {
    let mut fake = developing(&[]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    let down = fake.stop().await;
    machine.write("slack/backend/index.ts", "defineIntegration({ actions: {} });\n");
    dev.line_with(&format!("! no server answers at {}: waiting for it", fake.url)).await;
    fake.back(down);
    let lines = dev.lines_until("✓ live  backend/index.ts").await;
    assert_eq!(lines.len(), 1, "it is said once: {lines:?}");
}

#[tokio::test]
async fn a_server_that_forgot_the_session_gets_it_again() {
    let fake = deploying(&[(1, "d1"), (2, "d2")]).await;
    fake.ok(STATUS, &json!({ "app_id": "slack", "status": "running", "deployment_id": "d1" }));
    fake.ok(STATUS, &json!({ "app_id": "slack", "status": "running", "deployment_id": "d2", "developed": true }));
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    // The log of this server ends at once, so that it is followed again.
    dev.line_with("✓ live").await;
    asked(&fake, 3).await;
    assert_eq!(deployments(&fake), 2, "once at the start, and once when it was forgotten");
}

#[tokio::test]
async fn another_version_is_told_and_not_replaced_without_a_save() {
    let fake = deploying(&[(1, "d1"), (3, "d3")]).await;
    fake.ok(STATUS, &json!({ "app_id": "slack", "status": "running", "deployment_id": "theirs" }));
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    dev.line_with("! another version serves now: the next save replaces it").await;
    assert_eq!(deployments(&fake), 1);
    machine.write("slack/backend/more.ts", "1");
    dev.line_with("✓ live  backend/more.ts").await;
    assert_eq!(deployments(&fake), 2);
    let last = fake.requests().into_iter().rfind(|request| request.line == DEPLOY).expect("a deployment");
    assert_eq!(last.parts().await[0].0, "manifest", "theirs may be another");
}

#[tokio::test]
async fn a_server_that_does_not_say_what_serves_is_left_alone() {
    let fake = deploying(&[(1, "d1")]).await;
    fake.ok(STATUS, &json!({ "app_id": "slack", "status": "running" }));
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    asked(&fake, 2).await;
    assert_eq!(deployments(&fake), 1);
}

#[tokio::test]
async fn a_proxy_that_finds_no_server_is_waited_out() {
    let fake = developing(&[]).await;
    fake.text(DEPLOY, 502, "text/html", "<h1>Bad Gateway</h1>");
    fake.ok(DEPLOY, &json!({ "message": "deployed" }));
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    machine.write("slack/backend/index.ts", "defineIntegration({ actions: {} });\n");
    dev.line_with("! the server answered 502 Bad Gateway: <h1>Bad Gateway</h1>: waiting for it").await;
    dev.line_with("✓ live  backend/index.ts").await;
}

#[tokio::test]
async fn whoever_replaces_the_work_of_somebody_else_is_told() {
    let fake = deploying(&[(4, "d4"), (5, "d5"), (7, "d7"), (8, "d8")]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    for (content, said) in [("1", false), ("2", true)] {
        machine.write("slack/backend/more.ts", content);
        dev.line_with("✓ live  backend/more.ts").await;
        if said {
            let expected = "! somebody else deployed version 6 meanwhile; it does not serve any more";
            assert_eq!(dev.line_with("somebody else").await, expected);
            assert_eq!(deployments(&fake), 4, "once more with the manifest: theirs may be another");
        }
    }
}

#[tokio::test]
async fn what_nothing_comes_of_is_told_behind_what_is_live() {
    let fake = server(true).await;
    let warning = "the manifest declares the action 'send', and the backend has no handler for it";
    fake.ok(DEPLOY, &json!({ "message": "deployed", "warnings": [warning] }));
    fake.text("GET /api/v1/apps/slack/logs", 200, "text/event-stream", "");
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("✓ live").await;
    assert_eq!(dev.line_with("send").await, format!("! {warning}"));
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_ends_it() {
    let mut fake = developing(&[]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let _down = fake.stop().await;
    let outcome = machine.weft(&["dev", "slack"]).await;
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.stderr.contains("no server answers"), "{outcome}");
}

#[tokio::test]
async fn logging_in_again_in_another_terminal_is_enough() {
    let fake = developing(&[]).await;
    let refused = json!({ "error": "The token has expired.", "code": "unauthorized" });
    fake.reply(DEPLOY, 401, &refused);
    fake.reply(DEPLOY, 401, &refused);
    fake.ok(DEPLOY, &json!({ "message": "deployed" }));
    fake.reply("POST /api/v1/auth/refresh", 401, &refused);
    fake.ok("POST /api/v1/auth/refresh", &json!({ "accessToken": "access-3" }));
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    machine.write("slack/backend/index.ts", "defineIntegration({ actions: {} });\n");
    dev.line_with("the login has expired").await;
    dev.line_with("✗ not deployed").await;
    machine.log_in(&fake, 2);
    machine.write("slack/backend/index.ts", "defineIntegration({ actions: {} });\n");
    dev.line_with("✓ live  backend/index.ts").await;
    let renewed = fake.requests().into_iter().rfind(|request| request.line == "POST /api/v1/auth/refresh");
    assert_eq!(renewed.expect("a renewal").json(), json!({ "refreshToken": "refresh-2" }));
    let deployed = fake.requests().into_iter().rfind(|request| request.line == DEPLOY).expect("a deployment");
    assert_eq!(deployed.header("authorization"), "Bearer access-3");
}

#[tokio::test]
async fn a_missing_backend_is_told_and_the_version_before_serves() {
    let fake = developing(&[]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    std::fs::rename(machine.path("slack/backend"), machine.path("away")).expect("it moves");
    let lines = dev.lines_until("! there is no backend folder: the version before goes on serving").await;
    assert_eq!(lines.len(), 1, "and not that it is live: {lines:?}");
}

#[tokio::test]
async fn a_mended_project_is_told_to_be_live_without_being_sent_again() {
    let fake = developing(&[]).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    machine.write("slack/manifest.json", "{ \"appId\": \"slack\" ");
    dev.line_with("✗ not deployed").await;
    machine.write("slack/manifest.json", &manifest().to_string());
    dev.line_with("✓ live  (as before)").await;
    fake.request(DEPLOY);
}

#[tokio::test]
async fn what_failed_for_an_outside_reason_is_tried_again_with_the_next_save() {
    let fake = developing(&[]).await;
    fake.reply(DEPLOY, 422, &json!({ "error": "the dependencies could not be installed", "code": "deploy_failed" }));
    fake.ok(DEPLOY, &json!({ "message": "deployed" }));
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let mut dev = machine.start(&["dev", "slack"]);
    dev.line_with("Watching slack").await;
    machine.write("slack/backend/package.json", "{}");
    dev.line_with("✗ not deployed").await;
    machine.write("slack/backend/package.json", "{}");
    dev.line_with("✓ live  backend/package.json").await;
}

#[tokio::test]
async fn a_folder_that_is_no_project_is_told_without_naming_another_command() {
    let machine = Machine::new();
    for command in ["dev", "test", "types"] {
        let outcome = machine.weft(&[command, "nowhere"]).await;
        assert!(outcome.stderr.contains("there is no nowhere/manifest.json"), "{outcome}");
        assert!(!outcome.stderr.contains("weft deploy"), "{outcome}");
    }
}

#[tokio::test]
async fn developing_needs_a_permission() {
    let fake = server(true).await;
    fake.reply(DEPLOY, 403, &json!({ "error": "This needs the permission admin:apps.deploy.", "code": "forbidden" }));
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let outcome = machine.weft(&["dev", "slack"]).await;
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.stderr.contains("admin:apps.deploy"), "{outcome}");
}
