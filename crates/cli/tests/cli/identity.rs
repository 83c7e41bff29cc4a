//! Tenants, members, roles and accounts of machines.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::{Machine, Outcome};

const ACCOUNT: &str = "018f0000-0000-7000-8000-00000000000a";
const ALICE: &str = "018f0000-0000-7000-8000-000000000001";
const TIME: &str = "2026-01-15T10:30:00.123Z";

async fn logged_in() -> (Fake, Machine) {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    let alice = json!({ "id": ALICE, "email": "alice@example.com", "displayName": "Alice", "createdAt": TIME });
    fake.ok("GET /api/v1/users", &json!([alice]));
    let account = json!({
        "id": ACCOUNT, "slug": "ci", "email": "sa+ci@localhost", "displayName": null, "disabled": true,
        "ownerOfRecord": ALICE, "createdAt": TIME
    });
    fake.ok("GET /api/v1/service-accounts", &json!([account]));
    (fake, machine)
}

fn outcomes(outcomes: &[Outcome]) -> String {
    outcomes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

#[tokio::test]
async fn lists_are_tables() {
    let (fake, machine) = logged_in().await;
    fake.ok("GET /api/v1/tenants", &json!([{ "id": "acme", "name": "Acme", "status": "active", "createdAt": TIME }]));
    let role =
        json!({ "name": "sales", "description": "Sells", "inherits": ["base"], "permissions": ["app:crm:*", "app:shop:read"] });
    fake.ok("GET /api/v1/roles", &json!([role]));
    let key =
        json!({ "id": "key-1", "name": "laptop", "prefix": "wsk_abc", "createdAt": TIME, "expiresAt": TIME, "lastUsedAt": null });
    fake.ok(&format!("GET /api/v1/service-accounts/{ACCOUNT}/credentials"), &json!([key]));
    let actor = json!({ "userId": ALICE, "grantedAt": TIME, "grantedBy": null });
    fake.ok(&format!("GET /api/v1/service-accounts/{ACCOUNT}/act-as"), &json!([actor]));
    let mut seen = Vec::new();
    for command in [
        &["tenants"][..],
        &["users"],
        &["roles"],
        &["service-accounts"],
        &["service-accounts", "keys", "ci"],
        &["service-accounts", "actors", ACCOUNT],
    ] {
        seen.push(machine.weft(command).await);
    }
    assert_snapshot!(outcomes(&seen));
}

#[tokio::test]
async fn what_is_shown_only_once_is_shown() {
    let (fake, machine) = logged_in().await;
    let administrator = json!({ "id": ALICE, "email": "carol@acme.example", "initialPassword": "f1rst-Password" });
    fake.reply("POST /api/v1/tenants", 201, &json!({ "tenant": { "id": "acme" }, "administrator": administrator }));
    fake.reply("POST /api/v1/users", 201, &json!({ "user": { "id": "u2" }, "initialPassword": "f1rst-Password" }));
    fake.reply("POST /api/v1/service-accounts", 201, &json!({ "id": ACCOUNT, "email": "sa+ci@localhost" }));
    let key = json!({ "id": "key-1", "key": "wsk_abcdef", "prefix": "wsk_abc", "expiresAt": TIME, "note": "Keep it" });
    fake.reply(&format!("POST /api/v1/service-accounts/{ACCOUNT}/credentials"), 201, &key);
    let mut seen = Vec::new();
    for command in [
        &["tenants", "create", "acme", "--admin", "carol@acme.example", "--name", "Acme"][..],
        &["users", "add", "dora@example.com", "--role", "sales"],
        &["service-accounts", "create", "ci"],
        &["service-accounts", "create-key", "ci", "laptop", "--days", "30"],
    ] {
        seen.push(machine.weft(command).await);
    }
    assert_snapshot!(outcomes(&seen));
    let sent = fake.request(&format!("POST /api/v1/service-accounts/{ACCOUNT}/credentials")).json();
    assert_eq!(sent, json!({ "name": "laptop", "expiresInDays": 30 }));
    assert_eq!(fake.request("POST /api/v1/users").json()["roles"], json!(["sales"]));
}

#[tokio::test]
async fn people_and_machines_are_named_as_people_name_them() {
    let (fake, machine) = logged_in().await;
    let message = json!({ "message": "done" });
    let account = |rest: &str| format!("/api/v1/service-accounts/{ACCOUNT}{rest}");
    for (line, command, sent) in [
        (
            "POST /api/v1/roles/assign".to_owned(),
            &["roles", "assign", "sales", "Alice@example.com"][..],
            json!({ "userId": ALICE, "role": "sales" }),
        ),
        (
            "POST /api/v1/roles/revoke".to_owned(),
            &["roles", "revoke", "sales", ALICE],
            json!({ "userId": ALICE, "role": "sales" }),
        ),
        (format!("POST /api/v1/users/{ALICE}/disable"), &["users", "disable", "alice@example.com"], json!({})),
        (format!("DELETE /api/v1/users/{ALICE}"), &["users", "rm", "alice@example.com"], Value::Null),
        (format!("POST {}", account("/enable")), &["service-accounts", "enable", "ci"], json!({})),
        (
            format!("POST {}", account("/transfer-ownership")),
            &["service-accounts", "transfer", "ci", "--to", "alice@example.com"],
            json!({ "new_owner": ALICE }),
        ),
        (
            format!("POST {}", account("/act-as")),
            &["service-accounts", "allow-actor", "ci", "alice@example.com"],
            json!({ "userId": ALICE }),
        ),
        (
            format!("DELETE {}", account("/act-as")),
            &["service-accounts", "deny-actor", "ci", "alice@example.com"],
            json!({ "userId": ALICE }),
        ),
        (format!("DELETE {}", account("/credentials/key-1")), &["service-accounts", "revoke-key", "ci", "key-1"], Value::Null),
        (format!("DELETE {}", account("")), &["service-accounts", "rm", "ci"], Value::Null),
    ] {
        fake.ok(&line, &message);
        let outcome = machine.weft(command).await;
        assert_eq!(outcome.code, 0, "{outcome}");
        let request = fake.request(&line);
        let body = if request.body.is_empty() { Value::Null } else { request.json() };
        assert_eq!(body, sent, "{line}");
    }
    let nobody = [&["users", "rm", "nobody@example.com"][..], &["service-accounts", "rm", "nothing"]];
    let mut seen = Vec::new();
    for command in nobody {
        seen.push(machine.weft(command).await);
    }
    assert_snapshot!(outcomes(&seen));
}

#[tokio::test]
async fn a_tenant_is_destroyed_only_by_who_means_it() {
    let (fake, machine) = logged_in().await;
    let refused = machine.weft(&["tenants", "rm", "acme"]).await;
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains("--yes"), "{refused}");
    fake.reply("DELETE /api/v1/tenants/acme?confirm=acme", 202, &json!({ "message": "deleting" }));
    assert_eq!(machine.weft(&["tenants", "rm", "acme", "--yes"]).await.code, 0);
}

