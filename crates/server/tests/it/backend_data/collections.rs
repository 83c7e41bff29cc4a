//! `ctx.collection`: as whoever called, in every kind of call.

use serde_json::{Value, json};
use weft_testkit::TestServer;

use super::{changes, id_of, manifest, op, start, user};
use crate::fixtures::{eventually, with};

#[tokio::test(flavor = "multi_thread")]
async fn records_are_made_found_changed_and_deleted_as_whoever_called() {
    let (_server, admin) = start().await;
    let made = op(&admin, "contacts", "insert", json!({ "name": "Ann", "score": 1, "tags": ["vip"] })).await["ok"].clone();
    let id = made["id"].clone();
    assert_eq!((&made["name"], &made["tags"]), (&json!("Ann"), &json!(["vip"])));
    op(&admin, "contacts", "insert", json!({ "name": "Bob", "score": 5 })).await;
    let changed = op(&admin, "contacts", "update", json!({ "id": id, "score": 2 })).await;
    assert_eq!(changed["ok"]["score"], json!(2));

    let names = |found: &Value| found["ok"].as_array().expect("a list").iter().map(|it| it["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&op(&admin, "contacts", "find", json!({})).await), ["Bob", "Ann"]);
    assert_eq!(names(&op(&admin, "contacts", "list", json!({ "name": "Ann" })).await), ["Ann"]);
    assert_eq!(names(&op(&admin, "contacts", "find", json!({ "score": { "$gt": 4 } })).await), ["Bob"]);
    assert_eq!(op(&admin, "contacts", "findOne", json!({ "name": "Nobody" })).await, json!({ "ok": null }));
    let page = op(&admin, "contacts", "query", json!({ "orderBy": "score", "order": "asc", "limit": 1 })).await["ok"].clone();
    assert_eq!((&page["data"][0]["name"], &page["total"]), (&json!("Ann"), &json!(2)));
    assert_eq!(op(&admin, "contacts", "delete", id.clone()).await, json!({ "ok": { "id": id } }));
    assert_eq!(op(&admin, "contacts", "delete", id).await["code"], "not_found");

    let me = id_of(&admin).await;
    let expected = ("contacts".to_owned(), "collection".to_owned(), me);
    assert!(changes(&admin, 4).await.iter().all(|change| *change == expected), "{:?}", changes(&admin, 4).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_records_than_a_page_are_all_found() {
    let (_server, admin) = start().await;
    for _ in 0..2 {
        let many: Vec<_> = (0..600).map(|n| json!({ "name": format!("n{n}") })).collect();
        admin.post("/api/v1/apps/crm/collections/contacts/bulk", json!(many)).await.expect(201);
    }
    let found = op(&admin, "contacts", "find", json!({})).await;
    assert_eq!(found["ok"].as_array().map(Vec::len), Some(1200));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_may_not_do_the_backend_cannot_do_for_it() {
    let (server, admin) = start().await;
    let ann = user(&server, &admin, "ann", &[]).await;
    op(&admin, "contacts", "insert", json!({ "name": "Secret" })).await;
    for (name, data) in [
        ("insert", json!({ "name": "x" })),
        ("update", json!({ "id": "0197c3c0-0000-7000-8000-000000000000", "name": "x" })),
        ("delete", json!("0197c3c0-0000-7000-8000-000000000000")),
        ("find", json!({})),
        ("findOne", json!({})),
        ("query", json!({})),
    ] {
        let answer = op(&ann, "contacts", name, data).await;
        assert_eq!((&answer["code"], &answer["category"]), (&json!("forbidden"), &json!("Validation")), "{name}: {answer}");
        assert!(answer["message"].as_str().unwrap_or_default().contains("app:crm:contacts."), "{answer}");
    }
    // Rights that come and go count at once.
    server.grant(&admin, &ann, &["app:crm:invoke", "app:crm:contacts.create"]).await;
    let blind = op(&ann, "contacts", "insert", json!({ "name": "x" })).await["ok"].clone();
    assert_eq!(blind.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>()), Some(vec!["id".to_owned()]));

    let rights = ["app:crm:notes.create", "app:crm:notes.read", "app:crm:notes.update"];
    let (bob, eve) = (user(&server, &admin, "bob", &rights).await, user(&server, &admin, "eve", &rights).await);
    let note = op(&bob, "notes", "insert", json!({ "text": "mine" })).await["ok"]["id"].clone();
    assert_eq!(op(&eve, "notes", "find", json!({})).await, json!({ "ok": [] }));
    assert_eq!(op(&eve, "notes", "update", json!({ "id": note, "text": "hers" })).await["code"], "not_found");
    assert_eq!(op(&bob, "notes", "find", json!({})).await["ok"][0]["text"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_with_their_places() {
    let (_server, admin) = start().await;
    let wrong = op(&admin, "contacts", "insert", json!({ "name": "x", "score": "many", "nam": 1 })).await;
    assert_eq!(wrong["code"], "validation_failed");
    let message = wrong["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("$.score") && message.contains("$.nam"), "{message}");
    assert_eq!(op(&admin, "contacts", "update", json!({ "name": "x" })).await["code"], "validation_failed");
    assert_eq!(op(&admin, "persons", "find", json!({})).await["code"], "not_found");
    assert_eq!(op(&admin, "contacts", "find", json!({ "nam": 1 })).await["code"], "validation_failed");
    let none = op(&admin, "contacts", "update", json!({ "id": "0197c3c0-0000-7000-8000-000000000000" })).await;
    assert_eq!((&none["code"], &none["message"]), (&json!("invalid_params"), &json!("no fields to update")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_starts_works_on_its_own_data_as_itself_and_only_while_it_starts() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "
        let kept;
        serve({
            rpc: { late: async () => { try { return await kept.collection('contacts').find(); } catch (error) { return error.code; } } },
            async onStart(ctx) {
                kept = ctx;
                await ctx.collection('contacts').insert({ name: 'first' });
                await ctx.collection('notes').insert({ text: 'of nobody' });
                await ctx.sql('insert into contacts (name) values ($1)', ['second']);
                try { await ctx.callIntegration('slack', 'x'); } catch (error) { await ctx.collection('contacts').insert({ name: error.code }); }
            },
        });";
    server.deploy(&admin, &manifest(), backend).await;
    let names = eventually("the start has ended", async || {
        let list = admin.get("/api/v1/apps/crm/collections/contacts?order=asc").await.expect(200).json;
        let names: Vec<_> = list.as_array().expect("a list").iter().map(|it| it["name"].clone()).collect();
        (names.len() == 3).then_some(names)
    })
    .await;
    assert_eq!(names, ["first", "second", "no_caller"]);
    for (_, _, actor) in changes(&admin, 10).await {
        assert_eq!(actor, Value::Null);
    }
    eventually("nothing can be done on its behalf any more", async || {
        let answer = admin.post("/api/v1/apps/crm/rpc", json!({ "method": "late" })).await.expect(200);
        (answer.json == json!("call_over")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_use_records_as_whom_they_are_done_and_webhooks_cannot() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "
        const attempt = async (ctx) => {
            try { return await ctx.collection('contacts').insert({ name: 'x' }); } catch (error) { return { code: error.code, message: error.message }; }
        };
        serve({ onJob: (payload, caller, ctx) => attempt(ctx), rpc: { __webhook: (call, caller, ctx) => attempt(ctx) } });";
    server.deploy(&admin, &with(manifest(), json!({ "webhooks": [{ "name": "push", "method": "__webhook" }] })), backend).await;
    let ann = user(&server, &admin, "ann", &["app:crm:contacts.create", "app:crm:contacts.read"]).await;
    ann.post("/api/v1/apps/crm/jobs", json!({ "payload": {} })).await.expect(201);
    let change = eventually("the job is done", async || changes(&admin, 1).await.pop()).await;
    assert_eq!(change, ("contacts".to_owned(), "collection".to_owned(), id_of(&ann).await));

    let url = admin.get("/api/v1/apps/crm/webhooks").await.expect(200).text("/0/url");
    let answer = server.anonymous().post(&url, json!({})).await.expect(200);
    assert_eq!(answer.text("/code"), "no_caller");
    assert!(answer.text("/message").contains("no user behind it"), "{answer:?}");
}
