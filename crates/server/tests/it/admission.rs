//! What keeps vendors from being called too often, in vain, or twice for the same.

use reqwest::Method;
use serde_json::{Value, json};
use weft_testkit::TestServer;

use crate::fixtures::{app, integration, with};

const BACKEND: &str = "let calls = 0;
defineIntegration({ actions: {
    count: (input) => ({ calls: ++calls, input }),
    refuse: () => ({ ok: false, error: { code: 'NOT_YET', message: String(++calls) } }),
    who: (_, ctx) => ({ userId: ctx.caller.userId, appId: ctx.caller.appId ?? null }),
    down: () => { throw new ActionError('the vendor is down', { category: 'Transient', code: 'http_503' }); },
} });";

fn retry_after(answer: &weft_testkit::Answer) -> u64 {
    answer.header("retry-after").and_then(|value| value.parse().ok()).expect("a Retry-After in seconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_used_up_refuses_with_the_time_to_come_again() {
    let server = TestServer::start().await;
    let administrator = server.user("admin").await;
    let limited = with(integration("limited", &["count"]), json!({ "rateLimit": { "requests": 10, "seconds": 3600 } }));
    server.deploy(&administrator, &limited, BACKEND).await;
    server.deploy(&administrator, &integration("free", &["count"]), BACKEND).await;

    administrator.call("limited", "count", json!({})).await.expect(200);
    let refused = administrator.call("limited", "count", json!({})).await.expect(429);
    assert_eq!(refused.code(), "rate_limited");
    assert!(refused.text("/error").contains("10 times in 3600 s"), "{}", refused.text("/error"));
    // One at once, and nine more within the hour.
    assert!((1..=400).contains(&retry_after(&refused)));
    // Refused before anybody was asked, and recorded all the same.
    let runs = administrator.runs("limited", 2).await;
    assert_eq!(
        runs.iter().filter(|run| run["status"] == "failed" && run["error"]["code"] == "rate_limited").count(),
        1,
        "{runs:?}"
    );
    administrator.call("free", "count", json!({})).await.expect(200);
    administrator.call("free", "count", json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_does_not_answer_is_left_alone_for_a_while() {
    let server = TestServer::start().await;
    let administrator = server.user("admin").await;
    for id in ["broken", "other"] {
        server.deploy(&administrator, &integration(id, &["count", "down"]), BACKEND).await;
    }
    for _ in 0..5 {
        let failed = administrator.call("broken", "down", json!({})).await.expect(502);
        assert!(failed.text("/error").contains("the vendor is down"), "{}", failed.text("/error"));
    }
    let spared = administrator.call("broken", "count", json!({})).await.expect(502);
    assert_eq!(spared.code(), "vendor_unavailable");
    assert!(spared.text("/error").contains("broken did not answer several times in a row"), "{}", spared.text("/error"));
    assert!((1..=5).contains(&retry_after(&spared)));
    administrator.call("other", "count", json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_again_to_the_same_question_of_the_same_person() {
    let server = TestServer::start().await;
    let (administrator, member) = (server.user("admin").await, server.user("member").await);
    let kept = json!([{ "id": "count", "name": "Count", "effect": "read", "cacheSeconds": 3600 }]);
    let manifest = with(integration("kept", &[]), json!({ "actions": kept }));
    server.deploy(&administrator, &manifest, BACKEND).await;
    server.grant(&administrator, &member, &["integration:kept:count"]).await;

    let ask = async |api: &weft_testkit::Api, input: Value| api.call("kept", "count", input).await.expect(200).value("/calls");
    assert_eq!(ask(&administrator, json!({ "a": 1 })).await, 1);
    assert_eq!(ask(&administrator, json!({ "a": 1 })).await, 1);
    assert_eq!(ask(&administrator, json!({ "a": 2 })).await, 2);
    assert_eq!(ask(&member, json!({ "a": 1 })).await, 3);
    // Whoever asks is recorded, whoever answers.
    assert_eq!(administrator.runs("kept", 4).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backend_answered_to_one_person_is_not_given_to_another_though_they_share_the_account() {
    let server = TestServer::start().await;
    let (administrator, member) = (server.user("admin").await, server.user("member").await);
    let schema = json!({ "type": "object", "properties": { "password": { "type": "string" } } });
    let kept = json!([{ "id": "who", "name": "Who", "effect": "read", "cacheSeconds": 3600 }]);
    let auth = json!({ "type": "credentials", "schema": schema });
    let manifest = with(integration("mail", &[]), json!({ "actions": kept, "userAuth": auth }));
    server.deploy(&administrator, &manifest, BACKEND).await;
    server.deploy(&administrator, &app("crm"), "serve({ rpc: {} });").await;
    server.grant(&administrator, &member, &["integration:mail:who", "app:crm:invoke"]).await;
    let shared = json!({ "credentials": { "password": "correct horse" }, "label": "all", "shared": true });
    administrator.post("/api/v1/integrations/mail/auth/credentials", shared).await.expect(200);

    let who = async |api: &weft_testkit::Api, through: Option<&str>| {
        let mut request = api.request(Method::POST, "/api/v1/integrations/mail/actions/who");
        if let Some(app) = through {
            request = request.header("x-app-id", app);
        }
        api.send(request.json(&json!({}))).await.expect(200).json
    };
    for api in [&administrator, &member] {
        let id = api.get("/api/v1/auth/me").await.expect(200).value("/id");
        assert_eq!(who(api, None).await, json!({ "userId": id, "appId": null }));
        // Which app somebody comes through is seen by a backend as well.
        assert_eq!(who(api, Some("crm")).await, json!({ "userId": id, "appId": "crm" }));
        assert_eq!(who(api, None).await, json!({ "userId": id, "appId": null }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_words_of_integrations_is_not_kept_as_an_answer() {
    let server = TestServer::start().await;
    let administrator = server.user("admin").await;
    let kept = json!([{ "id": "refuse", "name": "Refuse", "effect": "read", "cacheSeconds": 3600 }]);
    server.deploy(&administrator, &with(integration("kept", &[]), json!({ "actions": kept })), BACKEND).await;
    for call in ["1", "2"] {
        let refused = administrator.call("kept", "refuse", json!({})).await.expect(200);
        assert_eq!((refused.value("/ok"), refused.text("/error/message")), (json!(false), call.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_actions_that_read_may_give_answers_again() {
    let server = TestServer::start().await;
    let administrator = server.user("admin").await;
    let actions = json!([{ "id": "send", "name": "Send", "effect": "write", "cacheSeconds": 60 }]);
    let refused =
        administrator.post("/api/v1/apps", with(integration("x", &[]), json!({ "actions": actions }))).await.expect(400);
    assert_eq!(refused.text("/errors/0/path"), "$.actions[0].cacheSeconds");
}
