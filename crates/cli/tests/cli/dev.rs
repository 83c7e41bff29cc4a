use serde_json::{Value, json};

use crate::deploy::{manifest, project, server};
use crate::fake::Fake;
use crate::machine::Machine;

const DEPLOY: &str = "POST /api/v1/apps/slack/deploy?dev=true";

/// A server that accepts deployments for development, with these lines in the log.
async fn developing(log: &[Value]) -> Fake {
    let fake = server(true).await;
    fake.ok(DEPLOY, &json!({ "message": "deployed" }));
    let events: Vec<String> = log.iter().map(|line| format!("data: {line}\n\n")).collect();
    fake.text("GET /api/v1/apps/slack/logs", 200, "text/event-stream", &events.concat());
    fake
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
async fn developing_needs_a_permission() {
    let fake = server(true).await;
    fake.reply(DEPLOY, 403, &json!({ "error": "This needs the permission admin:apps.deploy.", "code": "forbidden" }));
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let outcome = machine.weft(&["dev", "slack"]).await;
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.stderr.contains("admin:apps.deploy"), "{outcome}");
}
