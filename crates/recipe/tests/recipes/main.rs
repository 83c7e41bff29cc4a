//! Recipes from end to end, against recorded vendors.

use serde_json::{Value, json};
use weft_recipe::{
    Context, Fault, Provider, Source,
    offline::{Case, play},
};

mod meanings;
mod values;

fn compile(http: &Value, recipe: &Value) -> Result<Provider, Vec<Fault>> {
    let schema = json!({ "type": "object", "properties": {
        "id": {}, "text": {}, "tags": {}, "limit": {}, "file": {}, "more": {}, "nested": {},
    } });
    let config = json!({ "properties": { "token": { "platformSecret": "TOKEN" }, "url": {}, "region": {} } });
    let source = Source { path: "$.actions[0].recipe", action: "a", recipe, input_schema: Some(&schema), only_reads: false };
    Provider::compile(http, &[source], &Context { config: Some(&config), ..Context::default() })
}

/// Plays one call: the block `http`, the recipe and the case, without its name and action.
fn check(http: &Value, recipe: &Value, case: Value) -> Value {
    let provider = compile(http, recipe).unwrap_or_else(|faults| panic!("{faults:?}"));
    let Value::Object(mut members) = case else { panic!("a case is an object") };
    members.insert("name".to_owned(), json!("case"));
    members.insert("action".to_owned(), json!("a"));
    let case: Case = serde_json::from_value(Value::Object(members)).expect("a case");
    match play(&provider, &case, &|host, _| host == "files.vendor.example") {
        Ok(Ok(value)) => value,
        Ok(Err(failure)) => json!({ "failure": failure.to_string() }),
        Err(differences) => panic!("{differences:#?}"),
    }
}

fn http() -> Value {
    json!({
        "baseUrl": "https://api.vendor.example/v1",
        "headers": { "x-version": "2026-01-01" },
        "auth": { "type": "bearer", "token": "{{ config.token }}" },
        "rateLimit": { "remaining": "x-remaining", "reset": "x-reset" },
    })
}

fn with(mut http: Value, more: Value) -> Value {
    if let (Some(members), Value::Object(more)) = (http.as_object_mut(), more) {
        members.extend(more);
    }
    http
}

#[test]
fn a_request_is_made_of_all_its_parts() {
    let recipe = json!({
        "method": "POST", "path": "/items/{{ input.id }}/notes",
        "query": { "tags": "{{ input.tags }}", "gone": "{{ input.more }}", "fixed": 1 },
        "headers": { "x-text": "{{ input.text }}", "x-gone": "{{ input.more }}" },
        "body": { "json": { "text": "{{ input.text }}", "count": "{{ input.tags | length }}", "gone": "{{ input.more }}" } },
        "response": { "select": "/data/note" },
    });
    check(
        &http(),
        &recipe,
        json!({
            "input": { "id": "a/b", "text": "hi", "tags": ["x", "y"] }, "config": { "token": "secret-token" },
            "exchanges": [{
                "request": {
                    "method": "POST", "url": "https://api.vendor.example/v1/items/a%2Fb/notes?fixed=1&tags=x&tags=y",
                    "headers": { "authorization": "Bearer secret-token", "x-version": "2026-01-01", "x-text": "hi", "x-gone": null },
                    "json": { "text": "hi", "count": 2 },
                },
                "answer": { "status": 201, "json": { "data": { "note": { "id": 7 } } } },
            }],
            "result": { "id": 7 },
        }),
    );
}

#[test]
fn credentials_go_where_the_recipe_places_them() {
    let recipe = json!({ "method": "GET", "path": "/x" });
    let url = "https://api.vendor.example/v1/x";
    for (auth, url, headers) in [
        (
            json!({ "type": "basic", "username": "{{ config.token }}" }),
            url.to_owned(),
            json!({ "authorization": "Basic c2VjcmV0Og==" }),
        ),
        (
            json!({ "type": "header", "name": "X-Key", "value": "{{ config.token }}" }),
            url.to_owned(),
            json!({ "x-key": "secret" }),
        ),
        (json!({ "type": "query", "name": "key", "value": "{{ config.token }}" }), format!("{url}?key=secret"), json!({})),
        (
            json!({ "type": "cookie", "name": "sid", "value": "{{ config.token }}" }),
            url.to_owned(),
            json!({ "cookie": "sid=secret" }),
        ),
        (
            json!([{ "type": "bearer", "token": "{{ credentials.accessToken }}" }, { "type": "query", "name": "k", "value": "1" }]),
            format!("{url}?k=1"),
            json!({ "authorization": "Bearer user-token" }),
        ),
        (
            json!({ "type": "bearer", "token": "{{ config.region }}", "optional": true }),
            url.to_owned(),
            json!({ "authorization": null }),
        ),
    ] {
        check(
            &with(http(), json!({ "auth": auth })),
            &recipe,
            json!({
                "config": { "token": "secret" }, "credentials": { "accessToken": "user-token" },
                "exchanges": [{ "request": { "method": "GET", "url": url, "headers": headers }, "answer": { "json": 1 } }],
                "result": 1,
            }),
        );
    }
    check(&http(), &recipe, json!({ "exchanges": [], "error": { "category": "auth", "code": "no_credential" } }));
    let anonymous = json!({ "method": "GET", "path": "/x", "auth": "none" });
    check(
        &http(),
        &anonymous,
        json!({
            "exchanges": [{ "request": { "method": "GET", "url": url, "headers": { "authorization": null } } }], "result": null,
        }),
    );
}

