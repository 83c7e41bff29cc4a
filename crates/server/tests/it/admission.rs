//! What keeps vendors from being called too often, in vain, or twice for the same.

use serde_json::{Value, json};
use weft_testkit::TestServer;

use crate::fixtures::{integration, with};

const BACKEND: &str = "let calls = 0;
defineIntegration({ actions: {
    count: (input) => ({ calls: ++calls, input }),
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
async fn only_actions_that_read_may_give_answers_again() {
    let server = TestServer::start().await;
    let administrator = server.user("admin").await;
    let actions = json!([{ "id": "send", "name": "Send", "effect": "write", "cacheSeconds": 60 }]);
    let refused =
        administrator.post("/api/v1/apps", with(integration("x", &[]), json!({ "actions": actions }))).await.expect(400);
    assert_eq!(refused.text("/errors/0/path"), "$.actions[0].cacheSeconds");
}
