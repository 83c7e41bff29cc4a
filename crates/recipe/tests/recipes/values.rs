//! Values in requests: what is null, what is missing, what a caller names itself, and lists that become others.

use serde_json::{Value, json};

use crate::{check, compile, http, with};

const URL: &str = "https://api.vendor.example/v1/x";

/// Sends one POST and compares what goes out.
fn sent(recipe: Value, input: &Value, request: Value) {
    let recipe = with(json!({ "method": "POST", "path": "/x" }), recipe);
    let request = with(json!({ "method": "POST", "url": URL }), request);
    check(
        &http(),
        &recipe,
        json!({
            "config": { "token": "t" }, "input": input, "result": null,
            "exchanges": [{ "request": request, "answer": { "status": 204 } }],
        }),
    );
}

fn refused(recipe: Value, input: &Value) -> String {
    let recipe = with(json!({ "method": "POST", "path": "/x" }), recipe);
    let case = json!({ "config": { "token": "t" }, "input": input, "exchanges": [], "error": { "category": "validation" } });
    check(&http(), &recipe, case)["failure"].as_str().expect("a failure").to_owned()
}

#[test]
fn a_null_of_the_caller_stays_in_json_and_what_is_missing_is_left_out() {
    let body =
        json!({ "json": { "text": "{{ input.text }}", "tags": ["{{ input.text }}", "{{ input.id }}"], "id": "{{ input.id }}" } });
    sent(
        json!({ "body": body, "query": { "text": "{{ input.text }}" }, "headers": { "x-text": "{{ input.text }}" } }),
        &json!({ "text": null }),
        json!({ "json": { "text": null, "tags": [null] }, "headers": { "x-text": null } }),
    );
    sent(json!({ "body": { "json": "{{ input.text }}" } }), &json!({ "text": null }), json!({ "json": null }));
    sent(json!({ "body": { "json": "{{ input.text }}" } }), &json!({}), json!({}));
    let never = json!({ "body": { "json": { "text": "{{ input.text if input.text is not none }}" } } });
    for (input, body) in
        [(json!({ "text": null }), json!({})), (json!({}), json!({})), (json!({ "text": "" }), json!({ "text": "" }))]
    {
        sent(never.clone(), &input, json!({ "json": body }));
    }
    sent(
        json!({ "body": { "form": { "a": 1, "text": "{{ input.text }}" } } }),
        &json!({ "text": null }),
        json!({ "form": { "a": "1" } }),
    );
}

#[test]
fn the_calls_key_can_be_sent() {
    sent(
        json!({ "body": { "json": { "requestId": "{{ key }}" } } }),
        &json!({}),
        json!({ "json": { "requestId": "key-of-this-call" } }),
    );
    let recipe = json!({ "method": "GET", "path": "/x", "response": { "template": "{{ key }}" } });
    assert!(compile(&http(), &recipe).is_err(), "answers know nothing of it");
}

#[test]
fn a_query_and_headers_may_be_what_the_caller_names() {
    let recipe = json!({ "query": "{{ input.nested }}", "headers": "{{ input.more }}" });
    let input =
        json!({ "nested": { "a": [1, 2], "b c": "d", "none": null }, "more": { "X-One": "1", "x-two": 2, "x-none": null } });
    sent(
        recipe.clone(),
        &input,
        json!({ "url": format!("{URL}?a=1&a=2&b+c=d"), "headers": { "x-one": "1", "x-two": "2", "x-version": "2026-01-01" } }),
    );
    sent(recipe.clone(), &json!({}), json!({}));
    for name in ["authorization", "Cookie", "HOST", "Content-Length", "bad name", ""] {
        assert!(refused(recipe.clone(), &json!({ "more": { name: "x" } })).contains("headers"), "{name}");
    }
    refused(recipe.clone(), &json!({ "more": { "x-list": [1] } }));
    refused(recipe.clone(), &json!({ "more": { "x-line": "a\r\nb" } }));
    refused(recipe, &json!({ "nested": "a=1" }));
    let own = with(http(), json!({ "auth": { "type": "header", "name": "X-Key", "value": "{{ config.token }}" } }));
    let given = json!({ "method": "GET", "path": "/x", "headers": "{{ input.more }}" });
    let case = json!({ "config": { "token": "t" }, "input": { "more": { "x-key": "mine" } }, "exchanges": [], "error": { "category": "validation" } });
    check(&own, &given, case);
    for wrong in ["a={{ input.nested }}", "a", "{{ input.unknown }}", "{{ body }}"] {
        let recipe = json!({ "method": "GET", "path": "/x", "query": wrong });
        assert_eq!(compile(&http(), &recipe).expect_err(wrong)[0].path, "$.actions[0].recipe.query");
    }
}