#[test]
fn bodies_are_written_in_every_way_vendors_take_them() {
    let request = |more: Value| {
        let plain = json!({ "method": "POST", "url": "https://api.vendor.example/v1/x" });
        json!([{ "request": with(plain, more), "answer": { "status": 204 } }])
    };
    let input = json!({ "text": "a b", "tags": [1, 2], "file": "aGk=", "nested": { "k": "v", "none": null } });
    for (body, more) in [
        (
            json!({ "form": { "text": "{{ input.text }}", "tags": "{{ input.tags }}", "m": "{{ input.nested }}", "gone": "{{ input.id }}" } }),
            json!({ "form": { "text": "a b", "tags[0]": "1", "tags[1]": "2", "m[k]": "v" } }),
        ),
        (json!({ "json": "{{ input.nested | merge({'text': input.text}) }}" }), json!({ "json": { "k": "v", "text": "a b" } })),
        (json!({ "text": "<p>{{ input.text }}</p>" }), json!({ "text": "<p>a b</p>" })),
        (json!({ "bytes": "{{ input.file }}" }), json!({ "text": "hi" })),
        (
            json!({ "multipart": [
                { "name": "meta", "value": "{{ input.nested }}", "contentType": "application/json" },
                { "name": "gone", "value": "{{ input.id }}" },
                { "name": "file", "base64": "{{ input.file }}", "fileName": "a\".txt" },
            ] }),
            json!({ "contains": [
                "name=\"meta\"\r\nContent-Type: application/json\r\n\r\n{\"k\":\"v\",\"none\":null}\r\n",
                "name=\"file\"; filename=\"a%22.txt\"\r\n\r\nhi\r\n--weft-0000000000000000--",
            ] }),
        ),
    ] {
        let recipe = json!({ "method": "POST", "path": "/x", "arrays": "indices", "body": body });
        let case = json!({ "input": input, "config": { "token": "t" }, "exchanges": request(more), "result": null });
        check(&http(), &recipe, case);
    }
}

#[test]
fn lists_are_read_page_by_page() {
    let page = |query: &str, answer: Value| {
        let url = format!("https://api.vendor.example/v1/x{query}");
        json!({ "request": { "method": "GET", "url": url }, "answer": answer })
    };
    let body = |items: Value, more: Value| json!({ "json": with(json!({ "data": items }), more) });
    for (pagination, exchanges) in [
        (
            json!({ "type": "cursor", "items": "/data", "parameter": "after", "next": "/next", "pageSize": { "parameter": "n", "value": 2 } }),
            json!([
                page("?n=2", body(json!([1, 2]), json!({ "next": "c1" }))),
                page("?n=2&after=c1", body(json!([3]), json!({ "next": "" })))
            ]),
        ),
        (
            json!({ "type": "cursor", "items": "/data", "parameter": "after", "more": "/has_more", "next": "{{ body.data | last }}" }),
            json!([
                page("", body(json!([1, 2]), json!({ "has_more": true }))),
                page("?after=2", body(json!([3]), json!({ "has_more": false })))
            ]),
        ),
        (
            json!({ "type": "page", "items": "/data", "parameter": "page", "pageSize": { "parameter": "n", "value": 2 } }),
            json!([page("?n=2&page=1", body(json!([1, 2]), json!({}))), page("?n=2&page=2", body(json!([3]), json!({})))]),
        ),
        (
            json!({ "type": "offset", "items": "/data", "parameter": "skip", "pageSize": { "parameter": "n", "value": 2 } }),
            json!([page("?n=2&skip=0", body(json!([1, 2]), json!({}))), page("?n=2&skip=2", body(json!([3]), json!({})))]),
        ),
        (
            json!({ "type": "link", "items": "/data" }),
            json!([
                page(
                    "",
                    json!({ "headers": { "link": "<https://api.vendor.example/v1/x?p=2>; rel=\"next\"" }, "json": { "data": [1, 2] } })
                ),
                page("?p=2", body(json!([3]), json!({}))),
            ]),
        ),
        (
            json!({ "type": "link", "items": "/data", "next": "/next" }),
            json!([page("", body(json!([1, 2, 3]), json!({ "next": "/v1/x?p=2" }))), page("?p=2", json!({ "json": {} }))]),
        ),
    ] {
        let recipe = json!({ "method": "GET", "path": "/x", "pagination": pagination });
        check(&http(), &recipe, json!({ "config": { "token": "t" }, "exchanges": exchanges, "result": [1, 2, 3] }));
    }
}

