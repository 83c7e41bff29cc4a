//! What a caller gets: results, typed errors, timeouts, and the platform through the backend.

use crate::rig::{LONG, Rig, TestResult, Watch};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use weft_workers::{CallError, Category, Failure};

fn failure(outcome: Result<Value, CallError>) -> Result<Failure, String> {
    match outcome {
        Err(CallError::Failed(failure)) => Ok(*failure),
        other => Err(format!("the handler did not fail: {other:?}")),
    }
}

#[tokio::test]
async fn a_handler_receives_its_parameters_and_its_caller() -> TestResult {
    let rig = Rig::serving("echo: (params, caller) => ({ params, caller })").await?;
    let answer = rig.call("echo", json!({ "text": "line\nbreak" })).await?;
    let caller = json!({ "userId": "ann", "email": "ann@example.org" });
    assert_eq!(answer, json!({ "params": { "text": "line\nbreak" }, "caller": caller }));
    Ok(())
}

#[tokio::test]
async fn a_handler_without_a_result_answers_null() -> TestResult {
    let rig = Rig::serving("nothing: () => {}").await?;
    assert_eq!(rig.call("nothing", Value::Null).await?, Value::Null);
    Ok(())
}

#[tokio::test]
async fn two_hundred_calls_at_once_each_get_their_own_answer() -> TestResult {
    let rig = Arc::new(Rig::serving("later: async (n) => { await Bun.sleep(13 - (n % 13)); return n; }").await?);
    let mut calls = JoinSet::new();
    for n in 0..200 {
        let rig = Arc::clone(&rig);
        calls.spawn(async move { (n, rig.call("later", json!(n)).await) });
    }
    while let Some(done) = calls.join_next().await {
        let (n, answer) = done?;
        assert_eq!(answer?, json!(n));
    }
    Ok(())
}

#[tokio::test]
async fn what_a_handler_throws_arrives_with_its_type() -> TestResult {
    let rig = Rig::serving(
        r#"
        typed: () => { throw new ActionError("slow down", { code: "rate", category: "RateLimited", retryAfter: 2 }); },
        plain: () => { throw new Error("broken"); },
        alike: () => { throw new ActionError("no such API method", { code: "unknown_method" }); },
        "#,
    )
    .await?;
    let typed = failure(rig.call("typed", Value::Null).await)?;
    assert_eq!((typed.message.as_str(), typed.code.as_deref()), ("slow down", Some("rate")));
    assert_eq!((typed.category, typed.retry_after), (Category::RateLimited, Some(Duration::from_secs(2))));
    let plain = failure(rig.call("plain", Value::Null).await)?;
    assert_eq!((plain.message.as_str(), plain.category), ("broken", Category::Poison));
    let alike = failure(rig.call("alike", Value::Null).await)?;
    assert_eq!(alike.code.as_deref(), Some("unknown_method"), "a vendor's code, and no missing handler");
    Ok(())
}

#[tokio::test]
async fn a_method_without_a_handler_is_named() -> TestResult {
    let rig = Rig::serving("").await?;
    let outcome = rig.call("nope", Value::Null).await;
    assert!(matches!(outcome, Err(CallError::UnknownMethod { method }) if method == "nope"));
    let said = rig.call("__integration", Value::Null).await.err().map(|error| error.to_string());
    assert_eq!(said.as_deref(), Some("the backend has no handler for actions: it does not call `defineIntegration`"));
    Ok(())
}

#[tokio::test]
async fn a_call_ends_when_its_time_is_over_and_its_late_reply_is_dropped() -> TestResult {
    let rig = Rig::serving("wait: () => new Promise((r) => { globalThis.go = r; }), go: () => globalThis.go(1)").await?;
    let mut log = Watch::new(&rig);
    let limit = Duration::from_millis(200);
    let outcome = rig.call_as("ann", "wait", Value::Null, limit).await;
    assert!(matches!(outcome, Err(CallError::Timeout(given)) if given == limit), "{outcome:?}");
    rig.call("go", Value::Null).await?;
    log.line("dropped a reply to a call that is over").await?;
    Ok(())
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused_and_not_sent() -> TestResult {
    let rig = Rig::with(|settings| settings.request_limit = 100)?;
    rig.deploy("serve({ rpc: { echo: (params) => params } });").await?;
    let outcome = rig.call("echo", json!("x".repeat(200))).await;
    assert!(matches!(outcome, Err(CallError::TooLarge { bytes: 202, limit: 100 })), "{outcome:?}");
    assert_eq!(rig.call("echo", json!("small")).await?, json!("small"));
    Ok(())
}

#[tokio::test]
async fn a_backend_that_does_not_read_fails_only_its_own_calls() -> TestResult {
    let rig = Rig::with(|settings| settings.stop_timeout = Duration::from_millis(100))?;
    rig.deploy("serve({ rpc: { block: () => { for (;;); }, echo: (params) => params } });").await?;
    let limit = Duration::from_millis(200);
    let filler = json!("x".repeat(300_000));
    let calls = ["block", "echo", "echo"].map(|method| rig.call_as("ann", method, filler.clone(), limit));
    for call in calls {
        assert!(matches!(call.await, Err(CallError::Timeout(_))));
    }
    rig.host.stop(crate::rig::APP).await;
    Ok(())
}

#[tokio::test]
async fn a_backend_acts_as_the_caller_of_the_call_it_works_on() -> TestResult {
    let rig = Rig::serving(
        r#"
        who: (params, _, ctx) => ctx.selfAction("whoami", params),
        fail: (params, _, ctx) => ctx.selfAction("nonsense", params),
        "#,
    )
    .await?;
    let rig = &rig;
    let ask = async |caller: &str| rig.call_as(caller, "who", json!(7), LONG).await;
    let (ann, bob) = tokio::join!(ask("ann"), ask("bob"));
    assert_eq!(ann?, json!({ "caller": "ann", "params": 7 }));
    assert_eq!(bob?, json!({ "caller": "bob", "params": 7 }));
    let refused = failure(rig.call("fail", Value::Null).await)?;
    assert_eq!(refused.code.as_deref(), Some("no_such_action"));
    Ok(())
}

#[tokio::test]
async fn a_call_may_need_its_own_worker_again() -> TestResult {
    let rig = Rig::serving(
        r#"echo: (params) => params, outer: async (params, _, ctx) => ["outer", await ctx.selfAction("call_again", params)]"#,
    )
    .await?;
    assert_eq!(rig.call("outer", json!({ "n": 1 })).await?, json!(["outer", { "n": 1 }]));
    Ok(())
}
