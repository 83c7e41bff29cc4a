//! `/api/v1/apps/{app_id}/deploy`: what becomes a running backend, and what does not.

use flate2::{Compression, write::GzEncoder};
use reqwest::Method;
use serde_json::{Value, json};
use tar::EntryType;
use weft_testkit::{
    Api, TestServer,
    api::{archive, upload},
};

use crate::fixtures::{Calling, app, eventually, integration};

fn backend(version: &str) -> String {
    format!("defineIntegration({{ actions: {{ version: () => '{version}' }} }});")
}

/// An archive with one entry whose path the ordinary builder would refuse, beside a good entry point.
fn archive_with(kind: EntryType, path: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let code = "serve({})";
    for (kind, path, content) in [(EntryType::Regular, "index.ts", code), (kind, path, "")] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("in memory");
    }
    builder.into_inner().and_then(GzEncoder::finish).expect("in memory")
}

async fn version(api: &Api) -> Value {
    api.call("chat", "version", json!({})).await.expect(200).json
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_backend_serves_at_once_and_the_next_version_replaces_it() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", integration("chat", &["version"])).await.expect(200);
    let first = admin.deploy("chat", &[("index.ts", &backend("one"))]).await.expect(200);
    assert_eq!(first.text("/message"), "app 'chat' deployed and started");
    assert_eq!(first.value("/migrationsApplied"), json!([]));
    assert_eq!(version(&admin).await, "one");
    assert_eq!(admin.get("/api/v1/apps/chat").await.expect(200).value("/deploymentId"), first.value("/deploymentId"));

    let second = admin.deploy("chat", &[("index.ts", &backend("two"))]).await.expect(200);
    assert_ne!(second.value("/deploymentId"), first.value("/deploymentId"));
    assert_eq!(version(&admin).await, "two");

    admin.deploy("chat", &[("index.ts", &backend("three"))]).await.expect(200);
    assert_eq!(version(&admin).await, "three");
    // The version before may still finish its last calls.
    eventually("only the files of the last two versions stay", async || {
        let folders = std::fs::read_dir(server.data_path("apps/chat")).expect("a folder").count();
        (folders == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_will_come_of_is_a_warning() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let mut manifest = integration("chat", &["send", "list", "look_up"]);
    manifest["acitons"] = json!([]);
    manifest["actions"][2]["recipe"] = json!({ "method": "GET", "path": "/x" });
    manifest["http"] = json!({ "baseUrl": "https://vendor.example" });
    manifest["webhooks"] = json!(["pushed", { "name": "own", "method": "ownHandler" }]);
    let installed = admin.post("/api/v1/apps", manifest).await.expect(200);
    let key = "manifest: $.acitons has no meaning, and nothing comes of it";
    assert_eq!(installed.value("/warnings"), json!([key]));
    let code = "defineIntegration({ actions: { list: () => 1, remove: () => 1 }, webhooks: { pulled: () => 1 } })";
    let deployed = admin.deploy("chat", &[("index.ts", code)]).await.expect(200);
    let expected = [
        key,
        "the manifest declares the action 'send', and the backend has no handler for it",
        "the backend has a handler for the action 'remove', and the manifest does not declare it",
        "the manifest declares the webhook 'pushed', and the backend has no handler for it",
        "the backend has a handler for the webhook 'pulled', and the manifest does not declare it",
    ];
    assert_eq!(deployed.value("/warnings"), json!(expected));
    admin.post("/api/v1/apps", integration("quiet", &["version"])).await.expect(200);
    for code in [backend("one"), "serve({ rpc: { __integration: () => 1 } })".to_owned()] {
        let deployed = admin.deploy("quiet", &[("index.ts", &code)]).await.expect(200);
        assert_eq!(deployed.value("/warnings"), Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_works_on_an_app_sees_what_the_server_refuses_of_its_calls() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let mut manifest = integration("chat", &["send"]);
    manifest["actions"][0]["inputSchema"] = json!({ "type": "object", "required": ["text"] });
    manifest["actions"][0]["outputSchema"] = json!({ "type": "string" });
    admin.post("/api/v1/apps", manifest).await.expect(200);
    let form = upload(&[("index.ts", "defineIntegration({ actions: { send: () => 1 } })")]);
    admin.send(admin.request(Method::POST, "/api/v1/apps/chat/deploy?dev=true").multipart(form)).await.expect(200);
    let log = admin.request(Method::GET, "/api/v1/apps/chat/logs").send().await.expect("a stream");
    admin.call("chat", "send", json!({})).await.expect(400);
    admin.call("chat", "send", json!({ "text": "hi" })).await.expect(502);
    admin.call("chat", "sned", json!({})).await.expect(404);
    let [input, sent, output, unknown] = <[_; 4]>::try_from(ends_of_calls(log, 4).await).expect("four");
    assert_eq!(input["error"]["code"], "invalid_input");
    let said = input["error"]["message"].as_str().expect("a text");
    assert!(said.starts_with("the input breaks the action's schema: $") && said.contains("text"), "{said}");
    assert_eq!(sent["output"], "1", "the process knows nothing of what comes");
    assert_eq!(output["error"]["code"], "invalid_output");
    assert_eq!(unknown["error"]["message"], "integration 'chat' has no action 'sned'; it has: send");
}

/// The reports of ends of calls in a live log, once there are so many.
async fn ends_of_calls(mut log: reqwest::Response, count: usize) -> Vec<Value> {
    let mut text = String::new();
    loop {
        let chunk = log.chunk().await.expect("the stream is readable").expect("the stream goes on");
        text.push_str(&String::from_utf8_lossy(&chunk));
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let reports = lines.filter_map(|line| serde_json::from_str(line["message"].as_str()?.strip_prefix("weft.call: ")?).ok());
        let ends: Vec<Value> = reports.filter(|report: &Value| report["phase"] == "end").collect();
        if ends.len() == count {
            return ends;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entry_point_is_the_first_of_its_known_names() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", integration("chat", &["version"])).await.expect(200);
    for (expected, other) in [("index.ts", "index.js"), ("main.js", "src/index.ts"), ("src/index.js", "backend/index.ts")] {
        let code = backend(expected);
        let answer = admin.deploy("chat", &[(other, "throw new Error('not me')"), (expected, &code)]).await.expect(200);
        assert_eq!(answer.text("/entryPoint"), expected);
        assert_eq!(version(&admin).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_installed_app_can_be_deployed_and_only_with_the_right() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    admin.deploy("chat", &[("index.ts", "serve({})")]).await.expect(404);
    admin.post("/api/v1/apps", app("chat")).await.expect(200);
    server.grant(&admin, &user, &["app:chat:*", "admin:apps.install"]).await;
    let refused = user.deploy("chat", &[("index.ts", "serve({})")]).await.expect(403);
    assert!(refused.text("/error").contains("admin:apps.deploy"), "{refused:?}");
    server.grant(&admin, &user, &["admin:apps.deploy"]).await;
    user.deploy("chat", &[("index.ts", "serve({})")]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_cannot_be_used_is_refused_with_the_reason() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", app("chat")).await.expect(200);
    let path = "/api/v1/apps/chat/deploy";
    let empty_form =
        admin.request(Method::POST, path).header("content-type", "multipart/form-data; boundary=x").body("--x--\r\n");
    let mut answers = vec![
        ("multipart/form-data", admin.post(path, json!({})).await),
        ("missing 'archive' field", admin.send(empty_form).await),
    ];
    for (reason, bytes) in [
        ("the archive is empty", Vec::new()),
        ("no gzip-compressed tar", b"not a tarball".to_vec()),
        ("no entry point", archive(&[("readme.md", "hello")])),
        ("'../evil.ts'", archive_with(EntryType::Regular, "../evil.ts")),
        ("'/etc/evil.ts'", archive_with(EntryType::Regular, "/etc/evil.ts")),
        ("'index.ts' is in the archive twice", archive_with(EntryType::Regular, "index.ts")),
        ("'node_modules/x.js'", archive_with(EntryType::Regular, "node_modules/x.js")),
        ("100 times its own size", archive(&[("index.ts", "serve({})"), ("bomb", &"0".repeat(20 * 1024 * 1024))])),
        ("device", archive_with(EntryType::Char, "null")),
        ("symbolic link", archive_with(EntryType::Symlink, "passwd")),
        ("hard link", archive_with(EntryType::Link, "passwd")),
    ] {
        answers.push((reason, admin.deploy_archive("chat", bytes).await));
    }
    for (reason, answer) in answers {
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_archive"), "{reason}: {answer:?}");
        assert!(answer.text("/error").contains(reason), "{reason}: {answer:?}");
    }
    assert_eq!(admin.get("/api/v1/apps/chat").await.expect(200).value("/deploymentId"), Value::Null);
    assert_eq!(left_in(&server, "uploads") + left_in(&server, "apps/chat"), 0, "nothing of a refused archive stays");
}

fn left_in(server: &TestServer, folder: &str) -> usize {
    std::fs::read_dir(server.data_path(folder)).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_too_large_is_refused_while_it_arrives() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    for size in [50 * 1024 * 1024 + 1, 51 * 1024 * 1024] {
        // The server does not read the rest, so the connection is of no more use.
        let once = server.anonymous().with_token(admin.token.clone().unwrap_or_default());
        let answer = once.deploy_archive("chat", vec![0; size]).await.expect(413);
        assert_eq!(answer.code(), "payload_too_large");
        assert!(answer.text("/error").contains("50 MiB"), "{answer:?}");
    }
    assert_eq!(left_in(&server, "uploads"), 0);
    assert_eq!(version(&admin).await, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    let body = "--x\r\ncontent-disposition: form-data; name=\"archive\"\r\n\r\nhalf of it";
    let request = admin.request(Method::POST, "/api/v1/apps/chat/deploy");
    let answer = admin.send(request.header("content-type", "multipart/form-data; boundary=x").body(body)).await.expect(400);
    assert_eq!(answer.code(), "invalid_archive");
    assert!(answer.text("/error").contains("broke off"), "{answer:?}");
    assert_eq!((left_in(&server, "uploads"), left_in(&server, "apps/chat")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_does_not_start_is_refused_with_the_reason_and_what_served_goes_on_serving() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    for (code, reason) in [
        ("const x: = 5;", "index.ts:1"),
        ("\nthrow new Error('the database is missing');", "Error: the database is missing (at index.ts:2"),
        ("import x from 'no-such-package'; serve({ rpc: { x } });", "no-such-package"),
        ("import './missing.ts'; serve({});", "./missing.ts"),
        ("serve({ rpc: { a: 5 } });", "serve()"),
        ("process.exit(3);", "exited with code 3"),
    ] {
        let answer = admin.deploy("chat", &[("index.ts", code)]).await;
        assert_eq!(answer.status, 422, "{code}: {answer:?}");
        assert_eq!(answer.code(), "deploy_failed");
        assert!(answer.text("/error").contains(reason), "{reason}: {answer:?}");
        assert_eq!(version(&admin).await, "one", "after {code}");
    }
    let folders = std::fs::read_dir(server.data_path("apps/chat")).expect("a folder").count();
    assert_eq!(folders, 1, "refused versions leave no files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_finishes_loading_is_given_up() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    server.deploy(&admin, &app("busy"), "serve({ rpc: { version: () => 'one' } });").await;
    let waits = [("index.ts", "setInterval(() => {}, 1000); await new Promise(() => {}); serve({});")];
    let loops = [("index.ts", "while (true) {} serve({});")];
    let (waiting, looping) = tokio::join!(admin.deploy("chat", &waits), admin.deploy("busy", &loops));
    for answer in [waiting.expect(422), looping.expect(422)] {
        assert_eq!(answer.code(), "deploy_failed");
        assert!(answer.text("/error").contains("was not ready within 10s"), "{answer:?}");
    }
    assert_eq!(version(&admin).await, "one");
    assert_eq!(admin.post("/api/v1/apps/busy/rpc", json!({ "method": "version" })).await.expect(200).json, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_first_backend_does_not_start_still_has_none() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", integration("chat", &["version"])).await.expect(200);
    admin.deploy("chat", &[("index.ts", "throw new Error('no')")]).await.expect(422);
    assert_eq!(admin.call("chat", "version", json!({})).await.expect(409).code(), "not_deployed");
    admin.deploy("chat", &[("index.ts", &backend("one"))]).await.expect(200);
    assert_eq!(version(&admin).await, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_are_installed_without_running_their_scripts() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", integration("chat", &["version"])).await.expect(200);
    let bare = [("package.json", r#"{ "name": "chat" }"#), ("index.ts", &*backend("bare"))];
    admin.deploy("chat", &bare).await.expect(200);
    assert_eq!(version(&admin).await, "bare");

    let files = [
        (
            "package.json",
            r#"{ "name": "chat", "dependencies": { "greeting": "file:./greeting" }, "scripts": { "postinstall": "touch ran" } }"#,
        ),
        (
            "greeting/package.json",
            r#"{ "name": "greeting", "version": "1.0.0", "main": "index.js", "scripts": { "postinstall": "touch ran" } }"#,
        ),
        ("greeting/index.js", "module.exports = 'hello'"),
        (
            "index.ts",
            "import greeting from 'greeting'; import { existsSync } from 'node:fs';
             const ran = existsSync('ran') || existsSync('node_modules/greeting/ran') || existsSync('greeting/ran');
             defineIntegration({ actions: { version: () => ({ greeting, ran }) } });",
        ),
    ];
    admin.deploy("chat", &files).await.expect(200);
    assert_eq!(version(&admin).await, json!({ "greeting": "hello", "ran": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_that_cannot_be_installed_refuse_the_deployment() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    for package in [r#"{ "dependencies": { "gone": "file:./gone" } }"#, "{ no json"] {
        let answer = admin.deploy("chat", &[("package.json", package), ("index.ts", &backend("two"))]).await.expect(422);
        assert_eq!(answer.code(), "deploy_failed");
        assert!(answer.text("/error").contains("dependencies could not be installed"), "{answer:?}");
    }
    assert_eq!(version(&admin).await, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_without_a_gap_while_a_new_version_is_deployed() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    let calling = Calling::start(&admin, "chat").await;
    admin.deploy("chat", &[("index.ts", &backend("two"))]).await.expect(200);
    let seen = calling.stop().await;
    assert!(seen == ["one"] || seen == ["one", "two"], "{seen:?}");
    assert_eq!(version(&admin).await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_is_finished_by_the_version_that_began_it() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let patient = "
        import { existsSync, writeFileSync } from 'node:fs';
        const mark = (name) => process.env.TMPDIR + '/' + name;
        const version = async () => {
            writeFileSync(mark('begun'), '');
            while (!existsSync(mark('go'))) await Bun.sleep(5);
            return 'one';
        };
        defineIntegration({ actions: { version } });";
    server.deploy(&admin, &integration("chat", &["version"]), patient).await;
    let waiting = tokio::spawn({
        let api = admin.clone();
        async move { version(&api).await }
    });
    let scratch = server.data_path("scratch/default-chat");
    eventually("the call has begun", async || scratch.join("begun").exists().then_some(())).await;
    admin.deploy("chat", &[("index.ts", &backend("two"))]).await.expect(200);
    assert_eq!(version(&admin).await, "two");
    std::fs::write(scratch.join("go"), "").expect("written");
    assert_eq!(waiting.await.expect("answered"), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_code_outlives_a_restart_and_the_loss_of_its_files() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    server.restart().await;
    let admin = admin.at(server.url());
    assert_eq!(version(&admin).await, "one");

    server.stop().await;
    std::fs::remove_dir_all(server.data_path("apps")).expect("there are files");
    server.restart().await;
    assert_eq!(version(&admin.at(server.url())).await, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_start_is_no_reason_to_forget_one_that_was_not_needed_yet() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    server.restart().await;
    let admin = admin.at(server.url());
    admin.deploy("chat", &[("index.ts", "throw new Error('no')")]).await.expect(422);
    assert_eq!(version(&admin).await, "one");
}

/// Loads unless somebody left a mark, and leaves it when asked to.
const FRAGILE: &str = "
    import { existsSync, writeFileSync } from 'node:fs';
    const mark = process.env.TMPDIR + '/broken';
    if (existsSync(mark)) throw new Error('no way up');
    defineIntegration({ actions: { version: () => 'one', break: () => writeFileSync(mark, '') } });";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_backend_that_does_not_come_up_is_503_and_counts_as_not_made() {
    let mut server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version", "break"]), FRAGILE).await;
    admin.call("chat", "break", json!({})).await.expect(200);
    server.restart().await;
    let admin = admin.at(server.url());
    let keyed = async || {
        let request = admin.request(Method::POST, "/api/v1/integrations/chat/actions/version");
        admin.send(request.header("Idempotency-Key", "k").json(&json!({}))).await
    };
    for _ in 0..2 {
        let answer = keyed().await.expect(503);
        assert_eq!(answer.code(), "start_failed");
        assert!(answer.text("/error").contains("no way up"), "{answer:?}");
    }
    let by_hand = admin.post("/api/v1/apps/chat/worker/start", json!({})).await.expect(503);
    assert_eq!(by_hand.code(), "start_failed");
    let failed = admin.get("/api/v1/runs?status=failed").await.expect(200);
    assert_eq!(failed.value("/data/0/error/code"), json!("start_failed"));

    std::fs::remove_file(server.data_path("scratch/default-chat/broken")).expect("the mark");
    assert_eq!(keyed().await.expect(200).json, "one", "the key was given back");
}