#[tokio::test]
async fn why_shows_the_way_to_a_right_or_what_stands_in_it() {
    let (fake, machine) = logged_in().await;
    let alice = json!({ "id": ALICE, "email": "alice@example.com", "kind": "user" });
    let grant = json!({
        "role": "crm", "key": "app:crm:*", "path": ["sales", "crm"], "assignedAt": TIME, "assignedBy": "admin@example.com"
    });
    let line = "GET /api/v1/permissions/explain?permission=app%3Acrm%3Ainvoke";
    let allowed = json!({
        "principal": alice, "permission": "app:crm:invoke", "allowed": true, "grants": [grant], "obstacles": [], "delegations": []
    });
    fake.ok(line, &allowed);
    let delegation = json!({
        "target": { "id": ACCOUNT, "email": "sa+ci@localhost", "kind": "service_account" }, "grantedAt": TIME, "grantedBy": null,
        "holds": true, "lacks": "app:shop:read"
    });
    let refused = json!({
        "principal": alice, "permission": "app:crm:invoke", "allowed": false, "grants": [],
        "obstacles": ["no role of theirs grants it"], "delegations": [delegation]
    });
    fake.ok(&format!("{line}&principal=alice%40example.com"), &refused);
    let seen = [
        machine.weft(&["why", "app:crm:invoke"]).await,
        machine.weft(&["why", "app:crm:invoke", "--of", "alice@example.com"]).await,
    ];
    assert_snapshot!(outcomes(&seen));
    assert_eq!(machine.weft(&["why", "app:crm:invoke", "--json"]).await.json(), allowed);
}

#[tokio::test]
async fn departments_are_named_by_their_path() {
    let (fake, machine) = logged_in().await;
    let department = |id: &str, name: &str, parent: Value| json!({ "id": id, "name": name, "parentId": parent });
    let departments = [department("d2", "North", json!("d1")), department("d1", "Europe", Value::Null)];
    fake.ok("GET /api/v1/namespaces", &json!([{ "id": "sales", "name": "Sales", "createdAt": TIME }]));
    fake.ok("GET /api/v1/namespaces/sales/departments", &json!(departments));
    let member = json!({ "userId": ALICE, "email": "alice@example.com", "addedAt": TIME });
    fake.ok("GET /api/v1/namespaces/sales/departments/d2/members", &json!([member]));
    let seen = [
        machine.weft(&["namespaces"]).await,
        machine.weft(&["namespaces", "departments", "sales"]).await,
        machine.weft(&["namespaces", "members", "sales", "Europe/North"]).await,
        machine.weft(&["namespaces", "members", "sales", "North"]).await,
    ];
    assert_snapshot!(outcomes(&seen));
    let within = "/api/v1/namespaces/sales/departments";
    for (line, command, sent) in [
        ("POST /api/v1/namespaces".to_owned(), &["namespaces", "create", "more"][..], json!({ "id": "more", "name": null })),
        (
            format!("POST {within}"),
            &["namespaces", "add-department", "sales", "Oslo", "--below", "Europe/North"],
            json!({ "name": "Oslo", "parentId": "d2" }),
        ),
        (format!("PATCH {within}/d2"), &["namespaces", "move-department", "sales", "Europe/North"], json!({ "parentId": null })),
        (
            format!("PUT {within}/d2/members/{ALICE}"),
            &["namespaces", "add-member", "sales", "d2", "alice@example.com"],
            json!({}),
        ),
        (format!("DELETE {within}/d2"), &["namespaces", "rm-department", "sales", "Europe/North"], Value::Null),
    ] {
        fake.ok(&line, &json!({}));
        let outcome = machine.weft(command).await;
        assert_eq!(outcome.code, 0, "{outcome}");
        let request = fake.request(&line);
        let body = if request.body.is_empty() { Value::Null } else { request.json() };
        assert_eq!(body, sent, "{line}");
    }
}
