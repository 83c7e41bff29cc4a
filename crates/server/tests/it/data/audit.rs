//! Who changed which record.

use serde_json::{Value, json};

use super::{at, contact, start};

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_recorded_with_who_did_it_and_what_was_before_and_after() {
    let (server, api) = start().await;
    let me = api.get("/api/v1/auth/me").await.expect(200).text("/id");
    let record = contact(&api, json!({ "score": 1 })).await;
    let id = record["id"].as_str().unwrap_or_default().to_owned();
    let changed = api.patch(&format!("{}/{id}", at("contacts")), json!({ "score": 2 })).await.expect(200);
    let trace = changed.header("x-trace-id").expect("a trace").to_owned();
    api.delete(&format!("{}/{id}", at("contacts"))).await.expect(200);
    // What is refused leaves nothing.
    api.post(&at("contacts"), json!({ "first_name": "B", "score": -1 })).await.expect(400);

    let audit = api.get("/api/v1/audit?app_id=crm&entity=contacts&limit=100").await.expect(200).json;
    let list = audit.as_array().expect("a list");
    let operations: Vec<_> = list.iter().map(|change| change["operation"].as_str().unwrap_or_default()).collect();
    assert_eq!(operations, ["DELETE", "UPDATE", "INSERT"]);
    assert!(
        list.iter()
            .all(|change| change["actor_uid"] == json!(me) && change["trigger_ref"] == "api" && change["record_id"] == json!(id))
    );
    let update = &list[1];
    assert_eq!((&update["table_schema"], &update["table_name"]), (&json!("crm"), &json!("contacts")));
    assert_eq!((&update["old_record"]["score"], &update["new_record"]["score"]), (&json!(1), &json!(2)));
    assert_eq!(update["trace_id"], json!(trace));
    assert_eq!((&list[0]["new_record"], &list[2]["old_record"]), (&Value::Null, &Value::Null));
    assert_eq!(list[2]["new_record"], record);

    let reader = server.user("reader").await;
    reader.get("/api/v1/audit").await.expect(403);
    let elsewhere = server.tenant(&api, "elsewhere", "elsewhere").await;
    assert_eq!(elsewhere.get("/api/v1/audit").await.expect(200).json, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_that_cascade_and_changes_of_many_are_recorded_one_by_one() {
    let (server, api) = start().await;
    let company = api.post(&at("companies"), json!({ "name": "ACME" })).await.expect(201).text("/id");
    for _ in 0..3 {
        contact(&api, json!({ "company": company })).await;
    }
    let all = json!({ "where": {}, "set": { "score": 1 } });
    api.post(&format!("{}/bulk/update", at("contacts")), all).await.expect(200);
    api.delete(&format!("{}/{company}", at("companies"))).await.expect(200);
    let count = async |query: &str| {
        api.get(&format!("/api/v1/audit?{query}")).await.expect(200).json.as_array().map(Vec::len).unwrap_or_default()
    };
    assert_eq!(count("entity=contacts&operation=INSERT").await, 3);
    assert_eq!(count("entity=contacts&operation=UPDATE").await, 3);
    assert_eq!(count("entity=contacts&operation=DELETE").await, 3);
    // What an administrator of the database does is recorded too, by nobody.
    server.database.execute("insert into crm.companies (name) values ('by hand')").await;
    let by_hand = api.get("/api/v1/audit?entity=companies&operation=INSERT&limit=1").await.expect(200).json;
    assert_eq!((&by_hand[0]["actor_uid"], &by_hand[0]["new_record"]["name"]), (&Value::Null, &json!("by hand")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_filtered_and_followed_by_its_cursor() {
    let (_server, api) = start().await;
    let me = api.get("/api/v1/auth/me").await.expect(200).text("/id");
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(contact(&api, json!({})).await["id"].as_str().unwrap_or_default().to_owned());
    }
    let list = async |query: String| api.get(&format!("/api/v1/audit?{query}")).await;
    let records = |answer: &Value| -> Vec<String> {
        answer
            .as_array()
            .into_iter()
            .flatten()
            .map(|change| change["record_id"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let first = list("limit=2".to_owned()).await.expect(200);
    let next = first.header("x-weft-next-cursor").expect("there is more").to_owned();
    let second = list(format!("limit=2&before={next}")).await.expect(200);
    ids.reverse();
    assert_eq!([records(&first.json), records(&second.json)].concat(), ids[..4]);
    for (query, expected) in [
        (format!("record_id={}", ids[0]), 1),
        (format!("record_id__neq={}", ids[0]), 4),
        (format!("record_id__contains={}", &ids[0][30..]), 1),
        (format!("actor_uid={me}"), 5),
        ("operation=insert".to_owned(), 0),
        ("changed_at__gte=2000-01-01T00:00:00Z&changed_at__lte=2001-01-01T00:00:00Z".to_owned(), 0),
        ("order_by=changed_at&order=asc".to_owned(), 5),
    ] {
        assert_eq!(records(&list(query.clone()).await.expect(200).json).len(), expected, "{query}");
    }
    for wrong in ["colour=red", "record_id__like=x", "actor_uid=me", "changed_at=now", "order_by=id", "limit=x"] {
        list(wrong.to_owned()).await.expect(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn months_that_are_over_go_whole() {
    let (server, api) = start().await;
    contact(&api, json!({})).await;
    assert_eq!(server.database.count("data_audit").await, 1);
    server.database.execute("select weft_audit_prepare(now() + interval '500 days')").await;
    server.database.execute("select weft_audit_prune(now() - interval '400 days')").await;
    assert_eq!(server.database.count("data_audit").await, 1);
    server.database.execute("select weft_audit_prune(now() + interval '100 days')").await;
    assert_eq!(server.database.count("data_audit").await, 0);
}
