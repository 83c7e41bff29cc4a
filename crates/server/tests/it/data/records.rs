//! Records one by one.

use reqwest::Method;
use serde_json::{Value, json};
use weft_testkit::Api;

use super::{at, contact, contract, crm, start};
use crate::fixtures::{fault_paths, with};

#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_a_value_of_every_type_and_comes_back_as_it_was_sent() {
    let (_server, api) = start().await;
    let company = api.post(&at("companies"), json!({ "name": "ACME" })).await.expect(201).json;
    let keeper = api.get("/api/v1/auth/me").await.expect(200).text("/id");
    let sent = json!({
        "first_name": "Alice \"the\" O'Hara \\ é",
        "email": "alice@acme.com",
        "notes": null,
        "stage": "customer",
        "score": 42.5,
        "active": false,
        "born": "2024-02-29",
        "seen": "2026-03-15T12:30:00.25+02:00",
        "extra": { "nested": [1, null, { "a": "b" }] },
        "tags": ["vip", "it's, \"quoted\""],
        "figures": [1, -0.5],
        "company": company["id"],
        "keeper": keeper,
        // The server's own: left out.
        "id": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "created_at": "2020-01-01T00:00:00Z",
    });
    let created = api.post(&at("contacts"), sent.clone()).await.expect(201).json;
    let mut expected = sent;
    for field in ["id", "created_at", "updated_at"] {
        expected[field] = created[field].clone();
    }
    expected["seen"] = json!("2026-03-15T10:30:00.25+00:00");
    assert_eq!(created, expected);
    assert_ne!(created["id"], "f47ac10b-58cc-4372-a567-0e02b2c3d479");
    let path = format!("{}/{}", at("contacts"), created["id"].as_str().unwrap_or_default());
    assert_eq!(api.get(&path).await.expect(200).json, expected);

    let changed = api.patch(&path, json!({ "score": null, "tags": [] })).await.expect(200).json;
    assert_eq!((&changed["score"], &changed["tags"], &changed["born"]), (&Value::Null, &json!([]), &json!("2024-02-29")));
    let message = api.delete(&path).await.expect(200).text("/message");
    assert_eq!(message, format!("record '{}' deleted", created["id"].as_str().unwrap_or_default()));
    assert_eq!(api.get(&path).await.expect(404).code(), "not_found");
    assert_eq!(api.patch(&path, json!({ "score": 1 })).await.expect(404).code(), "not_found");
    api.delete(&path).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_fill_what_a_new_record_does_not_say() {
    let (_server, api) = start().await;
    let record = contact(&api, json!({})).await;
    assert_eq!((&record["stage"], &record["active"], &record["score"]), (&json!("lead"), &json!(true), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_every_place_and_nothing_is_stored() {
    let (_server, api) = start().await;
    let wrong = json!({
        "nickname": "Al",
        "email": 5,
        "stage": "gone",
        "score": "many",
        "active": "perhaps",
        "born": "29.2.2023",
        "seen": "2026-03-15T10:30:00",
        "tags": ["a", 1],
        "company": "acme",
    });
    let answer = api.post(&at("contacts"), wrong).await.expect(400);
    assert_eq!(answer.code(), "validation_failed");
    let expected = ["active", "born", "company", "email", "nickname", "score", "seen", "stage", "tags"];
    assert_eq!(fault_paths(&answer), expected.map(|field| format!("$.{field}")));
    for (body, path) in [
        (json!({}), "$"),
        (json!([]), "$"),
        (json!({ "id": "x" }), "$"),
        (json!({ "score": 1 }), "$.first_name"),
        (json!({ "first_name": null }), "$.first_name"),
        (json!({ "first_name": "a\u{0}" }), "$.first_name"),
        (json!({ "first_name": "A", "score": -1 }), "$"),
    ] {
        let answer = api.post(&at("contacts"), body.clone()).await.expect(400);
        assert_eq!(fault_paths(&answer), [path], "{body}");
    }
    assert_eq!(api.get(&at("contacts")).await.expect(200).json, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_and_what_is_no_id_is_a_mistake() {
    let (server, api) = start().await;
    let unknown = "019aa7c2-5b1e-7d30-9c44-0a6f3e1d2b90";
    for path in [at("nothing"), format!("{}/{unknown}", at("nothing")), "/api/v1/apps/gone/collections/contacts".to_owned()] {
        let answer = api.get(&path).await.expect(404);
        assert!(answer.text("/error").contains("not found in app"), "{}", answer.text("/error"));
    }
    for reserved in ["pg_catalog", "information_schema", "public"] {
        api.get(&format!("/api/v1/apps/{reserved}/collections/users")).await.expect(404);
    }
    assert_eq!(api.get(&format!("{}/{unknown}", at("contacts"))).await.expect(404).code(), "not_found");
    let answer = api.get(&format!("{}/seven", at("contacts"))).await.expect(400);
    assert_eq!(answer.text("/error"), "invalid UUID: 'seven'");
    let platform = server.user("nobody").await;
    assert_eq!(platform.get(&at("contacts")).await.expect(403).code(), "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_hold_and_unique_values_stay_unique() {
    let (_server, api) = start().await;
    let company = api.post(&at("companies"), json!({ "name": "ACME" })).await.expect(201).text("/id");
    let member = contact(&api, json!({ "company": company, "email": "a@acme.com" })).await;
    let dangling = json!({ "first_name": "B", "company": "019aa7c2-5b1e-7d30-9c44-0a6f3e1d2b90" });
    assert_eq!(api.post(&at("contacts"), dangling).await.expect(409).code(), "conflict");
    let twin = json!({ "first_name": "B", "email": "a@acme.com" });
    assert_eq!(api.post(&at("contacts"), twin).await.expect(409).code(), "conflict");
    api.delete(&format!("{}/{company}", at("companies"))).await.expect(200);
    let path = format!("{}/{}", at("contacts"), member["id"].as_str().unwrap_or_default());
    api.get(&path).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_would_undo_another_is_refused() {
    let (_server, api) = start().await;
    let record = contact(&api, json!({ "score": 1 })).await;
    let path = format!("{}/{}", at("contacts"), record["id"].as_str().unwrap_or_default());
    let read = api.get(&path).await.expect(200);
    let tag = read.header("etag").expect("a tag").to_owned();
    let conditional = async |method: Method, name: &str, tag: &str, body: Value| {
        api.send(api.request(method, &path).header(name, tag).json(&body)).await
    };
    conditional(Method::GET, "if-none-match", &tag, json!({})).await.expect(304);
    let mine = conditional(Method::PATCH, "if-match", &tag, json!({ "score": 2 })).await.expect(200);
    let theirs = conditional(Method::PATCH, "if-match", &tag, json!({ "score": 3 })).await.expect(412);
    assert_eq!(theirs.code(), "precondition_failed");
    assert_eq!(conditional(Method::DELETE, "if-match", &tag, json!({})).await.expect(412).code(), "precondition_failed");
    assert_eq!(api.get(&path).await.expect(200).json["score"], json!(2));
    let next = mine.header("etag").expect("a tag").to_owned();
    assert_eq!(api.get(&path).await.expect(200).header("etag"), Some(next.as_str()));
    conditional(Method::DELETE, "if-match", &next, json!({})).await.expect(200);
    assert_eq!(conditional(Method::PATCH, "if-match", &next, json!({ "score": 3 })).await.expect(404).code(), "not_found");
}

async fn holding(server: &weft_testkit::TestServer, administrator: &Api, name: &str, rights: &[&str]) -> Api {
    let user = server.user(name).await;
    server.grant(administrator, &user, rights).await;
    user
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_lets_do_one_thing() {
    let (server, api) = start().await;
    let record = contact(&api, json!({})).await;
    let path = format!("{}/{}", at("contacts"), record["id"].as_str().unwrap_or_default());
    let right = |word: &str| format!("app:crm:contacts.{word}");
    for (name, held) in [("reader", "read"), ("creator", "create"), ("updater", "update"), ("deleter", "delete")] {
        let user = holding(&server, &api, name, &[&right(held)]).await;
        let tries = [
            ("read", user.get(&path).await),
            ("read", user.get(&at("contacts")).await),
            ("read", user.post(&format!("{}/query", at("contacts")), json!({})).await),
            ("create", user.post(&at("contacts"), json!({ "first_name": "B", "notes": "secret" })).await),
            ("update", user.patch(&path, json!({ "first_name": "C" })).await),
            ("delete", user.delete(&path).await),
        ];
        for (needed, answer) in tries {
            if needed == held {
                assert!(answer.status < 300, "{name}: {}", answer.status);
                // Who may write and not read learns no more than which record it was.
                if ["create", "update"].contains(&needed) {
                    assert_eq!(answer.json.as_object().map(serde_json::Map::len), Some(1), "{}", answer.json);
                }
            } else {
                let answer = answer.expect(403);
                assert_eq!(answer.value("/requires"), json!([right(needed)]), "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_owners_are_seen_by_their_owners_and_whoever_manages_them() {
    let (server, api) = start().await;
    let mut entities = contract();
    entities[0]["access"] = json!("owner");
    api.post("/api/v1/apps", crm(entities)).await.expect(200);
    let rights = ["read", "create", "update", "delete"].map(|word| format!("app:crm:companies.{word}"));
    let rights: Vec<_> = rights.iter().map(String::as_str).collect();
    let alice = holding(&server, &api, "alice", &rights).await;
    let bob = holding(&server, &api, "bob", &rights).await;
    let made = alice.post(&at("companies"), json!({ "name": "A" })).await.expect(201).json;
    let path = format!("{}/{}", at("companies"), made["id"].as_str().unwrap_or_default());
    assert_eq!(alice.get(&at("companies")).await.expect(200).json, json!([made]));
    assert_eq!(bob.get(&at("companies")).await.expect(200).json, json!([]));
    let found = bob.post(&format!("{}/query", at("companies")), json!({})).await.expect(200).json;
    assert_eq!(found, json!({ "data": [], "total": 0 }));
    bob.get(&path).await.expect(404);
    bob.patch(&path, json!({ "name": "B" })).await.expect(404);
    bob.delete(&path).await.expect(404);
    let all = json!({ "where": {}, "set": { "name": "B" } });
    assert_eq!(bob.post(&format!("{}/bulk/update", at("companies")), all).await.expect(200).json, json!({ "updated": 0 }));
    assert_eq!(api.get(&path).await.expect(200).json, made);
    let manager = holding(&server, &api, "manager", &[&rights[0], &"app:crm:companies.manage"].map(|right| *right)).await;
    assert_eq!(manager.get(&at("companies")).await.expect(200).json, json!([made]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_one_anothers_records() {
    let (server, api) = start().await;
    contact(&api, json!({})).await;
    let elsewhere = server.tenant(&api, "elsewhere", "elsewhere").await;
    elsewhere.get(&at("contacts")).await.expect(404);
    elsewhere.post(&at("contacts"), json!({ "first_name": "B" })).await.expect(404);
    let verified = elsewhere.post("/api/v1/apps/schema/verify", crm(json!([]))).await.expect(409);
    assert_eq!(verified.code(), "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_may_have_any_name_that_the_rule_allows() {
    let (_server, api) = start().await;
    let names = ["x", "t", "select", "user", "context", "made", "tenant", "tg_op", "new_rows", "excluded", "page", "count"];
    let fields: Vec<_> = names.iter().map(|name| json!({ "name": name, "type": "text" })).collect();
    let entity = json!({ "entityName": "order", "fields": fields, "access": "owner" });
    api.post("/api/v1/apps", crm(json!([entity]))).await.expect(200);
    let body: Value = names.iter().map(|name| ((*name).to_owned(), json!(name))).collect::<serde_json::Map<_, _>>().into();
    let made = api.post(&at("order"), body.clone()).await.expect(201).json;
    assert_eq!(with(made.clone(), body.clone()), made);
    let path = format!("{}/{}", at("order"), made["id"].as_str().unwrap_or_default());
    api.patch(&path, body.clone()).await.expect(200);
    api.post(&format!("{}/bulk", at("order")), json!([body, body])).await.expect(201);
    let query = json!({ "where": { "select": "select" }, "orderBy": "x" });
    assert_eq!(api.post(&format!("{}/query", at("order")), query).await.expect(200).value("/total"), json!(3));
    api.delete(&path).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_many_ask_for_at_once_come_to_whoever_asked_and_as_they_are() {
    let (server, api) = start().await;
    let mut entities = contract();
    entities[0]["access"] = json!("owner");
    api.post("/api/v1/apps", crm(entities)).await.expect(200);
    let rights = ["read", "create", "update"].map(|word| format!("app:crm:companies.{word}"));
    let rights: Vec<_> = rights.iter().map(String::as_str).collect();
    let alice = holding(&server, &api, "alice", &rights).await;
    let bob = holding(&server, &api, "bob", &rights).await;
    let some = async |person: &Api| {
        let names: Vec<_> = (0..20).map(|number| json!({ "name": number.to_string() })).collect();
        let made = person.post(&format!("{}/bulk", at("companies")), json!(names)).await.expect(201).json;
        made.as_array().cloned().expect("a list")
    };
    let (hers, his) = (some(&alice).await, some(&bob).await);
    let path = |record: &Value| format!("{}/{}", at("companies"), record["id"].as_str().unwrap_or_default());
    let readers = hers.iter().zip(&his).map(async |(of_alice, of_bob)| {
        for _ in 0..5 {
            assert_eq!(alice.get(&path(of_alice)).await.expect(200).json, *of_alice);
            bob.get(&path(of_alice)).await.expect(404);
            assert_eq!(bob.get(&path(of_bob)).await.expect(200).json, *of_bob);
            alice.get(&path(&json!({ "id": "00000000-0000-4000-8000-000000000000" }))).await.expect(404);
        }
    });
    let changing = api.post(&at("companies"), json!({ "name": "0" })).await.expect(201).json;
    let writer = async {
        for number in 1..50 {
            api.patch(&path(&changing), json!({ "name": number.to_string() })).await.expect(200);
            assert_eq!(api.get(&path(&changing)).await.expect(200).text("/name"), number.to_string());
        }
    };
    futures::future::join(futures::future::join_all(readers), writer).await;
}
