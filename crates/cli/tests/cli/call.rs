use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::Machine;

const SEND: &str = "POST /api/v1/integrations/slack/actions/send_message";

async fn logged_in() -> (Fake, Machine) {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    (fake, machine)
}

#[tokio::test]
async fn a_result_is_printed_for_people_and_for_programs() {
    let (fake, machine) = logged_in().await;
    fake.ok(SEND, &json!({ "ok": true, "ts": "1.2" }));
    let outcome = machine.weft(&["call", "slack", "send_message", r##"{"channel":"#general"}"##]).await;
    assert_snapshot!(outcome);
    assert_eq!(fake.request(SEND).json(), json!({ "channel": "#general" }));
    let outcome = machine.weft(&["call", "slack", "send_message", "--json"]).await;
    assert_eq!(outcome.stdout, "{\"ok\":true,\"ts\":\"1.2\"}\n");
}

#[tokio::test]
async fn input_comes_from_stdin_or_a_file_with_headers() {
    let (fake, machine) = logged_in().await;
    fake.ok(SEND, &Value::Null);
    machine.run(&["call", "slack", "send_message", "-"], &[], r#"{"from":"stdin"}"#).await;
    machine.write("input.json", r#"{"from":"file"}"#);
    let flags = ["--file", "input.json", "--app", "crm", "--idempotency-key", "k1"];
    machine.weft(&[&["call", "slack", "send_message"][..], &flags].concat()).await;
    let requests = fake.requests();
    assert_eq!(requests[0].json(), json!({ "from": "stdin" }));
    assert_eq!(requests[1].json(), json!({ "from": "file" }));
    assert_eq!((requests[1].header("x-app-id"), requests[1].header("idempotency-key")), ("crm", "k1"));
}

fn refusal() -> Value {
    json!({
        "error": "the input breaks the schema of slack.send_message",
        "code": "validation_failed",
        "traceId": "4bf92f3577b34da6",
        "errors": [{ "path": "$.channel", "message": "is required" }, { "path": "", "message": "has an unknown key 'chanel'" }]
    })
}

#[tokio::test]
async fn a_refusal_names_every_fault_the_trace_and_the_run() {
    let (fake, machine) = logged_in().await;
    fake.failed_run(SEND, 400, "run-7", &refusal());
    assert_snapshot!(machine.weft(&["call", "slack", "send_message"]).await);
    let outcome = machine.weft(&["call", "slack", "send_message", "--json"]).await;
    let body: Value = serde_json::from_str(&outcome.stderr).expect("stderr is one JSON value");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert_eq!((&body["code"], &body["runId"]), (&json!("validation_failed"), &json!("run-7")));
    assert_eq!(body["errors"], refusal()["errors"]);
}

#[tokio::test]
async fn a_missing_permission_says_whom_to_ask() {
    let (fake, machine) = logged_in().await;
    fake.reply(SEND, 403, &json!({ "error": "permission denied: integration:slack:send_message", "code": "forbidden" }));
    assert_snapshot!(machine.weft(&["call", "slack", "send_message"]).await);
}

#[tokio::test]
async fn an_answer_that_is_no_problem_body_is_still_explained() {
    let (fake, machine) = logged_in().await;
    fake.text(SEND, 502, "text/html", "\n<h1>Bad\u{1b}[2J Gateway</h1>");
    assert_snapshot!(machine.weft(&["call", "slack", "send_message"]).await);
}

#[tokio::test]
async fn broken_input_is_misuse_and_never_sent() {
    let (fake, machine) = logged_in().await;
    assert_snapshot!(machine.weft(&["call", "slack", "send_message", "{channel: 1}"]).await);
    assert_eq!(machine.weft(&["call", "slack", "../../users"]).await.code, 2);
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn misuse_in_json_mode_is_json_too() {
    let outcome = Machine::new().weft(&["call", "--json"]).await;
    let body: Value = serde_json::from_str(&outcome.stderr).expect("stderr is one JSON value");
    assert_eq!((outcome.code, outcome.stdout.as_str(), &body["code"]), (2, "", &json!("usage")));
}

#[tokio::test]
async fn a_method_of_an_app_is_called() {
    let (fake, machine) = logged_in().await;
    fake.ok("POST /api/v1/apps/crm/rpc", &json!({ "pong": true }));
    let outcome = machine.weft(&["rpc", "crm", "ping", r#"{"a":1}"#, "--json"]).await;
    assert_eq!(outcome.json(), json!({ "pong": true }));
    assert_eq!(fake.request("POST /api/v1/apps/crm/rpc").json(), json!({ "method": "ping", "params": { "a": 1 } }));
}

#[tokio::test]
async fn log_lines_are_shown_until_the_stream_ends() {
    let (fake, machine) = logged_in().await;
    let stream = concat!(
        ": keep-alive\n\n",
        "data: {\"level\":\"info\",\"message\":\"worker started\"}\n\n",
        "data: {\"level\":\"error\",\"message\":\"bad \\u001b[2J thing\"}\n\n",
    );
    fake.text("GET /api/v1/apps/crm/logs", 200, "text/event-stream", stream);
    assert_snapshot!(machine.weft(&["logs", "crm", "-f"]).await);
    let outcome = machine.weft(&["logs", "crm", "--json"]).await;
    assert_eq!(outcome.stdout.lines().next(), Some(r#"{"level":"info","message":"worker started"}"#));
    assert_eq!((outcome.stdout.lines().count(), outcome.stderr.as_str()), (2, ""));
}
