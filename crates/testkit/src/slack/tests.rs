//! The fake against Slack's own documentation of its wire format.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json; charset=utf-8";

async fn send(slack: &FakeSlack, method: &str, token: Option<&str>, kind: &str, body: &str) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::post(format!("/api/{method}")).header("content-type", kind);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::from(body.to_owned())).expect("a valid request");
    let response = router(Arc::clone(&slack.shared)).oneshot(request).await.expect("the router never fails");
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.expect("a complete body");
    (parts.status, parts.headers, String::from_utf8_lossy(&bytes).into_owned())
}

async fn post(slack: &FakeSlack, token: Option<&str>, body: &str) -> Value {
    let (status, _, body) = send(slack, "chat.postMessage", token, FORM, body).await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_str(&body).expect("a JSON body")
}

#[tokio::test]
async fn a_message_is_accepted_as_form_and_as_json() -> Outcome {
    let slack = FakeSlack::start().await?;
    let form = post(&slack, Some(FakeSlack::TOKEN), "channel=%23general&text=Hello+there").await;
    assert_eq!(form["ok"], true);
    assert_eq!(form["channel"], FakeSlack::GENERAL);
    assert_eq!(form["ts"], form["message"]["ts"]);
    assert_eq!(form["message"]["text"], "Hello there");

    let input = json!({ "channel": FakeSlack::GENERAL, "text": "again", "thread_ts": form["ts"] }).to_string();
    let (_, _, body) = send(&slack, "chat.postMessage", Some(FakeSlack::TOKEN), JSON, &input).await;
    let answer: Value = serde_json::from_str(&body)?;
    assert_eq!(answer["message"]["thread_ts"], form["ts"]);
    assert_ne!(answer["ts"], form["ts"]);
    Ok(())
}

#[tokio::test]
async fn each_refusal_has_slacks_own_name() -> Outcome {
    let slack = FakeSlack::start().await?;
    let long = format!("channel=general&text={}", "x".repeat(MAX_TEXT + 1));
    let cases = [
        (None, "channel=general&text=x", "not_authed"),
        (Some("xoxb-unknown"), "channel=general&text=x", "invalid_auth"),
        (Some(FakeSlack::TOKEN), "channel=%23nowhere&text=x", "channel_not_found"),
        (Some(FakeSlack::TOKEN), "text=x", "channel_not_found"),
        (Some(FakeSlack::TOKEN), "channel=general", "no_text"),
        (Some(FakeSlack::TOKEN), long.as_str(), "msg_too_long"),
    ];
    for (token, body, error) in cases {
        assert_eq!(post(&slack, token, body).await, json!({ "ok": false, "error": error }));
    }
    Ok(())
}

#[tokio::test]
async fn tokens_and_channels_can_be_added_and_revoked() -> Outcome {
    let slack = FakeSlack::start().await?;
    slack.add_token("xoxb-second");
    slack.add_channel("random", "C2");
    assert_eq!(post(&slack, Some("xoxb-second"), "channel=random&text=x").await["channel"], "C2");
    slack.revoke_token("xoxb-second");
    assert_eq!(post(&slack, Some("xoxb-second"), "channel=random&text=x").await["error"], "invalid_auth");
    Ok(())
}

#[tokio::test]
async fn rate_limits_and_outages_pass_after_the_given_number() -> Outcome {
    let slack = FakeSlack::start().await?;
    slack.rate_limit_next(1, 7);
    slack.fail_next(1, 503);
    let (status, headers, body) = send(&slack, "auth.test", Some(FakeSlack::TOKEN), FORM, "").await;
    assert_eq!((status.as_u16(), headers["retry-after"].to_str()?), (429, "7"));
    assert_eq!(body, r#"{"error":"ratelimited","ok":false}"#);
    let (status, _, body) = send(&slack, "auth.test", Some(FakeSlack::TOKEN), FORM, "").await;
    assert_eq!((status.as_u16(), body.as_str()), (503, "upstream connect error"));
    let (_, _, body) = send(&slack, "auth.test", Some(FakeSlack::TOKEN), FORM, "").await;
    assert_eq!(serde_json::from_str::<Value>(&body)?["team_id"], TEAM);
    Ok(())
}

#[tokio::test]
async fn every_request_is_recorded_with_its_token() -> Outcome {
    let slack = FakeSlack::start().await?;
    slack.fail_next(1, 500);
    send(&slack, "chat.postMessage", Some("a"), FORM, "channel=c&text=one").await;
    send(&slack, "auth.test", None, FORM, "token=b").await;
    let recorded = slack.requests();
    let brief: Vec<_> = recorded.iter().map(|r| (r.method.as_str(), r.token.as_deref())).collect();
    assert_eq!(brief, [("chat.postMessage", Some("a")), ("auth.test", Some("b"))]);
    assert_eq!(recorded.first().and_then(|r| r.fields.get("text")).map(String::as_str), Some("one"));
    Ok(())
}

#[tokio::test]
async fn it_listens_on_loopback_and_lists_its_requests() -> Outcome {
    let slack = FakeSlack::start().await?;
    let mut stream = TcpStream::connect(slack.address).await?;
    stream.write_all(b"GET /_requests HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("[]"), "{answer}");
    assert_eq!(slack.api_url(), format!("http://127.0.0.1:{}/api/", slack.address.port()));
    Ok(())
}

#[test]
fn signatures_match_the_documented_example() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
        &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    assert_eq!(
        sign("8f742231b10e8888abcd99yyyzzz85a5", 1_531_420_618, body.as_bytes()),
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    );
}
