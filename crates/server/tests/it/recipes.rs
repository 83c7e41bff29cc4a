//! Actions that are carried out by their recipes, and the proxy, against a vendor of our own.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use weft_server::ServeArgs;
use weft_testkit::{Answer, Api, TestServer};

use crate::fixtures::{fault_paths, with};

const SECRET: &str = "vendor-secret-1";

/// One request that arrived at the vendor.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    path: String,
    headers: HeaderMap,
    body: String,
}

/// Status, headers and body of an answer.
type Told = (u16, Vec<(&'static str, String)>, String);

#[derive(Default)]
struct Shared {
    seen: Vec<Seen>,
    /// Answers in their order. Without one, the request is described.
    answers: VecDeque<Told>,
}

/// A vendor that listens on this machine and answers what it is told to.
struct Vendor {
    url: String,
    shared: Arc<Mutex<Shared>>,
    serving: JoinHandle<()>,
}

impl Vendor {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::<Mutex<Shared>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { url, shared, serving }
    }

    fn will(&self, status: u16, headers: &[(&'static str, &str)], body: &Value) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.shared.lock().expect("no panic").answers.push_back((status, headers, body.to_string()));
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.lock().expect("no panic").seen)
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.uri.path().ends_with("/stream") {
        let chunks = body.into_data_stream().map(|chunk| chunk.map(|bytes| bytes.to_ascii_uppercase()));
        return Response::new(Body::from_stream(chunks));
    }
    let body = String::from_utf8_lossy(&to_bytes(body, usize::MAX).await.expect("a body")).into_owned();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let seen = Seen { method: parts.method.to_string(), path, headers: parts.headers, body };
    let mut shared = shared.lock().expect("no panic");
    let (status, headers, body) = shared
        .answers
        .pop_front()
        .unwrap_or_else(|| (200, Vec::new(), json!({ "saw": seen.path, "body": seen.body }).to_string()));
    shared.seen.push(seen);
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body.into()).expect("an answer")
}

fn manifest(vendor: &str, actions: &Value) -> Value {
    json!({
        "appId": "tracker", "name": "Tracker", "version": "1.0.0", "type": "integration",
        "configSchema": {
            "properties": {
                "token": { "type": "string", "platformSecret": "TRACKER_TOKEN" },
                "url": { "type": "string", "default": vendor },
            },
            "required": ["token"],
        },
        "http": { "baseUrl": "{{ config.url }}/v1", "auth": { "type": "bearer", "token": "{{ config.token }}" }, "headers": { "x-version": "7" } },
        "actions": actions,
    })
}

fn actions() -> Value {
    json!([
        {
            "id": "create", "name": "Create", "effect": "write",
            "inputSchema": {
                "type": "object", "required": ["title"], "additionalProperties": false,
                "properties": { "title": { "type": "string" }, "project": { "type": "string", "default": "a" }, "labels": { "type": "array" } },
            },
            "recipe": {
                "method": "POST", "path": "/projects/{{ input.project | default('ops') }}/issues",
                "body": { "json": { "title": "{{ input.title }}", "labels": "{{ input.labels }}" } }, "response": { "select": "/issue" },
            },
        },
        {
            "id": "list", "name": "List", "effect": "read", "outputSchema": { "type": "array" },
            "recipe": { "method": "GET", "path": "/issues", "pagination": { "type": "link", "items": "/issues" } },
        },
    ])
}

async fn server() -> TestServer {
    let arguments = ServeArgs { egress_allow: vec!["127.0.0.1".to_owned()], ..ServeArgs::default() };
    TestServer::start_with(arguments).await
}

async fn install(admin: &Api, vendor: &Vendor) {
    admin.post("/api/v1/apps", manifest(&vendor.url, &actions())).await.expect(200);
    admin.put("/api/v1/integrations/tracker/config", json!({ "token": SECRET })).await.expect(200);
}

async fn run(admin: &Api, answer: &Answer) -> Value {
    let id = answer.header("x-weft-run-id").expect("a run").to_owned();
    crate::fixtures::eventually("the run is on record", async || {
        let run = admin.get(&format!("/api/v1/runs/{id}")).await;
        (run.status == 200 && run.json["status"] != "running").then_some(run.json)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_is_called_like_any_action_and_needs_no_backend() {
    let (server, vendor) = (server().await, Vendor::start().await);
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    admin.post("/api/v1/apps", manifest(&vendor.url, &actions())).await.expect(200);
    assert_eq!(admin.call("tracker", "create", json!({ "title": "x" })).await.expect(409).code(), "not_configured");
    install(&admin, &vendor).await;
    let listed = admin.get("/api/v1/integrations").await.expect(200);
    assert_eq!((listed.value("/0/deployed"), listed.value("/0/configured")), (json!(true), json!(true)));
    assert!(listed.value("/0/actions/0").get("recipe").is_none(), "how it is done concerns nobody who calls it");

    user.call("tracker", "create", json!({ "title": "x" })).await.expect(403);
    server.grant(&admin, &user, &["integration:tracker:create"]).await;
    assert_eq!(fault_paths(&user.call("tracker", "create", json!({ "titel": "x" })).await.expect(400)).len(), 2);
    vendor.will(201, &[], &json!({ "issue": { "id": 7 } }));
    let created = user.call("tracker", "create", json!({ "title": "Disk", "project": "a/b" })).await.expect(200);
    assert_eq!(created.json, json!({ "id": 7 }));
    let seen = vendor.seen();
    let [request] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/projects/a%2Fb/issues"));
    assert_eq!(request.body, r#"{"title":"Disk"}"#);
    assert_eq!(request.headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(request.headers["x-version"], "7");

    let run = run(&admin, &created).await;
    let host = vendor.url.trim_start_matches("http://");
    assert_eq!(
        (&run["status"], &run["hosts"], &run["operation"]),
        (&json!("succeeded"), &json!([host]), &json!("tracker.create"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_become_one_list_and_outputs_keep_to_their_schema() {
    let (server, vendor) = (server().await, Vendor::start().await);
    let admin = server.user("admin").await;
    install(&admin, &vendor).await;
    let next = format!("<{}/v1/issues?page=2>; rel=\"next\"", vendor.url);
    vendor.will(200, &[("link", &next)], &json!({ "issues": [1, 2] }));
    vendor.will(200, &[], &json!({ "issues": [3] }));
    assert_eq!(admin.call("tracker", "list", json!({})).await.expect(200).json, json!([1, 2, 3]));
    assert_eq!(vendor.seen().iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["/v1/issues", "/v1/issues?page=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vendor_refuses_is_told_apart_and_never_with_the_secret() {
    let (server, vendor) = (server().await, Vendor::start().await);
    let admin = server.user("admin").await;
    install(&admin, &vendor).await;
    for (status, headers, body, expected, code) in [
        (401, vec![], json!({ "message": format!("token {SECRET} is wrong") }), 424, "vendor_auth"),
        (404, vec![], json!({ "error": { "message": "no such project", "code": "missing" } }), 422, "action_rejected"),
        (429, vec![("retry-after", "900")], json!({}), 429, "rate_limited"),
        (503, vec![], json!({ "message": SECRET }), 502, "vendor_unavailable"),
    ] {
        vendor.will(status, &headers, &body);
        let answer = admin.call("tracker", "create", json!({ "title": "x" })).await.expect(expected);
        assert_eq!(answer.code(), code);
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(SECRET), "{answer:?}");
        assert_eq!(answer.header("retry-after"), headers.first().map(|(_, value)| *value));
        let run = run(&admin, &answer).await;
        assert!(run["status"] == "failed" && !run.to_string().contains(SECRET), "{run}");
        assert_eq!(vendor.seen().len(), 1, "a POST that may have been done is not repeated");
    }
    drop(vendor);
    let gone = admin.call("tracker", "create", json!({ "title": "x" })).await.expect(502);
    assert_eq!((gone.code().as_str(), gone.text("/vendorCode").as_str()), ("vendor_unavailable", "unreachable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_carried_out_once_and_a_busy_vendor_is_asked_again() {
    let (server, vendor) = (server().await, Vendor::start().await);
    let admin = server.user("admin").await;
    install(&admin, &vendor).await;
    let call = async || {
        let request = admin.request(Method::POST, "/api/v1/integrations/tracker/actions/create");
        admin.send(request.header("idempotency-key", "one").json(&json!({ "title": "x" }))).await.expect(200)
    };
    vendor.will(429, &[("retry-after", "0")], &json!({}));
    vendor.will(201, &[], &json!({ "issue": 1 }));
    let (first, second) = (call().await, call().await);
    assert_eq!((&first.json, &second.json), (&json!(1), &json!(1)));
    assert_eq!(first.header("x-weft-run-id"), second.header("x-weft-run-id"));
    assert_eq!(vendor.seen().len(), 2, "refused once for the rate, then done once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_vendor_to_a_recipe_is_anybodys_who_may_ask_with_the_account() {
    let (server, vendor) = (server().await, Vendor::start().await);
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    let kept = json!([{
        "id": "list", "name": "List", "effect": "read", "cacheSeconds": 3600, "recipe": { "method": "GET", "path": "/issues" },
    }]);
    admin.post("/api/v1/apps", manifest(&vendor.url, &kept)).await.expect(200);
    admin.put("/api/v1/integrations/tracker/config", json!({ "token": SECRET })).await.expect(200);
    server.grant(&admin, &user, &["integration:tracker:list"]).await;
    vendor.will(200, &[], &json!(["one"]));
    for api in [&admin, &user] {
        assert_eq!(api.call("tracker", "list", json!({})).await.expect(200).json, json!(["one"]));
    }
    assert_eq!(vendor.seen().len(), 1, "a recipe does not know who calls, so neither does its answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_keeps_to_the_vendors_budget_and_leaves_it_alone_when_it_does_not_answer() {
    let (server, vendor) = (server().await, Vendor::start().await);
    let admin = server.user("admin").await;
    let limited = with(manifest(&vendor.url, &actions()), json!({ "rateLimit": { "requests": 100, "seconds": 36000 } }));
    admin.post("/api/v1/apps", limited).await.expect(200);
    admin.put("/api/v1/integrations/tracker/config", json!({ "token": SECRET })).await.expect(200);
    let path = "/api/v1/integrations/tracker/proxy/things";
    for _ in 0..9 {
        admin.get(path).await.expect(200);
    }
    let told = admin.get(path).await.expect(200);
    assert_eq!(told.header("ratelimit-policy"), Some("\"vendor\";q=100;w=36000"));
    assert!(told.header("ratelimit").is_some_and(|limit| limit.starts_with("\"vendor\";r=0;t=")), "{told:?}");
    let refused = admin.get(path).await.expect(429);
    assert_eq!(refused.header("ratelimit-policy"), told.header("ratelimit-policy"));
    assert_eq!((refused.code().as_str(), vendor.seen().len()), ("rate_limited", 10));
    assert_eq!(run(&admin, &refused).await["error"]["code"], "rate_limited");

    // What the vendor itself says of its limit stays as it is.
    let wide = with(manifest(&vendor.url, &actions()), json!({ "rateLimit": { "requests": 1000, "seconds": 1 } }));
    admin.post("/api/v1/apps", wide).await.expect(200);
    vendor.will(200, &[("ratelimit", "\"default\";r=7")], &json!({}));
    let theirs = admin.get(path).await.expect(200);
    assert_eq!((theirs.header("ratelimit"), theirs.header("ratelimit-policy")), (Some("\"default\";r=7"), None));

    install(&admin, &vendor).await;
    for _ in 0..5 {
        vendor.will(503, &[], &json!({}));
        crate::fixtures::eventually("the vendor says that it is down", async || {
            (admin.get(path).await.status == 503).then_some(())
        })
        .await;
    }
    let spared = admin.get(path).await.expect(502);
    assert_eq!(spared.code(), "vendor_unavailable");
    assert!(spared.header("x-weft-run-id").is_some(), "{spared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_takes_no_app_that_is_not_there_and_may_be_delegated_by_name() {
    let (server, vendor) = (server().await, Vendor::start().await);
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    let fields = json!({ "type": "object", "properties": { "token": { "type": "string", "secret": true } } });
    let auth = json!({ "userAuth": { "type": "credentials", "schema": fields } });
    let http = json!({ "baseUrl": vendor.url, "auth": { "type": "bearer", "token": "{{ credentials.token }}" } });
    let personal = with(with(manifest(&vendor.url, &actions()), auth), json!({ "http": http }));
    admin.post("/api/v1/apps", personal).await.expect(200);
    admin.put("/api/v1/integrations/tracker/config", json!({ "token": SECRET })).await.expect(200);
    server.grant(&admin, &user, &["integration:tracker:proxy", "integration:tracker:list"]).await;
    let own = json!({ "credentials": { "token": "token-of-admin" }, "label": "own" });
    admin.post("/api/v1/integrations/tracker/auth/credentials", own).await.expect(200);
    let path = "/api/v1/integrations/tracker/proxy/things";
    let through = admin.request(Method::GET, path).header("x-app-id", "nobody");
    let refused = admin.send(through).await.expect(400);
    assert!(refused.text("/error").contains("names 'nobody', which is no installed app"), "{refused:?}");
    assert!(vendor.seen().is_empty());

    let to_user = json!({ "user_id": user.get("/api/v1/auth/me").await.expect(200).value("/id"), "actions": ["proxy"] });
    admin.post("/api/v1/integrations/tracker/auth/delegate", to_user).await.expect(200);
    user.get(path).await.expect(200);
    assert_eq!(vendor.seen()[0].headers["authorization"], "Bearer token-of-admin");
    assert!(user.call("tracker", "list", json!({})).await.expect(403).text("/error").contains("it covers: proxy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_reach_no_further_than_they_may() {
    let vendor = Vendor::start().await;
    let closed = TestServer::start().await;
    let admin = closed.user("admin").await;
    install(&admin, &vendor).await;
    let refused = admin.call("tracker", "list", json!({})).await.expect(502);
    assert!(refused.text("/error").contains("not on the public internet"), "{refused:?}");

    let server = server().await;
    let admin = server.user("admin").await;
    let named = with(manifest(&vendor.url, &actions()), json!({ "egress": ["api.tracker.example"] }));
    admin.post("/api/v1/apps", named).await.expect(200);
    admin.put("/api/v1/integrations/tracker/config", json!({ "token": SECRET })).await.expect(200);
    let refused = admin.call("tracker", "list", json!({})).await.expect(502);
    assert!(refused.text("/error").contains("egress does not name 127.0.0.1"), "{refused:?}");
    assert!(vendor.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_recipe_is_told_when_it_is_installed() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let wrong = json!([{ "id": "get", "name": "Get", "recipe": { "method": "GET", "path": "/{{ inptu.id }}", "query": { "a": "{{ config.tokn }}" } } }]);
    let refused = admin.post("/api/v1/apps", manifest("https://a.example", &wrong)).await.expect(400);
    assert_eq!(fault_paths(&refused), ["$.actions[0].recipe.path", "$.actions[0].recipe.query.a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_passes_requests_on_with_the_integrations_credential() {
    let (server, vendor) = (server().await, Vendor::start().await);
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    install(&admin, &vendor).await;
    let path = "/api/v1/integrations/tracker/proxy/things/a%2Fb?q=1&q=x%20y";
    let request = |api: &Api, method: Method| {
        let request = api.request(method, path).header("cookie", "session=mine").header("x-custom", "yes");
        request.header("x-forwarded-for", "1.2.3.4").header("connection", "x-hop").header("x-hop", "1").body("hello")
    };
    user.send(request(&user, Method::PATCH)).await.expect(403);
    server.grant(&admin, &user, &["integration:tracker:proxy"]).await;
    vendor.will(418, &[("set-cookie", "evil=1"), ("x-vendor", "v")], &json!({ "teapot": true }));
    let answer = user.send(request(&user, Method::PATCH)).await.expect(418);
    assert_eq!((answer.json.clone(), answer.header("x-vendor")), (json!({ "teapot": true }), Some("v")));
    assert!(answer.header("set-cookie").is_none() && answer.header("content-security-policy").is_some());
    let seen = vendor.seen();
    let [request] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("PATCH", "/v1/things/a%2Fb?q=1&q=x%20y"));
    assert_eq!((request.body.as_str(), &request.headers["content-length"]), ("hello", &"5".parse().expect("a value")));
    assert_eq!(request.headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(
        (&request.headers["x-custom"], &request.headers["x-version"]),
        (&"yes".parse().expect("a value"), &"7".parse().expect("a value"))
    );
    for withheld in ["cookie", "x-forwarded-for", "x-hop"] {
        assert!(!request.headers.contains_key(withheld), "{withheld}");
    }
    let run = run(&admin, &answer).await;
    assert_eq!((&run["operation"], &run["error"]["code"]), (&json!("tracker.proxy"), &json!("http_418")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_streams_and_leads_nowhere_else() {
    let (server, vendor) = (server().await, Vendor::start().await);
    let admin = server.user("admin").await;
    install(&admin, &vendor).await;
    let megabytes = "stream ".repeat(1_000_000);
    let chunks = futures::stream::iter(megabytes.clone().into_bytes().chunks(10_000).map(<[u8]>::to_vec).collect::<Vec<_>>());
    let body = reqwest::Body::wrap_stream(chunks.map(Ok::<_, std::io::Error>));
    let request = admin.request(Method::POST, "/api/v1/integrations/tracker/proxy/stream").body(body);
    let answer = admin.send(request).await.expect(200);
    assert!(answer.bytes == megabytes.to_uppercase().into_bytes(), "{} bytes came back", answer.bytes.len());
    vendor.will(200, &[("content-length", "1234")], &json!(null));
    let about = admin.send(admin.request(Method::HEAD, "/api/v1/integrations/tracker/proxy/large")).await.expect(200);
    assert_eq!((about.header("content-length"), about.bytes.len()), (Some("1234"), 0));
    assert_eq!(vendor.seen().iter().map(|request| request.method.as_str()).collect::<Vec<_>>(), ["HEAD"]);

    let refused = admin.get("/api/v1/integrations/tracker/proxy/x/..%2f..%2fadmin").await.expect(422);
    assert!(refused.text("/error").contains("leads out"), "{refused:?}");
    assert!(vendor.seen().is_empty());
    admin.post("/api/v1/apps", crate::fixtures::integration("plain", &["x"])).await.expect(200);
    let none = admin.get("/api/v1/integrations/plain/proxy/x").await.expect(404);
    assert!(none.text("/error").contains("no block http"), "{none:?}");
    admin.get("/api/v1/integrations/gone/proxy/x").await.expect(404);
    let elsewhere = server.tenant(&admin, "acme", "boss").await;
    elsewhere.get("/api/v1/integrations/tracker/proxy/x").await.expect(404);
}
