use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::Machine;

const LIST: &str = "GET /api/v1/apps/slack/versions";
const ROLLBACK: &str = "POST /api/v1/apps/slack/rollback";

async fn logged_in() -> (Fake, Machine) {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    (fake, machine)
}

fn version(number: u32, active: bool, kept: bool) -> Value {
    json!({
        "id": format!("id-{number}"), "number": number, "active": active, "canRollBack": kept,
        "manifestVersion": format!("1.{number}.0"), "entryPoint": "index.ts", "digest": "00ff", "size": 1000 * number,
        "createdAt": "2026-01-15T10:30:00.123Z", "createdBy": { "id": "u1", "email": "alice@example.com" },
        "activatedAt": "2026-01-15T10:30:00.123Z", "activatedBy": null
    })
}

#[tokio::test]
async fn versions_are_a_table_with_the_way_back() {
    let (fake, machine) = logged_in().await;
    let nobody = {
        let mut version = version(8, false, false);
        version["createdBy"] = Value::Null;
        version
    };
    fake.ok(LIST, &json!({ "data": [version(10, true, false), version(9, false, true), nobody], "nextCursor": "c2" }));
    assert_snapshot!(machine.weft(&["versions", "slack"]).await);
}

#[tokio::test]
async fn the_list_goes_on_where_it_was_left_and_may_be_empty() {
    let (fake, machine) = logged_in().await;
    fake.ok(&format!("{LIST}?limit=5&cursor=a%2Fb"), &json!({ "data": [version(1, true, false)], "nextCursor": null }));
    let outcome = machine.weft(&["versions", "slack", "--limit", "5", "--cursor", "a/b"]).await;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    fake.ok(LIST, &json!({ "data": [], "nextCursor": null }));
    assert_snapshot!(machine.weft(&["versions", "slack"]).await);
    assert_eq!(machine.weft(&["--json", "versions", "slack"]).await.json(), json!({ "data": [], "nextCursor": null }));
}

#[tokio::test]
async fn going_back_says_where_one_is_now() {
    let (fake, machine) = logged_in().await;
    let answer =
        json!({ "message": "app 'slack' is back at version 2", "version": 2, "manifestVersion": "1.0.0", "deploymentId": "d" });
    fake.ok(ROLLBACK, &answer);
    assert_snapshot!(machine.weft(&["rollback", "slack"]).await);
    assert_eq!(fake.request(ROLLBACK).json(), json!({}));
    assert_eq!(machine.weft(&["--json", "rollback", "slack", "2"]).await.json(), answer);
    assert_eq!(fake.requests().last().expect("a request").json(), json!({ "version": 2 }));
}

#[tokio::test]
async fn going_back_to_what_is_gone_fails_with_the_reason() {
    let (fake, machine) = logged_in().await;
    let error = "the code of version 1 of app 'slack' is not kept any more (setting deployments.kept): deploy it again";
    fake.reply(ROLLBACK, 409, &json!({ "error": error, "code": "conflict", "traceId": "t1" }));
    assert_snapshot!(machine.weft(&["rollback", "slack", "1"]).await);
    let misuse = machine.weft(&["rollback", "slack", "latest"]).await;
    assert!(misuse.code == 2 && misuse.stderr.contains("latest"), "{misuse}");
}
