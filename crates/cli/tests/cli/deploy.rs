use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::Machine;

pub fn manifest() -> Value {
    json!({
        "appId": "slack", "name": "Slack", "version": "1.0.0", "type": "integration", "vendorExtra": { "kept": true },
        "actions": [{ "id": "send_message", "name": "Send" }]
    })
}

/// A server that accepts the integration `slack`.
pub async fn server(configured: bool) -> Fake {
    let fake = Fake::ready().await;
    fake.ok("POST /api/v1/apps", &json!({ "message": "app 'slack' installed" }));
    fake.ok("POST /api/v1/apps/slack/deploy", &json!({ "message": "deployed", "version": 3, "migrationsApplied": [] }));
    let hook = json!({ "id": "h1", "name": "message", "method": "POST", "prefix": "abc", "url": "/api/v1/hooks/abcdef" });
    fake.ok("GET /api/v1/apps/slack/webhooks", &json!([hook]));
    let missing = if configured { json!([]) } else { json!(["botToken"]) };
    fake.ok("GET /api/v1/integrations", &json!([{ "id": "slack", "configured": configured, "missing": missing }]));
    fake
}

pub fn project(machine: &Machine) {
    machine.write("slack/manifest.json", &manifest().to_string());
    machine.write("slack/backend/index.ts", "defineIntegration({});\n");
}

#[tokio::test]
async fn an_integration_is_shipped_and_told_what_is_missing() {
    let fake = server(false).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    assert_snapshot!(machine.weft(&["deploy", "slack"]).await.shown(&fake));
    let parts = fake.request("POST /api/v1/apps/slack/deploy").parts().await;
    let kinds: Vec<_> = parts.iter().map(|(name, kind, _)| (name.as_str(), kind.as_str())).collect();
    assert_eq!(kinds, [("manifest", "application/json"), ("archive", "application/gzip")], "in one request");
    assert_eq!(serde_json::from_slice::<Value>(&parts[0].2).expect("JSON"), manifest(), "the manifest travels unchanged");
    assert!(!parts[1].2.is_empty());
}

#[tokio::test]
async fn a_configured_integration_is_ready_to_call() {
    let fake = server(true).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let outcome = machine.weft(&["deploy", "slack"]).await;
    assert!(outcome.stderr.ends_with("Next: weft call slack send_message '{…}'\n"), "{outcome}");
}

#[tokio::test]
async fn json_mode_prints_one_object_only() {
    let fake = server(false).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    let outcome = machine.weft(&["--json", "deploy", "slack"]).await;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let body = outcome.json();
    assert_eq!(body["webhooks"], json!([{ "name": "message", "url": format!("{}/api/v1/hooks/abcdef", fake.url) }]));
    assert_eq!((&body["configured"], &body["missing"]), (&json!(false), &json!(["botToken"])));
}

