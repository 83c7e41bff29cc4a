//! The bundled Slack integration, as a customer deploys it, against a Slack of our own.

use std::{fs, path::Path};

use serde_json::{Value, json};
use weft_server::ServeArgs;
use weft_testkit::{
    Answer, Api, TestServer,
    slack::{FakeSlack, sign},
};

const SIGNING_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// Installs and deploys what the folder holds, laid out as the command line tool does it.
async fn deploy(admin: &Api) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integrations/slack");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file of the integration");
    let manifest: Value = serde_json::from_str(&read("manifest.json")).expect("JSON");
    admin.post("/api/v1/apps", manifest).await.expect(200);
    let mut files: Vec<(String, String)> = ["package.json", "bun.lock"].map(|name| (name.to_owned(), read(name))).to_vec();
    for entry in fs::read_dir(folder.join("backend")).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push((name.clone(), read(&format!("backend/{name}"))));
    }
    let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect();
    admin.deploy("slack", &files).await.expect(200);
}

async fn send(api: &Api, channel: &str) -> Answer {
    api.call("slack", "send_message", json!({ "channel": channel, "text": "Hello!" })).await
}

async fn configure(api: &Api, config: Value) {
    api.put("/api/v1/integrations/slack/config", config).await.expect(200);
}

async fn event(server: &TestServer, url: &str, body: &str, (timestamp, signature): (i64, String)) -> Answer {
    let api = server.anonymous();
    let request = api.request(reqwest::Method::POST, url).header("Content-Type", "application/json");
    let signed = request.header("X-Slack-Request-Timestamp", timestamp).header("X-Slack-Signature", signature);
    api.send(signed.body(body.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slack_integration_keeps_its_promises() {
    // Where the fake Slack is.
    let arguments = ServeArgs { egress_allow: vec!["127.0.0.1".to_owned()], ..ServeArgs::default() };
    let server = TestServer::start_with(arguments).await;
    let admin = server.user("admin").await;
    deploy(&admin).await;
    assert_eq!(send(&admin, "#general").await.expect(409).code(), "not_configured");
    let slack = FakeSlack::start().await.expect("a fake Slack");
    let config = json!({ "botToken": FakeSlack::TOKEN, "signingSecret": SIGNING_SECRET, "apiUrl": slack.api_url() });
    configure(&admin, config).await;
    messages_arrive(&admin, &slack).await;
    refusals_are_told_apart(&admin, &slack).await;
    events_are_believed_only_when_signed(&server, &admin).await;
    drop(slack);
    let gone = send(&admin, "#general").await.expect(502);
    assert_eq!((gone.code().as_str(), gone.text("/vendorCode").as_str()), ("vendor_unavailable", "unreachable"));
}

async fn messages_arrive(admin: &Api, slack: &FakeSlack) {
    let posted = send(admin, "#general").await.expect(200);
    assert_eq!((posted.text("/channel"), posted.text("/message/text")), (FakeSlack::GENERAL.to_owned(), "Hello!".to_owned()));
    let request = slack.requests().pop().expect("a request");
    assert_eq!((request.method.as_str(), request.token.as_deref()), ("chat.postMessage", Some(FakeSlack::TOKEN)));
    assert_eq!(request.fields.get("text").map(String::as_str), Some("Hello!"));
    let input = json!({ "channel": "#general", "text": "Hello!", "thread_ts": posted.text("/ts") });
    let answered = admin.call("slack", "send_message", input).await.expect(200);
    assert_eq!(answered.text("/message/thread_ts"), posted.text("/ts"));

    let before = slack.requests().len();
    let wrong = admin.call("slack", "send_message", json!({ "channel": "", "text": "x", "colour": 1 })).await.expect(400);
    assert_eq!(crate::fixtures::fault_paths(&wrong), ["$", "$.channel"]);
    assert_eq!(slack.requests().len(), before, "refused input never reaches Slack");
}

async fn refusals_are_told_apart(admin: &Api, slack: &FakeSlack) {
    let unknown = send(admin, "#nowhere").await.expect(422);
    assert_eq!((unknown.code().as_str(), unknown.text("/vendorCode").as_str()), ("action_rejected", "channel_not_found"));

    slack.rate_limit_next(1, 7);
    let limited = send(admin, "#general").await.expect(429);
    assert_eq!((limited.code().as_str(), limited.header("retry-after")), ("rate_limited", Some("7")));
    slack.fail_next(1, 503);
    let down = send(admin, "#general").await.expect(502);
    assert_eq!((down.code().as_str(), down.text("/vendorCode").as_str()), ("vendor_unavailable", "http_503"));

    configure(admin, json!({ "botToken": "xoxb-wrong-canary" })).await;
    let refused = send(admin, "#general").await.expect(424);
    assert_eq!((refused.code().as_str(), refused.text("/vendorCode").as_str()), ("vendor_auth", "invalid_auth"));
    assert!(!refused.json.to_string().contains("canary"), "{refused:?}");
    configure(admin, json!({ "botToken": FakeSlack::TOKEN })).await;
    send(admin, "#general").await.expect(200);
}

async fn events_are_believed_only_when_signed(server: &TestServer, admin: &Api) {
    let url = admin.get("/api/v1/apps/slack/webhooks").await.expect(200).text("/0/url");
    let now = server.clock.now().timestamp();
    let message =
        r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"message","channel":"C1","user":"U1","ts":"1.2"}}"#;
    let challenge = r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#;
    let signed = |timestamp: i64, secret: &str, body: &str| (timestamp, sign(secret, timestamp, body.as_bytes()));

    let accepted = event(server, &url, message, signed(now, SIGNING_SECRET, message)).await.expect(200);
    assert_eq!(accepted.json, json!({ "ok": true }));
    let greeted = event(server, &url, challenge, signed(now, SIGNING_SECRET, challenge)).await.expect(200);
    assert_eq!(greeted.json, json!({ "challenge": "3eZbrw1a" }));
    for (what, signature) in [
        ("another secret", signed(now, "another secret", message)),
        ("another body", signed(now, SIGNING_SECRET, challenge)),
        ("too old", signed(now - 600, SIGNING_SECRET, message)),
        ("from the future", signed(now + 600, SIGNING_SECRET, message)),
    ] {
        let refused = event(server, &url, message, signature).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"), "{what}: {refused:?}");
    }
}