#[test]
fn a_list_ends_where_the_caller_or_the_recipe_has_enough() {
    let pagination = json!({ "type": "cursor", "items": "/data", "parameter": "after", "in": "body", "next": "/next", "maxItems": "{{ input.limit }}" });
    let recipe = json!({
        "method": "POST", "path": "/x", "body": { "json": { "q": "{{ input.text }}" } }, "pagination": true,
        "response": { "each": { "id": "{{ item.id }}" }, "template": { "items": "{{ items }}", "more": "{{ more }}" } },
    });
    let http = with(http(), json!({ "pagination": pagination }));
    let request = |body: Value| json!({ "method": "POST", "url": "https://api.vendor.example/v1/x", "json": body });
    let item = |id: u8| json!({ "id": id, "noise": "x" });
    check(
        &http,
        &recipe,
        json!({
            "input": { "text": "q", "limit": 3 }, "config": { "token": "t" },
            "exchanges": [
                { "request": request(json!({ "q": "q" })), "answer": { "json": { "data": [item(1), item(2)], "next": "c" } } },
                { "request": request(json!({ "q": "q", "after": "c" })), "answer": { "json": { "data": [item(3), item(4)], "next": "d" } } },
            ],
            "result": { "items": [{ "id": 1 }, { "id": 2 }, { "id": 3 }], "more": true },
        }),
    );
}

#[test]
fn errors_get_their_category_and_the_vendors_words() {
    let recipe = json!({ "method": "POST", "path": "/x", "errors": [
        { "when": { "status": 409, "pointer": "/error/code", "equals": "gone" }, "category": "notFound", "message": "{{ body.error.name }} is gone" },
        { "when": { "pointer": "/ok", "equals": false }, "category": "validation", "code": "{{ body.error }}", "message": "refused: {{ body.error }}" },
    ] });
    for (answer, error) in [
        (
            json!({ "status": 401, "json": { "message": "Bad credentials" } }),
            json!({ "category": "auth", "code": "http_401", "message": "Bad credentials" }),
        ),
        (
            json!({ "status": 404, "json": { "error": { "message": "no such item", "code": "missing" } } }),
            json!({ "category": "notFound", "code": "missing", "message": "no such item" }),
        ),
        (
            json!({ "status": 422, "json": { "errors": [{ "detail": "text is empty" }] } }),
            json!({ "category": "validation", "message": "text is empty" }),
        ),
        (
            json!({ "status": 409, "json": { "error": { "code": "gone", "name": "it" } } }),
            json!({ "category": "notFound", "message": "it is gone" }),
        ),
        (
            json!({ "json": { "ok": false, "error": "no_channel" } }),
            json!({ "category": "validation", "code": "no_channel", "message": "refused: no_channel" }),
        ),
        (
            json!({ "status": 403, "headers": { "x-remaining": "0", "x-reset": "1767229200" }, "json": {} }),
            json!({ "category": "rateLimited", "retryAfter": 3600.0 }),
        ),
        (
            json!({ "status": 400, "json": { "message": "token secret-token is wrong" } }),
            json!({ "category": "validation", "message": "token [masked] is wrong" }),
        ),
        (
            json!({ "status": 500, "text": "<html>oops</html>" }),
            json!({ "category": "unavailable", "message": "the vendor answered with status 500" }),
        ),
        (json!({ "status": 302, "headers": { "location": "/v1/y" } }), json!({ "category": "failed" })),
        (
            json!({ "headers": { "content-type": "application/json" }, "text": "{" }),
            json!({ "category": "failed", "code": "unexpected_answer" }),
        ),
    ] {
        check(
            &http(),
            &recipe,
            json!({
                "config": { "token": "secret-token" }, "pauses": [],
                "exchanges": [{ "request": { "method": "POST", "url": "https://api.vendor.example/v1/x" }, "answer": answer }],
                "error": error,
            }),
        );
    }
}

