//! `/api/v1/integrations` and their configuration.

use serde_json::{Value, json};
use weft_testkit::{Api, TestServer};

use crate::fixtures::{app, fault_paths, integration, with};

const BACKEND: &str = "defineIntegration({ actions: { config: (_, ctx) => ctx.config } });";

fn manifest() -> Value {
    with(
        integration("mail", &["config"]),
        json!({
            "instructions": "Use it gently.",
            "webhooks": ["push", { "name": "pull", "method": "onPull" }],
            "configSchema": {
                "type": "object",
                "properties": {
                    "token": { "type": "string", "minLength": 3, "platformSecret": "MAIL_TOKEN" },
                    "account": { "type": "string" },
                    "port": { "type": "integer", "default": 993 },
                    "modify": { "type": "boolean" },
                },
                "required": ["token", "account"],
            },
        }),
    )
}

async fn save(api: &Api, config: Value) -> Value {
    api.put("/api/v1/integrations/mail/config", config).await.expect(200).json
}

async fn seen_by_backend(api: &Api) -> Value {
    api.call("mail", "config", json!({})).await.expect(200).json
}

#[tokio::test(flavor = "multi_thread")]
async fn integrations_are_listed_with_what_they_offer_and_what_they_lack() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    assert_eq!(user.get("/api/v1/integrations").await.expect(200).json, json!([]));
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    admin.post("/api/v1/apps", manifest()).await.expect(200);
    admin.post("/api/v1/apps", integration("chat", &["ping"])).await.expect(200);

    let list = user.get("/api/v1/integrations").await.expect(200);
    let of = |index: usize, member: &str| list.value(&format!("/{index}/{member}"));
    assert_eq!((of(0, "id"), of(0, "configured"), of(0, "missing")), (json!("chat"), json!(true), json!([])));
    assert_eq!((of(1, "id"), of(1, "configured"), of(1, "deployed")), (json!("mail"), json!(false), json!(false)));
    assert_eq!(of(1, "missing"), json!(["token", "account"]));
    assert_eq!(of(1, "webhooks"), json!(["push", "pull"]));
    assert_eq!(of(1, "instructions"), "Use it gently.");
    assert_eq!(of(1, "configSchema"), manifest()["configSchema"]);
    assert_eq!(list.text("/1/actions/0/id"), "config");
    assert_eq!(of(2, "id"), Value::Null);
    server.anonymous().get("/api/v1/integrations").await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_saved_piece_by_piece_and_reaches_the_backend() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    let saved = save(&admin, json!({ "token": "canary-1" })).await;
    assert_eq!(saved, json!({ "message": "config saved", "configured": false, "missing": ["account"] }));
    let saved = save(&admin, json!({ "account": "me", "modify": false })).await;
    assert_eq!(saved, json!({ "message": "config saved", "configured": true, "missing": [] }));
    let expected = json!({ "token": "canary-1", "account": "me", "modify": false, "port": 993 });
    assert_eq!(seen_by_backend(&admin).await, expected);

    save(&admin, json!({ "port": 143, "modify": null, "account": "you" })).await;
    let expected = json!({ "token": "canary-1", "account": "you", "port": 143 });
    assert_eq!(seen_by_backend(&admin).await, expected);
    let list = admin.get("/api/v1/integrations").await.expect(200);
    assert!(!list.json.to_string().contains("canary-1"), "{list:?}");

    server.restart().await;
    assert_eq!(seen_by_backend(&admin.at(server.url())).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn null_or_nothing_removes_a_field() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    for nothing in [Value::Null, json!("")] {
        save(&admin, json!({ "token": "secret", "account": "me" })).await;
        let saved = save(&admin, json!({ "token": nothing, "account": nothing })).await;
        assert_eq!(saved["missing"], json!(["token", "account"]));
        assert_eq!(admin.call("mail", "config", json!({})).await.expect(409).code(), "not_configured");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_configuration_are_named_without_repeating_its_values() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    let given = json!({ "tokne": "canary-1", "port": "canary-2", "modify": "canary-3", "token": 42_421, "account": "me" });
    let refused = admin.put("/api/v1/integrations/mail/config", given).await.expect(400);
    assert_eq!(refused.code(), "validation_failed");
    assert_eq!(fault_paths(&refused), ["$.modify", "$.port", "$.token", "$.tokne"]);
    let text = refused.json.to_string();
    assert!(!text.contains("canary") && !text.contains("42421"), "{text}");
    assert!(text.contains("this integration has: account, modify, port, token"), "{text}");
    let list = admin.get("/api/v1/integrations").await.expect(200);
    assert_eq!(list.value("/0/missing"), json!(["token", "account"]), "nothing of a refused configuration is saved");
    admin.put("/api/v1/integrations/mail/config", json!(["token"])).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn configuring_needs_the_right_for_all_integrations_or_for_this_one() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    admin.post("/api/v1/apps", manifest()).await.expect(200);
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    let path = "/api/v1/integrations/mail/config";
    for useless in [&[][..], &["integration:mail:config", "integration:other:manage", "admin:secrets.manage"]] {
        server.grant(&admin, &user, useless).await;
        let refused = user.put(path, json!({ "account": "me" })).await.expect(403);
        assert!(refused.text("/error").contains("admin:integrations.configure or integration:mail:manage"), "{refused:?}");
    }
    for enough in ["admin:integrations.configure", "integration:mail:manage", "integration:mail:*"] {
        server.grant(&admin, &user, &[enough]).await;
        user.put(path, json!({ "account": "me" })).await.expect(200);
    }
    for id in ["crm", "gone"] {
        let unknown = admin.put(&format!("/api/v1/integrations/{id}/config"), json!({})).await.expect(404);
        assert_eq!(unknown.text("/error"), format!("integration '{id}' not found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bind_returns_becomes_part_of_the_configuration() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "defineIntegration({
        actions: { config: (_, ctx) => ctx.config },
        bind: ({ config }) => config.account === 'plain' ? undefined
            : { mergeConfig: { webhookSecret: `whsec-${config.token}`, modify: true } },
    });";
    server.deploy(&admin, &manifest(), backend).await;
    save(&admin, json!({ "token": "abc", "account": "me" })).await;
    let expected = json!({ "token": "abc", "account": "me", "port": 993, "modify": true, "webhookSecret": "whsec-abc" });
    assert_eq!(seen_by_backend(&admin).await, expected);
    save(&admin, json!({ "account": "plain" })).await;
    assert_eq!(seen_by_backend(&admin).await, with(expected, json!({ "account": "plain" })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_bind_is_reported_and_the_configuration_kept() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "defineIntegration({
        actions: { config: (_, ctx) => ctx.config },
        bind: ({ config }) => {
            if (config.account === 'odd') return { mergeConfig: 'all of it' };
            if (config.account !== 'me') throw new Error('the vendor does not know this account');
        },
    });";
    server.deploy(&admin, &manifest(), backend).await;
    for (account, reason) in [("you", "the vendor does not know this account"), ("odd", "mergeConfig")] {
        let config = json!({ "token": "abc", "account": account });
        let failed = admin.put("/api/v1/integrations/mail/config", config).await.expect(502);
        assert_eq!(failed.code(), "action_failed");
        let error = failed.text("/error");
        assert!(error.contains("was saved") && error.contains(reason), "{error}");
        assert_eq!(seen_by_backend(&admin).await["account"], account);
    }
    save(&admin, json!({ "account": "me" })).await;
}
