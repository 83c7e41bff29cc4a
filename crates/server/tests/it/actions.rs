//! `/api/v1/integrations/{id}/actions/{action}`: calling an action, and every way in which that fails.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use weft_testkit::{Answer, Api, TestServer};

use crate::fixtures::{app, fault_paths, integration, with};

const ECHO: &str = "defineIntegration({ actions: {
    echo: (input, ctx) => ({ input, userId: ctx.userId, email: ctx.caller.email, appId: ctx.caller.appId ?? null }),
} });";

async fn id_of(api: &Api) -> String {
    api.get("/api/v1/auth/me").await.expect(200).text("/id")
}

/// A call with headers and a raw body.
async fn send(api: &Api, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = api.request(Method::POST, &format!("/api/v1/integrations/{path}")).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_answers_its_result_alone() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    server.deploy(&admin, &integration("chat", &["echo"]), ECHO).await;
    server.grant(&admin, &user, &["integration:chat:echo"]).await;
    let answer = user.call("chat", "echo", json!({ "text": "hello" })).await.expect(200);
    let expected =
        json!({ "input": { "text": "hello" }, "userId": id_of(&user).await, "email": "user@example.com", "appId": null });
    assert_eq!(answer.json, expected);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-weft-run-id").is_some() && answer.header("x-trace-id").is_some());
    let empty = send(&user, "chat/actions/echo", &[], "").await.expect(200);
    assert_eq!(empty.value("/input"), json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_gets_exactly_these_fields() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let manifest = with(
        integration("chat", &["send"]),
        json!({ "configSchema": { "properties": { "token": { "type": "string", "platformSecret": "CHAT_TOKEN" } } } }),
    );
    server.deploy(&admin, &manifest, "serve({ rpc: { __integration: (params) => params } })").await;
    admin.put("/api/v1/integrations/chat/config", json!({ "token": "t" })).await.expect(200);
    let expected = json!({
        "action": "send", "input": { "text": "hello" }, "config": { "token": "t" },
        "userCredentials": null, "userId": id_of(&admin).await, "connectionId": null,
    });
    assert_eq!(admin.call("chat", "send", json!({ "text": "hello" })).await.expect(200).json, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn calling_needs_the_permission_of_that_very_action() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    server.deploy(&admin, &integration("chat", &["echo", "other"]), ECHO).await;
    for useless in [&[][..], &["integration:chat:other", "app:chat:*", "integration:chat:manage"]] {
        server.grant(&admin, &user, useless).await;
        let denied = user.call("chat", "echo", json!({})).await.expect(403);
        assert_eq!(denied.code(), "forbidden");
        assert!(denied.text("/error").contains("integration:chat:echo"), "{denied:?}");
    }
    server.grant(&admin, &user, &["integration:chat:*"]).await;
    user.call("chat", "echo", json!({})).await.expect(200);
    server.anonymous().call("chat", "echo", json!({})).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_called_is_told_apart() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["echo", "broken"]), ECHO).await;
    admin.post("/api/v1/apps", integration("bare", &["echo"])).await.expect(200);
    admin.post("/api/v1/apps", with(app("crm"), json!({ "actions": [{ "id": "echo", "name": "Echo" }] }))).await.expect(200);

    for id in ["gone", "crm"] {
        let unknown = admin.call(id, "echo", json!({})).await.expect(404);
        assert_eq!((unknown.code(), unknown.text("/error")), ("not_found".to_owned(), format!("integration '{id}' not found")));
    }
    let unknown = admin.call("chat", "shout", json!({})).await.expect(404);
    assert_eq!(unknown.code(), "unknown_action");
    assert!(unknown.text("/error").contains("'shout'; it has: broken, echo"), "{unknown:?}");
    let declared_only = admin.call("chat", "broken", json!({})).await.expect(404);
    assert_eq!(declared_only.code(), "unknown_action");
    let bare = admin.call("bare", "echo", json!({})).await.expect(409);
    assert_eq!(bare.code(), "not_deployed");
    assert!(bare.text("/error").contains("/api/v1/apps/bare/deploy"), "{bare:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_and_output_have_to_keep_to_their_schemas() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let schema = json!({
        "type": "object",
        "properties": { "to": { "type": "string" }, "tags": { "type": "array", "items": { "type": "string" } } },
        "required": ["to"],
        "additionalProperties": false,
    });
    let actions = json!([
        { "id": "send", "name": "Send", "inputSchema": schema },
        { "id": "list", "name": "List", "outputSchema": schema },
    ]);
    let backend = "let calls = 0; defineIntegration({ actions: { send: () => ++calls, list: (input) => input } });";
    server.deploy(&admin, &with(integration("chat", &[]), json!({ "actions": actions })), backend).await;

    let wrong = json!({ "tags": ["a", 1, 2], "cc": "x" });
    let paths = ["$", "$", "$.tags[1]", "$.tags[2]"];
    let refused = admin.call("chat", "send", wrong.clone()).await.expect(400);
    assert_eq!((refused.code().as_str(), fault_paths(&refused)), ("validation_failed", paths.map(str::to_owned).to_vec()));
    assert!(refused.text("/error").contains("\"to\" is a required property"), "{refused:?}");
    admin.call("chat", "send", json!("text")).await.expect(400);
    assert_eq!(admin.call("chat", "send", json!({ "to": "me" })).await.expect(200).json, 1, "refused input never arrived");

    let broken = admin.call("chat", "list", wrong).await.expect(502);
    assert_eq!((broken.code().as_str(), fault_paths(&broken)), ("output_invalid", paths.map(str::to_owned).to_vec()));
    assert_eq!(admin.call("chat", "list", json!({ "to": "me" })).await.expect(200).json, json!({ "to": "me" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_is_refused() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["echo"]), ECHO).await;
    let json_type = ("content-type", "application/json");
    for (headers, body, status, code) in [
        (&[json_type][..], "{ text: 1 }", 400, "invalid_request"),
        (&[json_type], "{} trailing", 400, "invalid_request"),
        (&[("content-type", "text/plain")], "{}", 415, "unsupported_media_type"),
        (&[json_type, ("x-app-id", "Not A Name")], "{}", 400, "invalid_request"),
    ] {
        let refused = send(&admin, "chat/actions/echo", headers, body).await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{body}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integration_that_lacks_configuration_is_not_called() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let schema = json!({ "properties": { "token": { "platformSecret": "T" }, "account": {} }, "required": ["token", "account"] });
    server.deploy(&admin, &with(integration("chat", &["echo"]), json!({ "configSchema": schema })), ECHO).await;
    let refused = admin.call("chat", "echo", json!({})).await.expect(409);
    assert_eq!(refused.code(), "not_configured");
    let error = refused.text("/error");
    assert!(error.contains("token, account missing") && error.contains("/config"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_category_of_an_action_error_has_its_status() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend =
        "defineIntegration({ actions: { fail: ({ message, options }) => { throw new ActionError(message, options); } } });";
    server.deploy(&admin, &integration("chat", &["fail"]), backend).await;
    for (category, status, code) in [
        (json!("Transient"), 502, "vendor_unavailable"),
        (json!("RateLimited"), 429, "rate_limited"),
        (json!("Auth"), 424, "vendor_auth"),
        (json!("Validation"), 422, "action_rejected"),
        (json!("Poison"), 502, "action_failed"),
        (Value::Null, 502, "action_failed"),
    ] {
        let input = json!({ "message": "no such channel", "options": { "category": category, "code": "channel_not_found" } });
        let failed = admin.call("chat", "fail", input).await;
        assert_eq!((failed.status, failed.code().as_str()), (status, code), "{category}: {failed:?}");
        assert_eq!(failed.text("/error"), "no such channel");
        assert_eq!(failed.text("/vendorCode"), "channel_not_found");
        assert_eq!(failed.header("x-weft-run-id"), Some(failed.text("/runId").as_str()));
        assert_eq!(failed.header("retry-after"), None);
        assert_eq!(failed.header("content-type"), Some("application/problem+json"));
    }
    for (seconds, header) in [(json!(7), "7"), (json!(0.2), "1")] {
        let options = json!({ "category": "RateLimited", "retryAfter": seconds });
        let failed = admin.call("chat", "fail", json!({ "message": "slow down", "options": options })).await.expect(429);
        assert_eq!(failed.header("retry-after"), Some(header));
        assert_eq!(failed.value("/vendorCode"), Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_has_the_time_that_its_manifest_gives_it() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let actions = json!([{ "id": "hang", "name": "Hang", "timeoutSeconds": 0.2 }, { "id": "ping", "name": "Ping" }]);
    let backend = "defineIntegration({ actions: { hang: () => new Promise(() => {}), ping: () => 'pong' } });";
    server.deploy(&admin, &with(integration("chat", &[]), json!({ "actions": actions })), backend).await;
    let late = admin.call("chat", "hang", json!({})).await.expect(504);
    assert_eq!(late.code(), "timeout");
    assert!(late.text("/error").contains("200ms"), "{late:?}");
    assert_eq!(admin.call("chat", "ping", json!({})).await.expect(200).json, "pong");
}

const NESTING: &str = "defineIntegration({ actions: {
    who: (_, ctx) => ({ userId: ctx.userId, appId: ctx.caller.appId ?? null }),
    own: (_, ctx) => ctx.action('who'),
    other: (_, ctx) => ctx.callIntegration('mail', 'who', { a: 1 }),
    caught: async (_, ctx) => { try { await ctx.callIntegration('mail', 'who'); } catch (error) {
        return { code: error.code, category: error.category, action: error instanceof ActionError };
    } },
    loop: (input, ctx) => ctx.action('loop', { depth: input.depth + 1 }),
    late: (_, ctx) => { setTimeout(() => ctx.action('who').catch((error) => { globalThis.refused = error.code; }), 1); },
    refused: () => globalThis.refused ?? null,
} });";

async fn nesting() -> (TestServer, Api, Api) {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    let chat = integration("chat", &["who", "own", "other", "caught", "loop", "late", "refused"]);
    server.deploy(&admin, &chat, NESTING).await;
    server.deploy(&admin, &integration("mail", &["who"]), NESTING).await;
    (server, admin, user)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_calls_actions_as_whoever_called_it() {
    let (server, admin, user) = nesting().await;
    server.grant(&admin, &user, &["integration:chat:*", "integration:mail:who"]).await;
    let expected = json!({ "userId": id_of(&user).await, "appId": "chat" });
    assert_eq!(user.call("chat", "own", json!({})).await.expect(200).json, expected);
    let outer = user.call("chat", "other", json!({})).await.expect(200);
    assert_eq!(outer.json, expected);

    let nested = admin.runs("mail", 1).await.remove(0);
    assert_eq!(nested["parentId"], outer.header("x-weft-run-id").unwrap_or_default());
    assert_eq!(nested["traceId"], outer.header("x-trace-id").unwrap_or_default());
    assert_eq!((&nested["appId"], &nested["principal"]["email"]), (&json!("chat"), &json!("user@example.com")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_may_not_do_for_a_caller_what_the_caller_may_not() {
    let (server, admin, user) = nesting().await;
    server.grant(&admin, &user, &["integration:chat:*"]).await;
    let refused = user.call("chat", "other", json!({})).await.expect(422);
    assert_eq!((refused.code(), refused.text("/vendorCode")), ("action_rejected".to_owned(), "denied".to_owned()));
    assert!(refused.text("/error").contains("integration:mail:who"), "{refused:?}");
    let seen = user.call("chat", "caught", json!({})).await.expect(200).json;
    assert_eq!(seen, json!({ "code": "denied", "category": "Validation", "action": true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_that_call_each_other_without_end_are_stopped() {
    let (_server, admin, _) = nesting().await;
    let refused = admin.call("chat", "loop", json!({ "depth": 0 })).await.expect(422);
    assert_eq!(refused.text("/vendorCode"), "too_deep");
    assert!(refused.text("/error").contains("too deeply"), "{refused:?}");
    assert_eq!(admin.runs("chat", 9).await.len(), 9, "one run for each level, and no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_for_a_caller_whose_call_is_over() {
    let (_server, admin, _) = nesting().await;
    admin.call("chat", "late", json!({})).await.expect(200);
    let refused = crate::fixtures::eventually("the late call is refused", async || {
        let answer = admin.call("chat", "refused", json!({})).await.expect(200);
        (!answer.json.is_null()).then_some(answer.json)
    })
    .await;
    assert_eq!(refused, "call_over");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_on_whose_behalf_a_call_is_made_is_recorded() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["echo"]), ECHO).await;
    admin.post("/api/v1/apps", app("crm")).await.expect(200);
    let answer = send(&admin, "chat/actions/echo", &[("x-app-id", "crm")], "").await.expect(200);
    assert_eq!(answer.text("/appId"), "crm");
    assert_eq!(admin.runs("chat", 1).await[0]["appId"], "crm");
    assert_eq!(admin.get("/api/v1/runs?appId=crm").await.value("/data/0/appId"), "crm");
    let unknown = send(&admin, "chat/actions/echo", &[("x-app-id", "gone")], "").await.expect(400);
    assert!(unknown.text("/error").contains("'gone'"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_at_once_never_mix_up_their_callers() {
    let server = TestServer::start().await;
    let (admin, user) = (server.user("admin").await, server.user("user").await);
    let backend = "defineIntegration({ actions: {
        who: async ({ n }, ctx) => { await Bun.sleep(Math.random() * 5); return [n, ctx.userId, ctx.caller.userId, await ctx.action('id')]; },
        id: (_, ctx) => ctx.userId,
    } });";
    server.deploy(&admin, &integration("chat", &["who", "id"]), backend).await;
    server.grant(&admin, &user, &["integration:chat:*"]).await;
    let ids = [id_of(&admin).await, id_of(&user).await];
    let calls = (0..100).map(|n| {
        let (api, id) = if n % 2 == 0 { (&admin, &ids[0]) } else { (&user, &ids[1]) };
        async move { (n, id, api.call("chat", "who", json!({ "n": n })).await.expect(200).json) }
    });
    for (n, id, seen) in join_all(calls).await {
        assert_eq!(seen, json!([n, id, id, id]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_too_deep_to_be_read_is_the_fault_of_the_backend() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let mut manifest = integration("deep", &["dig"]);
    manifest["actions"][0]["outputSchema"] = json!({ "type": "object" });
    let backend = "defineIntegration({ actions: { dig: () => {
        let x = [];
        for (let level = 0; level < 300; level += 1) x = [x];
        return { x };
    } } });";
    server.deploy(&admin, &manifest, backend).await;
    let answer = admin.call("deep", "dig", json!({})).await.expect(502);
    assert_eq!((answer.code().as_str(), fault_paths(&answer)), ("output_invalid", vec!["$".to_owned()]));
}
