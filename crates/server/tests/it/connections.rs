//! Connections: entering credentials, which one a call uses, and who may see and change what.

use chrono::Duration;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use weft_server::ServeArgs;
use weft_testkit::{Answer, Api, TestServer, database::TestDatabase, proxy::Proxy, server::url};

use crate::fixtures::{app, eventually, fault_paths, integration, with};

const MAILBOX: &str = "defineIntegration({
    actions: {
        show: (_, ctx) => ({ ...ctx.userCredentials, userId: ctx.userId, connectionId: ctx.connectionId, caller: ctx.caller }),
        outer: async (input, ctx) => [await ctx.action('show'), await ctx.callIntegration('mail', 'show')],
        leak: (_, ctx) => { throw new ActionError('refused: ' + ctx.userCredentials.password + ' at ' + ctx.userCredentials.host) },
        lacks: (_, ctx) => ({ ok: false, error: { code: 'INSUFFICIENT_PERMISSIONS', message: 'no right to send, ' + ctx.userCredentials.password } }),
        keep: async (values, ctx) => { await ctx.updateCredentials(values); return ctx.currentCredentials(); },
        rotate: async (values, ctx) => { await ctx.updateCredentials(values); throw new ActionError('refused: ' + values.password); },
    },
});";
const APP: &str = "serve({ rpc: { read: (_, caller, ctx) => ctx.callIntegration('mail', 'show') } });";

fn manifest() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "host": { "type": "string", "label": "IMAP host", "minLength": 1 },
            "port": { "type": "integer", "default": 993 },
            "password": { "type": "string", "secret": true, "minLength": 6 },
        },
        "required": ["host", "password"],
    });
    let more = json!({ "userAuth": { "type": "credentials", "schema": schema } });
    with(integration("mail", &["show", "outer", "leak", "lacks", "keep", "rotate"]), more)
}

/// A server with a mailbox integration, an app that reads mail, and two people who may use both.
struct World {
    server: TestServer,
    admin: Api,
    alice: Api,
    bob: Api,
}

impl World {
    async fn start() -> Self {
        let server = TestServer::start().await;
        let admin = server.user("admin").await;
        server.deploy(&admin, &manifest(), MAILBOX).await;
        server.deploy(&admin, &app("crm"), APP).await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        for user in [&alice, &bob] {
            server.grant(&admin, user, &["integration:mail:show", "integration:mail:outer", "app:crm:invoke"]).await;
        }
        Self { server, admin, alice, bob }
    }
}

async fn enter(api: &Api, label: &str, more: Value) -> Answer {
    let credentials = json!({ "host": format!("{label}.example.com"), "password": format!("password of {label}") });
    let body = with(json!({ "credentials": credentials, "label": label }), more);
    api.post("/api/v1/integrations/mail/auth/credentials", body).await
}

async fn connect(api: &Api, label: &str) -> String {
    enter(api, label, json!({})).await.expect(200).text("/connectionId")
}

async fn show(api: &Api) -> Answer {
    api.call("mail", "show", json!({})).await
}

async fn show_with(api: &Api, header: &str, value: &str) -> Answer {
    let request = api.request(Method::POST, "/api/v1/integrations/mail/actions/show").header(header, value);
    api.send(request.json(&json!({}))).await
}

async fn listed(api: &Api) -> Vec<Value> {
    let answer = api.get("/api/v1/integrations/mail/connections").await.expect(200);
    answer.json.as_array().cloned().unwrap_or_default()
}

async fn me(api: &Api) -> Value {
    api.get("/api/v1/auth/me").await.expect(200).value("/id")
}

