use std::time::Instant;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::Machine;

#[tokio::test]
async fn the_catalog_is_listed_and_deployed_from() {
    let fake = Fake::ready().await;
    let offer = |id: &str, installed: Value| json!({ "id": id, "name": id, "version": "1.2.0", "description": "Things", "actions": [{}, {}], "installedVersion": installed });
    fake.ok("GET /api/v1/integrations/catalog", &json!([offer("slack", json!("1.0.0")), offer("stripe", json!(null))]));
    fake.ok(
        "POST /api/v1/integrations/catalog/stripe/deploy",
        &json!({ "message": "integration 'stripe' deployed", "appId": "stripe", "version": null }),
    );
    fake.ok("GET /api/v1/integrations", &json!([{ "id": "stripe", "configured": true, "missing": [] }]));
    fake.ok("DELETE /api/v1/integrations/catalog/stripe", &json!({ "message": "integration 'stripe' removed" }));
    let machine = Machine::logged_in(&fake);
    let listed = machine.weft(&["catalog"]).await;
    assert!(listed.stdout.contains("slack") && listed.stdout.contains("1.0.0") && listed.stdout.contains("stripe"), "{listed}");
    let deployed = machine.weft(&["catalog", "deploy", "stripe"]).await;
    assert!(deployed.stdout.starts_with("stripe is deployed to "), "{deployed}");
    let removed = machine.weft(&["catalog", "rm", "stripe"]).await;
    assert!(removed.stdout.starts_with("stripe is removed from "), "{removed}");
}

#[tokio::test]
async fn a_folder_is_graded_offline() {
    let machine = Machine::new();
    let manifest = json!({
        "appId": "vendor", "name": "Vendor", "type": "integration", "description": "Things of a vendor",
        "http": { "baseUrl": "https://api.vendor.example" },
        "actions": [{
            "id": "get", "name": "Get", "description": "Reads a thing", "inputSchema": { "properties": { "id": { "type": "string" } } },
            "recipe": { "method": "GET", "path": "/things/{{ input.id }}" },
        }],
    });
    machine.write("vendor/manifest.json", &manifest.to_string());
    let case = json!({
        "name": "reads", "action": "get", "input": { "id": "1" }, "result": { "a": 1 },
        "exchanges": [{ "request": { "method": "GET", "url": "https://api.vendor.example/things/1" }, "answer": { "json": { "a": 1 } } }],
    });
    machine.write("vendor/test/get.json", &case.to_string());
    let passed = machine.run(&["catalog", "test", "vendor"], &[], "").await;
    assert_eq!(passed.code, 0, "{passed}");
    assert!(passed.stdout.starts_with("vendor passes: 1 actions, 1 recorded calls\n"), "{passed}");
    machine.write("vendor/test/get.json", &case.to_string().replace("things/1", "thing/1"));
    let failed = machine.run(&["catalog", "test", "vendor"], &[], "").await;
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.stdout.contains("goes to https://api.vendor.example/things/1"), "{failed}");
    assert!(failed.stderr.contains("1 of 1 integrations do not pass"), "{failed}");
}

fn document(operations: usize) -> Value {
    let mut paths = serde_json::Map::new();
    for n in 0..operations {
        let id = json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } });
        let operation =
            json!({ "operationId": format!("getThing{n}"), "summary": "Get a thing", "parameters": [id], "responses": {} });
        paths.insert(format!("/things{n}/{{id}}"), json!({ "get": operation }));
    }
    json!({ "openapi": "3.1.0", "info": { "title": "Things" }, "servers": [{ "url": "https://things.example/v1" }], "paths": paths })
}

#[tokio::test]
async fn an_openapi_document_is_imported_and_refreshed() {
    let machine = Machine::new();
    machine.write("api.json", &document(2).to_string());
    let imported = machine.weft(&["import", "openapi", "api.json"]).await;
    assert_snapshot!(imported.to_string(), @r"
    exit 0
    --- stdout
    things/manifest.json: 2 actions
    --- stderr
    Next: look over things/manifest.json, then weft deploy things
    ");
    let again = machine.run(&["import", "openapi", "api.json"], &[], "").await;
    assert!(again.code != 0 && again.stderr.contains("--refresh"), "{again}");
    machine.write("api.json", &document(1).to_string());
    let refreshed = machine.weft(&["import", "openapi", "api.json", "--refresh"]).await;
    assert!(
        refreshed.stdout.contains("1 changes, 1 of them breaking\n  breaking: get_thing1 is not there any more"),
        "{refreshed}"
    );
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(machine.path("things/manifest.json")).expect("a file")).expect("JSON");
    assert_eq!((&manifest["version"], manifest["actions"].as_array().map(Vec::len)), (&json!("2.0.0"), Some(1)));
}

