//! `/api/v1/apps/{app_id}/versions` and `/rollback`: what was deployed, and going back to it.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weft_testkit::{
    Answer, Api, TestServer,
    api::{archive, upload},
};

use crate::fixtures::{Calling, eventually, integration, with};

fn backend(version: &str) -> String {
    format!(
        "if (process.env.BROKEN === '{version}') throw new Error('broken by now');
         defineIntegration({{ actions: {{ version: () => '{version}', manifest: (_, ctx) => ctx.manifest.version, old: () => 1, new: () => 2 }} }});"
    )
}

/// The manifest of a version; each has an action of its own besides those that all have.
fn manifest(version: &str, own: &str) -> Value {
    with(integration("chat", &["version", "manifest", own]), json!({ "version": version, "webhooks": ["push", own] }))
}

/// Installs a manifest and deploys the code that goes with it.
async fn release(api: &Api, version: &str, own: &str) -> Answer {
    api.post("/api/v1/apps", manifest(version, own)).await.expect(200);
    api.deploy("chat", &[("index.ts", &backend(version))]).await.expect(200)
}

async fn versions(api: &Api) -> Vec<Value> {
    let answer = api.get("/api/v1/apps/chat/versions").await.expect(200);
    answer.value("/data").as_array().cloned().expect("a list")
}

async fn roll_back(api: &Api, body: Value) -> Answer {
    api.post("/api/v1/apps/chat/rollback", body).await
}

async fn call(api: &Api, action: &str) -> Answer {
    api.call("chat", action, json!({})).await
}

async fn version(api: &Api) -> Value {
    call(api, "version").await.expect(200).json
}

/// Number, activity and whether one can go back to it, of each version.
async fn states(api: &Api) -> Vec<(u64, bool, bool)> {
    let flag = |version: &Value, name: &str| version[name].as_bool().expect("a flag");
    let state =
        |version: &Value| (version["number"].as_u64().expect("a number"), flag(version, "active"), flag(version, "canRollBack"));
    versions(api).await.iter().map(state).collect()
}

