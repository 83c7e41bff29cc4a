//! Whoever owns the database can change the log, and an export shows where.

use chrono::Duration;
use serde_json::Value;
use sqlx::PgConnection;
use weft_attest::{Link, verify::Finding};
use weft_testkit::{Api, TestServer};

use super::{checked, database, findings, make_role, sql};

/// A log of a few events with a checkpoint over the last one, and somebody in the database who may do anything.
struct Scene {
    _server: TestServer,
    alice: Api,
    intruder: PgConnection,
    last: i64,
}

impl Scene {
    async fn set() -> Self {
        let mut server = TestServer::start().await;
        let alice = server.user("alice").await;
        for name in ["a", "b", "c", "d", "e"] {
            assert_eq!(make_role(&alice, name).await, 200);
        }
        // A start signs a checkpoint over what there is, if the last one is not of just now.
        server.advance(Duration::minutes(11));
        server.restart().await;
        let alice = alice.at(server.url());
        let mut intruder = database(&server).await;
        let covered = "select exists (select from audit_checkpoints join audit_heads using (tenant_id, seq))";
        crate::fixtures::eventually("a checkpoint", async || {
            let covered: bool = sqlx::query_scalar(covered).fetch_one(&mut database(&server).await).await.expect("looked");
            covered.then_some(())
        })
        .await;
        let report = checked(&alice).await;
        assert_eq!(report.findings, []);
        let last = i64::try_from(report.events).expect("few");
        sql(&mut intruder, "create table backup as select tenant_id, seq, entry, hash from audit_events").await;
        sql(&mut intruder, "create table heads as select * from audit_heads").await;
        // What guards against mistakes does not stop who owns the tables.
        sql(&mut intruder, "alter table audit_events disable trigger all; alter table audit_checkpoints disable trigger all")
            .await;
        Self { _server: server, alice, intruder, last }
    }

    /// Everything as it was.
    async fn restore(&mut self) {
        sql(
            &mut self.intruder,
            "delete from audit_events; insert into audit_events (tenant_id, seq, entry, hash) select * from backup;
             delete from audit_heads; insert into audit_heads select * from heads",
        )
        .await;
        assert_eq!(findings(&self.alice).await, []);
    }

    /// What an export tells after these statements.
    async fn after(&mut self, statements: &str) -> Vec<Finding> {
        sql(&mut self.intruder, statements).await;
        let found = findings(&self.alice).await;
        self.restore().await;
        found
    }
}

/// The text of event 4 said to be another one.
const INSERT: &str = "update audit_events set seq = seq + 1000 where seq >= 4;
    insert into audit_events (tenant_id, seq, entry, hash)
        select tenant_id, 4, replace(entry::text, '\"id\":\"b\"', '\"id\":\"z\"')::json, hash from audit_events where seq = 1004;
    update audit_events set seq = seq - 999 where seq >= 1000;
    update audit_heads set seq = seq + 1";

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_change_the_log_is_found_in_an_export_with_its_place() {
    let mut scene = Scene::set().await;
    let last = u64::try_from(scene.last).expect("positive");
    let change = "update audit_events set entry = replace(entry::text, 'alice', 'mallory')::json where seq = 3";
    assert_eq!(scene.after(change).await, [Finding::Changed(3)]);
    let hash = "update audit_events set hash = sha256('x') where seq = 3";
    assert_eq!(scene.after(hash).await.first(), Some(&Finding::Changed(3)));
    assert_eq!(scene.after("delete from audit_events where seq = 3").await, [Finding::Missing { from: 3, to: 3 }]);
    let swap = "update audit_events set seq = 1000 where seq = 3; update audit_events set seq = 3 where seq = 4;
                update audit_events set seq = 4 where seq = 1000";
    assert_eq!(scene.after(swap).await, [Finding::Moved { seq: 3, after: 4 }]);
    assert_eq!(scene.after(INSERT).await.get(..2), Some(&[Finding::Changed(4), Finding::Repeated(4)][..]));
    let behind = "insert into audit_events (tenant_id, seq, entry, hash)
                  select tenant_id, seq + 1, replace(entry::text, '\"seq\":' || seq, '\"seq\":' || seq + 1)::json, hash
                  from audit_events order by seq desc limit 1";
    let found = scene.after(behind).await;
    assert!(found.contains(&Finding::Added { from: last + 1, to: last + 1 }), "{found:?}");
    for cut in [
        "delete from audit_events where seq > 3",
        "delete from audit_events where seq > 3;
         update audit_heads set seq = 3, hash = (select hash from audit_events where seq = 3)",
    ] {
        assert_eq!(scene.after(cut).await, [Finding::CutOff { last: 3, to: last }], "{cut}");
    }
    let found = scene.after("delete from audit_events; delete from audit_heads").await;
    assert_eq!(found, [Finding::CutOff { last: 0, to: last }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_computed_anew_contradicts_the_checkpoint() {
    let mut scene = Scene::set().await;
    let rows: Vec<(i64, String, Vec<u8>)> = sqlx::query_as("select seq, entry::text, hash from audit_events order by seq")
        .fetch_all(&mut scene.intruder)
        .await
        .expect("rows");
    let mut link = Link::start("default");
    for (seq, entry, _) in rows {
        let entry = if seq == 3 { entry.replace("alice", "mallory") } else { entry };
        link = link.then(&entry);
        sqlx::query("update audit_events set entry = $2::json, hash = $3 where seq = $1")
            .bind(seq)
            .bind(entry)
            .bind(link.as_bytes().as_slice())
            .execute(&mut scene.intruder)
            .await
            .expect("changed");
    }
    let change = "update audit_heads set hash = (select hash from audit_events order by seq desc limit 1)";
    let last = u64::try_from(scene.last).expect("positive");
    let found = scene.after(change).await;
    // The server may have made checkpoints on the way as well.
    assert!(found.iter().all(|finding| matches!(finding, Finding::Rewritten(3..))), "{found:?}");
    assert_eq!(found.last(), Some(&Finding::Rewritten(last)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_lets_nobody_change_the_log_by_mistake() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut database = database(&server).await;
    for statement in ["update audit_events set seq = 9 where seq = 1", "delete from audit_events"] {
        let refused = sqlx::raw_sql(statement).execute(&mut database).await.expect_err("refused");
        assert!(refused.to_string().contains("only ever added to"), "{refused}");
    }
    let events: Vec<Value> = super::list(&alice, "").await;
    assert_eq!(events.len(), 2);
}