#[tokio::test]
async fn a_refresh_names_secrets_as_the_import_did() {
    let machine = Machine::new();
    let mut described = document(1);
    described["security"] = json!([{ "key": [] }]);
    described["components"]["securitySchemes"]["key"] = json!({ "type": "apiKey", "in": "header", "name": "X-Key" });
    machine.write("api.json", &described.to_string());
    machine.weft(&["import", "openapi", "api.json", "--id", "stock"]).await;
    let manifest = || -> Value {
        serde_json::from_str(&std::fs::read_to_string(machine.path("stock/manifest.json")).expect("a file")).expect("JSON")
    };
    let before = manifest();
    assert_eq!(before["configSchema"]["properties"]["api_key"]["platformSecret"], "STOCK_API_KEY");
    let refreshed = machine.weft(&["import", "openapi", "api.json", "--refresh", "--folder", "stock"]).await;
    assert!(refreshed.stdout.contains("0 changes"), "{refreshed}");
    assert_eq!(manifest(), before);
}

#[tokio::test]
async fn a_large_document_is_imported_as_a_whole() {
    let machine = Machine::new();
    machine.write("api.json", &document(900).to_string());
    let begun = Instant::now();
    let imported = machine.weft(&["import", "openapi", "api.json", "--json"]).await;
    eprintln!("900 operations in {:?}", begun.elapsed());
    let result: Value = serde_json::from_str(&imported.stdout).expect("JSON");
    assert_eq!((&result["actions"], &result["leftOut"]), (&json!(900), &json!([])));
}

#[tokio::test]
async fn integrations_are_packed_into_a_signed_index_and_deployed_by_their_digest() {
    let fake = Fake::ready().await;
    fake.ok("POST /api/v1/apps", &json!({ "message": "app 'vendor' installed" }));
    fake.ok("GET /api/v1/integrations", &json!([{ "id": "vendor", "configured": true, "missing": [] }]));
    fake.ok("GET /api/v1/apps/vendor/webhooks", &json!([]));
    let machine = Machine::logged_in(&fake);
    let recipe = json!({ "method": "GET", "path": "/things" });
    let action = json!({ "id": "list", "name": "List", "description": "Lists all things", "effect": "read", "inputSchema": { "type": "object" }, "recipe": recipe });
    let manifest = json!({
        "appId": "vendor", "name": "Vendor", "version": "1.2.0", "type": "integration", "description": "Things of a vendor",
        "http": { "baseUrl": "https://api.vendor.example" }, "actions": [action],
    });
    machine.write("vendor/manifest.json", &manifest.to_string());
    let exchange =
        json!({ "request": { "method": "GET", "url": "https://api.vendor.example/things" }, "answer": { "json": [] } });
    let case = json!({ "name": "lists", "action": "list", "input": {}, "result": [], "exchanges": [exchange] });
    machine.write("vendor/test/list.json", &case.to_string());

    let made = machine.weft(&["catalog", "key", "ours.key"]).await;
    let public = made.stdout.split("key = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned();
    assert!(made.stdout.contains("[[catalog]]") && public.contains('.'), "{made}");
    let again = machine.run(&["catalog", "key", "ours.key"], &[], "").await;
    assert!(again.code != 0 && again.stderr.contains("ours.key"), "a key is never written over: {again}");

    let index = ["catalog", "index", "vendor", "--key", "ours.key", "--out", "site", "--json"];
    let published = machine.weft(&index).await;
    let result: Value = serde_json::from_str(&published.stdout).expect("JSON");
    assert_eq!((&result["publicKey"], &result["integrations"][0]["file"]), (&json!(public), &json!("vendor-1.2.0.tar.gz")));
    assert!(std::fs::read_to_string(machine.path("site/index.jws")).expect("an index").matches('.').count() == 2);
    let digest = result["integrations"][0]["sha256"].as_str().expect("a digest").to_owned();

    let archive = "site/vendor-1.2.0.tar.gz";
    let deployed = machine.weft(&["deploy", archive, "--sha256", &digest]).await;
    assert!(deployed.stdout.starts_with("vendor is installed on "), "{deployed}");
    let wrong = machine.run(&["deploy", archive, "--sha256", &"0".repeat(64)], &[], "").await;
    assert!(wrong.code != 0 && wrong.stderr.contains("not the one that was meant"), "{wrong}");
    let unnamed = machine.run(&["deploy", "https://example.com/vendor.tar.gz"], &[], "").await;
    assert!(unnamed.code != 0 && unnamed.stderr.contains("--sha256"), "{unnamed}");

    // What does not pass is not offered.
    machine.write("vendor/test/list.json", &case.to_string().replace("/things", "/thing"));
    let refused = machine.run(&index, &[], "").await;
    assert!(refused.code != 0 && refused.stderr.contains("does not pass"), "{refused}");
}