#[tokio::test(flavor = "multi_thread")]
async fn entered_credentials_are_checked_and_reach_the_backend_and_nobody_else() {
    let it = World::start().await;
    let start = it.alice.post("/api/v1/integrations/mail/auth/start", json!({})).await.expect(200);
    assert_eq!(
        (start.text("/type").as_str(), start.text("/schema/properties/host/label").as_str()),
        ("credentials", "IMAP host")
    );

    let wrong = json!({ "credentials": { "host": 5, "password": "short" } });
    let refused = it.alice.post("/api/v1/integrations/mail/auth/credentials", wrong).await.expect(400);
    assert_eq!(
        (refused.code().as_str(), fault_paths(&refused)),
        ("validation_failed", vec!["$.credentials.host".into(), "$.credentials.password".into()])
    );
    assert!(!String::from_utf8_lossy(&refused.bytes).contains("short\""), "{refused:?}");
    assert_eq!(it.alice.get("/api/v1/integrations/mail/auth").await.expect(200).value("/connected"), json!(false));

    let id = connect(&it.alice, "work").await;
    let seen = show(&it.alice).await.expect(200).json;
    let expected = json!({ "host": "work.example.com", "port": 993, "password": "password of work", "userId": me(&it.alice).await, "connectionId": id });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&seen[name], value, "{name}");
    }
    assert_eq!(seen["caller"]["connectionId"], json!(id));
    let status = it.alice.get("/api/v1/integrations/mail/auth").await.expect(200);
    assert_eq!(
        (status.value("/connected"), status.value("/connectionCount"), status.text("/type")),
        (json!(true), json!(1), "credentials".into())
    );
    let list = listed(&it.alice).await;
    assert_eq!((list.len(), &list[0]["label"], &list[0]["status"]), (1, &json!("work"), &json!("active")));
    assert!(!json!(list).to_string().contains("password of"));
    assert_eq!(it.alice.runs("mail", 1).await[0]["connectionId"], json!(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_label_means_the_same_connection_and_the_oldest_is_used() {
    let it = World::start().await;
    let work = connect(&it.alice, "work").await;
    let home = connect(&it.alice, "home").await;
    let again =
        enter(&it.alice, "work", json!({ "credentials": { "host": "new.example.com", "password": "a new password" } })).await;
    assert_eq!(again.expect(200).text("/connectionId"), work);
    assert_eq!(listed(&it.alice).await.len(), 2);
    let seen = show(&it.alice).await.expect(200);
    assert_eq!((seen.text("/connectionId"), seen.text("/host")), (work.clone(), "new.example.com".into()));
    assert_eq!(show_with(&it.alice, "x-connection-id", &home).await.expect(200).text("/host"), "home.example.com");

    let path = format!("/api/v1/integrations/mail/connections/{home}");
    assert_eq!(it.alice.patch(&path, json!({ "label": "work" })).await.expect(409).code(), "conflict");
    it.alice.patch(&path, json!({ "label": "private" })).await.expect(200);
    // What it is called decides which one is meant the next time.
    assert_eq!(connect(&it.alice, "private").await, home);
    // Ten windows at once are one connection.
    let ids = join_all((0..10).map(|_| connect(&it.alice, "third"))).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_a_call_says_how_to_get_one() {
    let it = World::start().await;
    let refused = show(&it.alice).await.expect(409);
    assert_eq!(refused.code(), "not_connected");
    let connect_url = format!("{}/api/v1/integrations/mail/auth/start", it.server.url());
    assert_eq!(refused.text("/reconnectUrl"), connect_url);
    assert_eq!(it.alice.post(&connect_url, json!({})).await.expect(200).text("/type"), "credentials");
    let run = it.alice.runs("mail", 1).await.remove(0);
    assert_eq!((&run["error"]["code"], &run["connectionId"]), (&json!("not_connected"), &Value::Null));

    // Optional ones are called without.
    let optional = with(manifest(), json!({ "userAuth": { "type": "redirect", "required": false } }));
    it.admin.post("/api/v1/apps", optional).await.expect(200);
    let without = eventually("the new manifest serves", async || {
        let answer = show(&it.alice).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!((without.value("/connectionId"), without.value("/userId")), (Value::Null, me(&it.alice).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_comes_before_a_delegation_before_the_oldest_before_the_tenants() {
    let it = World::start().await;
    let host = async |header: Option<(&str, &str)>| match header {
        Some((name, value)) => show_with(&it.alice, name, value).await.expect(200).text("/host"),
        None => show(&it.alice).await.expect(200).text("/host"),
    };
    enter(&it.admin, "shared", json!({ "shared": true })).await.expect(200);
    assert_eq!(host(None).await, "shared.example.com");
    let own = connect(&it.alice, "own").await;
    let second = connect(&it.alice, "second").await;
    assert_eq!(host(None).await, "own.example.com");
    connect(&it.admin, "boss").await;
    let to_alice = json!({ "user_id": me(&it.alice).await });
    let delegated = it.admin.post("/api/v1/integrations/mail/auth/delegate", to_alice).await.expect(200).text("/connectionId");
    assert_eq!(host(None).await, "boss.example.com");
    assert_eq!(show(&it.alice).await.expect(200).value("/userId"), me(&it.admin).await);

    let bindings = "/api/v1/apps/crm/integrations";
    assert_eq!(it.alice.post(bindings, json!({ "integrationId": "mail" })).await.expect(403).code(), "forbidden");
    it.alice.post(bindings, json!({ "integrationId": "mail", "scope": "user" })).await.expect(400);
    let mine = json!({ "integrationId": "mail", "connectionId": second, "scope": "user" });
    it.bob.post(bindings, mine.clone()).await.expect(400);
    it.alice.post(bindings, mine).await.expect(200);
    assert_eq!(host(Some(("x-app-id", "crm"))).await, "second.example.com");
    assert_eq!(host(None).await, "boss.example.com");
    let read = it.alice.post("/api/v1/apps/crm/rpc", json!({ "method": "read" })).await.expect(200);
    assert_eq!(read.text("/host"), "second.example.com");
    let list = it.alice.get(bindings).await.expect(200);
    assert_eq!((list.text("/0/integrationId"), list.text("/0/connectionId")), ("mail".into(), second));
    it.alice.delete(&format!("{bindings}/mail?scope=user")).await.expect(200);
    assert_eq!(host(Some(("x-app-id", "crm"))).await, "boss.example.com");

    it.admin.delete(&format!("/api/v1/integrations/mail/connections/{delegated}")).await.expect(200);
    assert_eq!(host(None).await, "own.example.com");
    it.alice.delete(&format!("/api/v1/integrations/mail/connections/{own}")).await.expect(200);
    assert_eq!(host(None).await, "second.example.com");
    it.alice.delete("/api/v1/integrations/mail/auth").await.expect(200);
    assert_eq!(host(None).await, "shared.example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_is_bound_to_for_everybody_is_for_those_who_may_use_the_app() {
    let it = World::start().await;
    let id = connect(&it.admin, "office").await;
    it.admin.post("/api/v1/apps/crm/integrations", json!({ "integrationId": "mail", "connectionId": id })).await.expect(200);
    assert_eq!(show_with(&it.bob, "x-app-id", "crm").await.expect(200).text("/host"), "office.example.com");
    it.server.grant(&it.admin, &it.bob, &["integration:mail:show"]).await;
    let refused = show_with(&it.bob, "x-app-id", "crm").await.expect(403);
    assert_eq!(refused.value("/requires"), json!(["app:crm:invoke"]));
    show(&it.bob).await.expect(409);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_within_a_call_use_its_connection_whoever_else_calls_at_the_same_time() {
    let it = World::start().await;
    let mut ids = Vec::new();
    for label in ["one", "two", "three"] {
        ids.push(connect(&it.alice, label).await);
    }
    connect(&it.bob, "of bob").await;
    let calls = (0..60).map(async |index| {
        let (api, id) = if index % 4 == 3 { (&it.bob, None) } else { (&it.alice, Some(&ids[index % 4])) };
        let request = api.request(Method::POST, "/api/v1/integrations/mail/actions/outer").json(&json!({}));
        let request = match id {
            Some(id) => request.header("x-connection-id", id),
            None => request,
        };
        let answer = api.send(request).await.expect(200);
        let hosts = [answer.text("/0/host"), answer.text("/1/host")];
        let expected = ["one", "two", "three", "of bob"][index % 4];
        assert_eq!(hosts, [format!("{expected}.example.com"), format!("{expected}.example.com")]);
    });
    join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_see_and_change_nothing_of_a_connection() {
    let it = World::start().await;
    let id = connect(&it.alice, "private").await;
    let path = format!("/api/v1/integrations/mail/connections/{id}");
    assert!(listed(&it.bob).await.is_empty());
    for refused in [it.bob.patch(&path, json!({ "label": "mine" })).await, it.bob.delete(&path).await] {
        assert_eq!(refused.expect(403).code(), "forbidden");
    }
    // Not even an administrator, who can remove the person or the integration.
    it.admin.delete(&path).await.expect(403);
    assert_eq!(show_with(&it.bob, "x-connection-id", &id).await.expect(404).code(), "not_found");
    it.bob.post("/api/v1/integrations/mail/auth/credentials", json!({ "credentials": {}, "shared": true })).await.expect(403);
    assert_eq!(enter(&it.bob, "all", json!({ "shared": true })).await.expect(403).code(), "forbidden");
    it.bob.get("/api/v1/integrations/mail/connected-users").await.expect(403);
    let users = it.admin.get("/api/v1/integrations/mail/connected-users").await.expect(200);
    assert_eq!(users.json, json!([me(&it.alice).await]));

    let elsewhere = it.server.tenant(&it.admin, "elsewhere", "eve").await;
    for path in ["/auth", "/connections", "/connected-users"] {
        elsewhere.get(&format!("/api/v1/integrations/mail{path}")).await.expect(404);
    }
    elsewhere.delete(&path).await.expect(404);
    show(&elsewhere).await.expect(404);
    assert_eq!(listed(&it.alice).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_lacks_rights_stops_serving_until_it_is_connected_again() {
    let it = World::start().await;
    let id = connect(&it.admin, "weak").await;
    // Convention: the answer stays a 200.
    it.admin.call("mail", "lacks", json!({})).await.expect(200);
    let dead = eventually("the connection is marked", async || {
        let answer = show(&it.admin).await;
        (answer.status == 424).then_some(answer)
    })
    .await;
    assert_eq!(dead.code(), "reconnect_required");
    assert!(dead.text("/error").contains("no right to send, [masked]"), "{dead:?}");
    assert!(dead.text("/reconnectUrl").ends_with(&format!("?connection_id={id}")), "{dead:?}");
    let list = listed(&it.admin).await;
    assert_eq!((&list[0]["status"], &list[0]["statusCause"]), (&json!("error"), &json!("insufficient_permissions")));
    let status = it.admin.get("/api/v1/integrations/mail/auth").await.expect(200);
    assert_eq!((status.value("/connected"), status.value("/deadCount")), (json!(false), json!(1)));
    // Another account serves meanwhile.
    connect(&it.admin, "strong").await;
    assert_eq!(show(&it.admin).await.expect(200).text("/host"), "strong.example.com");

    let again = json!({ "credentials": { "host": "weak.example.com", "password": "another password" } });
    let path = format!("/api/v1/integrations/mail/auth/credentials?connection_id={id}");
    assert_eq!(it.admin.post(&path, again).await.expect(200).text("/connectionId"), id);
    let seen = show(&it.admin).await.expect(200);
    assert_eq!((seen.text("/connectionId"), seen.text("/password")), (id, "another password".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backend_says_of_a_credential_is_masked_and_what_is_no_secret_is_not() {
    let it = World::start().await;
    connect(&it.admin, "work").await;
    let failed = it.admin.call("mail", "leak", json!({})).await.expect(502);
    assert_eq!(failed.text("/error"), "refused: [masked] at work.example.com");
    let run = it.admin.runs("mail", 1).await.remove(0);
    assert_eq!(run["error"]["message"], "refused: [masked] at work.example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_may_keep_other_values_in_the_connection_of_its_call() {
    let it = World::start().await;
    let id = connect(&it.admin, "work").await;
    let kept = it.admin.call("mail", "keep", json!({ "password": "a rotated one" })).await.expect(200);
    assert_eq!((kept.text("/password"), kept.text("/host")), ("a rotated one".into(), "work.example.com".into()));
    let seen = show(&it.admin).await.expect(200);
    assert_eq!((seen.text("/connectionId"), seen.text("/password")), (id, "a rotated one".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backend_learns_of_a_credential_while_it_works_is_masked_in_that_call() {
    let it = World::start().await;
    connect(&it.admin, "work").await;
    let failed = it.admin.call("mail", "rotate", json!({ "password": "a rotated one" })).await.expect(502);
    assert_eq!(failed.text("/error"), "refused: [masked]");
    assert_eq!(it.admin.runs("mail", 1).await[0]["error"]["message"], "refused: [masked]");
}

#[tokio::test(flavor = "multi_thread")]
async fn for_everybody_an_app_is_bound_only_to_what_is_ones_own_or_the_tenants() {
    let it = World::start().await;
    connect(&it.admin, "boss").await;
    let to_bob = json!({ "user_id": me(&it.bob).await });
    let delegated = it.admin.post("/api/v1/integrations/mail/auth/delegate", to_bob).await.expect(200).text("/connectionId");
    it.server.grant(&it.admin, &it.bob, &["integration:mail:show", "integration:mail:manage"]).await;
    let bindings = "/api/v1/apps/crm/integrations";
    let bind = |id: &str, scope: &str| json!({ "integrationId": "mail", "connectionId": id, "scope": scope });
    // What was lent to one person is not theirs to give to all.
    let refused = it.bob.post(bindings, bind(&delegated, "app")).await.expect(400);
    assert!(refused.text("/error").contains("not owned by you"), "{refused:?}");
    it.bob.post(bindings, bind(&delegated, "user")).await.expect(200);
    let own = connect(&it.bob, "own").await;
    let shared = enter(&it.admin, "shared", json!({ "shared": true })).await.expect(200).text("/connectionId");
    for id in [&own, &shared] {
        it.bob.post(bindings, bind(id, "app")).await.expect(200);
    }
}

/// Calls that are left of what was delegated to somebody.
async fn calls_left(api: &Api) -> Value {
    listed(api).await[0]["delegation"]["callsLeft"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegated_call_is_spent_only_when_it_goes_out() {
    let it = World::start().await;
    connect(&it.admin, "boss").await;
    let to_bob = json!({ "user_id": me(&it.bob).await, "max_calls": 2 });
    it.admin.post("/api/v1/integrations/mail/auth/delegate", to_bob).await.expect(200);
    for _ in 0..3 {
        let request = it.bob.request(Method::POST, "/api/v1/integrations/mail/actions/show").header("idempotency-key", "one");
        it.bob.send(request.json(&json!({}))).await.expect(200);
    }
    assert_eq!(calls_left(&it.bob).await, json!(1), "twice it was the answer of before");
    show(&it.bob).await.expect(200);
    assert!(show(&it.bob).await.expect(403).text("/error").contains("has no calls left"));
    // A key that led to nothing may be used again.
    let request = || it.bob.request(Method::POST, "/api/v1/integrations/mail/actions/show").header("idempotency-key", "two");
    it.bob.send(request().json(&json!({}))).await.expect(403);
    // What is used up does not stand in the way of what is one's own.
    connect(&it.bob, "own").await;
    assert_eq!(show(&it.bob).await.expect(200).text("/host"), "own.example.com");
    assert_eq!(it.bob.send(request().json(&json!({}))).await.expect(200).text("/host"), "own.example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_up_while_ones_own_account_waits_gives_way_to_it() {
    let it = World::start().await;
    connect(&it.admin, "boss").await;
    connect(&it.bob, "own").await;
    let to_bob = json!({ "user_id": me(&it.bob).await, "max_calls": 1 });
    it.admin.post("/api/v1/integrations/mail/auth/delegate", to_bob).await.expect(200);
    assert_eq!(show(&it.bob).await.expect(200).text("/host"), "boss.example.com");
    assert_eq!(show(&it.bob).await.expect(200).text("/host"), "own.example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_with_another_connection_is_used_for_another_request() {
    let it = World::start().await;
    let (one, two) = (connect(&it.alice, "one").await, connect(&it.alice, "two").await);
    let call = async |id: &str| {
        let request = it.alice.request(Method::POST, "/api/v1/integrations/mail/actions/show").header("x-connection-id", id);
        it.alice.send(request.header("idempotency-key", "one").json(&json!({}))).await
    };
    assert_eq!(call(&one).await.expect(200).text("/host"), "one.example.com");
    assert_eq!(call(&two).await.expect(422).code(), "idempotency_mismatch");
    assert_eq!(call(&one).await.expect(200).text("/host"), "one.example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_reaches_as_far_as_was_said() {
    let it = World::start().await;
    let delegate = "/api/v1/integrations/mail/auth/delegate";
    let to_bob = json!({ "user_id": me(&it.bob).await });
    assert_eq!(it.alice.post(delegate, to_bob.clone()).await.expect(403).code(), "forbidden");
    let first = it.admin.post(delegate, to_bob.clone()).await.expect(400);
    assert_eq!(first.text("/error"), "you must connect this integration first");
    let source = connect(&it.admin, "boss").await;
    for wrong in [json!({}), json!({ "user_id": me(&it.bob).await, "agent_app_id": "crm" }), json!({ "agent_app_id": "nobody" })]
    {
        let answer = it.admin.post(delegate, wrong).await;
        assert!([400, 404].contains(&answer.status), "{answer:?}");
    }
    it.admin.post(delegate, with(to_bob.clone(), json!({ "actions": ["unknown"] }))).await.expect(400);

    it.admin.post(delegate, with(to_bob.clone(), json!({ "actions": ["outer"] }))).await.expect(200);
    let refused = show(&it.bob).await.expect(403);
    assert!(refused.text("/error").contains("it covers: outer"), "{refused:?}");
    it.bob.call("mail", "outer", json!({})).await.expect(200);

    it.admin.post(delegate, with(to_bob.clone(), json!({ "max_calls": 3 }))).await.expect(200);
    let statuses = join_all((0..10).map(async |_| show(&it.bob).await.status)).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 7, "{statuses:?}");
    let seen = listed(&it.bob).await;
    assert_eq!(
        (seen.len(), &seen[0]["delegation"]["callsLeft"], &seen[0]["delegation"]["sourceId"]),
        (1, &json!(0), &json!(source))
    );

    it.admin.post(delegate, with(to_bob.clone(), json!({ "expires_in": 3600 }))).await.expect(200);
    show(&it.bob).await.expect(200);
    it.server.advance(Duration::minutes(61));
    let bob = it.server.login("bob@example.com").await;
    assert!(show(&bob).await.expect(403).text("/error").contains("was good until"));
    // What is over does not stand in the way of what is one's own.
    connect(&bob, "own").await;
    assert_eq!(show(&bob).await.expect(200).text("/host"), "own.example.com");

    // For an app: whoever uses it acts with the account, and nobody who only says so.
    let admin = it.server.login("admin@example.com").await;
    admin.post(delegate, json!({ "agent_app_id": "crm" })).await.expect(200);
    let alice = it.server.login("alice@example.com").await;
    let read = alice.post("/api/v1/apps/crm/rpc", json!({ "method": "read" })).await.expect(200);
    assert_eq!((read.text("/host"), read.value("/userId")), ("boss.example.com".into(), me(&admin).await));
    assert_eq!(admin.get("/api/v1/integrations/mail/auth?agent_app_id=crm").await.expect(200).value("/connected"), json!(true));
    alice.delete("/api/v1/integrations/mail/auth?agent_app_id=crm").await.expect(403);
    admin.delete("/api/v1/integrations/mail/auth?agent_app_id=crm").await.expect(200);
    let read = alice.post("/api/v1/apps/crm/rpc", json!({ "method": "read" })).await;
    assert!(read.text("/error").contains("not connected"), "{read:?}");
}

/// A server whose way to the database can be cut, with the mailbox integration and the app.
async fn over_proxy() -> (TestServer, Proxy, Api) {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database);
    let arguments = ServeArgs { database_url: Some(proxy.url.clone()), ..ServeArgs::default() };
    let server = TestServer::start_on(database, arguments).await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), MAILBOX).await;
    server.deploy(&admin, &app("crm"), APP).await;
    (server, proxy, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_call_asks_the_database_nothing() {
    let (_server, proxy, admin) = over_proxy().await;
    let id = connect(&admin, "work").await;
    admin.post("/api/v1/apps/crm/integrations", json!({ "integrationId": "mail", "connectionId": id })).await.expect(200);
    show(&admin).await.expect(200);
    show_with(&admin, "x-app-id", "crm").await.expect(200);
    proxy.cut();
    for _ in 0..5 {
        assert_eq!(show(&admin).await.expect(200).text("/connectionId"), id);
        assert_eq!(show_with(&admin, "x-app-id", "crm").await.expect(200).text("/connectionId"), id);
    }
    proxy.restore();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_stays_warm_when_the_database_tells_a_node_late_of_what_it_changed_itself() {
    let (server, proxy, admin) = over_proxy().await;
    let bob = server.user("bob").await;
    let (second, _folder) = server.second_node().await;
    let id = connect(&admin, "work").await;
    proxy.hold("connections default");
    admin.post("/api/v1/apps/crm/integrations", json!({ "integrationId": "mail", "connectionId": id })).await.expect(200);
    show(&admin).await.expect(200);
    show_with(&admin, "x-app-id", "crm").await.expect(200);
    proxy.release();
    // The database tells in order: who knows of the later change has heard of the earlier one.
    server.grant(&admin.clone().at(url(&second)), &bob, &["integration:mail:show"]).await;
    eventually("the first node follows", async || (show(&bob).await.status == 409).then_some(())).await;
    me(&admin).await;
    proxy.cut();
    assert_eq!(show(&admin).await.expect(200).text("/connectionId"), id);
    assert_eq!(show_with(&admin, "x-app-id", "crm").await.expect(200).text("/connectionId"), id);
    proxy.restore();
    second.stop().await.expect("the second node stops in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_that_is_over_costs_nobody_else_anything() {
    let (server, proxy, admin) = over_proxy().await;
    let bob = server.user("bob").await;
    server.grant(&admin, &bob, &["integration:mail:show"]).await;
    let id = connect(&admin, "work").await;
    let to_bob = json!({ "user_id": me(&bob).await, "expires_in": 60 });
    admin.post("/api/v1/integrations/mail/auth/delegate", to_bob).await.expect(200);
    server.advance(Duration::minutes(2));
    let warm = async || {
        show(&bob).await.expect(403);
        assert_eq!(show(&admin).await.expect(200).text("/connectionId"), id);
    };
    warm().await;
    warm().await;
    proxy.cut();
    for _ in 0..5 {
        warm().await;
    }
    proxy.restore();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_on_one_node_holds_on_the_other() {
    let mut it = World::start().await;
    let (second, _folder) = it.server.second_node().await;
    let there = it.alice.clone().at(url(&second));
    let id = connect(&it.alice, "one").await;
    let host = async |expected: &str| {
        eventually("the other node follows", async || {
            let answer = show(&there).await;
            (answer.status == 200 && answer.text("/host") == expected).then_some(())
        })
        .await;
    };
    host("one.example.com").await;
    enter(&it.alice, "one", json!({ "credentials": { "host": "moved.example.com", "password": "another one" } }))
        .await
        .expect(200);
    host("moved.example.com").await;
    it.alice.delete(&format!("/api/v1/integrations/mail/connections/{id}")).await.expect(200);
    eventually("the other node has no connection any more", async || (show(&there).await.status == 409).then_some(())).await;
    connect(&it.alice, "two").await;
    host("two.example.com").await;
    // Whoever leaves takes along what they connected, and nobody acts with it any more.
    connect(&it.admin, "boss").await;
    let to_alice = json!({ "user_id": me(&it.alice).await });
    it.admin.post("/api/v1/integrations/mail/auth/delegate", to_alice).await.expect(200);
    host("boss.example.com").await;
    it.admin.delete("/api/v1/integrations/mail/auth").await.expect(200);
    host("two.example.com").await;
    second.stop().await.expect("the second node stops in order");
    it.server.stop().await;
}
