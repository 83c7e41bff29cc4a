//! `ctx.sql` and `ctx.transaction`: what they answer, whose rows they see, and their limits.

use serde_json::{Value, json};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use weft_server::ServeArgs;
use weft_testkit::{TestServer, database::TestDatabase};

use super::{BACKEND, changes, id_of, manifest, op, rows, rpc, sql, start, user};

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_values_are_those_of_javascript() {
    let (_server, admin) = start().await;
    let insert = "insert into contacts (name, score, tags, extra, born) values ($1, $2, $3, $4, $5) returning name, score, tags, extra, born";
    let params = json!(["it's \\ $1", 1.5, ["a", "b,\"c"], { "k": [1, null] }, "2026-03-15"]);
    let answer = sql(&admin, insert, params.clone()).await;
    assert_eq!(answer["ok"], json!({ "columns": ["name", "score", "tags", "extra", "born"], "rows": [params], "rowCount": 1 }));
    let id = rows(&admin, "select id from contacts", json!([])).await[0][0].clone();
    assert_eq!(
        rows(&admin, "select count(*), name is null from contacts where id = $1 group by 2", json!([id])).await,
        json!([[1, false]])
    );
    assert_eq!(
        sql(&admin, "update contacts set score = $1", json!([null])).await["ok"],
        json!({ "columns": [], "rows": [], "rowCount": 1 })
    );
    assert_eq!(sql(&admin, "select 1 where false", json!([])).await["ok"], json!({ "columns": [], "rows": [], "rowCount": 0 }));
    let odd = "select 9007199254740993::int8, timestamptz '2026-03-15 10:30:00+00', '{\"a\":1}'::jsonb, array[1,2], interval '1 day', 0.1::numeric";
    assert_eq!(
        rows(&admin, odd, json!([])).await,
        json!([["9007199254740993", "2026-03-15T10:30:00+00:00", { "a": 1 }, [1, 2], "1 day", 0.1]])
    );
    assert_eq!(rows(&admin, "select $1::jsonb", json!([[1, 2]])).await, json!([[[1, 2]]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_those_that_the_caller_may_see_and_change() {
    let (server, admin) = start().await;
    op(&admin, "contacts", "insert", json!({ "name": "Ann" })).await;
    let blind = user(&server, &admin, "blind", &[]).await;
    assert_eq!(rows(&blind, "select * from contacts", json!([])).await, json!([]));
    assert_eq!(sql(&blind, "update contacts set name = 'x'", json!([])).await["ok"]["rowCount"], 0);
    assert_eq!(sql(&blind, "delete from contacts", json!([])).await["ok"]["rowCount"], 0);
    assert_eq!(sql(&blind, "insert into contacts (name) values ('x')", json!([])).await["code"], "forbidden");

    let reader = user(&server, &admin, "reader", &["app:crm:contacts.read"]).await;
    assert_eq!(rows(&reader, "select name from contacts", json!([])).await, json!([["Ann"]]));
    assert_eq!(sql(&reader, "update contacts set name = 'x'", json!([])).await["ok"]["rowCount"], 0);

    let rights = ["app:crm:notes.create", "app:crm:notes.read", "app:crm:notes.update", "app:crm:notes.delete"];
    let (bob, eve) = (user(&server, &admin, "bob", &rights).await, user(&server, &admin, "eve", &rights).await);
    rows(&bob, "insert into notes (text) values ('mine')", json!([])).await;
    assert_eq!(rows(&eve, "select text from notes", json!([])).await, json!([]));
    assert_eq!(sql(&eve, "delete from notes", json!([])).await["ok"]["rowCount"], 0);
    let bobs = id_of(&bob).await;
    let stolen = sql(&eve, "insert into notes (text, _owner) values ('his', $1)", json!([bobs])).await;
    assert_eq!(stolen["code"], "forbidden", "{stolen}");
    assert_eq!(sql(&bob, "update notes set _owner = $1", json!([id_of(&eve).await])).await["code"], "forbidden");
    assert_eq!(rows(&admin, "select text, _owner from notes", json!([])).await, json!([["mine", bobs]]));
    assert_eq!(op(&bob, "notes", "find", json!({})).await["ok"][0]["text"], "mine");
    assert_eq!(changes(&admin, 1).await, [("notes".to_owned(), "app_sql".to_owned(), bobs)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_statements_about_rows_are_taken_and_one_at_a_time() {
    let (_server, admin) = start().await;
    for text in [
        "create table x (a int)",
        "drop table contacts",
        "alter table contacts add x int",
        "truncate contacts",
        "grant all on contacts to public",
        "revoke all on contacts from public",
        "reindex table contacts",
        "vacuum",
        "copy contacts to stdout",
        "set role none",
        "reset all",
        "do $$ begin end $$",
        "listen x",
        "notify x",
        "lock contacts",
        "begin",
        "commit",
        "rollback",
        "explain select 1",
        "call x()",
        "prepare x as select 1",
        "execute weft_statement",
        "declare x cursor for select 1",
        "discard all",
        "security label on table contacts is 'x'",
    ] {
        let answer = sql(&admin, text, json!([])).await;
        assert_eq!(answer["code"], "statement_not_allowed", "{text}: {answer}");
    }
    for text in ["select 1; select 2", "select 1) ; drop table contacts", "", "select 1 into temp x", "select from", "select 'a"]
    {
        let answer = sql(&admin, text, json!([])).await;
        assert!(
            ["invalid_sql", "statement_not_allowed", "forbidden"].contains(&answer["code"].as_str().unwrap_or_default()),
            "{text}: {answer}"
        );
    }
    assert_eq!(sql(&admin, "select $1::uuid", json!(["nonsense"])).await["code"], "invalid_sql");
    assert_eq!(sql(&admin, "select $1", json!([])).await["code"], "invalid_sql");
    assert_eq!(rows(&admin, "/* a */ select 1 -- b", json!([])).await, json!([[1]]));
    assert_eq!(
        rows(&admin, "with x as (delete from contacts returning 1) select count(*) from x", json!([])).await,
        json!([[0]])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_their_number_are_bounded() {
    let (_server, admin) = start().await;
    let many = sql(&admin, "select * from generate_series(1, 1001)", json!([])).await;
    assert_eq!(
        (&many["code"], &many["message"]),
        (&json!("too_large"), &json!("query returned more than 1000 rows; add LIMIT or paginate"))
    );
    assert_eq!(sql(&admin, "select repeat('x', 9000000)", json!([])).await["code"], "too_large");
    assert_eq!(rows(&admin, "select count(*) from generate_series(1, 1000)", json!([])).await, json!([[1000]]));
    let flood = futures::future::join_all((0..150).map(|_| sql(&admin, "select 1", json!([])))).await;
    let refused: Vec<_> = flood.iter().filter(|answer| answer["code"] == "rate_limited").collect();
    assert!(!refused.is_empty() && refused.iter().all(|it| it["category"] == "RateLimited"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_a_transaction_take_effect_together_or_not_at_all() {
    let (_server, admin) = start().await;
    let insert = json!(["insert into contacts (name) values ($1) returning name", ["a"]]);
    let count = async || rows(&admin, "select count(*) from contacts", json!([])).await[0][0].clone();
    let done = rpc(&admin, "tx", json!({ "statements": [insert, ["select count(*) from contacts", []]] })).await;
    assert_eq!(done["ok"][1]["rows"], json!([[1]]));
    assert_eq!(changes(&admin, 1).await, [("contacts".to_owned(), "app_tx".to_owned(), id_of(&admin).await)]);
    let stopped = rpc(&admin, "tx", json!({ "statements": [insert], "fails": "not today" })).await;
    assert_eq!((&stopped["code"], &stopped["message"]), (&json!("stopped"), &json!("not today")));
    let broken = rpc(&admin, "tx", json!({ "statements": [insert, ["select 1 / 0", []]] })).await;
    assert_eq!(broken["code"], "invalid_sql");
    assert_eq!(rpc(&admin, "twice", Value::Null).await["message"], "a transaction is already open: one call has one at a time");
    // The call ends while its transaction is open.
    assert_eq!(rpc(&admin, "leave", json!(["insert into contacts (name) values ('left')"])).await, "left");
    assert_eq!(count().await, json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_eight_transactions_open_at_a_time_and_says_so() {
    let (_server, admin) = start().await;
    let held: Vec<_> = (0..8)
        .map(|_| {
            let admin = admin.clone();
            tokio::spawn(async move { rpc(&admin, "hold", Value::Null).await })
        })
        .collect();
    crate::fixtures::eventually("all are open", async || (rpc(&admin, "held", Value::Null).await == 8).then_some(())).await;
    let refused = rpc(&admin, "hold", Value::Null).await;
    assert_eq!((&refused["code"], &refused["category"]), (&json!("busy"), &json!("Transient")), "{refused}");
    // Single statements go on.
    assert_eq!(rows(&admin, "select 1", json!([])).await, json!([[1]]));
    rpc(&admin, "release", Value::Null).await;
    for call in held {
        assert_eq!(call.await.expect("answered"), json!({}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_whether_backends_can_run_sql() {
    let (_server, admin) = start().await;
    assert_eq!(admin.get("/api/v1/status").await.expect(200).value("/sql"), json!({ "state": "on" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_no_superuser_needs_the_doors_closed_first() {
    let database = TestDatabase::create().await;
    let name = format!("{}_plain", database.url.rsplit('/').next().expect("a name"));
    let mut superuser = PgConnection::connect(&database.url).await.expect("connected");
    let statements = format!("create role {name} login createrole password 'plain'; ");
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut superuser).await.expect("made");
    let statement = format!("create database {name} owner {name}");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut superuser).await.expect("made");
    let address = |account: &str| {
        let (before, _) = database.url.rsplit_once('/').expect("a path");
        let rest = before.split_once('@').expect("a host").1;
        format!("postgres://{account}@{rest}/{name}")
    };
    let arguments = ServeArgs { database_url: Some(address(&format!("{name}:plain"))), ..ServeArgs::default() };
    let mut server = TestServer::start_on(database, arguments).await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    let off = admin.get("/api/v1/status").await.expect(200);
    assert!(off.text("/sql/reason").contains("weft_sql.close_doors()"), "{off:?}");
    let refused = sql(&admin, "select 1", json!([])).await;
    assert_eq!(refused["code"], "sql_off", "{refused}");
    op(&admin, "contacts", "insert", json!({ "name": "Ann" })).await["ok"].as_object().expect("collections work");
    let files = [("index.ts", BACKEND), ("migrations/001.sql", "create table a (b int)")];
    assert!(admin.deploy("crm", &files).await.expect(422).text("/error").contains("off on this server"));

    let closing = server.database.url.rsplit_once('/').map(|(before, _)| format!("{before}/{name}")).expect("an address");
    let mut superuser = PgConnection::connect(&closing).await.expect("connected");
    sqlx::raw_sql("select weft_sql.close_doors()").execute(&mut superuser).await.expect("closed");
    server.restart().await;
    let admin = server.login("admin@example.com").await;
    assert_eq!(admin.get("/api/v1/status").await.expect(200).value("/sql"), json!({ "state": "on" }));
    assert_eq!(rows(&admin, "select name from contacts", json!([])).await, json!([["Ann"]]));
    admin.deploy("crm", &files).await.expect(200);
    assert_eq!(rows(&admin, "insert into a values (1) returning b", json!([])).await, json!([[1]]));
    assert_eq!(sql(&admin, "select pg_notify('a', 'b')", json!([])).await["code"], "forbidden");
    // The server itself goes on using what it closed to others.
    admin.delete("/api/v1/apps/crm").await.expect(200);
}