#[test]
fn requests_are_repeated_where_that_does_no_harm() {
    let exchange = |method: &str, answer: Value| json!({ "request": { "method": method, "url": "https://api.vendor.example/v1/x" }, "answer": answer });
    let (busy, limited) = (json!({ "status": 503 }), json!({ "status": 429, "headers": { "retry-after": "2" } }));
    let good = json!({ "json": "done" });
    let get = json!({ "method": "GET", "path": "/x" });
    let post = json!({ "method": "POST", "path": "/x" });
    check(
        &http(),
        &get,
        json!({
            "config": { "token": "t" }, "pauses": [0.125, 2.0], "result": "done",
            "exchanges": [exchange("GET", busy.clone()), exchange("GET", limited.clone()), exchange("GET", good.clone())],
        }),
    );
    check(
        &http(),
        &post,
        json!({
            "config": { "token": "t" }, "pauses": [2.0, 0.25], "result": "done",
            "exchanges": [exchange("POST", limited), exchange("POST", json!({ "fails": "connect" })), exchange("POST", good.clone())],
        }),
    );
    for lost in [busy.clone(), json!({ "status": 408 }), json!({ "fails": "timeout" })] {
        check(
            &http(),
            &post,
            json!({
                "config": { "token": "t" }, "pauses": [], "error": { "category": "unavailable" }, "exchanges": [exchange("POST", lost)],
            }),
        );
    }
    let recognised = with(http(), json!({ "idempotencyHeader": "Idempotency-Key" }));
    check(
        &recognised,
        &post,
        json!({
            "config": { "token": "t" }, "result": "done",
            "exchanges": [exchange("POST", busy), {
                "request": { "method": "POST", "url": "https://api.vendor.example/v1/x", "headers": { "idempotency-key": "key-of-this-call" } },
                "answer": good,
            }],
        }),
    );
    check(
        &http(),
        &get,
        json!({
            "config": { "token": "t" }, "pauses": [], "error": { "category": "rateLimited", "retryAfter": 600.0 },
            "exchanges": [exchange("GET", json!({ "status": 429, "headers": { "retry-after": "600" } }))],
        }),
    );
}

#[test]
fn credentials_stay_with_the_vendor() {
    let recipe = json!({ "method": "GET", "path": "/file", "response": { "as": "base64" } });
    let first = |location: &str| {
        json!({
            "request": { "method": "GET", "url": "https://api.vendor.example/v1/file", "headers": { "authorization": "Bearer secret" } },
            "answer": { "status": 302, "headers": { "location": location } },
        })
    };
    check(
        &http(),
        &recipe,
        json!({
            "config": { "token": "secret" }, "result": "aGk=",
            "exchanges": [first("https://files.vendor.example/x?sig=1"), {
                "request": { "method": "GET", "url": "https://files.vendor.example/x?sig=1", "headers": { "authorization": null, "x-version": null } },
                "answer": { "text": "hi" },
            }],
        }),
    );
    for location in ["https://evil.example/", "http://api.vendor.example/v1/y", "//evil.example/x"] {
        check(
            &http(),
            &recipe,
            json!({
                "config": { "token": "secret" }, "exchanges": [first(location)], "error": { "category": "failed" },
            }),
        );
    }
    let listed = json!({ "method": "GET", "path": "/file", "pagination": { "type": "link", "next": "/next", "items": "/data" } });
    check(
        &http(),
        &listed,
        json!({
            "config": { "token": "secret" }, "error": { "category": "failed" },
            "exchanges": [{
                "request": { "method": "GET", "url": "https://api.vendor.example/v1/file" },
                "answer": { "json": { "data": [1], "next": "https://evil.example/" } },
            }],
        }),
    );
}

