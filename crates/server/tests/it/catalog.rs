//! `/api/v1/integrations/catalog`: what comes with the server, deployed and removed by name.

use serde_json::json;
use weft_testkit::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_lists_deploys_and_removes_what_comes_with_the_server() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    let slack = async |api: &weft_testkit::Api| {
        let listed = api.get("/api/v1/integrations/catalog").await.expect(200).json;
        listed.as_array().expect("a list").iter().find(|entry| entry["id"] == "slack").cloned().expect("slack")
    };
    let offered = slack(&user).await;
    assert_eq!(
        (&offered["name"], &offered["backend"], &offered["installedVersion"]),
        (&json!("Slack"), &json!(true), &json!(null))
    );
    assert!(offered["actions"][0].get("recipe").is_none() && offered["webhooks"].is_array());

    let (deploy, remove) = ("/api/v1/integrations/catalog/slack/deploy", "/api/v1/integrations/catalog/slack");
    user.post(deploy, json!({})).await.expect(403);
    user.delete(remove).await.expect(403);
    let unknown = admin.post("/api/v1/integrations/catalog/slick/deploy", json!({})).await.expect(404);
    assert!(unknown.text("/error").contains("'slick' not found"), "{unknown:?}");
    admin.delete("/api/v1/integrations/catalog/slick").await.expect(404);

    let deployed = admin.post(deploy, json!({})).await.expect(200);
    assert_eq!(deployed.json, json!({ "message": "integration 'slack' deployed and started", "appId": "slack", "version": 1 }));
    assert_eq!(slack(&user).await["installedVersion"], offered["version"]);
    let installed = admin.get("/api/v1/integrations").await.expect(200);
    assert_eq!((installed.value("/0/id"), installed.value("/0/deployed")), (json!("slack"), json!(true)));
    admin.put("/api/v1/integrations/slack/config", json!({ "botToken": "xoxb-1" })).await.expect(200);
    admin.post("/api/v1/platform/secrets", json!({ "key": "OTHER", "value": "stays" })).await.expect(200);
    assert_eq!(admin.post(deploy, json!({})).await.expect(200).value("/version"), json!(2));

    admin.delete(remove).await.expect(200);
    assert_eq!(admin.get("/api/v1/integrations").await.expect(200).json, json!([]));
    assert_eq!(admin.get("/api/v1/platform/secrets").await.expect(200).json, json!(["OTHER"]));
    assert_eq!(admin.delete(remove).await.expect(200).text("/message"), "integration 'slack' removed");
}
