//! `/api/v1/integrations/catalog`: what comes with the server and what signed indexes list, deployed and removed by name.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use chrono::{DateTime, Duration, Utc};
use serde_json::json;
use tokio::net::TcpListener;
use weft_attest::SigningKey;
use weft_catalog::{Folder, Index, Listed, Package};
use weft_testkit::TestServer;

use crate::fixtures::{eventually, integration, with};

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

/// A folder of files on the web; files can be changed while it is served.
struct Site {
    address: String,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Site {
    async fn start() -> Self {
        let files = Arc::new(Mutex::new(BTreeMap::<String, Vec<u8>>::new()));
        let served = Arc::clone(&files);
        let route = get(async move |Path(name): Path<String>| {
            served.lock().expect("no panics").get(&name).cloned().ok_or(StatusCode::NOT_FOUND)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/{name}", route)).await });
        Self { address, files }
    }

    fn put(&self, name: &str, content: impl Into<Vec<u8>>) {
        self.files.lock().expect("no panics").insert(name.to_owned(), content.into());
    }
}

/// An integration with a backend that says which version it is.
fn package(version: &str) -> Package {
    let manifest = with(integration("greeter", &["greet"]), json!({ "version": version }));
    let backend = format!("defineIntegration({{ actions: {{ greet: () => 'hello from {version}' }} }});");
    let files = [("manifest.json", manifest.to_string()), ("backend/index.ts", backend)];
    let files = files.map(|(path, content)| (path.to_owned(), content.into_bytes()));
    Package::of(Folder(BTreeMap::from(files))).expect("a manifest")
}

fn index(listed: Vec<Listed>, issued_at: DateTime<Utc>) -> Index {
    Index { name: "Ours".to_owned(), issued_at, expires_at: issued_at + Duration::days(30), integrations: listed }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_signed_index_lists_is_deployed_only_if_it_is_what_was_signed() {
    let (site, key) = (Site::start().await, SigningKey::generate());
    let settings = format!(
        "egress_allow = [\"127.0.0.1\"]\n[[catalog]]\nurl = \"{}/index.jws\"\nkey = \"{}\"\n",
        site.address,
        key.public()
    );
    let server = TestServer::start_with_file(&settings).await;
    let (admin, now) = (server.user("admin").await, server.clock.now());
    let deploy = "/api/v1/integrations/catalog/greeter/deploy";
    let greeter = async |api: &weft_testkit::Api| {
        let listed = api.get("/api/v1/integrations/catalog").await.expect(200).json;
        listed.as_array().expect("a list").iter().find(|entry| entry["id"] == "greeter").cloned()
    };
    // What an index might list is not said to be unknown while that cannot be read.
    let unread = admin.post(deploy, json!({})).await.expect(502);
    assert!(unread.text("/error").contains("/index.jws: it was answered with 404"), "{unread:?}");

    let (first, second) = (package("1.0.0"), package("2.0.0"));
    let (archive, newer) = (first.whole().expect("packed"), second.whole().expect("packed"));
    site.put("greeter.tar.gz", archive.clone());
    let signed = index(vec![Listed::new(&first, "greeter.tar.gz", &archive)], now);
    // A list that somebody else signed is none.
    site.put("index.jws", signed.sign(&SigningKey::generate()));
    server.advance(Duration::minutes(1));
    let foreign = admin.post(deploy, json!({})).await.expect(400);
    assert!(foreign.text("/error").contains("not signed by the key"), "{foreign:?}");

    site.put("index.jws", signed.sign(&key));
    server.advance(Duration::minutes(1));
    let state = async |api: &weft_testkit::Api| api.get("/api/v1/integrations/catalog-indexes").await.expect(200).value("/0");
    assert!(state(&admin).await["fault"].as_str().is_some_and(|fault| fault.contains("not signed by the key")));
    // Looking does not wait for another server; what it says is in one of the next lists.
    admin.get("/api/v1/integrations/catalog?refresh=true").await.expect(200);
    let offered = eventually("the index is read", async || greeter(&admin).await).await;
    let known = state(&admin).await;
    assert_eq!((&known["name"], &known["integrations"], &known["fault"]), (&json!("Ours"), &json!(1), &json!(null)));
    assert_eq!((&offered["version"], &offered["index"]), (&json!("1.0.0"), &json!(format!("{}/index.jws", site.address))));
    // An archive that was exchanged is not taken, whatever it holds.
    site.put("greeter.tar.gz", newer);
    let exchanged = admin.post(deploy, json!({})).await.expect(400);
    assert!(exchanged.text("/error").contains("not the one that was meant"), "{exchanged:?}");
    assert_eq!(admin.get("/api/v1/integrations").await.expect(200).json, json!([]));
    site.put("greeter.tar.gz", archive);
    assert_eq!(admin.post(deploy, json!({})).await.expect(200).value("/version"), json!(1));
    assert_eq!(admin.call("greeter", "greet", json!({})).await.expect(200).json, json!("hello from 1.0.0"));
    assert_eq!(greeter(&admin).await.expect("listed")["installedVersion"], "1.0.0");
    admin.delete("/api/v1/integrations/catalog/greeter").await.expect(200);
    assert_eq!(admin.get("/api/v1/integrations").await.expect(200).json, json!([]));
    // What was read stays when it cannot be read again, and says so.
    let again = async |file: Option<String>| {
        match file {
            Some(file) => site.put("index.jws", file),
            None => _ = site.files.lock().expect("no panics").remove("index.jws"),
        }
        server.advance(Duration::minutes(1));
        let asked = state(&admin).await["askedAt"].clone();
        admin.get("/api/v1/integrations/catalog-indexes?refresh=true").await.expect(200);
        eventually("it was asked for again", async || (state(&admin).await["askedAt"] != asked).then_some(())).await;
        greeter(&admin).await.expect("listed")
    };
    let kept = again(None).await;
    assert_eq!((&kept["indexReadAt"], &kept["indexFault"]), (&offered["indexReadAt"], &json!("it was answered with 404")));
    // An older list is not taken back, and every list has an end.
    let older = again(Some(index(Vec::new(), now - Duration::days(1)).sign(&key))).await;
    assert_eq!(older["indexFault"], json!(null));
    server.advance(Duration::days(31));
    assert_eq!(greeter(&server.login("admin@example.com").await).await, None);
}
