//! Backends in their jail, as seen over HTTP: what is in force, whom a run contacted, and what a backend cannot reach.

use serde_json::{Value, json};
use weft_server::ServeArgs;
use weft_testkit::{Api, TestServer, slack::FakeSlack};

use crate::fixtures::{app, eventually, integration, with};

async fn server(open: &[&str], jail: Option<&str>) -> (TestServer, Api) {
    let egress_allow = open.iter().map(|&rule| rule.to_owned()).collect();
    let arguments = ServeArgs { egress_allow, jail: jail.map(str::to_owned), ..ServeArgs::default() };
    let server = TestServer::start_with(arguments).await;
    let admin = server.user("admin").await;
    (server, admin)
}

async fn confinement(api: &Api) -> Value {
    api.get("/api/v1/status").await.expect(200).value("/workers/confinement")
}

async fn rpc(api: &Api, method: &str, params: Value) -> Value {
    api.post("/api/v1/apps/crm/rpc", json!({ "method": method, "params": params })).await.expect(200).json
}

const PROBE: &str = "
    const attempt = async (work) => { try { return await work(); } catch (error) { return error?.code ?? String(error); } };
    serve({ rpc: {
        read: (path) => attempt(() => require('node:fs').readFileSync(path, 'utf8').length > 0),
        get: (url) => attempt(async () => (await fetch(url)).status),
    } })";

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_is_in_force_and_why_the_rest_is_not() {
    let (_server, admin) = server(&[], None).await;
    let (found, support) = (confinement(&admin).await, weft_jail::support());
    assert_eq!(found["jail"], "auto");
    assert_eq!((&found["files"], &found["network"]), (&json!(support.landlock.is_some()), &json!(support.connect_broker)));
    assert_eq!(found["missing"].as_array().map(Vec::len), Some(support.missing.len()));

    let (off, admin) = server(&[], Some("off")).await;
    let found = confinement(&admin).await;
    assert_eq!((&found["jail"], &found["files"], &found["network"]), (&json!("off"), &json!(false), &json!(false)));
    assert!(found["missing"][0]["reason"].as_str().is_some_and(|reason| reason.contains("workers.jail")), "{found}");
    off.deploy(&admin, &app("crm"), PROBE).await;
    assert_eq!(rpc(&admin, "read", json!("/etc/passwd")).await, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_reaches_neither_files_of_others_nor_the_database_nor_the_server_itself() {
    let (server, admin) = server(&[], Some("require")).await;
    server.deploy(&admin, &app("crm"), PROBE).await;
    server.deploy(&admin, &app("other"), "serve({})").await;
    let version = std::fs::read_dir(server.data_path("apps/other")).expect("a folder").flatten().next().expect("a version");
    for path in ["/etc/passwd".into(), server.data_path("jwt.key"), version.path().join("index.ts")] {
        let said = rpc(&admin, "read", json!(path)).await;
        assert!(["EACCES", "ENOENT"].contains(&said.as_str().unwrap_or_default()), "{}: {said}", path.display());
    }
    for url in [server.url(), "http://169.254.169.254/".to_owned(), "http://localhost:5432/".to_owned()] {
        let said = rpc(&admin, "get", json!(url)).await;
        assert!(!said.is_number(), "{url}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_names_the_hosts_that_were_contacted_for_it() {
    let slack = FakeSlack::start().await.expect("a fake vendor");
    let (server, admin) = server(&["127.0.0.1"], None).await;
    let backend = "defineIntegration({ actions: { ask: async ({ url }) => (await fetch(url)).status } })";
    server.deploy(&admin, &with(integration("chat", &["ask"]), json!({ "egress": ["api.example.com"] })), backend).await;
    let url = slack.api_url();
    admin.call("chat", "ask", json!({ "url": url })).await.expect(200);
    let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
    assert_eq!(admin.runs("chat", 1).await[0]["hosts"], json!([host]));
    eventually("the worker's report names it too", async || {
        let workers = admin.get("/api/v1/workers").await.expect(200);
        (workers.value("/workers/chat/hosts") == json!([host])).then_some(())
    })
    .await;

    admin.call("chat", "ask", json!({ "url": "http://evil.example.com/" })).await.expect(502);
    assert_eq!(admin.runs("chat", 2).await[0]["hosts"], json!([]));
}
