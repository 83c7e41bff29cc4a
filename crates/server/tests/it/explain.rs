//! `/api/v1/permissions/explain`: why somebody may or may not do something, and who may act as whom.

use serde_json::{Value, json};
use weft_testkit::{Answer, Api, TestServer};

use crate::oauth::{Account, form};

const KEY: &str = "integration:slack:send_message";

async fn id(user: &Api) -> String {
    user.get("/api/v1/auth/me").await.expect(200).text("/id")
}

async fn why(api: &Api, query: &str) -> Answer {
    api.get(&format!("/api/v1/permissions/explain?permission={KEY}{query}")).await
}

async fn role(admin: &Api, name: &str, inherits: &[&str], permissions: &[&str]) {
    let body = json!({ "name": name, "inherits": inherits, "permissions": permissions });
    admin.post("/api/v1/roles", body).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_explained_with_the_way_from_the_assigned_role_to_the_one_that_grants() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    role(&alice, "talker", &[], &["integration:slack:*"]).await;
    role(&alice, "sales", &["talker"], &["app:crm:*"]).await;
    let bob_id = id(&bob).await;
    alice.post("/api/v1/roles/assign", json!({ "userId": bob_id, "role": "sales" })).await.expect(200);
    for answer in
        [why(&bob, "").await, why(&alice, &format!("&principal={bob_id}")).await, why(&alice, "&principal=BOB@example.com").await]
    {
        let answer = answer.expect(200);
        assert_eq!((answer.value("/allowed"), answer.text("/principal/email")), (json!(true), "bob@example.com".to_owned()));
        assert_eq!(answer.text("/permission"), KEY);
        assert_eq!(answer.value("/obstacles"), json!([]));
        let grant = answer.value("/grants/0");
        assert_eq!((&grant["role"], &grant["key"]), (&json!("talker"), &json!("integration:slack:*")));
        assert_eq!(grant["path"], json!(["sales", "talker"]));
        assert_eq!(grant["assignedBy"], json!(id(&alice).await));
        assert_eq!(answer.value("/grants/1"), Value::Null);
    }
    // The answer is the truth: the same as asking for the thing itself.
    alice.patch("/api/v1/roles/talker", json!({ "permissions": [] })).await.expect(200);
    let refused = why(&bob, "").await.expect(200);
    assert_eq!((refused.value("/allowed"), refused.value("/grants")), (json!(false), json!([])));
    assert_eq!(refused.value("/obstacles"), json!(["no role of theirs grants it"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_grant_is_named() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.grant(&alice, &bob, &[KEY]).await;
    let bob_id = id(&bob).await;
    alice.post(&format!("/api/v1/users/{bob_id}/disable"), json!({})).await.expect(200);
    let disabled = why(&alice, &format!("&principal={bob_id}")).await.expect(200);
    assert_eq!(disabled.value("/allowed"), json!(false));
    assert_eq!(disabled.value("/obstacles"), json!(["they are switched off in this tenant"]));
    assert_eq!(disabled.text("/grants/0/key"), KEY);

    let carol = server.tenant(&alice, "acme", "carol").await;
    let instance = carol.get("/api/v1/permissions/explain?permission=platform:tenants.manage").await.expect(200);
    assert_eq!((instance.value("/allowed"), instance.text("/grants/0/key")), (json!(false), "*".to_owned()));
    assert!(instance.text("/obstacles/0").contains("server as a whole"), "{instance:?}");

    let account = Account::create(&alice, "ci", &["app:*", KEY]).await;
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", account.id.as_str()),
        ("client_secret", account.key.as_str()),
        ("scope", "app:crm:*"),
    ];
    let token = form(&server, "/oauth/token", &fields).await.expect(200).text("/access_token");
    let narrowed = why(&server.anonymous().with_token(token), "").await.expect(200);
    assert_eq!(narrowed.value("/obstacles"), json!(["the scopes of this token do not cover it"]));
    assert_eq!(why(&account.login(&server).await, "").await.expect(200).value("/allowed"), json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn acting_as_an_account_takes_a_delegation_and_every_permission_of_the_account() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let account = Account::create(&alice, "ci", &[KEY]).await;
    let act_as = format!("/api/v1/service-accounts/{}/act-as", account.id);
    let bob_id = id(&bob).await;
    let question = format!("&actAs={}", account.id);
    let obstacles = async |api: &Api| why(api, &question).await.expect(200).value("/obstacles");
    let no_delegation = json!([format!("no act-as delegation for {}", account.id)]);
    assert_eq!(obstacles(&bob).await, no_delegation);
    assert_eq!(obstacles(&alice).await, no_delegation, "an administrator needs one too");

    alice.post(&act_as, json!({ "userId": bob_id })).await.expect(200);
    let lacking = obstacles(&bob).await;
    assert_eq!(lacking, json!([format!("act-as denied: {} holds {KEY}, which you do not", account.id)]));
    let listed = why(&bob, "").await.expect(200);
    assert_eq!(
        (listed.text("/delegations/0/target/email"), listed.value("/delegations/0/holds")),
        ("sa+ci@localhost".into(), json!(true))
    );
    assert_eq!(listed.text("/delegations/0/lacks"), KEY);

    server.grant(&alice, &bob, &["integration:*"]).await;
    let allowed = why(&bob, &question).await.expect(200);
    assert_eq!((allowed.value("/allowed"), allowed.text("/actingAs/email")), (json!(true), "sa+ci@localhost".to_owned()));
    assert_eq!(allowed.text("/grants/0/key"), KEY, "the grant of the account, not of the person");
    let by_alice = why(&alice, &format!("&principal={bob_id}{question}")).await.expect(200);
    assert_eq!(by_alice.value("/allowed"), json!(true));

    // The rule is checked each time: what the account gains the person must hold too.
    account.grant(&alice, &[KEY, "app:crm:invoke"]).await;
    assert_eq!(why(&bob, &question).await.expect(200).value("/allowed"), json!(false));
    account.grant(&alice, &[KEY]).await;
    let actors = alice.get(&act_as).await.expect(200);
    assert_eq!(actors.text("/0/userId"), bob_id);
    let request = alice.request(reqwest::Method::DELETE, &act_as).json(&json!({ "userId": bob_id }));
    alice.send(request).await.expect(200);
    assert_eq!(obstacles(&bob).await, no_delegation);
    alice.post(&format!("/api/v1/service-accounts/{}/disable", account.id), json!({})).await.expect(200);
    alice.post(&act_as, json!({ "userId": bob_id })).await.expect(200);
    assert_eq!(obstacles(&bob).await, no_delegation, "nobody acts as an account that is switched off");
    assert_eq!(why(&bob, "").await.expect(200).value("/delegations/0/holds"), json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_asks_about_oneself_and_an_administrator_about_anybody_of_the_tenant() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.tenant(&alice, "acme", "carol").await;
    let (alice_id, carol_id) = (id(&alice).await, id(&carol).await);
    for somebody in [&alice_id, &carol_id, &"nobody@example.com".to_owned()] {
        let refused = why(&bob, &format!("&principal={somebody}")).await.expect(403);
        assert_eq!(refused.code(), "forbidden", "who may not ask does not learn who there is");
    }
    for unknown in [&carol_id, &"carol@example.com".to_owned()] {
        why(&alice, &format!("&principal={unknown}")).await.expect(404);
    }
    why(&alice, &format!("&actAs={carol_id}")).await.expect(404);
    let wrong = alice.get("/api/v1/permissions/explain?permission=Not+A+Key").await.expect(400);
    assert_eq!(wrong.code(), "invalid_request");
    alice.get("/api/v1/permissions/explain").await.expect(400);
}