async fn token_of(api: &Api, webhook: &str) -> Option<Value> {
    let hooks = api.get("/api/v1/apps/chat/webhooks").await.expect(200);
    let found = hooks.json.as_array().expect("a list").iter().find(|hook| hook["name"] == webhook);
    found.map(|hook| hook["token"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_newest_first_with_who_deployed_what() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", manifest("1.0.0", "old")).await.expect(200);
    assert_eq!(versions(&admin).await, Vec::<Value>::new());
    let code = archive(&[("src/index.ts", &backend("1.0.0"))]);
    let first = admin.deploy_archive("chat", code.clone()).await.expect(200);
    assert_eq!(first.value("/version"), json!(1));
    admin.deploy("chat", &[("index.ts", "throw new Error('no')")]).await.expect(422);
    release(&admin, "2.0.0", "new").await;

    let listed = admin.get("/api/v1/apps/chat/versions").await.expect(200);
    insta::assert_json_snapshot!("versions", listed.json, {
        ".data[].id" => "[id]", ".data[].digest" => "[digest]", ".data[].size" => "[size]",
        ".data[].createdAt" => "[time]", ".data[].activatedAt" => "[time]",
        ".data[].createdBy.id" => "[id]", ".data[].activatedBy.id" => "[id]",
    });
    let older = &versions(&admin).await[1];
    assert_eq!(older["id"], first.value("/deploymentId"));
    assert_eq!(older["digest"], hex::encode(Sha256::digest(&code)));
    assert_eq!(older["size"], json!(code.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_comes_in_pages() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    for _ in 0..3 {
        release(&admin, "1.0.0", "old").await;
    }
    let first = admin.get("/api/v1/apps/chat/versions?limit=2").await.expect(200);
    let cursor = first.text("/nextCursor");
    let second = admin.get(&format!("/api/v1/apps/chat/versions?limit=2&cursor={cursor}")).await.expect(200);
    let numbers = [first.value("/data/0/number"), first.value("/data/1/number"), second.value("/data/0/number")];
    assert_eq!(numbers, [json!(3), json!(2), json!(1)]);
    assert_eq!((second.value("/data/1"), second.value("/nextCursor")), (Value::Null, Value::Null));
    for query in ["limit=0", "limit=201", "cursor=nonsense"] {
        let refused = admin.get(&format!("/api/v1/apps/chat/versions?{query}")).await.expect(400);
        assert_eq!(refused.code(), "invalid_request", "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_brings_code_and_manifest_of_the_version_before() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    release(&admin, "1.0.0", "old").await;
    let token = token_of(&admin, "push").await.expect("a token");
    release(&admin, "2.0.0", "new").await;
    assert_eq!(call(&admin, "old").await.expect(404).code(), "unknown_action");

    let back = roll_back(&admin, json!({})).await.expect(200);
    assert_eq!(back.text("/message"), "app 'chat' is back at version 1");
    assert_eq!((back.value("/version"), back.text("/manifestVersion")), (json!(1), "1.0.0".to_owned()));
    assert_eq!(version(&admin).await, "1.0.0");
    assert_eq!(call(&admin, "manifest").await.expect(200).json, "1.0.0");
    call(&admin, "old").await.expect(200);
    assert_eq!(call(&admin, "new").await.expect(404).code(), "unknown_action");
    let details = admin.get("/api/v1/apps/chat").await.expect(200);
    assert_eq!((details.text("/version"), details.value("/deploymentId")), ("1.0.0".to_owned(), back.value("/deploymentId")));
    assert_eq!(token_of(&admin, "push").await, Some(token), "a webhook of both versions keeps its address");
    assert!(token_of(&admin, "old").await.is_some() && token_of(&admin, "new").await.is_none());
    assert_eq!(states(&admin).await, [(2, false, true), (1, true, false)]);

    let forward = roll_back(&admin, json!({ "version": 2 })).await.expect(200);
    assert_eq!(forward.text("/manifestVersion"), "2.0.0");
    assert_eq!(version(&admin).await, "2.0.0");
    assert_eq!(release(&admin, "3.0.0", "new").await.value("/version"), json!(3), "numbers go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn going_to_the_version_that_serves_changes_nothing() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    release(&admin, "1.0.0", "old").await;
    let before = versions(&admin).await;
    let answer = roll_back(&admin, json!({ "version": 1 })).await.expect(200);
    assert_eq!(answer.value("/version"), json!(1));
    assert_eq!(versions(&admin).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_gone_back_to_is_refused_with_the_reason() {
    let server = TestServer::start_with_file("[deployments]\nkept = 2\n").await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    assert_eq!(roll_back(&admin, json!({})).await.expect(404).code(), "not_found");
    admin.post("/api/v1/apps", manifest("1.0.0", "old")).await.expect(200);
    assert_eq!(roll_back(&admin, json!({})).await.expect(409).code(), "conflict");
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        release(&admin, version, "old").await;
    }
    assert_eq!(states(&admin).await, [(3, true, false), (2, false, true), (1, false, false)]);
    let gone = roll_back(&admin, json!({ "version": 1 })).await.expect(409);
    assert!(gone.text("/error").contains("deployments.kept"), "{gone:?}");
    for number in [0, 4, -1] {
        let unknown = roll_back(&admin, json!({ "version": number })).await.expect(404);
        assert!(unknown.text("/error").contains(&format!("version {number} of app 'chat'")), "{unknown:?}");
    }
    for body in [json!({ "version": "1" }), json!({ "versoin": 1 }), json!([])] {
        assert_eq!(roll_back(&admin, body).await.expect(400).code(), "validation_failed");
    }
    roll_back(&admin, json!({})).await.expect(200);
    let nothing = roll_back(&admin, json!({})).await.expect(409);
    assert!(nothing.text("/error").contains("nothing to go back to"), "{nothing:?}");
    assert_eq!(version(&admin).await, "2.0.0");

    server.grant(&admin, &user, &["app:chat:*", "integration:chat:*"]).await;
    for answer in [roll_back(&user, json!({})).await, user.get("/api/v1/apps/chat/versions").await] {
        assert!(answer.expect(403).text("/error").contains("admin:apps.deploy"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_works_on_pushes_out_no_version_to_go_back_to() {
    let server = TestServer::start_with_file("[deployments]\nkept = 2\n").await;
    let admin = server.user("admin").await;
    release(&admin, "1.0.0", "old").await;
    release(&admin, "2.0.0", "old").await;
    for version in ["3.0.0", "4.0.0", "5.0.0"] {
        let form = upload(&[("index.ts", &backend(version))]);
        admin.send(admin.request(Method::POST, "/api/v1/apps/chat/deploy?dev=true").multipart(form)).await.expect(200);
    }
    assert_eq!(version(&admin).await, "5.0.0");
    let kept = [(5, true, false), (4, false, false), (3, false, false), (2, false, true), (1, false, true)];
    assert_eq!(states(&admin).await, kept);
    let developed: Vec<_> = versions(&admin).await.iter().map(|version| version["developed"] == true).collect();
    assert_eq!(developed, [true, true, true, false, false]);
    let status = admin.get("/api/v1/apps/chat/worker/status").await.expect(200);
    assert_eq!(status.value("/developed"), json!(true), "its calls are reported");
    assert_eq!(roll_back(&admin, json!({})).await.expect(200).value("/version"), json!(2));
    assert_eq!(version(&admin).await, "2.0.0");
    assert_eq!(states(&admin).await[0], (5, false, false), "it was kept while it served");
    let status = admin.get("/api/v1/apps/chat/worker/status").await.expect(200);
    assert_eq!(status.value("/developed"), Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_that_serves_is_kept_however_old_it_is() {
    let server = TestServer::start_with_file("[deployments]\nkept = 2\n").await;
    let admin = server.user("admin").await;
    release(&admin, "1.0.0", "old").await;
    release(&admin, "2.0.0", "old").await;
    roll_back(&admin, json!({})).await.expect(200);
    admin.deploy("chat", &[("index.ts", "throw new Error('no')")]).await.expect(422);
    assert_eq!(states(&admin).await, [(2, false, true), (1, true, false)]);
    release(&admin, "3.0.0", "old").await;
    assert_eq!(states(&admin).await, [(3, true, false), (2, false, true), (1, false, false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_start_any_more_leaves_everything_as_it_is() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    release(&admin, "1.0.0", "old").await;
    release(&admin, "2.0.0", "new").await;
    admin.post("/api/v1/apps/chat/secrets", json!({ "key": "BROKEN", "value": "1.0.0" })).await.expect(200);
    let refused = roll_back(&admin, json!({})).await.expect(422);
    assert_eq!(refused.code(), "deploy_failed");
    assert!(refused.text("/error").contains("broken by now"), "{refused:?}");
    assert_eq!(version(&admin).await, "2.0.0");
    call(&admin, "new").await.expect(200);
    assert_eq!(states(&admin).await, [(2, true, false), (1, false, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_without_a_gap_while_one_goes_back() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    release(&admin, "1.0.0", "old").await;
    release(&admin, "2.0.0", "old").await;
    let calling = Calling::start(&admin, "chat").await;
    roll_back(&admin, json!({})).await.expect(200);
    let seen = calling.stop().await;
    assert!(seen == ["2.0.0"] || seen == ["2.0.0", "1.0.0"], "{seen:?}");
    assert_eq!(version(&admin).await, "1.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_outlives_a_restart_and_the_loss_of_all_files() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    release(&admin, "1.0.0", "old").await;
    release(&admin, "2.0.0", "new").await;
    roll_back(&admin, json!({})).await.expect(200);
    server.stop().await;
    std::fs::remove_dir_all(server.data_path("apps")).expect("there are files");
    server.restart().await;
    let admin = admin.at(server.url());
    assert_eq!(version(&admin).await, "1.0.0");
    roll_back(&admin, json!({ "version": 2 })).await.expect(200);
    assert_eq!(version(&admin).await, "2.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_installed_alone_reaches_the_running_backend() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let code = "const born = Math.random();
        defineIntegration({ actions: { version: () => born, manifest: (_, ctx) => ctx.manifest.version } });";
    admin.post("/api/v1/apps", manifest("1.0.0", "old")).await.expect(200);
    admin.deploy("chat", &[("index.ts", code)]).await.expect(200);
    let born = version(&admin).await;
    admin.post("/api/v1/apps", manifest("1.0.0", "old")).await.expect(200);
    assert_eq!(version(&admin).await, born, "the same manifest is no reason for a new process");

    admin.post("/api/v1/apps", manifest("1.0.1", "old")).await.expect(200);
    eventually("the backend sees the new manifest", async || {
        let answer = call(&admin, "manifest").await.expect(200);
        (answer.json == "1.0.1").then_some(())
    })
    .await;
    assert_ne!(version(&admin).await, born);
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_needs_no_body() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    release(&admin, "1.0.0", "old").await;
    release(&admin, "2.0.0", "old").await;
    let answer = admin.send(admin.request(Method::POST, "/api/v1/apps/chat/rollback")).await.expect(200);
    assert_eq!(answer.value("/version"), json!(1));
}

/// Deploys code together with its manifest.
async fn release_at_once(api: &Api, version: &str, own: &str, code: &str) -> Answer {
    api.deploy_with("chat", &manifest(version, own).to_string(), &[("index.ts", code)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_sent_along_is_installed_with_the_code_or_not_at_all() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let first = release_at_once(&admin, "1.0.0", "old", &backend("1.0.0")).await.expect(200);
    assert_eq!(first.value("/version"), json!(1), "the app need not be installed before");
    call(&admin, "old").await.expect(200);

    release_at_once(&admin, "2.0.0", "new", "throw new Error('no')").await.expect(422);
    assert_eq!(admin.get("/api/v1/apps/chat").await.expect(200).text("/version"), "1.0.0");
    call(&admin, "old").await.expect(200);
    assert_eq!(call(&admin, "new").await.expect(404).code(), "unknown_action");
    assert_eq!(call(&admin, "manifest").await.expect(200).json, "1.0.0");

    release_at_once(&admin, "2.0.0", "new", &backend("2.0.0")).await.expect(200);
    assert_eq!((version(&admin).await, call(&admin, "manifest").await.expect(200).json), (json!("2.0.0"), json!("2.0.0")));
    call(&admin, "new").await.expect(200);
    assert_eq!(call(&admin, "old").await.expect(404).code(), "unknown_action");
    roll_back(&admin, json!({})).await.expect(200);
    call(&admin, "old").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_sent_along_is_checked_before_anything_happens() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    let code = backend("1.0.0");
    let files = [("index.ts", &*code)];
    let broken = admin.deploy_with("chat", "{ no JSON", &files).await.expect(400);
    assert_eq!(broken.code(), "invalid_request");
    let faulty = admin.deploy_with("chat", r#"{ "appId": "chat" }"#, &files).await.expect(400);
    assert_eq!(faulty.code(), "validation_failed");
    let other = admin.deploy_with("other", &manifest("1.0.0", "old").to_string(), &files).await.expect(400);
    assert_eq!(other.value("/errors/0/path"), json!("$.appId"), "{other:?}");
    admin.get("/api/v1/apps/chat").await.expect(404);

    server.grant(&admin, &user, &["admin:apps.deploy"]).await;
    let refused = release_at_once(&user, "1.0.0", "old", &code).await.expect(403);
    assert!(refused.text("/error").contains("admin:apps.install"), "{refused:?}");
    release(&admin, "1.0.0", "old").await;
    server.grant(&admin, &user, &["admin:apps.deploy", "platform:apps.create"]).await;
    let not_his = release_at_once(&user, "2.0.0", "old", &code).await.expect(403);
    assert!(not_his.text("/error").contains("only its administrators"), "{not_his:?}");
    assert_eq!(states(&admin).await, [(1, true, false)]);
}
