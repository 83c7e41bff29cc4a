use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::Machine;

const LIST: &str = "GET /api/v1/integrations/mail/connections";

async fn logged_in() -> (Fake, Machine) {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    (fake, machine)
}

fn connection(id: &str, label: &str, status: &str) -> Value {
    json!({
        "id": id, "integrationId": "mail", "userId": "u1", "kind": "direct", "label": label, "shared": false, "status": status,
        "statusCause": null, "statusMessage": if status == "active" { Value::Null } else { json!("the vendor\u{1b}[2J says no") },
        "statusSince": "2026-01-15T10:30:00Z", "expiresAt": null, "createdAt": "2026-01-15T10:30:00Z", "updatedAt": "2026-01-15T10:30:00Z",
    })
}

#[tokio::test]
async fn without_a_terminal_the_address_is_printed() {
    let (fake, machine) = logged_in().await;
    let url = "https://vendor.example/authorize?state=s";
    fake.ok(
        "POST /api/v1/integrations/mail/auth/start?connection_id=c1",
        &json!({ "type": "redirect", "url": url, "redirectUrl": url }),
    );
    let outcome = machine.weft(&["connect", "mail", "--label", "work", "--shared", "--again", "c1"]).await;
    assert_eq!(outcome.stdout, format!("{url}\n"));
    let sent = fake.request("POST /api/v1/integrations/mail/auth/start?connection_id=c1").json();
    assert_eq!(sent, json!({ "label": "work", "shared": true }));
}

#[tokio::test]
async fn what_the_schema_asks_for_is_taken_from_stdin_and_has_its_type() {
    let (fake, machine) = logged_in().await;
    let schema = json!({
        "properties": {
            "host": { "type": "string", "label": "IMAP host" }, "port": { "type": "integer" },
            "password": { "type": "string", "secret": true },
        },
        "required": ["host", "password"],
    });
    fake.ok("POST /api/v1/integrations/mail/auth/start", &json!({ "type": "credentials", "schema": schema }));
    fake.ok("POST /api/v1/integrations/mail/auth/credentials", &json!({ "message": "credentials stored", "connectionId": "c1" }));
    let arguments = ["connect", "mail", "host=imap.example.com", "port=993", "password=-"];
    let outcome = machine.run(&arguments, &[], "s3cret\n").await;
    assert_eq!(outcome.stdout, "Connected to mail\n");
    let sent = fake.request("POST /api/v1/integrations/mail/auth/credentials").json();
    assert_eq!(sent["credentials"], json!({ "host": "imap.example.com", "port": 993, "password": "s3cret" }));
    // The file of a vendor holds more than is asked for.
    machine.write("account.json", r#"{ "type": "service_account", "host": "h", "port": 1, "password": "-----BEGIN\nKEY" }"#);
    machine.weft(&["connect", "mail", "@account.json"]).await;
    let sent = fake.requests().pop().expect("a request").json();
    assert_eq!(sent["credentials"], json!({ "host": "h", "port": 1, "password": "-----BEGIN\nKEY" }));
    let missing = machine.weft(&["connect", "mail", "host=imap.example.com"]).await;
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("password is missing") && missing.stderr.contains("password=-"), "{}", missing.stderr);
}

#[tokio::test]
async fn a_way_is_named_in_both_steps_and_all_are_listed_with_what_they_lack() {
    let (fake, machine) = logged_in().await;
    let schema = json!({ "properties": { "token": { "type": "string", "secret": true } }, "required": ["token"] });
    let way = |name: &str, title: Value, missing: Value| json!({ "name": name, "title": title, "description": null, "type": "token", "configured": missing == json!([]), "missing": missing });
    let ways = json!([way("account", json!("GitHub account"), json!(["clientId"])), way("token", Value::Null, json!([]))]);
    fake.ok("GET /api/v1/integrations/mail/auth", &json!({ "type": "oauth2", "connected": false, "ways": ways }));
    fake.ok("POST /api/v1/integrations/mail/auth/start", &json!({ "type": "credentials", "schema": schema }));
    fake.ok("POST /api/v1/integrations/mail/auth/credentials", &json!({ "message": "credentials stored", "connectionId": "c1" }));
    let list = machine.weft(&["connections", "ways", "mail"]).await.stdout;
    assert!(list.contains("GitHub account") && list.contains("not configured: clientId") && list.contains("ready"), "{list}");
    let outcome = machine.run(&["connect", "mail", "--way", "token", "token=-"], &[], "made-up\n").await;
    assert_eq!(outcome.stdout, "Connected to mail\n");
    for step in ["start", "credentials"] {
        let sent = fake.request(&format!("POST /api/v1/integrations/mail/auth/{step}")).json();
        assert_eq!(sent["way"], "token", "{step}");
    }
}

