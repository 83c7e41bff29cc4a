//! Many at once: one unbroken chain, nobody else's is held up, and a flood of bad logins neither fills the log nor stops a good one.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use weft_testkit::{TestServer, server::url};

use super::{checked, database, list, make_role, sql};
use crate::{fixtures::eventually, oauth::token};

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_on_two_nodes_leave_one_unbroken_chain() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (second, _data_dir) = server.second_node().await;
    let there = alice.clone().at(url(&second));
    let before = checked(&alice).await.events;
    let made = join_all((0..60).map(|number| {
        let api = if number % 2 == 0 { alice.clone() } else { there.clone() };
        async move { make_role(&api, &format!("role{number}")).await }
    }))
    .await;
    assert_eq!(made, [200; 60]);
    let report = checked(&alice).await;
    assert_eq!((report.findings, report.events), (vec![], before + 60));
    second.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_adds_to_one_tenants_log_holds_up_no_other_tenant() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let carol = server.tenant(&alice, "acme", "carol").await;
    let mut database = database(&server).await;
    sql(&mut database, "begin; select from audit_heads where tenant_id = 'acme' for update").await;
    let waiting = tokio::spawn({
        let carol = carol.clone();
        async move { make_role(&carol, "sales").await }
    });
    let patience = Duration::from_secs(20);
    for name in ["a", "b", "c"] {
        assert_eq!(tokio::time::timeout(patience, make_role(&alice, name)).await.expect("not held up"), 200);
    }
    assert!(!waiting.is_finished(), "the tenant's own changes come in turn");
    sql(&mut database, "commit").await;
    assert_eq!(tokio::time::timeout(patience, waiting).await.expect("its turn came").expect("no panic"), 200);
    assert_eq!(checked(&carol).await.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_logins_is_a_few_events_with_every_one_counted() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let refused =
        async |number: usize| token(&server, "018f0000-0000-7000-8000-000000000000", &format!("wsk_{number}")).await.status;
    let flood = join_all((0..600).map(refused));
    let (statuses, good) = futures::join!(flood, server.login("alice@example.com"));
    assert!(statuses.iter().all(|status| *status == 401));
    good.get("/api/v1/auth/me").await.expect(200);
    let all_counted = async || {
        let events = list(&alice, "action=token.refused&limit=200").await;
        let counted: u64 = events.iter().map(|event| event["count"].as_u64().unwrap_or(1)).sum();
        (counted == 600).then_some(events.len())
    };
    let events = eventually("every one is counted", all_counted).await;
    assert!(events < 60, "{events} events for 600 refusals");
    assert_eq!(checked(&alice).await.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_wait_for_the_log() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut database = database(&server).await;
    sql(&mut database, "begin; select from audit_heads where tenant_id = 'default' for update").await;
    let wrong = json!({ "email": "alice@example.com", "password": "wrong" });
    let anonymous = server.anonymous();
    for _ in 0..3 {
        let refused = tokio::time::timeout(Duration::from_secs(20), anonymous.post("/api/v1/auth/login", wrong.clone()));
        refused.await.expect("answered").expect(401);
    }
    sql(&mut database, "commit").await;
    let counted = async || {
        let events = list(&alice, "action=login.failed").await;
        let counted: u64 = events.iter().map(|event| event["count"].as_u64().unwrap_or(1)).sum();
        (counted == 3).then_some(())
    };
    eventually("what happened meanwhile is told", counted).await;
}
