//! What answers mean: conditions, when to try again, and what stays hidden.

use serde_json::{Value, json};

use crate::{check, compile, http, with};

const URL: &str = "https://api.vendor.example/v1/x";

fn post(answer: &Value) -> Value {
    json!({ "request": { "method": "POST", "url": URL }, "answer": answer })
}

/// What becomes of one answer to a POST under one rule.
fn judged(rule: &Value, answer: &Value, expected: Value) {
    let recipe = json!({ "method": "POST", "path": "/x", "errors": [rule], "retry": { "attempts": 1 } });
    let case = json!({ "config": { "token": "t" }, "exchanges": [post(answer)] });
    check(&http(), &recipe, with(case, expected));
}

#[test]
fn a_rule_names_several_statuses() {
    let rule = json!({ "when": { "status": [409, "5xx"] }, "category": "notFound" });
    for status in [409, 503] {
        judged(&rule, &json!({ "status": status }), json!({ "error": { "category": "notFound" } }));
    }
    judged(&rule, &json!({ "status": 423 }), json!({ "error": { "category": "validation" } }));
}

#[test]
fn a_rule_tests_the_value_at_its_place() {
    let rule = |test: Value| json!({ "when": with(json!({ "pointer": "/error" }), test), "category": "validation" });
    for (test, fits, differs) in [
        (json!({ "equals": null }), json!({ "error": null }), json!({ "error": "x" })),
        (json!({ "in": ["a", null] }), json!({}), json!({ "error": "b" })),
        (json!({ "contains": "not found" }), json!({ "error": "User not found: 7" }), json!({ "error": ["not found"] })),
        (json!({ "matches": "^(user|team)_not_found$" }), json!({ "error": "team_not_found" }), json!({ "error": "not_found" })),
        (json!({ "exists": false }), json!({}), json!({ "error": 0 })),
    ] {
        judged(&rule(test.clone()), &json!({ "json": fits }), json!({ "error": { "category": "validation" } }));
        judged(&rule(test), &json!({ "json": differs }), json!({ "result": differs }));
    }
}

#[test]
fn a_rule_that_cannot_be_applied_is_refused() {
    for (rule, place) in [
        (json!({ "when": { "pointer": "/a", "matches": "(" }, "category": "auth" }), "when.matches"),
        (json!({ "when": { "pointer": "/a", "matches": "a", "contains": "a" }, "category": "auth" }), "when"),
        (json!({ "when": { "status": 400, "contains": "a" }, "category": "auth" }), "when"),
        (json!({ "when": { "status": 429 }, "category": "rateLimited", "retryAfter": "seconds" }), "retryAfter"),
        (json!({ "when": { "status": 429 }, "category": "rateLimited", "retryAfter": -1 }), "retryAfter"),
    ] {
        let faults = compile(&http(), &json!({ "method": "GET", "path": "/x", "errors": [rule] })).expect_err("a fault");
        assert_eq!(faults[0].path, format!("$.actions[0].recipe.errors[0].{place}"), "{rule}");
    }
}

#[test]
fn a_vendor_that_limits_with_another_status_is_asked_again_although_the_action_writes() {
    let recipe = |retry_after: Value| {
        json!({ "method": "POST", "path": "/x", "errors": [
            { "when": { "pointer": "/error", "equals": "ratelimited" }, "category": "rateLimited", "retryAfter": retry_after },
        ] })
    };
    let limited = json!({ "json": { "error": "ratelimited", "wait": "1.5" } });
    for (retry_after, pause) in [(json!("/wait"), 1.5), (json!(3), 3.0), (json!("/nothing"), 0.125)] {
        check(
            &http(),
            &recipe(retry_after),
            json!({
                "config": { "token": "t" }, "pauses": [pause], "result": "done",
                "exchanges": [post(&limited), post(&json!({ "json": "done" }))],
            }),
        );
    }
}

#[test]
fn a_refusal_is_a_rate_limit_only_when_the_vendor_says_when_there_is_more() {
    let none_left = |more: Value| json!({ "status": 403, "headers": with(json!({ "x-remaining": "0" }), more) });
    let recipe = json!({ "method": "POST", "path": "/x", "retry": { "attempts": 1 } });
    for (answer, category) in [
        (none_left(json!({ "x-reset": "1767225660" })), "rateLimited"),
        (none_left(json!({ "retry-after": "60" })), "rateLimited"),
        (json!({ "status": 403, "headers": { "retry-after": "60" } }), "rateLimited"),
        (none_left(json!({})), "auth"),
        (none_left(json!({ "x-reset": "1767225540" })), "auth"),
        (json!({ "status": 403, "headers": { "x-remaining": "1", "x-reset": "1767225660" } }), "auth"),
    ] {
        check(
            &http(),
            &recipe,
            json!({ "config": { "token": "t" }, "exchanges": [post(&answer)], "error": { "category": category } }),
        );
    }
    let rule = json!({ "when": { "status": 403 }, "category": "notFound" });
    judged(&rule, &none_left(json!({ "x-reset": "1767225660" })), json!({ "error": { "category": "notFound" } }));
}

#[test]
fn the_parts_of_a_credential_are_hidden_like_the_whole() {
    let refused = |text: &str| json!({ "status": 400, "json": { "message": text } });
    let header = |value: &str| json!({ "type": "header", "name": "Authorization", "value": value });
    for auth in [
        header("Bot {{ config.token }}"),
        header("{{ 'Bot ' ~ config.token }}"),
        json!({ "type": "basic", "username": "Bot {{ config.token }}" }),
        json!({ "type": "basic", "username": "bot", "password": "Bot {{ config.token }}" }),
    ] {
        let auth = json!({ "auth": auth });
        check(
            &with(http(), auth),
            &json!({ "method": "POST", "path": "/x" }),
            json!({
                "config": { "token": "secret-token" },
                "exchanges": [post(&refused("secret-token of 'Bot secret-token' is over"))],
                "error": { "category": "validation", "message": "[masked] of '[masked]' is over" },
            }),
        );
    }
}

#[test]
fn a_secret_in_the_path_of_the_base_address_is_hidden_and_the_host_is_not() {
    for (value, sent) in [("{{ config.token }}", "secret-token"), ("{{ config.token | upper }}", "SECRET-TOKEN")] {
        let http = json!({ "baseUrl": format!("https://{{{{ config.region }}}}.vendor.example/bot{value}") });
        check(
            &http,
            &json!({ "method": "GET", "path": "/me" }),
            json!({
                "config": { "region": "frankfurt", "token": "secret-token" },
                "exchanges": [{
                    "request": { "method": "GET", "url": format!("https://frankfurt.vendor.example/bot{sent}/me") },
                    "answer": { "status": 404, "json": { "message": format!("frankfurt has no /bot{sent}/me (secret-token)") } },
                }],
                "error": { "category": "notFound", "message": "frankfurt has no /bot[masked]/me ([masked])" },
            }),
        );
    }
}
