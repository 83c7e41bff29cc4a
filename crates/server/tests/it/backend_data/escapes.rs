//! Attempts to get out: SQL of a backend, and functions that its migrations made, against everything that is not theirs.

use serde_json::{Value, json};
use weft_testkit::{Api, TestServer};

use super::{BACKEND, changes, id_of, manifest, op, rows, sql, start, user};
use crate::fixtures::{app, with};

async fn code(api: &Api, text: &str) -> String {
    let answer = sql(api, text, json!([])).await;
    answer["code"].as_str().map_or_else(|| answer.to_string(), str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_apps_own_tables_can_be_read() {
    let (server, admin) = start().await;
    let other =
        with(app("other"), json!({ "dataContract": [{ "entityName": "things", "fields": [{ "name": "a", "type": "text" }] }] }));
    let elsewhere = server.tenant(&admin, "elsewhere", "elsewhere").await;
    let theirs =
        with(app("theirs"), json!({ "dataContract": [{ "entityName": "things", "fields": [{ "name": "a", "type": "text" }] }] }));
    server.deploy(&admin, &other, BACKEND).await;
    server.deploy(&elsewhere, &theirs, BACKEND).await;
    // So that the others have roles, too.
    admin.post("/api/v1/apps/other/rpc", json!({ "method": "sql", "params": ["select 1", []] })).await.expect(200);
    for table in [
        "other.things",
        "theirs.things",
        "public.users",
        "public.apps",
        "users",
        "sessions",
        "secrets",
        "public.data_audit",
        "weft_sql.access",
        "weft_sql.channel",
        "public.queue_messages",
        "public.schema_migrations",
        "pg_catalog.pg_authid",
        "pg_shadow",
        "pg_class",
        "pg_namespace",
        "pg_roles",
        "pg_stat_activity",
        "pg_settings",
        "pg_type",
        "pg_proc",
        "pg_database",
        "pg_locks",
        "pg_largeobject",
    ] {
        let code = code(&admin, &format!("select * from {table}")).await;
        assert!(code == "forbidden" || code == "invalid_sql", "{table}: {code}");
    }
    let tables = rows(&admin, "select table_schema, table_name from information_schema.tables where table_schema not in ('information_schema', 'pg_catalog') order by 2", json!([])).await;
    assert_eq!(tables, json!([["crm", "contacts"], ["crm", "notes"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_function_leads_out_of_a_role_or_to_others() {
    let (_server, admin) = start().await;
    for call in [
        "set_config('role', 'weft', true)",
        "set_config('weft.identity', 'x', true)",
        "set_config('statement_timeout', '0', false)",
        "query_to_xml('select * from public.users', true, true, '')",
        "table_to_xml('public.users', true, true, '')",
        "pg_notify('weft_changes', 'everything')",
        "pg_advisory_lock(1)",
        "pg_try_advisory_lock(1)",
        "pg_advisory_xact_lock(1)",
        "pg_sleep(1)",
        "lo_create(0)",
        "lo_import('/etc/passwd')",
        "lo_export(1, '/tmp/x')",
        "lo_from_bytea(0, 'x')",
        "pg_read_file('/etc/passwd')",
        "pg_ls_dir('/')",
        "pg_stat_file('/etc/passwd')",
        "pg_read_binary_file('/etc/passwd')",
        "pg_terminate_backend(1)",
        "pg_cancel_backend(1)",
        "pg_reload_conf()",
        "pg_switch_wal()",
        "pg_export_snapshot()",
        "pg_logical_emit_message(true, 'x', 'y')",
        "dblink('', 'select 1')",
        "weft_sql.close_doors()",
        "weft_sql.open_doors()",
        "weft_audit_prune(now())",
        "weft_channel('weft_changes')",
        "weft_sql.migrated('x', 'y')",
        "pg_create_restore_point('x')",
        "pg_rotate_logfile()",
        "pg_get_functiondef(1)",
        "pg_get_function_sqlbody(1)",
        "pg_get_function_arguments(1)",
        "pg_get_triggerdef(1)",
        "pg_get_indexdef(1)",
        "pg_get_ruledef(1)",
        "pg_get_viewdef(1)",
        "pg_get_constraintdef(1)",
        "pg_stat_get_activity(null)",
        "pg_stat_get_numscans(1)",
        "pg_stat_get_live_tuples(1)",
        "pg_relation_size('contacts')",
        "pg_total_relation_size('contacts')",
        "pg_table_size('contacts')",
        "pg_indexes_size('contacts')",
        "pg_database_size(current_database())",
        "pg_relation_filepath('contacts')",
        "pg_lock_status()",
        "pg_blocking_pids(1)",
        "weft_sql.context()",
    ] {
        let code = code(&admin, &format!("select {call}")).await;
        assert!(code == "forbidden" || code == "invalid_sql", "{call}: {code}");
    }
    assert_eq!(
        rows(&admin, "select current_user = session_user, weft_sql.caller()", json!([])).await,
        json!([[true, id_of(&admin).await]])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_can_still_ask_what_its_own_tables_are_like() {
    let (_server, admin) = with_functions().await;
    for view in [
        "columns",
        "tables",
        "views",
        "routines",
        "parameters",
        "triggers",
        "table_constraints",
        "key_column_usage",
        "check_constraints",
        "referential_constraints",
        "sequences",
    ] {
        rows(&admin, &format!("select count(*) from information_schema.{view}"), json!([])).await;
    }
    for (text, expected) in [
        (
            "select column_name, data_type from information_schema.columns where table_name = 'kept'",
            json!([["identity", "text"]]),
        ),
        ("select routine_name from information_schema.routines where routine_name = 'spin'", json!([["spin"]])),
        ("select table_name from information_schema.tables where table_name = 'kept'", json!([["kept"]])),
        ("select 'contacts'::regclass::text, pg_typeof(1)::text", json!([["contacts", "integer"]])),
    ] {
        assert_eq!(rows(&admin, text, json!([])).await, expected, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_the_apps_name_that_is_somebody_elses_stays_closed() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server
        .database
        .execute("create schema crm; create table crm.salaries (amount int); insert into crm.salaries values (1)")
        .await;
    server.deploy(&admin, &app("crm"), BACKEND).await;
    for text in ["select * from crm.salaries", "select * from salaries", "insert into crm.salaries values (2)"] {
        let code = code(&admin, text).await;
        assert!(code == "forbidden" || code == "invalid_sql", "{text}: {code}");
    }
    let files = [("index.ts", BACKEND), ("migrations/001.sql", "create table mine (a int)")];
    admin.deploy("crm", &files).await.expect(422);
    assert_eq!(code(&admin, "select * from crm.salaries").await, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_takes_another_id_past_the_audit() {
    let (server, admin) = start().await;
    let id = op(&admin, "contacts", "insert", json!({ "name": "Ann" })).await["ok"]["id"].clone();
    op(&admin, "contacts", "insert", json!({ "name": "Bob" })).await;
    let noted = server.database.count("data_audit").await;
    for text in [
        "update contacts set id = gen_random_uuid(), name = 'x'",
        "update contacts set id = gen_random_uuid() where name = 'Ann'",
        "insert into contacts (id, name) select id, name from contacts on conflict (id) do update set id = gen_random_uuid()",
        "merge into contacts using (select 1) as one on name = 'Ann' when matched then update set id = gen_random_uuid()",
    ] {
        let refused = sql(&admin, text, json!([])).await;
        assert_eq!(
            (&refused["code"], &refused["message"]),
            (&json!("conflict"), &json!("the id of a record cannot be changed")),
            "{text}"
        );
    }
    assert_eq!(server.database.count("data_audit").await, noted);
    assert_eq!(rows(&admin, "select id from contacts where name = 'Ann'", json!([])).await, json!([[id]]));
    // Setting it to what it is changes nothing.
    assert_eq!(sql(&admin, "update contacts set id = id, score = 1", json!([])).await["ok"]["rowCount"], 2);
    assert_eq!(server.database.count("data_audit").await, noted + 2);
}

/// Functions that an app's migrations may make, each of which tries something.
const FUNCTIONS: &str = r"
    create table kept (identity text);
    create function keep() returns text language sql as $$ insert into kept select current_setting('weft.identity') returning identity $$;
    create function claim(said text) returns boolean language plpgsql as $$
        begin execute format('set local weft.identity = %L', said); return weft_sql.may('app:crm:contacts.read'); end $$;
    create function try(what text) returns text language plpgsql as $$
        begin execute what; return 'done'; exception when others then return sqlstate; end $$;
    create function try_as_owner(what text) returns text language plpgsql security definer as $$
        begin execute what; return 'done'; exception when others then return sqlstate; end $$;
    create function peek() returns bigint language plpgsql security definer as $$
        declare found bigint; begin execute 'select count(*) from contacts' into found; return found; end $$;
    create function spin() returns void language plpgsql as $$
        begin set local statement_timeout = 0; loop end loop; end $$;
    create table late (a int);
    create function spin_at_the_end() returns trigger language plpgsql as $$
        begin set local statement_timeout = 0; loop end loop; end $$;
    create constraint trigger late after insert on late deferrable initially deferred for each row execute function spin_at_the_end();";

async fn with_functions() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", manifest()).await.expect(200);
    admin.deploy("crm", &[("index.ts", BACKEND), ("migrations/001.sql", FUNCTIONS)]).await.expect(200);
    (server, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_cannot_be_forged_changed_or_used_again() {
    let (server, admin) = with_functions().await;
    op(&admin, "contacts", "insert", json!({ "name": "Ann" })).await;
    let ann = user(&server, &admin, "ann", &["app:crm:contacts.create"]).await;
    // The administrator's own word, kept for somebody else.
    let said = rows(&admin, "select keep()", json!([])).await[0][0].as_str().expect("a text").to_owned();
    assert_eq!(rows(&admin, "select weft_sql.may('app:crm:contacts.read')", json!([])).await, json!([[true]]));
    let altered = |more: &str| said.replace("\"grants\":[", more);
    for word in
        [said.clone(), altered("\"grants\":[\"app:crm:contacts.read\","), said[64..].to_owned(), "x".to_owned(), "{}".repeat(40)]
    {
        assert_eq!(rows(&ann, "select claim($1)", json!([word])).await, json!([[false]]), "{word}");
    }
    let own = rows(&ann, "select keep()", json!([])).await[0][0].as_str().expect("a text").to_owned();
    let more = own.replace("\"grants\":[", "\"grants\":[\"*\",");
    assert_eq!(rows(&ann, "select claim($1)", json!([more])).await, json!([[false]]));
    // What is changed under a false name is nobody's, and under the name of the audit nobody's either.
    let forged = "select try(format('set local weft.audit = %L', '{\"actor\":\"0197c3c0-0000-7000-8000-000000000000\",\"tenant\":\"other\"}'))";
    rows(&ann, &format!("with said as ({forged}) insert into contacts (name) select 'x' from said"), json!([])).await;
    assert_eq!(changes(&admin, 1).await, [("contacts".to_owned(), "app_sql".to_owned(), id_of(&ann).await)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_an_app_get_no_further_than_its_statements() {
    let (server, admin) = with_functions().await;
    op(&admin, "contacts", "insert", json!({ "name": "Ann" })).await;
    let blind = user(&server, &admin, "blind", &[]).await;
    for what in [
        "set session authorization weft",
        "set role weft",
        "select count(*) from public.users",
        "alter table contacts disable row level security",
        "create temp table x (a int)",
        "create table public.x (a int)",
        "create schema x",
        "create extension dblink",
        "copy (select 1) to program 'id'",
        "copy kept from '/etc/passwd'",
        "alter role current_user superuser",
        "drop table contacts",
        "alter table contacts owner to current_user",
        "create trigger x after insert on contacts for each row execute function try('x')",
        "create policy x on contacts using (true)",
        "alter system set work_mem = '1GB'",
        "truncate contacts",
        "create rule x as on insert to contacts do nothing",
        "alter table contacts add column x int",
        "create publication x",
        "create event trigger x on ddl_command_start execute function try()",
        "set session_replication_role = replica",
        "create table mine (c uuid references contacts (id))",
    ] {
        for function in ["try", "try_as_owner"] {
            let answer = rows(&blind, &format!("select {function}($1)"), json!([what])).await;
            assert_ne!(answer, json!([["done"]]), "{function}: {what}");
        }
    }
    for what in ["reset role", "reset session authorization", "set row_security = off"] {
        rows(&blind, "select try_as_owner($1), try($1)", json!([what])).await;
        let seen = sql(&blind, "select (select try($1)), (select count(*) from contacts)", json!([what])).await;
        assert!(seen["code"] == "forbidden" || seen["ok"]["rows"][0][1] == 0, "{what}: {seen}");
    }
    // A function with its owner's rights still sees what the caller may see.
    assert_eq!(rows(&blind, "select peek()", json!([])).await, json!([[0]]));
    assert_eq!(rows(&admin, "select peek()", json!([])).await, json!([[1]]));
    // It may say something to whoever listens by that name: the server does not.
    let heard = rows(&blind, "select try('notify weft_changes, ''everything''')", json!([])).await;
    assert_eq!(heard, json!([["done"]]));
}

/// Waits until the database does nothing for roles of this server's apps any more.
pub async fn nothing_runs_on(server: &TestServer) {
    crate::fixtures::eventually("nothing of it runs on", async || {
        let running = "pg_stat_activity where datname = current_database() and usename like 'weft\\_%' and state <> 'idle'";
        (server.database.count(running).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_stops_the_databases_clock_is_ended_all_the_same() {
    let (server, admin) = with_functions().await;
    let answer = sql(&admin, "select spin()", json!([])).await;
    assert_eq!(answer["code"], "timeout", "{answer}");
    nothing_runs_on(&server).await;
    // The same where the work only begins when everything is to be kept.
    let late = ["insert into late values (1)", "insert into late values (2)"];
    let (alone, together) =
        tokio::join!(sql(&admin, late[0], json!([])), super::rpc(&admin, "tx", json!({ "statements": [[late[1], []]] })));
    assert_eq!((&alone["code"], &together["code"]), (&json!("timeout"), &json!("timeout")), "{alone} {together}");
    nothing_runs_on(&server).await;
    assert_eq!(rows(&admin, "select * from late", json!([])).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_call_is_left_for_the_next_one_on_its_connection() {
    let (server, admin) = with_functions().await;
    let blind = user(&server, &admin, "blind", &[]).await;
    for what in ["set weft.identity = 'x'", "listen x", "prepare x as select 1", "set search_path = pg_catalog"] {
        sql(&admin, "select try($1)", json!([what])).await;
    }
    let state = "select current_setting('search_path'), weft_sql.caller(), (select count(*) from pg_prepared_statements)";
    assert_eq!(rows(&blind, state, json!([])).await, json!([["crm", id_of(&blind).await, 1]]));
    assert_eq!(rows(&blind, "select weft_sql.may('app:crm:contacts.read')", json!([])).await, json!([[false]]));
    let nobody: Value = rows(&blind, "select current_setting('weft.audit', true)", json!([])).await;
    assert!(nobody == json!([[null]]) || nobody == json!([[""]]), "{nobody}");
}