#[test]
fn a_list_becomes_another_item_by_item() {
    let body =
        json!({ "json": { "lines": { "$each": "{{ input.tags }}", "as": { "name": "{{ item.n }}", "of": "{{ input.id }}" } } } });
    let input = json!({ "id": 7, "tags": [{ "n": "a" }, { "n": null }, {}] });
    sent(
        json!({ "body": body }),
        &input,
        json!({ "json": { "lines": [{ "name": "a", "of": 7 }, { "name": null, "of": 7 }, { "of": 7 }] } }),
    );
    sent(json!({ "body": body }), &json!({}), json!({ "json": {} }));
    assert!(refused(json!({ "body": body }), &json!({ "tags": "a" })).contains("list"));
    // An object of the vendor's that happens to have such a member is left as it is.
    sent(json!({ "body": { "json": { "$each": [1] } } }), &json!({}), json!({ "json": { "$each": [1] } }));
    for (wrong, place) in [
        (json!({ "$each": "{{ input.tags }}", "as": { "$each": "{{ item.x }}", "as": 1 } }), "as"),
        (json!({ "$each": [1], "as": 1 }), "$each"),
        (json!({ "$each": "{{ item.x }}", "as": 1 }), "$each"),
    ] {
        let recipe = json!({ "method": "POST", "path": "/x", "body": { "json": wrong } });
        let faults = compile(&http(), &recipe).expect_err("a fault");
        assert_eq!(faults[0].path, format!("$.actions[0].recipe.body.json.{place}"), "{faults:?}");
    }
}

#[test]
fn a_cursor_goes_deep_into_a_json_body() {
    let pagination = json!({
        "type": "cursor", "in": "body", "items": "/data", "parameter": "/variables/after", "next": "/next",
        "pageSize": { "parameter": "/variables/page/first", "value": 2 },
    });
    let recipe = json!({
        "method": "POST", "path": "/x", "pagination": pagination,
        "body": { "json": { "query": "q", "variables": { "text": "{{ input.text }}" } } },
    });
    let page = |variables: Value, answer: Value| json!({ "request": { "method": "POST", "url": URL, "json": { "query": "q", "variables": variables } }, "answer": { "json": answer } });
    check(
        &http(),
        &recipe,
        json!({
            "config": { "token": "t" }, "input": { "text": "x" }, "result": [1, 2, 3],
            "exchanges": [
                page(json!({ "text": "x", "page": { "first": 2 } }), json!({ "data": [1, 2], "next": "c" })),
                page(json!({ "text": "x", "page": { "first": 2 }, "after": "c" }), json!({ "data": [3] })),
            ],
        }),
    );
    for (place, body) in [("query", json!({ "json": {} })), ("body", json!({ "form": {} }))] {
        let pagination = with(pagination.clone(), json!({ "in": place }));
        let recipe = json!({ "method": "POST", "path": "/x", "pagination": pagination, "body": body });
        assert_eq!(compile(&http(), &recipe).expect_err("a fault")[0].path, "$.actions[0].recipe.pagination.parameter");
    }
}

#[test]
fn a_recorded_body_is_json_by_any_name_of_it() {
    for kind in ["application/json; charset=utf-8", "application/vnd.vendor+JSON", "application/json"] {
        let recipe = json!({ "headers": { "content-type": kind }, "body": { "json": { "a": 1 } } });
        sent(recipe, &json!({}), json!({ "json": { "a": 1 } }));
    }
}

#[test]
#[should_panic(expected = "gave back 1, not null")]
fn a_recorded_result_of_null_is_compared() {
    let exchange = json!({ "request": { "method": "GET", "url": URL }, "answer": { "json": 1 } });
    check(
        &http(),
        &json!({ "method": "GET", "path": "/x" }),
        json!({ "config": { "token": "t" }, "exchanges": [exchange], "result": null }),
    );
}
