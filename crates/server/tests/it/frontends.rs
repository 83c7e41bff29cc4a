//! Frontends: deployed as archives, and what a browser gets of them.

use flate2::read::GzDecoder;
use reqwest::Method;
use serde_json::json;
use std::io::Read;
use weft_testkit::{Answer, Api, TestServer};

use crate::fixtures::app;

const INDEX: &str = "<!doctype html><title>CRM</title>";

async fn start() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    (server, admin)
}

fn script() -> String {
    "console.log('hello');\n".repeat(500)
}

async fn ask(api: &Api, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = api.request(Method::GET, path);
    api.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_served_to_everybody_with_what_browsers_need_to_know() {
    let (server, admin) = start().await;
    let script = script();
    let files = [("index.html", INDEX), ("assets/index-BX3f9k2a.js", script.as_str()), ("robots.txt", "all")];
    let deployed = admin.deploy_frontend("crm", &files).await.expect(200);
    assert_eq!((deployed.text("/url"), deployed.value("/files")), ("/apps/crm/".to_owned(), json!(3)));
    assert_eq!(admin.get("/api/v1/apps").await.value("/0/hasFrontend"), json!(true));

    let anybody = server.anonymous();
    let index = anybody.get("/apps/crm/").await.expect(200);
    assert_eq!(index.bytes, INDEX.as_bytes());
    let expected = [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "public, max-age=60, must-revalidate"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("referrer-policy", "same-origin"),
        ("vary", "accept-encoding"),
    ];
    for (name, value) in expected {
        assert_eq!(index.header(name), Some(value), "{name}");
    }
    let policy = index.header("content-security-policy").expect("a policy");
    assert!(
        policy.contains("script-src 'self';")
            && policy.contains("connect-src 'self'")
            && policy.contains("frame-ancestors 'self'")
    );

    let asset = anybody.get("/apps/crm/assets/index-BX3f9k2a.js").await.expect(200);
    assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(asset.header("content-type"), Some("text/javascript; charset=utf-8"));
    let tag = asset.header("etag").expect("a tag").to_owned();
    let known = ask(&anybody, "/apps/crm/assets/index-BX3f9k2a.js", &[("if-none-match", &tag)]).await.expect(304);
    assert_eq!((known.bytes.len(), known.header("etag")), (0, Some(tag.as_str())));

    let short = ask(&anybody, "/apps/crm/assets/index-BX3f9k2a.js", &[("accept-encoding", "br, gzip;q=0.8")]).await.expect(200);
    assert_eq!(short.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(short.bytes.as_slice()).read_to_string(&mut text).expect("gzip");
    assert!(text == script && short.bytes.len() < script.len() / 10);
    let bare = anybody.clone().staying().get("/apps/crm").await.expect(308);
    assert_eq!(bare.header("location"), Some("/apps/crm/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_app_are_the_index_and_missing_files_are_missing() {
    let (server, admin) = start().await;
    let anybody = server.anonymous();
    assert_eq!(anybody.get("/apps/crm/").await.expect(404).code(), "not_found");
    admin.deploy_frontend("crm", &[("index.html", INDEX), ("old.txt", "old")]).await.expect(200);
    for path in ["/apps/crm/contacts", "/apps/crm/contacts/42/edit"] {
        assert_eq!(anybody.get(path).await.expect(200).bytes, INDEX.as_bytes(), "{path}");
    }
    for path in
        ["/apps/crm/assets/gone.js", "/apps/none/", "/apps/NO-NAME/", "/apps/crm/../../etc/passwd.txt", "/apps/crm/%2e%2e/x.js"]
    {
        anybody.get(path).await.expect(404);
    }
    anybody.get("/apps/crm/old.txt").await.expect(200);
    // The next one takes the place of all of it, also for a node that has seen it.
    admin.deploy_frontend("crm", &[("index.html", "new")]).await.expect(200);
    assert_eq!(anybody.get("/apps/crm/contacts").await.expect(200).bytes, b"new");
    anybody.get("/apps/crm/old.txt").await.expect(404);
    admin.delete("/api/v1/apps/crm").await.expect(200);
    anybody.get("/apps/crm/").await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_refused_as_those_of_backends_are() {
    let (server, admin) = start().await;
    let no_index = admin.deploy_frontend("crm", &[("main.html", INDEX)]).await.expect(400);
    assert_eq!(no_index.code(), "invalid_archive");
    assert!(no_index.text("/error").contains("index.html"), "{no_index:?}");
    let packages = admin.deploy_frontend("crm", &[("index.html", INDEX), ("node_modules/a/index.js", "")]).await.expect(400);
    assert_eq!(packages.code(), "invalid_archive");
    admin.deploy_frontend("unknown", &[("index.html", INDEX)]).await.expect(404);
    let user = server.user("user").await;
    user.deploy_frontend("crm", &[("index.html", INDEX)]).await.expect(403);
    let elsewhere = server.tenant(&admin, "elsewhere", "elsewhere").await;
    elsewhere.deploy_frontend("crm", &[("index.html", INDEX)]).await.expect(404);
    server.anonymous().get("/apps/crm/").await.expect(404);
}
