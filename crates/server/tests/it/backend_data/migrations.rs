//! Migrations of apps: applied once, in order, as the app.

use serde_json::json;
use weft_testkit::TestServer;

use super::{BACKEND, manifest, op, rows, user};
use crate::fixtures::{app, with};

const FIRST: &str = "create table visits (id int primary key, contact uuid); create index on visits (contact);";
const SECOND: &str = "insert into visits values (1, null); insert into contacts (name) values ('migrated');";

#[tokio::test(flavor = "multi_thread")]
async fn each_file_is_applied_once_in_the_order_of_names_and_its_tables_belong_to_the_app() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", manifest()).await.expect(200);
    let files = [
        ("index.ts", BACKEND),
        ("migrations/002_fill.sql", SECOND),
        ("migrations/001_visits.sql", FIRST),
        ("migrations/notes.md", "x"),
    ];
    let deployed = admin.deploy("crm", &files).await.expect(200);
    assert_eq!(deployed.value("/migrationsApplied"), json!(["001_visits.sql", "002_fill.sql"]));
    assert_eq!(admin.deploy("crm", &files).await.expect(200).value("/migrationsApplied"), json!([]));
    let more = [files.as_slice(), &[("migrations/003.sql", "alter table visits add note text")]].concat();
    assert_eq!(admin.deploy("crm", &more).await.expect(200).value("/migrationsApplied"), json!(["003.sql"]));

    // No key of a permission stands for them: whoever may call the backend reaches them through it.
    let ann = user(&server, &admin, "ann", &[]).await;
    assert_eq!(rows(&ann, "insert into visits (id, note) values (2, 'x') returning id", json!([])).await, json!([[2]]));
    assert_eq!(op(&admin, "contacts", "find", json!({})).await["ok"][0]["name"], "migrated");
    let change = admin.get("/api/v1/audit?app_id=crm&limit=1").await.expect(200);
    assert_eq!(
        (change.text("/0/trigger_ref"), change.value("/0/actor_uid")),
        ("migration".to_owned(), super::id_of(&admin).await)
    );
    // A new manifest leaves them alone, and so does its plan.
    let plan = admin.post("/api/v1/apps/schema/verify", manifest()).await.expect(200);
    assert_eq!(plan.value("/changes"), json!([]));
    admin.post("/api/v1/apps", manifest()).await.expect(200);
    assert_eq!(rows(&ann, "select count(*) from visits", json!([])).await, json!([[2]]));
    admin.delete("/api/v1/apps/crm").await.expect(200);
    assert_eq!(server.database.count("pg_roles where rolname in (select 'weft_' || installation || '_' || left(encode(sha256('crm'), 'hex'), 24) from weft_sql.access)").await, 0);
    admin.post("/api/v1/apps", manifest()).await.expect(200);
    assert_eq!(
        admin.deploy("crm", &files).await.expect(200).value("/migrationsApplied"),
        json!(["001_visits.sql", "002_fill.sql"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_leaves_the_version_before_serving() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    let next = "serve({ rpc: { sql: () => 'new' } });";
    for (file, text, said) in [
        ("001.sql", "create table a (x int); select nonsense", "nonsense"),
        ("001.sql", "select * from public.users", "permission denied"),
        ("001.sql", "alter table contacts disable row level security", "must be owner"),
        ("001.sql", "create table other (c uuid references contacts (id))", "permission denied"),
        ("001.sql", "create table a (x int); commit", "must not end the transaction"),
        ("001.sql", "set local weft.identity = ''; drop table contacts", "must be owner"),
        ("001.sql", "create table lines (x int); copy lines from stdin", "write `insert`"),
        ("001.sql", "copy contacts to stdout", "copy"),
        ("001.sql", &format!("-- {}", "x".repeat(1024 * 1024)), "larger than 1 MiB"),
    ] {
        let refused = admin.deploy("crm", &[("index.ts", next), (&format!("migrations/{file}"), text)]).await.expect(422);
        assert_eq!(refused.code(), "deploy_failed");
        assert!(refused.text("/error").contains(said) && refused.text("/error").contains("migrations/001.sql"), "{refused:?}");
        assert_eq!(rows(&admin, "select 1", json!([])).await, json!([[1]]));
    }
    let versions = admin.get("/api/v1/apps/crm/versions").await.expect(200);
    assert_eq!(versions.value("/data").as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_applied_must_stay_as_it_is() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", with(app("crm"), json!({}))).await.expect(200);
    let files = |text| [("index.ts", BACKEND), ("migrations/001.sql", text)];
    admin.deploy("crm", &files(FIRST)).await.expect(200);
    let refused = admin.deploy("crm", &files("create table visits (id int)")).await.expect(422);
    assert!(refused.text("/error").contains("001.sql was applied and is another file now"), "{refused:?}");
    assert_eq!(rows(&admin, "select count(*) from visits", json!([])).await, json!([[0]]));
    let removal = admin.delete("/api/v1/apps/crm?dryRun=true").await;
    assert!(removal.status == 200 || removal.status == 400, "{removal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_may_ask_for_rights_of_its_own() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", manifest()).await.expect(200);
    let guarded =
        "create table salaries (amount int); insert into salaries values (1); alter table salaries enable row level security;
        create policy readers on salaries for select using ((select weft_sql.may('app:crm:salaries')))";
    admin.deploy("crm", &[("index.ts", BACKEND), ("migrations/001.sql", guarded)]).await.expect(200);
    let (ann, bob) = (user(&server, &admin, "ann", &[]).await, user(&server, &admin, "bob", &["app:crm:salaries"]).await);
    assert_eq!(rows(&ann, "select amount from salaries", json!([])).await, json!([]));
    assert_eq!(rows(&bob, "select amount from salaries", json!([])).await, json!([[1]]));
}
