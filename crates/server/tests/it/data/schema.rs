//! Tables that follow contracts.

use serde_json::{Value, json};
use weft_testkit::{Api, TestServer};

use super::{at, contact, contract, crm, start};
use crate::fixtures::{app, fault_paths, with};

#[expect(clippy::needless_pass_by_value, reason = "callers make it on the spot")]
fn entity(fields: Value) -> Value {
    crm(json!([{ "entityName": "things", "fields": fields }]))
}

async fn with_thing(fields: Value, record: Value) -> (TestServer, Api) {
    let server = TestServer::start().await;
    let api = server.user("administrator").await;
    api.post("/api/v1/apps", entity(fields)).await.expect(200);
    api.post(&at("things"), record).await.expect(201);
    (server, api)
}

async fn only(api: &Api) -> Value {
    api.get(&at("things")).await.expect(200).value("/0")
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_says_what_would_change_and_changes_nothing() {
    let (_server, api) = start().await;
    let verify = async |manifest: Value| api.post("/api/v1/apps/schema/verify", manifest).await;
    assert_eq!(verify(crm(contract())).await.expect(200).json, json!({ "compliant": true, "changes": [], "obstacles": [] }));
    contact(&api, json!({ "notes": "kept" })).await;
    let next = crm(json!([{ "entityName": "contacts", "fields": [
        { "name": "first_name", "type": "text" },
        { "name": "score", "type": "text" },
        { "name": "must", "type": "number", "required": true },
    ] }]));
    let planned = verify(next.clone()).await.expect(200).json;
    assert_eq!(planned["compliant"], json!(false));
    let changes = planned["changes"].as_array().expect("a list");
    let of = |kind: &str, column: &str| changes.iter().find(|it| it["change_type"] == kind && it["column"] == column);
    assert!(of("drop_column", "notes").is_some_and(|it| it["loss"].is_string()));
    assert!(of("alter_type", "score").is_some_and(|it| it["loss"].is_null() && it["detail"] == "double precision → text"));
    assert!(of("drop_not_null", "first_name").is_some() && of("add_column", "must").is_some());
    // A table without records loses nothing.
    assert!(changes.iter().any(|it| it["change_type"] == "drop_table" && it["entity"] == "companies" && it["loss"].is_null()));
    assert_eq!(planned["obstacles"][0]["path"], json!("contacts.must"));
    api.post("/api/v1/apps?acceptLoss=true", next).await.expect(409);
    assert_eq!(api.get(&at("contacts")).await.expect(200).json[0]["notes"], json!("kept"));
    let wrong = verify(crm(json!([{ "entityName": "A b", "fields": [] }]))).await.expect(400);
    assert_eq!(wrong.code(), "validation_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_without_consent() {
    let (_server, api) =
        with_thing(json!([{ "name": "a", "type": "text" }, { "name": "b", "type": "text" }]), json!({ "a": "7", "b": "x" }))
            .await;
    let next = entity(json!([{ "name": "a", "type": "number" }]));
    let refused = api.post("/api/v1/apps", next.clone()).await.expect(409);
    assert_eq!(
        (refused.code().as_str(), fault_paths(&refused)),
        ("data_loss", vec!["things.a".to_owned(), "things.b".to_owned()])
    );
    assert_eq!(only(&api).await["b"], json!("x"));
    api.post("/api/v1/apps?acceptLoss=true", next).await.expect(200);
    let record = only(&api).await;
    assert_eq!((&record["a"], record.get("b")), (&json!(7), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gets_another_name_keeps_its_records_and_values() {
    let (_server, api) = with_thing(json!([{ "name": "a", "type": "text", "unique": true }]), json!({ "a": "x" })).await;
    let renamed = crm(json!([{ "entityName": "items", "renamedFrom": "things", "fields": [
        { "name": "b", "type": "text", "unique": true, "renamedFrom": "a" },
    ] }]));
    api.post("/api/v1/apps", renamed.clone()).await.expect(200);
    assert_eq!(api.get(&at("items")).await.expect(200).json[0]["b"], json!("x"));
    api.get(&at("things")).await.expect(404);
    // The manifest may go on saying so.
    assert_eq!(api.post("/api/v1/apps/schema/verify", renamed).await.expect(200).json["compliant"], json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_field_with_a_default_fills_what_is_there() {
    let (_server, api) = with_thing(json!([{ "name": "a", "type": "text" }]), json!({ "a": "x" })).await;
    let more = json!([{ "name": "a", "type": "text" }, { "name": "n", "type": "number", "required": true, "default_value": 5 }]);
    api.post("/api/v1/apps", entity(more)).await.expect(200);
    assert_eq!(only(&api).await["n"], json!(5));
    let bare = json!([{ "name": "a", "type": "text" }, { "name": "m", "type": "number", "required": true }]);
    let refused = api.post("/api/v1/apps", entity(bare)).await.expect(409);
    assert_eq!((refused.code().as_str(), fault_paths(&refused)), ("conflict", vec!["things.m".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_values_may_grow_and_may_not_leave_out_what_is_used() {
    let stage = |values: Value| json!([{ "name": "stage", "type": "text", "enum_values": values }]);
    let (_server, api) = with_thing(stage(json!(["a", "b"])), json!({ "stage": "b" })).await;
    api.post("/api/v1/apps", entity(stage(json!(["a", "b", "c"])))).await.expect(200);
    api.post(&at("things"), json!({ "stage": "c" })).await.expect(201);
    assert_eq!(api.post("/api/v1/apps", entity(stage(json!(["a"])))).await.expect(409).code(), "conflict");
    // The manifest is as it was, too.
    api.post(&at("things"), json!({ "stage": "c" })).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_keeps_off_what_is_not_its_own() {
    let (server, api) = start().await;
    server.database.execute("create schema billing; create table billing.invoices (id uuid)").await;
    let billing = with(app("billing"), json!({ "dataContract": contract() }));
    assert_eq!(api.post("/api/v1/apps", billing).await.expect(409).code(), "conflict");
    api.post("/api/v1/apps", app("billing")).await.expect(200);
    api.delete("/api/v1/apps/billing").await.expect(200);
    assert_eq!(server.database.count("billing.invoices").await, 0);
    // An index that an administrator made stays.
    server.database.execute("create index by_hand on crm.contacts (notes)").await;
    let mut next = contract();
    next[1]["indexes"] = json!([{ "columns": ["score", { "expr": "lower(first_name)", "sort": "desc" }], "where": "score > 1" }]);
    api.post("/api/v1/apps", crm(next)).await.expect(200);
    api.post("/api/v1/apps", crm(contract())).await.expect(200);
    assert_eq!(server.database.count("pg_indexes where schemaname = 'crm' and indexname = 'by_hand'").await, 1);
    assert_eq!(server.database.count("pg_indexes where schemaname = 'crm' and indexdef like '%lower%'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_in_sql_can_only_compare() {
    let server = TestServer::start().await;
    let api = server.user("administrator").await;
    for expression in ["pg_sleep(1) is null", "true); drop table users; --", "a = (select email from users limit 1)"] {
        let manifest = crm(
            json!([{ "entityName": "things", "fields": [{ "name": "a", "type": "text" }], "checks": [{ "expr": expression }] }]),
        );
        assert_eq!(fault_paths(&api.post("/api/v1/apps", manifest).await.expect(400)), ["$.dataContract[0].checks[0].expr"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deploying_and_going_back_change_tables_with_the_version() {
    let server = TestServer::start().await;
    let api = server.user("administrator").await;
    let backend = [("index.ts", "serve({ rpc: { ping: () => 'pong' } })")];
    let first = entity(json!([{ "name": "a", "type": "text" }]));
    let second = entity(json!([{ "name": "a", "type": "text" }, { "name": "b", "type": "text" }]));
    api.deploy_with("crm", &first.to_string(), &backend).await.expect(200);
    api.post(&at("things"), json!({ "a": "1" })).await.expect(201);
    api.deploy_with("crm", &second.to_string(), &backend).await.expect(200);
    api.post(&at("things"), json!({ "a": "2", "b": "x" })).await.expect(201);
    let back = async |body: Value| api.post("/api/v1/apps/crm/rollback", body).await;
    assert_eq!(back(json!({ "version": 1 })).await.expect(409).code(), "data_loss");
    back(json!({ "version": 1, "acceptLoss": true })).await.expect(200);
    assert_eq!(api.get(&format!("{}?sort=a&order=asc", at("things"))).await.expect(200).json[1].get("b"), None);
    assert_eq!(api.deploy_with("crm", &crm(json!([])).to_string(), &backend).await.expect(409).code(), "data_loss");
    assert_eq!(api.get(&at("things")).await.expect(200).json.as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_from_before_there_were_tables_gets_them_at_the_next_start() {
    let (mut server, api) = start().await;
    server.database.execute("drop schema crm cascade").await;
    server.restart().await;
    contact(&api.at(server.url()), json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_takes_the_data_along_and_installing_again_begins_anew() {
    let (server, api) = start().await;
    contact(&api, json!({})).await;
    let removes = api.delete("/api/v1/apps/crm?dryRun=true").await.expect(200).value("/removes");
    assert_eq!(removes[0], json!("the table 'companies', which is empty"));
    assert_eq!(removes[1], json!("the table 'contacts' with its records"));
    api.delete("/api/v1/apps/crm").await.expect(200);
    assert_eq!(server.database.count("pg_namespace where nspname = 'crm'").await, 0);
    api.post("/api/v1/apps", crm(contract())).await.expect(200);
    assert_eq!(api.get(&at("contacts")).await.expect(200).json, json!([]));
    // What was done to records is remembered.
    assert_eq!(api.get("/api/v1/audit?app_id=crm").await.expect(200).json.as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_that_are_installed_at_once_do_not_get_in_each_others_way() {
    let (_server, api) = start().await;
    let installs = (0..6).map(|number| {
        let api = api.clone();
        let fields = json!([{ "name": format!("f{number}"), "type": "text" }]);
        async move { api.post("/api/v1/apps?acceptLoss=true", entity(fields)).await.status }
    });
    let statuses = futures::future::join_all(installs).await;
    assert_eq!(statuses, [200; 6]);
    let record = api.get("/api/v1/apps/crm").await.expect(200).value("/dataContract/0/fields/0/name");
    let made = api.post(&at("things"), json!({ record.as_str().unwrap_or_default(): "x" })).await.expect(201);
    assert_eq!(made.json[record.as_str().unwrap_or_default()], json!("x"));
}
