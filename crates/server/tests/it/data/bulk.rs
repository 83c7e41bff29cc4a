//! Many records in one request, and streams of them.

use reqwest::Method;
use serde_json::{Value, json};
use weft_testkit::{Answer, Api};

use super::{at, contact, start};
use crate::fixtures::fault_paths;

async fn count(api: &Api) -> Value {
    api.post(&format!("{}/query", at("contacts")), json!({})).await.expect(200).value("/total")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_are_made_in_order_or_not_at_all() {
    let (_server, api) = start().await;
    let bulk = async |body: Value| api.post(&format!("{}/bulk", at("contacts")), body).await;
    let made = bulk(json!([
        { "first_name": "A", "score": 1, "tags": ["x"], "extra": { "a": 1 }, "born": "2024-01-01", "figures": [1.5] },
        { "first_name": "B", "stage": "customer", "active": null },
        { "first_name": "C", "extra": null, "seen": "2026-01-01T00:00:00Z" },
    ]))
    .await
    .expect(201)
    .json;
    let field = |name: &str| made.as_array().into_iter().flatten().map(|record| record[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("first_name"), [json!("A"), json!("B"), json!("C")]);
    // A default holds where a record says nothing, and not where it says null.
    assert_eq!(field("stage"), [json!("lead"), json!("customer"), json!("lead")]);
    assert_eq!(field("active"), [json!(true), Value::Null, json!(true)]);
    assert_eq!(field("extra"), [json!({ "a": 1 }), Value::Null, Value::Null]);
    assert_eq!(field("figures")[0], json!([1.5]));

    let answer = bulk(json!([{ "first_name": "D" }, { "score": 1 }, { "first_name": "E", "born": "soon" }])).await.expect(400);
    assert_eq!(fault_paths(&answer), ["$[1].first_name", "$[2].born"]);
    bulk(json!([{ "first_name": "D", "email": "d@x.com" }, { "first_name": "E", "email": "d@x.com" }])).await.expect(409);
    for wrong in [json!([]), json!({}), json!(vec![json!({ "first_name": "A" }); 1001]), json!([{}])] {
        bulk(wrong).await.expect(400);
    }
    assert_eq!(count(&api).await, json!(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_that_meets_a_condition_is_changed_or_deleted() {
    let (_server, api) = start().await;
    for score in 0..4 {
        contact(&api, json!({ "score": score })).await;
    }
    let post = async |what: &str, body: Value| api.post(&format!("{}/bulk/{what}", at("contacts")), body).await;
    let updated =
        post("update", json!({ "where": { "score": { "$gte": 2 } }, "set": { "stage": "customer" } })).await.expect(200);
    assert_eq!(updated.json, json!({ "updated": 2 }));
    let deleted = post("delete", json!({ "where": { "stage": "customer" } })).await.expect(200);
    assert_eq!(deleted.json, json!({ "deleted": 2 }));
    assert_eq!(count(&api).await, json!(2));
    // Nothing is changed when a condition is missing or does not fit.
    post("delete", json!({})).await.expect(400);
    post("delete", json!({ "where": { "scor": 1 } })).await.expect(400);
    post("update", json!({ "where": {}, "set": { "score": "x" } })).await.expect(400);
    post("update", json!({ "where": {}, "set": { "score": -1 } })).await.expect(400);
    assert_eq!(count(&api).await, json!(2));
    assert_eq!(post("delete", json!({ "where": {} })).await.expect(200).json, json!({ "deleted": 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_made_or_changed_by_what_is_unique_in_them() {
    let (server, api) = start().await;
    let upsert = async |body: Value| api.post(&format!("{}/upsert", at("contacts")), body).await;
    let record = |name: &str, email: &str| json!({ "first_name": name, "email": email });
    let first =
        upsert(json!({ "on": ["email"], "records": [record("A", "a@x.com"), record("B", "b@x.com")] })).await.expect(200).json;
    assert_eq!((&first["created"], &first["updated"]), (&json!(2), &json!(0)));
    let second =
        upsert(json!({ "on": ["email"], "records": [record("C", "b@x.com"), record("D", "d@x.com")] })).await.expect(200).json;
    assert_eq!((&second["created"], &second["updated"]), (&json!(1), &json!(1)));
    assert_eq!(count(&api).await, json!(3));
    let b = api.get(&format!("{}?email=b@x.com", at("contacts"))).await.expect(200).json;
    assert_eq!((&b[0]["first_name"], &b[0]["stage"]), (&json!("C"), &json!("lead")));
    for wrong in [
        json!({ "on": ["first_name"], "records": [record("A", "a@x.com")] }),
        json!({ "on": ["email"], "records": [{ "first_name": "A" }] }),
        json!({ "on": ["email"], "records": [record("A", "a@x.com"), { "first_name": "B", "email": "b@x.com", "score": 1 }] }),
    ] {
        upsert(wrong).await.expect(400);
    }
    upsert(json!({ "on": ["email"], "records": [record("A", "e@x.com"), record("B", "e@x.com")] })).await.expect(409);
    let creator = server.user("creator").await;
    server.grant(&api, &creator, &["app:crm:contacts.create"]).await;
    let body = json!({ "on": ["email"], "records": [record("A", "a@x.com")] });
    let refused = creator.post(&format!("{}/upsert", at("contacts")), body).await.expect(403);
    assert_eq!(refused.value("/requires"), json!(["app:crm:contacts.update"]));
}

async fn import(api: &Api, query: &str, lines: &str) -> Answer {
    let request = api.request(Method::POST, &format!("{}/import{query}", at("contacts")));
    api.send(request.header("content-type", "application/x-ndjson").body(lines.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_can_be_imported_again() {
    let (_server, api) = start().await;
    let records: Vec<_> = (0..1000)
        .map(|number| json!({ "first_name": format!("line\nbreak {number}"), "email": format!("{number}@x.com"), "extra": { "n": number } }))
        .collect();
    for part in records.chunks(500) {
        api.post(&format!("{}/bulk", at("contacts")), json!(part)).await.expect(201);
    }
    contact(&api, json!({ "email": "last@x.com" })).await;
    let exported = api.get(&format!("{}/export", at("contacts"))).await.expect(200);
    let text = String::from_utf8(exported.bytes).expect("text");
    assert_eq!(text.lines().count(), 1001);
    let again = import(&api, "?on=email", &text).await.expect(200);
    assert_eq!(again.json, json!({ "created": 0, "updated": 1001 }));
    api.post(&format!("{}/bulk/delete", at("contacts")), json!({ "where": {} })).await.expect(200);
    assert_eq!(api.get(&format!("{}/export", at("contacts"))).await.expect(200).bytes, b"");
    let anew = import(&api, "", &format!("\n{text}\n")).await.expect(200);
    assert_eq!(anew.json, json!({ "created": 1001, "updated": 0 }));
    assert_eq!(count(&api).await, json!(1001));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_says_which_line_is_wrong_and_keeps_what_came_before() {
    let (_server, api) = start().await;
    let answer =
        import(&api, "", "{\"first_name\":\"A\"}\n{\"first_name\":\"B\",\"born\":\"soon\"}\n{\"first_name\":\"C\"}\n").await;
    let answer = answer.expect(400);
    assert_eq!(fault_paths(&answer), ["line 2.born"]);
    assert!(answer.text("/error").contains("1 records before it are stored"), "{}", answer.text("/error"));
    assert_eq!(count(&api).await, json!(1));
    assert_eq!(fault_paths(&import(&api, "", "{\"first_name\":").await.expect(400)), ["line 1"]);
    import(&api, "?on=first_name", "{\"first_name\":\"A\"}").await.expect(400);
}
