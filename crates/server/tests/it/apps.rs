//! `/api/v1/apps`: installing, listing, removing.

use serde_json::{Value, json};
use weft_testkit::{Api, TestServer};

use crate::fixtures::{app, fault_paths, integration, with};

const BACKEND: &str =
    "defineIntegration({ actions: { ping: () => 'pong' }, webhooks: { a: () => 'a', b: () => 'b', c: () => 'c' } });";

fn crm() -> Value {
    with(
        app("crm"),
        json!({
            "description": "Customers",
            "dataContract": [
                { "entityName": "contacts", "fields": [{ "name": "email", "type": "text" }] },
                { "entityName": "deals", "fields": [{ "name": "amount", "type": "number" }] },
            ],
            "permissions": { "permissions": [{ "key": "export", "description": "Export everything" }] },
            "actions": [{ "id": "score", "name": "Score" }],
        }),
    )
}

async fn webhook_url(api: &Api, app: &str, name: &str) -> Option<String> {
    let list = api.get(&format!("/api/v1/apps/{app}/webhooks")).await.expect(200).json;
    let webhook = list.as_array()?.iter().find(|webhook| webhook["name"] == name)?;
    webhook["url"].as_str().map(str::to_owned)
}

async fn available(api: &Api) -> Vec<String> {
    let list = api.get("/api/v1/permissions/available").await.expect(200).json;
    let keys = list.as_array().into_iter().flatten().filter_map(|permission| permission["key"].as_str());
    keys.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_apps_are_listed_with_their_type_and_entities() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let answer = admin.post("/api/v1/apps", crm()).await.expect(200);
    assert_eq!(answer.json, json!({ "message": "app 'crm' installed" }));
    admin.post("/api/v1/apps", integration("chat", &["ping"])).await.expect(200);

    let chat = json!({
        "id": "chat", "name": "chat", "version": "1.0.0", "status": "installed", "type": "integration",
        "entities": [], "deployed": false, "hasFrontend": false,
    });
    let crm = json!({
        "id": "crm", "name": "crm", "version": "1.0.0", "status": "installed", "type": "app",
        "entities": ["contacts", "deals"], "deployed": false, "hasFrontend": false,
    });
    assert_eq!(admin.get("/api/v1/apps").await.expect(200).json, json!([chat, crm]));
    assert_eq!(admin.get("/api/v1/apps?type=integration").await.expect(200).json, json!([chat]));
    assert_eq!(admin.get("/api/v1/apps?type=agent").await.expect(200).json, json!([]));
    assert_eq!(admin.get("/api/v1/apps?type=plugin").await.expect(400).code(), "invalid_request");
    server.anonymous().get("/api/v1/apps").await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_shown_with_the_manifest_that_was_sent() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let manifest = with(crm(), json!({ "unknownKey": { "kept": true } }));
    admin.post("/api/v1/apps", manifest.clone()).await.expect(200);
    let shown = admin.get("/api/v1/apps/crm").await.expect(200);
    assert_eq!(shown.value("/manifest"), manifest);
    assert_eq!(shown.value("/dataContract"), manifest["dataContract"]);
    assert_eq!(shown.value("/description"), "Customers");
    assert_eq!(shown.value("/deploymentId"), Value::Null);
    assert_eq!(admin.get("/api/v1/apps/nothing").await.expect(404).text("/error"), "app 'nothing' not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn installing_again_replaces_the_manifest_and_keeps_the_addresses_of_webhooks_that_stay() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let first = with(integration("chat", &["ping"]), json!({ "webhooks": ["a", "b"] }));
    server.deploy(&admin, &first, BACKEND).await;
    let (a, b) = (webhook_url(&admin, "chat", "a").await, webhook_url(&admin, "chat", "b").await.expect("declared"));
    server.anonymous().post(&b, json!({})).await.expect(200);

    let second = with(first, json!({ "name": "Chat", "version": "2.0.0", "webhooks": ["a", "c"] }));
    admin.post("/api/v1/apps", second).await.expect(200);
    let shown = admin.get("/api/v1/apps/chat").await.expect(200);
    assert_eq!((shown.text("/name"), shown.text("/version")), ("Chat".to_owned(), "2.0.0".to_owned()));
    assert_eq!(webhook_url(&admin, "chat", "a").await, a);
    assert_eq!(webhook_url(&admin, "chat", "b").await, None);
    server.anonymous().post(&b, json!({})).await.expect(404);
    let c = webhook_url(&admin, "chat", "c").await.expect("declared");
    assert_eq!(server.anonymous().post(&c, json!({})).await.expect(200).json, "c");
    assert_eq!(admin.call("chat", "ping", json!({})).await.expect(200).json, "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_manifest_is_reported_with_its_path_and_reason() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let wrong_shape = json!({
        "appId": "My-App",
        "name": 5,
        "type": "plugin",
        "actions": [{ "id": "Send", "name": "Send" }, { "name": "x", "id": "y", "timeoutSeconds": 0 }],
        "webhooks": ["Not A Name"],
    });
    let broken_rules = json!({
        "appId": "crm", "name": "CRM", "icon": "../icon.svg", "webhooks": ["a", "a"],
        "actions": [{ "id": "a", "name": "A", "inputSchema": { "type": "strnig" } }, { "id": "a", "name": "B" }],
        "dataContract": [{ "entityName": "deals", "fields": [
            { "name": "company", "type": "entity_link", "references": { "entity": "companies" } },
        ] }],
    });
    for (manifest, paths) in [
        (wrong_shape, vec!["$.actions[0].id", "$.actions[1].timeoutSeconds", "$.appId", "$.name", "$.type", "$.webhooks[0]"]),
        (
            broken_rules,
            vec![
                "$.actions[0].inputSchema",
                "$.actions[1].id",
                "$.dataContract[0].fields[0].references.entity",
                "$.icon",
                "$.webhooks[1].name",
            ],
        ),
        (json!({}), vec!["$", "$"]),
        (json!([]), vec!["$"]),
    ] {
        let answer = admin.post("/api/v1/apps", manifest).await.expect(400);
        assert_eq!(answer.code(), "validation_failed");
        assert_eq!(fault_paths(&answer), paths, "{answer:?}");
        for fault in answer.value("/errors").as_array().into_iter().flatten() {
            let message = fault["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty() && answer.text("/error").contains(message), "{fault} in {answer:?}");
        }
    }
    assert_eq!(admin.get("/api/v1/apps").await.expect(200).json, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn app_ids_of_the_platform_itself_are_refused() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    for id in ["core", "public", "information_schema", "weft", "weft_x", "pg_catalog", "default", "catalog"] {
        let answer = admin.post("/api/v1/apps", app(id)).await.expect(400);
        assert_eq!(fault_paths(&answer), ["$.appId"], "{id}");
        assert!(answer.text("/error").contains("reserved"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installing_and_removing_need_their_rights() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    let refused = user.post("/api/v1/apps", app("crm")).await.expect(403);
    assert!(refused.text("/error").contains("admin:apps.install or platform:apps.create"), "{refused:?}");
    server.anonymous().post("/api/v1/apps", app("crm")).await.expect(401);

    server.grant(&admin, &user, &["platform:apps.create"]).await;
    user.post("/api/v1/apps", app("crm")).await.expect(200);
    let refused = user.delete("/api/v1/apps/crm").await.expect(403);
    assert!(refused.text("/error").contains("admin:apps.install"), "{refused:?}");

    server.grant(&admin, &user, &["admin:apps.install"]).await;
    user.post("/api/v1/apps", app("shop")).await.expect(200);
    user.delete("/api/v1/apps/crm").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_create_apps_is_none_to_replace_those_of_others() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    server.grant(&admin, &user, &["platform:apps.create"]).await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    let refused = user.post("/api/v1/apps", with(app("crm"), json!({ "name": "Mine" }))).await.expect(403);
    assert!(refused.text("/error").contains("admin:apps.install"), "{refused:?}");
    assert_eq!(admin.get("/api/v1/apps/crm").await.expect(200).text("/name"), "crm");
    assert_eq!(user.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["platform:apps.create"]));

    user.post("/api/v1/apps", app("shop")).await.expect(200);
    user.post("/api/v1/apps", with(app("shop"), json!({ "name": "My Shop" }))).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_of_an_app_can_be_granted_and_whoever_installs_it_holds_them() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    server.grant(&admin, &user, &["platform:apps.create"]).await;
    user.post("/api/v1/apps", crm()).await.expect(200);
    user.post("/api/v1/apps", integration("chat", &["ping", "send"])).await.expect(200);
    let expected = [
        "app:crm:invoke",
        "app:crm:webhook.read",
        "app:crm:cron.read",
        "app:crm:cron.write",
        "app:crm:cron.trigger",
        "app:crm:contacts.create",
        "app:crm:contacts.read",
        "app:crm:contacts.update",
        "app:crm:contacts.delete",
        "app:crm:deals.read",
        "app:crm:action:score",
        "app:crm:export",
        "app:chat:invoke",
        "integration:chat:ping",
        "integration:chat:send",
        "integration:chat:manage",
    ];
    for (who, keys) in [("admin", available(&admin).await), ("user", available(&user).await)] {
        for key in expected {
            assert!(keys.iter().any(|found| found == key), "{who}: {key} in {keys:?}");
        }
        assert!(!keys.iter().any(|key| key.starts_with("integration:crm:")), "{who}: {keys:?}");
    }

    user.post("/api/v1/apps", integration("chat", &["send"])).await.expect(200);
    assert!(!available(&admin).await.contains(&"integration:chat:ping".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_leaves_nothing_but_the_runs() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let manifest = with(
        integration("chat", &["ping"]),
        json!({ "webhooks": ["a"], "configSchema": { "properties": { "region": { "type": "string" } } } }),
    );
    server.deploy(&admin, &manifest, BACKEND).await;
    let url = webhook_url(&admin, "chat", "a").await.expect("declared");
    admin.post("/api/v1/apps/chat/secrets", json!({ "key": "TOKEN", "value": "t" })).await.expect(200);
    admin.put("/api/v1/integrations/chat/config", json!({ "region": "eu" })).await.expect(200);
    admin.call("chat", "ping", json!({})).await.expect(200);
    admin.runs("chat", 1).await;
    assert!(server.data_path("apps/chat").is_dir());

    let removed = admin.delete("/api/v1/apps/chat").await.expect(200);
    assert_eq!(removed.json, json!({ "message": "app 'chat' uninstalled" }));
    admin.get("/api/v1/apps/chat").await.expect(404);
    admin.get("/api/v1/apps/chat/worker/status").await.expect(404);
    admin.get("/api/v1/apps/chat/secrets").await.expect(404);
    admin.call("chat", "ping", json!({})).await.expect(404);
    server.anonymous().post(&url, json!({})).await.expect(404);
    assert_eq!(admin.get("/api/v1/integrations").await.expect(200).json, json!([]));
    assert!(!available(&admin).await.iter().any(|key| key.contains(":chat:")));
    let roles = admin.get("/api/v1/roles").await.expect(200).json.to_string();
    assert!(!roles.contains("app:chat"), "{roles}");
    assert!(!server.data_path("apps/chat").exists());
    assert_eq!(admin.runs("chat", 1).await.len(), 1);

    admin.post("/api/v1/apps", manifest).await.expect(200);
    assert_eq!(admin.get("/api/v1/apps/chat/secrets").await.expect(200).json, json!([]));
    assert_eq!(admin.get("/api/v1/apps/chat").await.expect(200).value("/deploymentId"), Value::Null);
    assert_ne!(webhook_url(&admin, "chat", "a").await, Some(url));
    assert_eq!(admin.call("chat", "ping", json!({})).await.expect(409).code(), "not_deployed");
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_what_is_not_there_succeeds() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    for id in ["crm", "crm", "never_installed"] {
        admin.delete(&format!("/api/v1/apps/{id}")).await.expect(200);
    }
}