#[tokio::test]
async fn a_project_without_backend_installs_its_manifest() {
    let fake = server(true).await;
    let machine = Machine::logged_in(&fake);
    machine.write("crm/manifest.json", r#"{"appId":"crm","name":"CRM","version":"2.0.0"}"#);
    assert_snapshot!(machine.weft(&["deploy", "crm"]).await.shown(&fake));
    assert_eq!(fake.lines(), ["POST /api/v1/apps/schema/verify", "POST /api/v1/apps"]);
}

#[tokio::test]
async fn a_backend_that_does_not_start_fails_the_command() {
    let fake = Fake::ready().await;
    let problem = json!({ "error": "the backend does not start: index.ts: Unexpected end of file", "code": "deploy_failed", "traceId": "t1" });
    fake.reply("POST /api/v1/apps/slack/deploy", 422, &problem);
    let machine = Machine::logged_in(&fake);
    project(&machine);
    assert_snapshot!(machine.weft(&["deploy", "slack"]).await.shown(&fake));
}

#[tokio::test]
async fn a_refused_manifest_shows_every_fault() {
    let fake = Fake::ready().await;
    let errors =
        json!([{ "path": "$.actions[0].name", "message": "is required" }, { "path": "$.icon", "message": "must be a string" }]);
    fake.reply(
        "POST /api/v1/apps/slack/deploy",
        400,
        &json!({ "error": "the manifest breaks its rules", "errors": errors, "traceId": "t2" }),
    );
    let machine = Machine::logged_in(&fake);
    project(&machine);
    assert_snapshot!(machine.weft(&["deploy", "slack"]).await.shown(&fake));
}

#[tokio::test]
async fn a_broken_manifest_is_shown_where_it_breaks() {
    let fake = server(true).await;
    let machine = Machine::logged_in(&fake);
    machine.write("manifest.json", "{\n  \"appId\": \"crm\"\n  \"name\": \"CRM\"\n}\n");
    assert_snapshot!(machine.weft(&["deploy"]).await);
    machine.write("manifest.json", r#"{"name":"CRM"}"#);
    assert_snapshot!(machine.weft(&["deploy"]).await);
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_folder_without_manifest_suggests_init() {
    let machine = Machine::new();
    assert_snapshot!(machine.weft(&["deploy"]).await);
}

#[tokio::test]
async fn deploying_needs_a_login() {
    let machine = Machine::new();
    project(&machine);
    assert_snapshot!(machine.weft(&["deploy", "slack"]).await);
}

fn with_data() -> Value {
    json!({ "appId": "slack", "name": "Slack", "version": "1.0.0", "dataContract": [{ "entityName": "notes", "fields": [] }] })
}

fn planned(loss: &Value) -> Value {
    let change = |kind: &str, column: &str, loss: &Value| json!({ "entity": "notes", "change_type": kind, "column": column, "detail": null, "loss": loss });
    json!({ "compliant": false, "changes": [change("add_column", "title", &json!(null)), change("drop_column", "body", loss)], "obstacles": [] })
}

#[tokio::test]
async fn what_loses_data_is_shown_and_not_done_without_a_yes() {
    let fake = server(true).await;
    fake.ok("POST /api/v1/apps?acceptLoss=true", &json!({ "message": "app 'slack' installed" }));
    fake.ok("POST /api/v1/apps/schema/verify", &planned(&json!("the values of 'body' in every record of 'notes'")));
    let machine = Machine::logged_in(&fake);
    machine.write("slack/manifest.json", &with_data().to_string());
    assert_snapshot!(machine.weft(&["deploy", "slack"]).await.shown(&fake));
    assert!(!fake.lines().iter().any(|line| line.starts_with("POST /api/v1/apps?")), "nothing is installed");
    let agreed = machine.weft(&["deploy", "slack", "--yes"]).await;
    assert!(agreed.stdout.contains("slack is installed on"), "{agreed}");
    assert_eq!(fake.request("POST /api/v1/apps?acceptLoss=true").json(), with_data());
}

#[tokio::test]
async fn what_loses_nothing_is_shown_and_done() {
    let fake = server(true).await;
    fake.ok("POST /api/v1/apps/schema/verify", &planned(&json!(null)));
    let machine = Machine::logged_in(&fake);
    machine.write("slack/manifest.json", &with_data().to_string());
    let outcome = machine.weft(&["deploy", "slack"]).await;
    assert!(outcome.stderr.contains("add column notes.title"), "{outcome}");
    assert_eq!(fake.request("POST /api/v1/apps").json(), with_data());
}

/// A project with pages, and a server that takes it.
async fn with_pages(machine: impl FnOnce(&Fake) -> Machine) -> (Fake, Machine) {
    let fake = Fake::ready().await;
    fake.ok("POST /api/v1/apps/crm/deploy", &json!({ "message": "deployed", "version": 1, "migrationsApplied": [] }));
    fake.ok("POST /api/v1/apps/crm/frontend", &json!({ "message": "deployed", "url": "/apps/crm/", "files": 1 }));
    let machine = machine(&fake);
    machine.write("crm/manifest.json", r#"{"appId":"crm","name":"CRM","version":"2.0.0"}"#);
    machine.write("crm/backend/index.ts", "serve({ rpc: {} });\n");
    (fake, machine)
}

/// The files of the archive that was sent.
async fn shipped(fake: &Fake) -> Vec<(String, String)> {
    let parts = fake.request("POST /api/v1/apps/crm/frontend").parts().await;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(parts[0].2.as_ref()));
    let entries = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("an entry");
        let (name, mut text) = (entry.path().expect("a name").display().to_string(), String::new());
        std::io::Read::read_to_string(&mut entry, &mut text).expect("a text");
        (name, text.trim().to_owned())
    });
    entries.collect()
}

#[tokio::test]
async fn pages_are_built_for_their_address_and_shipped_after_the_backend() {
    let (fake, machine) = with_pages(Machine::logged_in).await;
    machine.write("crm/package.json", r#"{"scripts":{"build":"mkdir -p dist && echo \"$WEFT_BASE\" > dist/index.html"}}"#);
    machine.write("crm/package-lock.json", "{}");
    machine.write("crm/node_modules/.keep", "");
    let outcome = machine.weft(&["deploy", "crm"]).await;
    assert!(outcome.stdout.contains(&format!("frontend: {}/apps/crm/", fake.url)), "{outcome}");
    let (verified, sent) = ("POST /api/v1/apps/schema/verify", "POST /api/v1/apps/crm/frontend");
    assert_eq!(fake.lines(), [verified, "POST /api/v1/apps/crm/deploy", sent]);
    assert_eq!(shipped(&fake).await, [("index.html".to_owned(), "/apps/crm/".to_owned())]);
}

#[tokio::test]
async fn pages_that_are_there_are_shipped_as_they_are_when_asked() {
    let (fake, machine) = with_pages(Machine::logged_in).await;
    machine.write("crm/package.json", r#"{"scripts":{"build":"exit 1"}}"#);
    machine.write("crm/package-lock.json", "{}");
    machine.write("crm/node_modules/.keep", "");
    machine.write("crm/dist/index.html", "made by hand");
    let failed = machine.weft(&["deploy", "crm"]).await;
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.stderr.contains("`npm run build` failed") && failed.stderr.contains("--no-build"), "{failed}");
    assert_eq!(fake.lines(), [""; 0], "nothing is sent before everything is there");
    assert_eq!(machine.weft(&["deploy", "crm", "--no-build"]).await.code, 0);
    assert_eq!(shipped(&fake).await, [("index.html".to_owned(), "made by hand".to_owned())]);
}