/// Reads a list whose second page is at `next`.
fn second_page(base: &str, next: &str, expected: Value) {
    let pagination = json!({ "type": "link", "next": "/next", "items": "/data" });
    let recipe = json!({ "method": "GET", "path": "/list", "headers": { "x-own": "1" }, "pagination": pagination });
    let http = with(http(), json!({ "baseUrl": base, "idempotencyHeader": "Idempotency-Key" }));
    let first = json!({
        "request": { "method": "GET", "url": format!("{base}/list"), "headers": { "authorization": "Bearer secret" } },
        "answer": { "json": { "data": [1], "next": next } },
    });
    let mut case = json!({ "config": { "token": "secret" }, "exchanges": [first] });
    let Value::Object(mut expected) = expected else { panic!("an object") };
    if let Some(request) = expected.remove("request") {
        let second = json!({ "request": request, "answer": { "json": { "data": [2] } } });
        case["exchanges"].as_array_mut().expect("a list").push(second);
    }
    check(&http, &recipe, with(case, Value::Object(expected)));
}

#[test]
fn pages_on_another_host_are_read_without_the_credential() {
    let bare = json!({ "authorization": null, "x-version": null, "x-own": null, "idempotency-key": null, "accept": "*/*" });
    let next = "https://files.vendor.example/list?page=2";
    second_page(
        "https://api.vendor.example/v1",
        next,
        json!({ "request": { "method": "GET", "url": next, "headers": bare }, "result": [1, 2] }),
    );
    let own = "https://api.vendor.example/v1/list?page=2";
    let whole = json!({ "authorization": "Bearer secret", "x-version": "2026-01-01", "x-own": "1" });
    second_page(
        "https://api.vendor.example/v1",
        own,
        json!({ "request": { "method": "GET", "url": own, "headers": whole }, "result": [1, 2] }),
    );
    let plain = json!({ "error": { "category": "failed", "message": "the vendor leads from https to http" } });
    second_page("https://api.vendor.example/v1", "http://files.vendor.example/list?page=2", plain);
}

#[test]
fn a_body_does_not_follow_to_another_host() {
    let pagination = json!({ "type": "link", "next": "/next", "items": "/data" });
    let recipe = json!({ "method": "POST", "path": "/list", "body": { "json": {} }, "pagination": pagination });
    let first = json!({
        "request": { "method": "POST", "url": "https://api.vendor.example/v1/list", "json": {} },
        "answer": { "json": { "data": [1], "next": "https://files.vendor.example/list" } },
    });
    check(&http(), &recipe, json!({ "config": { "token": "secret" }, "exchanges": [first], "error": { "category": "failed" } }));
}

#[test]
fn everything_wrong_with_a_recipe_is_told_with_its_place() {
    let http = json!({
        "baseUrl": "https://{{ input.host }}.vendor.example",
        "auth": { "type": "bearer", "token": "{{ config.tokn }}" },
        "headers": { "Authorization": "x", "Host": "x" },
        "errors": [{ "when": { "pointer": "x" }, "category": "auth" }],
    });
    let recipe = json!({
        "method": "get", "path": "/x/../{{ input.id }}",
        "query": { "a": "{{ input.idd }}", "b": "{{ env.HOME }}", "c": "{{ input.id | nofilter }}", "d": "{{ input.id" },
        "pagination": { "type": "cursor", "items": "data" },
        "response": { "template": { "x": "{{ config.token }}" }, "select": "x" },
    });
    let faults = compile(&http, &recipe).expect_err("many faults");
    let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
    for path in [
        "$.http.baseUrl",
        "$.http.auth",
        "$.http.headers.Authorization",
        "$.http.headers.Host",
        "$.http.errors[0].when.pointer",
        "$.actions[0].recipe.method",
        "$.actions[0].recipe.path",
        "$.actions[0].recipe.query.a",
        "$.actions[0].recipe.query.b",
        "$.actions[0].recipe.query.c",
        "$.actions[0].recipe.query.d",
        "$.actions[0].recipe.pagination.items",
        "$.actions[0].recipe.pagination.parameter",
        "$.actions[0].recipe.pagination.next",
        "$.actions[0].recipe.response.template.x",
        "$.actions[0].recipe.response.select",
    ] {
        assert!(paths.contains(&path), "{path} in {faults:#?}");
    }
    let unknown =
        compile(&with(json!({ "baseUrl": "https://a.example" }), json!({ "bsae": 1 })), &json!({})).expect_err("a fault");
    assert!(unknown[0].message.contains("bsae"), "{unknown:?}");
    let retry = json!({ "baseUrl": "https://a.example", "retry": { "attempts": 2, "idempotent": true } });
    let general = compile(&retry, &json!({ "method": "POST", "path": "/x" })).expect_err("a fault");
    assert_eq!(general[0].path, "$.http.retry.idempotent");
    assert!(general[0].message.contains("idempotent"), "{general:?}");
}
