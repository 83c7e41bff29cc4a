use serde_json::json;

use crate::fake::Fake;
use crate::machine::Machine;

#[tokio::test]
async fn records_are_listed_shown_and_created() {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    let record = json!({ "id": "01a2", "name": "Alice" });
    fake.ok("POST /api/v1/apps/crm/collections/contacts/query", &json!({ "data": [record], "total": 1 }));
    fake.ok("GET /api/v1/apps/crm/collections/contacts/01a2", &record);
    fake.ok("POST /api/v1/apps/crm/collections/contacts", &record);
    let listed = machine.weft(&["data", "list", "crm", "contacts", "--where", r#"{"name":"Alice"}"#, "--limit", "5"]).await;
    assert!(listed.stdout.contains("\"name\": \"Alice\"") && !listed.stdout.contains("total"), "{listed}");
    let asked = fake.request("POST /api/v1/apps/crm/collections/contacts/query").json();
    assert_eq!(asked, json!({ "where": { "name": "Alice" }, "limit": 5 }));
    assert_eq!(machine.weft(&["--json", "data", "get", "crm", "contacts", "01a2"]).await.json(), record);
    machine.weft(&["data", "create", "crm", "contacts", r#"{"name":"Alice"}"#]).await;
    assert_eq!(fake.request("POST /api/v1/apps/crm/collections/contacts").json(), json!({ "name": "Alice" }));
}

#[tokio::test]
async fn records_leave_and_come_as_lines() {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    let lines = "{\"name\":\"Alice\"}\n{\"name\":\"Bob\"}\n";
    fake.text("GET /api/v1/apps/crm/collections/contacts/export", 200, "application/x-ndjson", lines);
    fake.ok("POST /api/v1/apps/crm/collections/contacts/import?on=email", &json!({ "created": 2, "updated": 0 }));
    assert_eq!(machine.weft(&["data", "export", "crm", "contacts"]).await.stdout, lines);
    machine.write("contacts.ndjson", lines);
    let imported = machine.weft(&["data", "import", "crm", "contacts", "contacts.ndjson", "--on", "email"]).await;
    assert_eq!(imported.code, 0, "{imported}");
    let sent = fake.request("POST /api/v1/apps/crm/collections/contacts/import?on=email");
    assert_eq!((sent.body.as_ref(), sent.header("content-type")), (lines.as_bytes(), "application/x-ndjson"));
    let absent = machine.weft(&["data", "import", "crm", "contacts", "gone.ndjson"]).await;
    assert!(absent.code != 0 && absent.stderr.contains("cannot read gone.ndjson"), "{absent}");
}
