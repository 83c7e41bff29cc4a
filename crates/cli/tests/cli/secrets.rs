use insta::assert_snapshot;
use serde_json::json;

use crate::deploy::server;
use crate::machine::Machine;

const CONFIG: &str = "PUT /api/v1/integrations/slack/config";

#[tokio::test]
async fn configuration_comes_from_arguments_stdin_and_files() {
    let fake = server(false).await;
    let machine = Machine::logged_in(&fake);
    fake.ok(CONFIG, &json!({ "message": "config saved" }));
    machine.write("secret.txt", "from-file\n");
    machine.write("values.json", r#"{"region":"eu","botToken":"overridden"}"#);
    let arguments = ["config", "slack", "botToken=-", "signingSecret=@secret.txt", "--file", "values.json"];
    let outcome = machine.run(&arguments, &[], "from-stdin\n").await;
    assert_snapshot!(outcome);
    let sent = fake.request(CONFIG).json();
    assert_eq!(sent, json!({ "botToken": "from-stdin", "signingSecret": "from-file", "region": "eu" }));
}

#[tokio::test]
async fn configuration_that_is_not_key_value_is_misuse() {
    let fake = server(false).await;
    let machine = Machine::logged_in(&fake);
    assert_snapshot!(machine.weft(&["config", "slack", "botToken"]).await);
    assert_eq!(machine.weft(&["config", "slack"]).await.code, 2);
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_secret_goes_in_by_stdin_and_its_name_comes_out() {
    let fake = server(true).await;
    let machine = Machine::logged_in(&fake);
    fake.ok("POST /api/v1/apps/crm/secrets", &json!({ "message": "saved" }));
    let outcome = machine.run(&["secrets", "set", "API_KEY", "-", "--app", "crm"], &[], "s3cret\n").await;
    assert_eq!(outcome.stdout, "Saved API_KEY\n");
    assert_eq!(fake.request("POST /api/v1/apps/crm/secrets").json(), json!({ "key": "API_KEY", "value": "s3cret" }));
    fake.ok("GET /api/v1/platform/secrets", &json!(["SLACK_SIGNING_SECRET"]));
    assert_eq!(machine.weft(&["secrets", "list"]).await.stdout, "SLACK_SIGNING_SECRET\n");
    fake.ok("DELETE /api/v1/platform/secrets/API_KEY", &json!({ "message": "deleted" }));
    assert_eq!(machine.weft(&["secrets", "rm", "API_KEY"]).await.stdout, "Deleted API_KEY\n");
}

#[tokio::test]
async fn a_secret_is_not_taken_from_the_command_line() {
    let fake = server(true).await;
    let machine = Machine::logged_in(&fake);
    assert_snapshot!(machine.weft(&["secrets", "set", "API_KEY", "s3cret"]).await);
    assert_snapshot!(machine.weft(&["secrets", "set", "API_KEY"]).await);
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn the_master_key_is_rotated_by_the_server() {
    let fake = server(true).await;
    let machine = Machine::logged_in(&fake);
    fake.ok("POST /api/v1/vault/rotate-key", &json!({ "message": "master key replaced.", "masterKeyId": "k2" }));
    assert_eq!(machine.weft(&["vault", "rotate-key"]).await.stdout, "master key replaced.\n");
    machine.run(&["vault", "rotate-key", "--new-key", "-"], &[], "00ff\n").await;
    let sent: Vec<_> = fake.requests().iter().map(crate::fake::Received::json).collect();
    assert_eq!(sent, [json!({}), json!({ "newMasterKey": "00ff" })]);
    assert_eq!(machine.weft(&["vault", "rotate-key", "--new-key", "00ff"]).await.code, 2);
}
