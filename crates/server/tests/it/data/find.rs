//! Lists, queries and figures.

use serde_json::{Value, json};

use super::{at, contact, crm, start};
use crate::fixtures::{app, fault_paths, with};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().filter_map(|record| record["first_name"].as_str()).collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_everything_unless_it_is_limited_filtered_and_sorted() {
    let (_server, api) = start().await;
    for (name, score) in [("A", 3), ("B", 1), ("C", 2)] {
        contact(&api, json!({ "first_name": name, "score": score })).await;
    }
    let list = async |query: &str| api.get(&format!("{}?{query}", at("contacts"))).await;
    for (query, expected) in [
        ("", vec!["C", "B", "A"]),
        ("order=asc", vec!["A", "B", "C"]),
        ("sort=score", vec!["A", "C", "B"]),
        ("sort=score&order=asc&limit=2", vec!["B", "C"]),
        ("sort=score&order=asc&limit=2&offset=2", vec!["A"]),
        ("score=2", vec!["C"]),
        ("first_name=A&score=3", vec!["A"]),
        ("first_name=A&score=2", vec![]),
        ("search=b", vec!["B"]),
    ] {
        assert_eq!(names(&list(query).await.expect(200).json), expected, "{query}");
    }
    for (query, path) in
        [("nickname=x", "nickname"), ("score=many", "score"), ("sort=x", "sort"), ("limit=x", "limit"), ("order=up", "order")]
    {
        assert_eq!(fault_paths(&list(query).await.expect(400)), [path], "{query}");
    }
    let first = list("limit=2&sort=score").await.expect(200);
    let cursor = first.header("x-weft-next-cursor").expect("there is more").to_owned();
    let second = list(&format!("sort=score&cursor={cursor}")).await.expect(200);
    assert_eq!((names(&second.json), second.header("x-weft-next-cursor")), (vec!["B"], None));
    assert_eq!(list("select=score&limit=1").await.expect(200).json[0].as_object().map(serde_json::Map::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_limit_goes_on_beyond_one_page() {
    let (_server, api) = start().await;
    for batch in 0..3 {
        let records: Vec<_> = (0..900).map(|number| json!({ "first_name": format!("{batch}-{number}") })).collect();
        api.post(&format!("{}/bulk", at("contacts")), json!(records)).await.expect(201);
    }
    let mut list: Vec<_> = api.get(&at("contacts")).await.expect(200).json.as_array().cloned().unwrap_or_default();
    assert_eq!(list.len(), 2700);
    list.sort_by_key(|record| record["id"].to_string());
    list.dedup_by_key(|record| record["id"].to_string());
    assert_eq!(list.len(), 2700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_says_how_many_there_are_and_where_the_next_page_begins() {
    let (_server, api) = start().await;
    for score in 0..5 {
        contact(&api, json!({ "score": score, "tags": if score > 2 { json!(["vip"]) } else { Value::Null } })).await;
    }
    let query = async |body: Value| api.post(&format!("{}/query", at("contacts")), body).await;
    let vip = query(json!({ "where": { "tags": { "$contains": ["vip"] } } })).await.expect(200).json;
    assert_eq!((vip["data"].as_array().map(Vec::len), &vip["total"]), (Some(2), &json!(2)));
    let first = query(json!({ "orderBy": "score", "order": "asc", "limit": 2, "where": { "score": { "$gte": 1 } } }))
        .await
        .expect(200)
        .json;
    assert_eq!(first["total"], json!(4));
    let second = query(json!({ "orderBy": "score", "order": "asc", "limit": 2, "where": { "score": { "$gte": 1 } },
        "cursor": first["nextCursor"], "total": false }))
    .await
    .expect(200)
    .json;
    let scores: Vec<_> = second["data"].as_array().into_iter().flatten().map(|record| record["score"].clone()).collect();
    assert_eq!((scores, second.get("total"), second.get("nextCursor")), (vec![json!(3), json!(4)], None, None));

    let wrong =
        json!({ "where": { "nam": 1, "score": { "$gt": "x" } }, "orderBy": "y", "limt": 5, "select": ["first_name", "z"] });
    let answer = query(wrong).await.expect(400);
    assert_eq!(fault_paths(&answer), ["$.limt", "$.orderBy", "$.select[1]", "$.where.nam", "$.where.score.$gt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_field_refers_to_comes_along_when_one_may_read_it() {
    let (server, api) = start().await;
    let company = api.post(&at("companies"), json!({ "name": "ACME" })).await.expect(201).json;
    let keeper = api.get("/api/v1/auth/me").await.expect(200).json;
    let made = contact(&api, json!({ "company": company["id"], "keeper": keeper["id"] })).await;
    let path = format!("{}/{}?expand=company,keeper", at("contacts"), made["id"].as_str().unwrap_or_default());
    let record = api.get(&path).await.expect(200).json;
    assert_eq!(record["_expanded"]["company"], company);
    assert_eq!(record["_expanded"]["keeper"]["email"], keeper["email"]);
    let body = json!({ "expand": ["company"], "select": ["first_name"] });
    let found = api.post(&format!("{}/query", at("contacts")), body.clone()).await.expect(200).json;
    assert_eq!(found["data"][0]["_expanded"]["company"], company);
    let reader = server.user("reader").await;
    server.grant(&api, &reader, &["app:crm:contacts.read"]).await;
    let refused = reader.post(&format!("{}/query", at("contacts")), body).await.expect(403);
    assert_eq!(refused.value("/requires"), json!(["app:crm:companies.read"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_worked_out_by_group() {
    let (_server, api) = start().await;
    for (stage, score) in [("lead", 1), ("lead", 2), ("customer", 10)] {
        contact(&api, json!({ "stage": stage, "score": score })).await;
    }
    let aggregate = async |body: Value| api.post(&format!("{}/aggregate", at("contacts")), body).await;
    let body = json!({
        "groupBy": ["stage"],
        "aggregates": { "n": { "count": "*" }, "all": { "sum": "score" }, "mean": { "avg": "score" }, "most": { "max": "score" } },
        "orderBy": "all",
    });
    let expected = json!([
        { "stage": "customer", "n": 1, "all": 10.0, "mean": 10.0, "most": 10.0 },
        { "stage": "lead", "n": 2, "all": 3.0, "mean": 1.5, "most": 2.0 },
    ]);
    let figures = aggregate(body).await.expect(200).json;
    assert_eq!(figures["data"].as_array().map(Vec::len), Some(2));
    for (group, expected) in figures["data"].as_array().into_iter().flatten().zip(expected.as_array().into_iter().flatten()) {
        for (name, value) in expected.as_object().into_iter().flatten() {
            assert!(group[name] == *value || group[name].as_f64() == value.as_f64(), "{name}: {group}");
        }
    }
    let least =
        aggregate(json!({ "where": { "score": { "$gt": 1 } }, "aggregates": { "n": { "count": "*" } } })).await.expect(200).json;
    assert_eq!(least["data"], json!([{ "n": 2 }]));
    for wrong in [
        json!({}),
        json!({ "aggregates": { "n": { "median": "score" } } }),
        json!({ "aggregates": { "n": { "sum": "first_name" } } }),
        json!({ "aggregates": { "n": { "count": "gone" } } }),
        json!({ "aggregates": { "n": { "count": "*" } }, "groupBy": ["extra"] }),
    ] {
        aggregate(wrong).await.expect(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_that_know_the_same_person_are_linked_and_asked_together() {
    let (server, api) = start().await;
    let person = |entity: &str, key: &str| json!({ "entityName": entity, "identityKind": "person", "identityKey": key, "fields": [{ "name": key, "type": "text" }] });
    api.post("/api/v1/apps", crm(json!([person("contacts", "email")]))).await.expect(200);
    api.post("/api/v1/apps", with(app("hr"), json!({ "dataContract": [person("people", "mail")] }))).await.expect(200);
    let here = api.post(&at("contacts"), json!({ "email": "a@x.com" })).await.expect(201).json;
    api.post(&at("contacts"), json!({ "email": "b@x.com" })).await.expect(201);
    let there = api.post("/api/v1/apps/hr/collections/people", json!({ "mail": "a@x.com" })).await.expect(201).json;

    let linked = api.get(&format!("{}?linked=true&sort=email&order=asc", at("contacts"))).await.expect(200).json;
    assert_eq!(linked[0]["_linked"], json!({ "hr": { "entity": "people", "recordId": there["id"], "data": there } }));
    assert_eq!(linked[1].get("_linked"), None);
    let other = api.post(&format!("{}/query", at("contacts")), json!({ "linked": ["nothing"] })).await.expect(200).json;
    assert!(other["data"].as_array().is_some_and(|list| list.iter().all(|record| record.get("_linked").is_none())));

    let federated = "/api/v1/federated/person/query";
    let found = api.post(federated, json!({ "limit": 10 })).await.expect(200).json;
    assert_eq!(found["total"], json!(3));
    let sources: Vec<_> = found["data"].as_array().into_iter().flatten().map(|record| record["_source"]["app"].clone()).collect();
    assert_eq!(sources.iter().filter(|source| **source == json!("crm")).count(), 2);
    let by_id = api.post(federated, json!({ "where": { "id": here["id"] } })).await.expect(200).json;
    assert_eq!(by_id["total"], json!(1));
    assert_eq!(api.post("/api/v1/federated/robot/query", json!({})).await.expect(200).json, json!({ "data": [], "total": 0 }));
    api.post(federated, json!({ "where": { "email": "a@x.com" } })).await.expect(400);
    api.post(federated, json!({ "orderBy": "a b" })).await.expect(400);

    // Only what one may read is linked or found.
    let reader = server.user("reader").await;
    server.grant(&api, &reader, &["app:crm:contacts.read"]).await;
    let linked = reader.get(&format!("{}?linked=true&email=a@x.com", at("contacts"))).await.expect(200).json;
    assert_eq!(linked[0].get("_linked"), None);
    assert_eq!(reader.post(federated, json!({})).await.expect(200).json["total"], json!(2));
}
