use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::Machine;

const ID: &str = "019bbf7a-0000-7000-8000-000000000001";

async fn logged_in() -> (Fake, Machine) {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    (fake, machine)
}

fn hook(active: bool) -> Value {
    json!({ "id": ID, "app_id": "crm", "entity": "contacts", "operation": "UPDATE", "action_type": "job", "action_config": {},
        "changed_fields": ["stage"], "where": { "score": 1 }, "active": active, "created_by": "u1" })
}

#[tokio::test]
async fn a_hook_is_made_with_its_terms_listed_switched_off_and_removed() {
    let (fake, machine) = logged_in().await;
    let path = format!("/api/v1/apps/crm/hooks/{ID}");
    fake.ok("POST /api/v1/apps/crm/hooks", &hook(true));
    fake.ok("GET /api/v1/apps/crm/hooks?entity=contacts", &json!([hook(false)]));
    fake.ok(&format!("PATCH {path}"), &hook(false));
    fake.ok(&format!("DELETE {path}"), &json!({ "ok": true }));
    let terms = ["--changed", "stage,score", "--where", r#"{"score":1}"#, "--config", r#"{"to":"x"}"#];
    let outcome = machine.weft(&[&["hooks", "create", "crm", "contacts", "update"][..], &terms].concat()).await;
    assert_eq!(outcome.stdout, format!("Created {ID}\n"));
    let sent = json!({ "entity": "contacts", "operation": "update", "action_type": "job", "changed_fields": ["stage", "score"],
        "where": { "score": 1 }, "action_config": { "to": "x" } });
    assert_eq!(fake.request("POST /api/v1/apps/crm/hooks").json(), sent);
    let listed = machine.weft(&["hooks", "list", "crm", "--entity", "contacts"]).await.stdout;
    assert!(listed.contains("disabled; changed stage; {\"score\":1}") && listed.contains(ID), "{listed}");
    assert_eq!(machine.weft(&["hooks", "disable", "crm", ID]).await.stdout, format!("Disabled {ID}\n"));
    assert_eq!(fake.request(&format!("PATCH {path}")).json(), json!({ "active": false }));
    assert_eq!(machine.weft(&["hooks", "rm", "crm", ID]).await.stdout, format!("Deleted {ID}\n"));
}

#[tokio::test]
async fn files_are_listed_linked_and_removed() {
    let (fake, machine) = logged_in().await;
    let path = format!("/api/v1/apps/crm/storage/{ID}");
    let file = json!({ "file_id": ID, "name": "a\u{1b}[2J.txt", "content_type": "text/plain", "size": 2048, "created_at": "2026-01-15T10:30:00Z" });
    fake.ok("GET /api/v1/apps/crm/storage?limit=1", &json!({ "data": [file], "nextCursor": "abc" }));
    fake.reply(
        &format!("POST {path}/download-url"),
        201,
        &json!({ "url": "https://weft/once", "expires_at": "2026-01-15T10:30:00Z" }),
    );
    fake.ok(&format!("DELETE {path}"), &json!({ "deleted": ID }));
    let listed = machine.weft(&["files", "list", "crm", "--limit", "1"]).await.stdout;
    assert!(listed.contains(ID) && listed.contains("More: --cursor abc") && !listed.contains('\u{1b}'), "{listed}");
    assert_eq!(machine.weft(&["files", "link", "crm", ID]).await.stdout, "https://weft/once\n");
    assert_eq!(machine.weft(&["files", "rm", "crm", ID]).await.stdout, format!("Deleted {ID}\n"));
}
