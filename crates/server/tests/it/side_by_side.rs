//! Two tenants in one server: neither sees anything of the other, whatever it asks for.

use std::collections::BTreeMap;

use futures::StreamExt;
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use weft_testkit::{Api, TestServer, api::upload, server::PASSWORD};

use crate::{
    fixtures::{eventually, integration, with},
    oauth::Account,
    secrets::set,
    tenants::change_password,
};

/// Stands in everything of one tenant that the other must not see: names, addresses, descriptions, log lines, answers.
const MARK: &str = "zebra";

/// What a tenant has, by the name of the path parameter that finds it.
type Things = BTreeMap<&'static str, String>;

const BACKEND: &str = "
    defineIntegration({ actions: {
        echo: (input, ctx) => { console.log(`${input.mark} in the log`); return { seen: input.mark }; },
        fail: (input) => { throw new Error(`${input.mark} failed`); },
    }, webhooks: { news: () => 'seen' } });";

/// Fills a tenant with one of everything, marked.
async fn fill(server: &TestServer, admin: &Api, app: &'static str, mark: &str) -> Things {
    let things = json!([{ "entityName": "things", "fields": [{ "name": "name", "type": "text", "unique": true }] }]);
    let entered = json!({ "type": "object", "properties": { "password": { "type": "string", "secret": true } } });
    let auth = json!({ "type": "credentials", "required": false, "schema": entered });
    let more = json!({ "name": format!("{mark} app"), "description": mark, "userAuth": auth, "webhooks": ["news"], "dataContract": things,
        "triggers": [{ "name": "watched", "action": "echo", "every": "1 day", "perConnection": false, "autoStart": false }],
        "configSchema": { "properties": { "token": { "platformSecret": format!("{mark}_KEY").to_uppercase() } } } });
    let manifest = with(integration(app, &["echo", "fail"]), more);
    admin.post("/api/v1/apps", manifest.clone()).await.expect(200);
    // Its backend takes no jobs: this one was there before.
    let job = json!({ "payload": { "mark": mark }, "delay_seconds": 3600 });
    let job = admin.post(&format!("/api/v1/apps/{app}/jobs"), job).await.expect(201).value("/msg_id").to_string();
    server.deploy(admin, &manifest, BACKEND).await;
    set(admin, "/api/v1/platform/secrets", &format!("{mark}_KEY").to_uppercase(), mark).await.expect(200);
    set(admin, &format!("/api/v1/apps/{app}/secrets"), &format!("{mark}_SECRET").to_uppercase(), mark).await.expect(200);
    admin.post("/api/v1/roles", json!({ "name": "sales", "description": mark })).await.expect(200);
    admin.post("/api/v1/namespaces", json!({ "id": app, "name": mark })).await.expect(201);
    let departments = format!("/api/v1/namespaces/{app}/departments");
    let department = admin.post(&departments, json!({ "name": mark })).await.expect(201).text("/id");
    let user = admin.post("/api/v1/users", json!({ "email": format!("{mark}@example.com"), "displayName": mark })).await;
    let account = Account::create(admin, &format!("{mark}-ci"), &[]).await;
    admin.call(app, "echo", json!({ "mark": mark })).await.expect(200);
    admin.call(app, "fail", json!({ "mark": mark })).await;
    let runs = admin.runs(app, 2).await;
    let credential = admin.get(&format!("/api/v1/service-accounts/{}/credentials", account.id)).await.text("/0/id");
    let thing = format!("/api/v1/apps/{app}/collections/things");
    let record = admin.post(&thing, json!({ "name": mark })).await.expect(201).text("/id");
    let cron = json!({ "name": mark, "schedule": "0 9 * * *", "payload": { "mark": mark } });
    let cron = admin.post(&format!("/api/v1/apps/{app}/crons"), cron).await.expect(201).text("/id");
    let connection = json!({ "label": mark, "credentials": { "password": format!("{mark} password") } });
    let connection = admin.post(&format!("/api/v1/integrations/{app}/auth/credentials"), connection).await;
    let named = json!({ "label": mark, "credentials": { "token": mark } });
    let named = admin.post(&format!("/api/v1/integrations/{app}/configs"), named).await;
    let hook = json!({ "entity": "things", "operation": "INSERT", "action_type": "job", "action_config": { "mark": mark } });
    let hook = admin.post(&format!("/api/v1/apps/{app}/hooks"), hook).await;
    let sync = admin.get(&format!("/api/v1/integrations/{app}/syncs")).await.expect(200).text("/0/id");
    let file = Form::new().part("file", Part::bytes(mark.as_bytes().to_vec()).file_name(format!("{mark}.txt")));
    let file = admin.send(admin.request(Method::POST, &format!("/api/v1/apps/{app}/storage/upload")).multipart(file)).await;
    // A bucket is told by its name, which whoever asks for it has said.
    admin.post("/api/v1/storage/buckets", json!({ "name": app })).await.expect(201);
    let object = Form::new().part("file", Part::bytes(mark.as_bytes().to_vec()).file_name(format!("{mark}.txt")));
    let object =
        admin.send(admin.request(Method::POST, &format!("/api/v1/storage/objects/{app}/upload")).multipart(object)).await;
    let webhook = admin.get(&format!("/api/v1/apps/{app}/webhooks")).await.expect(200).text("/0/token");
    BTreeMap::from([
        ("app_id", app.to_owned()),
        ("integration_id", app.to_owned()),
        ("action_id", "echo".to_owned()),
        ("run_id", runs[0]["id"].as_str().unwrap_or_default().to_owned()),
        ("user_id", user.expect(201).text("/user/id")),
        ("account", account.id),
        ("credential_id", credential),
        ("department_id", department),
        ("namespace_id", app.to_owned()),
        ("webhook", webhook),
        ("entity", "things".to_owned()),
        ("record", record),
        ("cron_id", cron),
        ("connection_id", connection.text("/connectionId")),
        ("configuration_id", named.text("/id")),
        ("hook_id", hook.text("/id")),
        ("sync_id", sync),
        ("file_id", file.text("/file_id")),
        ("bucket", app.to_owned()),
        ("object_id", object.text("/id")),
        ("msg_id", job),
    ])
}

