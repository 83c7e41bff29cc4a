//! How long SQL of apps keeps the database busy, and what it keeps from others.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use weft_testkit::{Api, TestServer, database::TestDatabase, server::url};

use super::{BACKEND, escapes::nothing_runs_on, manifest, op, rows, rpc, sql, start};
use crate::fixtures::{app, eventually, with};

/// A server where a transaction and a migration may take a second.
async fn start_impatient() -> (TestServer, Api) {
    let server = TestServer::start_with_file("[sql]\ntransaction_seconds = 1\nmigration_seconds = 1").await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    (server, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_time_is_over_is_undone() {
    let (server, admin) = start_impatient().await;
    let held = {
        let admin = admin.clone();
        tokio::spawn(async move { rpc(&admin, "hold", json!(["insert into contacts (name) values ('x')"])).await })
    };
    eventually("it is open", async || (rpc(&admin, "held", Value::Null).await == 1).then_some(())).await;
    nothing_runs_on(&server).await;
    rpc(&admin, "release", Value::Null).await;
    let answer = held.await.expect("answered");
    assert_eq!(
        (&answer["code"], &answer["message"]),
        (&json!("transaction"), &json!("the transaction is over: it may take 1 s at most"))
    );
    assert_eq!(rows(&admin, "select count(*) from contacts", json!([])).await, json!([[0]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_does_not_end_is_ended_and_the_next_one_is_not_kept_waiting() {
    let (server, admin) = start_impatient().await;
    let files = |text| [("index.ts", BACKEND), ("migrations/001.sql", text)];
    for endless in [
        "set statement_timeout = 0; do $$ begin loop end loop; end $$",
        "do $$ begin loop end loop; end $$",
        "create table a (b int); create function late() returns trigger language plpgsql as $$ begin loop end loop; end $$;
         create constraint trigger late after insert on a deferrable initially deferred for each row execute function late();
         insert into a values (1); set statement_timeout = 0",
    ] {
        let refused = admin.deploy("crm", &files(endless)).await.expect(422);
        assert_eq!(refused.code(), "deploy_failed");
        assert!(refused.text("/error").contains("migrations/001.sql took longer than 1 s"), "{refused:?}");
        nothing_runs_on(&server).await;
    }
    admin.deploy("crm", &files("create table a (b int)")).await.expect(200);
    assert_eq!(rows(&admin, "insert into a values (1) returning b", json!([])).await, json!([[1]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_an_app_holds_fails_its_own_requests_and_nobody_elses() {
    let (server, admin) = start().await;
    let things = json!({ "dataContract": [{ "entityName": "things", "fields": [{ "name": "a", "type": "text" }] }] });
    server.deploy(&admin, &with(app("other"), things), BACKEND).await;
    let id = op(&admin, "contacts", "insert", json!({ "name": "Ann" })).await["ok"]["id"].as_str().expect("an id").to_owned();
    let held = {
        let admin = admin.clone();
        tokio::spawn(async move { rpc(&admin, "hold", json!(["update contacts set score = 1"])).await })
    };
    eventually("it holds the record", async || (rpc(&admin, "held", Value::Null).await == 1).then_some(())).await;

    // More than there are connections.
    let path = format!("/api/v1/apps/crm/collections/contacts/{id}");
    let waiting: Vec<_> = (0..30)
        .map(|_| {
            let (admin, path) = (admin.clone(), path.clone());
            tokio::spawn(async move { admin.patch(&path, json!({ "name": "Eve" })).await })
        })
        .collect();
    eventually("requests wait for the lock", async || {
        (server.database.count("pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").await > 0)
            .then_some(())
    })
    .await;
    admin.post("/api/v1/apps/other/collections/things", json!({ "a": "x" })).await.expect(201);
    assert_eq!(admin.get("/api/v1/apps/other/collections/things").await.expect(200).value("/0/a"), json!("x"));
    admin.get("/api/v1/auth/me").await.expect(200);
    for answer in waiting {
        let answer = answer.await.expect("answered").expect(503);
        assert_eq!(answer.code(), "unavailable");
        assert!(
            answer.header("retry-after").is_some() && answer.text("/error").contains("others are changing the same"),
            "{answer:?}"
        );
    }
    rpc(&admin, "release", Value::Null).await;
    held.await.expect("answered");
    assert_eq!(admin.patch(&path, json!({ "name": "Eve" })).await.expect(200).value("/score"), json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_of_an_app_without_tables_are_made_once_and_let_in_when_it_gets_some() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &app("crm"), BACKEND).await;
    rows(&admin, "select 1", json!([])).await;
    let version = async || {
        let mut database = PgConnection::connect(&server.database.url).await.expect("connected");
        let find = "select string_agg(pg_authid.xmin::text, ' ') from pg_authid, weft_sql.access where rolname like 'weft_' || installation || '_%'";
        sqlx::query_scalar::<_, String>(find).fetch_one(&mut database).await.expect("roles")
    };
    let made = version().await;
    rows(&admin, "select 1", json!([])).await;
    assert_eq!(version().await, made);
    assert_eq!(sql(&admin, "select * from contacts", json!([])).await["code"], "invalid_sql");
    admin.post("/api/v1/apps", manifest()).await.expect(200);
    assert_eq!(rows(&admin, "insert into contacts (name) values ('Ann') returning name", json!([])).await, json!([["Ann"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_of_an_app_runs_on_every_node() {
    let mut first = TestServer::start().await;
    let here = first.user("admin").await;
    first.deploy(&here, &manifest(), BACKEND).await;
    let (second, _data_dir) = first.second_node().await;
    let there = here.clone().at(url(&second));
    let insert = "insert into contacts (name) values ($1) returning name";
    assert_eq!(rows(&here, insert, json!(["Ann"])).await, json!([["Ann"]]));
    assert_eq!(rows(&there, insert, json!(["Bob"])).await, json!([["Bob"]]));
    assert_eq!(rows(&there, "select name from contacts order by 1", json!([])).await, json!([["Ann"], ["Bob"]]));
    // A table that comes through one node is there for the other.
    here.deploy("crm", &[("index.ts", BACKEND), ("migrations/001.sql", "create table visits (a int)")]).await.expect(200);
    assert_eq!(rows(&there, "select count(*) from visits", json!([])).await, json!([[0]]));
    second.stop().await.expect("the second node stops in order");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_role_is_used_elsewhere_in_the_cluster_can_be_removed() {
    let (server, admin) = start().await;
    rows(&admin, "select 1", json!([])).await;
    let mut database = PgConnection::connect(&server.database.url).await.expect("connected");
    let find =
        "select rolname::text from pg_roles, weft_sql.access where rolname like 'weft_' || installation || '_%' order by 1";
    let roles: Vec<String> = sqlx::query_scalar(find).fetch_all(&mut database).await.expect("roles");
    let (backend, owner) = (roles.first().expect("a role"), roles.last().expect("a role"));
    let elsewhere = TestDatabase::create().await;
    let mut other = PgConnection::connect(&elsewhere.url).await.expect("connected");
    let statement = format!("create table shared (a int); grant select on shared to {backend}");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut other).await.expect("granted");

    admin.delete("/api/v1/apps/crm").await.expect(200);
    let left: Vec<String> = sqlx::query_scalar(find).fetch_all(&mut database).await.expect("roles");
    assert!(left.contains(backend) && !left.contains(owner), "{left:?}");
    server.deploy(&admin, &manifest(), BACKEND).await;
    assert_eq!(rows(&admin, "select count(*) from contacts", json!([])).await, json!([[0]]));
}