#[tokio::test]
async fn connections_are_listed_and_found_by_their_label() {
    let (fake, machine) = logged_in().await;
    fake.ok(LIST, &json!([connection("c1", "work", "active"), connection("c2", "home", "expired")]));
    fake.ok("PATCH /api/v1/integrations/mail/connections/c2", &json!({ "message": "updated" }));
    let deleted =
        json!({ "message": "connection deleted", "revocation": "revoked", "detail": "the vendor has taken the tokens back" });
    fake.ok("DELETE /api/v1/integrations/mail/connections/c1", &deleted);
    let list = machine.weft(&["connections", "list", "mail"]).await.stdout;
    assert!(list.contains("work") && list.contains("expired: the vendor") && !list.contains('\u{1b}'), "{list}");
    assert_eq!(machine.weft(&["connections", "rename", "mail", "home", "private"]).await.stdout, "Renamed to private\n");
    let outcome = machine.weft(&["connections", "delete", "mail", "c1"]).await;
    assert_eq!(outcome.stdout, "Deleted; the vendor has taken the tokens back\n");
    let unknown = machine.weft(&["connections", "delete", "mail", "nowhere"]).await;
    assert!(unknown.code != 0 && unknown.stderr.contains("weft connections list mail"), "{}", unknown.stderr);
}

#[tokio::test]
async fn a_check_names_what_is_wrong_and_what_to_do_and_fails() {
    let (fake, machine) = logged_in().await;
    fake.ok(LIST, &json!([connection("c1", "work", "expired")]));
    let findings = json!([
        { "what": "configuration", "ok": true, "detail": "every required field has a value" },
        { "what": "status", "ok": false, "detail": "access was taken back", "cure": "connect again: weft connect mail" },
    ]);
    fake.ok("POST /api/v1/integrations/mail/connections/c1/check", &json!({ "ok": false, "findings": findings }));
    let outcome = machine.weft(&["connections", "check", "mail", "work"]).await;
    let expected = "ok configuration: every required field has a value\nno status: access was taken back\n    connect again: weft connect mail\n";
    assert_eq!(outcome.stdout, expected);
    assert_eq!(outcome.code, 1);
}

#[tokio::test]
async fn the_doctor_looks_at_every_integration_and_connection_and_says_what_to_do() {
    let (fake, machine) = logged_in().await;
    let integration = |id: &str, missing: &[&str], auth: Value| json!({ "id": id, "configured": missing.is_empty(), "missing": missing, "deployed": true, "userAuth": auth });
    let mail = integration("mail", &[], json!({ "type": "oauth2" }));
    fake.ok("GET /api/v1/integrations", &json!([mail, integration("sms", &["token"], json!({ "type": "basic" }))]));
    fake.ok(
        LIST,
        &json!([connection("c1", "work", "active"), connection("c2", "home", "expired"), connection("c3", "late", "active")]),
    );
    fake.ok("GET /api/v1/integrations/sms/connections", &json!([]));
    let finding = |ok: bool, detail: &str, cure: Value| json!({ "what": "account", "ok": ok, "detail": detail, "cure": cure });
    let checked = |finding: Value| json!({ "ok": finding["ok"], "findings": [finding] });
    let check = |id: &str| format!("POST /api/v1/integrations/mail/connections/{id}/check");
    fake.ok(&check("c1"), &checked(finding(true, "ann@example.com", Value::Null)));
    fake.ok(&check("c2"), &checked(finding(false, "the grant was taken back", json!("connect again"))));
    fake.reply(&check("c3"), 503, &json!({ "error": "the database is away", "code": "unavailable" }));
    let counts = json!({ "created": 3, "updated": 0, "deleted": 0, "rejected": 0, "rejection": null });
    let sync = json!({
        "id": "s1", "integrationId": "mail", "kind": "sync", "name": "letters", "connectionId": "c2", "connectionLabel": "home",
        "status": "stopped", "running": false, "nextRunAt": null, "succeededAt": null, "counts": counts,
        "error": { "message": "the grant was taken back" },
    });
    fake.ok("GET /api/v1/integrations/mail/syncs", &json!([sync]));
    fake.reply(
        "GET /api/v1/integrations/sms/syncs",
        404,
        &json!({ "error": "there is nothing at this path", "code": "not_found" }),
    );
    let outcome = machine.weft(&["doctor"]).await;
    assert_eq!(outcome.code, 1, "{outcome}");
    assert_eq!(
        outcome.stdout,
        "mail\n  ok configuration: complete\n  ok backend: there is something to call\n  \
         no syncs: the sync letters of home does not get on: the grant was taken back\n      \
         see to what it says, then run `weft syncs resume mail letters`\nmail work\n  ok account: ann@example.com\n\
         mail home\n  no account: the grant was taken back\n      connect again\n\
         mail late\n  no check: the database is away\n      see what the server's log says of it\n\
         sms\n  no configuration: token not set\n      run `weft config sms token=…`\n  ok backend: there is something to call\n  \
         no connection: you have none\n      run `weft connect sms`\n  \
         no syncs: there is nothing at this path\n      see what the server's log says of it\n"
    );
    assert!(outcome.stderr.contains("6 things do not serve"), "{outcome}");
    let outcome = machine.weft(&["doctor", "sms"]).await;
    assert!(outcome.code == 1 && !outcome.stdout.contains("mail"), "{outcome}");
    let unknown = machine.weft(&["doctor", "none"]).await;
    assert!(unknown.stderr.contains("there is no integration none"), "{unknown}");
}