/// The path of a route with a tenant's things in it.
fn path(route: &str, things: &Things) -> String {
    let id: &str = match route {
        route if route.contains("service-accounts") => &things["account"],
        route if route.contains("/collections/") => &things["record"],
        route if route.contains("/catalog/") => "their_app",
        _ => &things["user_id"],
    };
    let filled = things.iter().fold(route.replace("{id}", id), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
    filled.replace("{role_name}", "sales").replace(['{', '}'], "")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_to_one_tenant_holds_anything_of_the_other() {
    let server = TestServer::start().await;
    let platform = server.user("platform").await;
    let (ours, theirs) = (server.tenant(&platform, "ours", "o").await, server.tenant(&platform, "theirs", "t").await);
    let own = fill(&server, &ours, "our_app", "lion").await;
    let other = fill(&server, &theirs, "their_app", MARK).await;
    let document = server.anonymous().get("/api/openapi.json").await.expect(200).json;
    let (mut asked, mut found) = (0, 0);
    for (route, operations) in document["paths"].as_object().expect("paths") {
        // Streams and what acts on the server as a whole have tests of their own.
        if route.ends_with("/logs") || operations.get("get").is_none() {
            continue;
        }
        for things in [&own, &other] {
            let answer = ours.get(&path(route, things)).await;
            asked += 1;
            found += usize::from(answer.status == 200);
            let body = String::from_utf8_lossy(&answer.bytes).to_lowercase();
            assert!(!body.contains(MARK), "GET {route}: {answer:?}");
            let theirs_by_id = things == &other && route.contains('{') && !route.contains("{role_name}");
            if theirs_by_id && route.starts_with("/api/v1/") && !route.contains("/tenants/") {
                assert_eq!(answer.status, 404, "GET {route}: {answer:?}");
            }
        }
        assert!(String::from_utf8_lossy(&theirs.get(&path(route, &other)).await.bytes).len() > 1);
    }
    assert!(asked > 30 && found > 15, "the walk went somewhere: {asked}, {found}");
    // What the one must not see is there for the other.
    let seen = async |path: &str| String::from_utf8_lossy(&theirs.get(path).await.bytes).to_lowercase().contains(MARK);
    for path in
        ["/api/v1/users", "/api/v1/apps", "/api/v1/roles", "/api/v1/platform/secrets", "/api/v1/runs", "/api/v1/service-accounts"]
    {
        assert!(seen(path).await, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_or_calls_what_belongs_to_another_tenant() {
    let server = TestServer::start().await;
    let platform = server.user("platform").await;
    let (ours, theirs) = (server.tenant(&platform, "ours", "o").await, server.tenant(&platform, "theirs", "t").await);
    let other = fill(&server, &theirs, "their_app", MARK).await;
    let document = server.anonymous().get("/api/openapi.json").await.expect(200).json;
    let mut refused = Vec::new();
    for (route, operations) in document["paths"].as_object().expect("paths") {
        let names = ["{app_id}", "{integration_id}", "{id}", "{run_id}", "{user_id}", "{namespace_id}"];
        let by_id = names.iter().any(|name| route.contains(name));
        for method in operations.as_object().expect("operations").keys().filter(|_| by_id && !route.ends_with("/logs")) {
            let verb = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let request = ours.request(verb, &path(route, &other));
            // Who may see the app is asked once it is clear that no manifest comes along.
            let uploads =
                ["/deploy", "/frontend", "/upload"].iter().any(|end| route.ends_with(end)) && !route.contains("/catalog/");
            let request = if uploads { request.multipart(upload(&[("index.ts", "")])) } else { request.json(&body(route)) };
            let answer = ours.send(request).await;
            let line = format!("{} {route}", method.to_uppercase());
            // Removing an app that is not there is no mistake, and this one stays.
            let expected = if line == "DELETE /api/v1/apps/{app_id}" { 200 } else { 404 };
            assert_eq!(answer.status, expected, "{line}: {answer:?}");
            refused.push(line);
        }
    }
    assert!(refused.len() > 20, "{refused:?}");
    theirs.call("their_app", "echo", json!({ "mark": "still here" })).await.expect(200);
    // Nor is another tenant's app an app on whose behalf to call.
    let _ = fill(&server, &ours, "our_app", "lion").await;
    let request = ours.request(Method::POST, "/api/v1/integrations/our_app/actions/echo").header("x-app-id", "their_app");
    ours.send(request.json(&json!({ "mark": "x" }))).await.expect(400);
}

/// A body that gets past the checks of its shape.
fn body(route: &str) -> Value {
    match route {
        route if route.ends_with("/act-as") => json!({ "userId": "018f0000-0000-7000-8000-000000000000" }),
        route if route.ends_with("/transfer-ownership") => json!({ "new_owner": "018f0000-0000-7000-8000-000000000000" }),
        route if route.ends_with("/auth/credentials") => json!({ "credentials": {} }),
        route if route.ends_with("/auth/delegate") => json!({ "user_id": "018f0000-0000-7000-8000-000000000000" }),
        route if route.ends_with("/configs") => json!({ "label": "x", "credentials": { "token": "x" } }),
        route if route.contains("/connections/") => json!({ "label": "x" }),
        route if route.ends_with("/integrations") => json!({ "integrationId": "x" }),
        route if route.ends_with("/hooks") => json!({ "entity": "things", "operation": "INSERT", "action_type": "job" }),
        route if route.ends_with("/upload-url") => json!({ "name": "a.txt" }),
        route if route.ends_with("/credentials") => json!({ "name": "k" }),
        route if route.contains("/namespaces/") => json!({ "name": "x" }),
        route if route.ends_with("/bulk") => json!([{ "name": "x" }]),
        route if route.ends_with("/bulk/update") => json!({ "where": { "name": "x" }, "set": { "name": "x" } }),
        route if route.ends_with("/bulk/delete") => json!({ "where": { "name": "x" } }),
        route if route.ends_with("/upsert") => json!({ "on": ["name"], "records": [{ "name": "x" }] }),
        route if route.ends_with("/aggregate") => json!({ "aggregates": { "n": { "count": "*" } } }),
        route if route.contains("/collections/") && !route.ends_with("/query") => json!({ "name": "x" }),
        route if route.ends_with("/crons") => json!({ "name": "x", "schedule": "0 9 * * *" }),
        route if route.ends_with("/rpc") => json!({ "method": "ping" }),
        route if route.ends_with("/secrets") => json!({ "key": "KEY", "value": "v" }),
        _ => json!({}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_stream_carries_the_lines_of_its_own_tenant_only() {
    let server = TestServer::start().await;
    let platform = server.user("platform").await;
    let (ours, theirs) = (server.tenant(&platform, "ours", "o").await, server.tenant(&platform, "theirs", "t").await);
    fill(&server, &ours, "our_app", "lion").await;
    fill(&server, &theirs, "their_app", MARK).await;
    ours.get("/api/v1/apps/their_app/logs").await.expect(404);
    let response = ours.request(Method::GET, "/api/v1/apps/our_app/logs").send().await.expect("a stream");
    let mut lines = response.bytes_stream();
    theirs.call("their_app", "echo", json!({ "mark": MARK })).await.expect(200);
    ours.call("our_app", "echo", json!({ "mark": "last" })).await.expect(200);
    let mut seen = String::new();
    while !seen.contains("last in the log") {
        seen += &String::from_utf8_lossy(&lines.next().await.expect("more lines").expect("in order"));
    }
    assert!(!seen.contains(MARK), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_name_no_tenant_and_nothing_of_one() {
    let server = TestServer::start().await;
    let platform = server.user("platform").await;
    let (ours, theirs) = (server.tenant(&platform, "ours", "o").await, server.tenant(&platform, "theirs", "t").await);
    fill(&server, &ours, "our_app", "lion").await;
    fill(&server, &theirs, "their_app", MARK).await;
    let text = server.anonymous().get("/metrics").await.expect(200);
    let text = String::from_utf8_lossy(&text.bytes).to_lowercase();
    for word in [MARK, "lion", "theirs", "their_app", "our_app", "@example.com"] {
        assert!(!text.contains(word), "{word}");
    }
    assert!(text.contains("weft_runs_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_names_are_different_things_in_different_tenants() {
    let server = TestServer::start().await;
    let platform = server.user("platform").await;
    let (ours, theirs) = (server.tenant(&platform, "ours", "o").await, server.tenant(&platform, "theirs", "t").await);
    for (admin, permission) in [(&ours, "app:a:*"), (&theirs, "app:b:*")] {
        admin.post("/api/v1/roles", json!({ "name": "sales", "permissions": [permission] })).await.expect(200);
        set(admin, "/api/v1/platform/secrets", "TOKEN", permission).await.expect(200);
        let account = admin.post("/api/v1/service-accounts", json!({ "slug": "ci" })).await.expect(201);
        assert_eq!(account.text("/email"), "sa+ci@localhost");
    }
    ours.delete("/api/v1/roles/sales").await.expect(200);
    ours.delete("/api/v1/platform/secrets/TOKEN").await.expect(200);
    let roles = theirs.get("/api/v1/roles").await.expect(200);
    assert_eq!(roles.value("/2/permissions"), json!(["app:b:*"]));
    assert_eq!(theirs.get("/api/v1/platform/secrets").await.expect(200).json, json!(["TOKEN"]));
    // One person in both is two members with roles of their own, and one login.
    theirs.post("/api/v1/users", json!({ "email": "o@example.com", "roles": ["sales"] })).await.expect(201);
    change_password(&ours, PASSWORD).await;
    let there = server.login_to("theirs", "o@example.com").await;
    assert_eq!(there.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["app:b:*"]));
    assert_eq!(ours.get("/api/v1/permissions").await.expect(200).value("/permissions"), json!(["*"]));
    let accounts = async || ours.get("/api/v1/service-accounts").await.expect(200).json.as_array().map(Vec::len);
    eventually("each has its own", async || (accounts().await == Some(1)).then_some(())).await;
}
