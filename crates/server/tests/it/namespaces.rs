//! `/api/v1/namespaces*`: who sees which namespace, how far a department reaches, and that departments stay a tree.

use serde_json::{Value, json};
use weft_testkit::{Answer, Api, TestServer};

const NAMESPACES: &str = "/api/v1/namespaces";
const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";

async fn id(api: &Api) -> String {
    api.get("/api/v1/auth/me").await.expect(200).text("/id")
}

async fn create(api: &Api, namespace: &str) -> Answer {
    api.post(NAMESPACES, json!({ "id": namespace })).await
}

fn at(namespace: &str, rest: &str) -> String {
    format!("{NAMESPACES}/{namespace}{rest}")
}

async fn add(api: &Api, namespace: &str, name: &str, parent: Option<&str>) -> Answer {
    api.post(&at(namespace, "/departments"), json!({ "name": name, "parentId": parent })).await
}

/// A department that can be made.
async fn department(api: &Api, namespace: &str, name: &str, parent: Option<&str>) -> String {
    add(api, namespace, name, parent).await.expect(201).text("/id")
}

async fn change(api: &Api, namespace: &str, department: &str, body: Value) -> Answer {
    api.patch(&at(namespace, &format!("/departments/{department}")), body).await
}

async fn join(api: &Api, namespace: &str, department: &str, user: &str) -> Answer {
    api.put(&at(namespace, &format!("/departments/{department}/members/{user}")), Value::Null).await
}

/// One member of each entry of a list.
fn each(answer: &Answer, name: &str) -> Vec<String> {
    let list = answer.json.as_array().cloned().expect("a list");
    list.iter().map(|entry| entry[name].as_str().unwrap_or_default().to_owned()).collect()
}

async fn seen(api: &Api) -> Vec<String> {
    each(&api.get(NAMESPACES).await.expect(200), "id")
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_sees_the_namespaces_of_their_departments_and_acts_for_those_below() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for namespace in ["sales", "support"] {
        create(&alice, namespace).await.expect(201);
    }
    let top = department(&alice, "sales", "Europe", None).await;
    let north = department(&alice, "sales", "North", Some(&top)).await;
    let oslo = department(&alice, "sales", "Oslo", Some(&north)).await;
    let south = department(&alice, "sales", "South", Some(&top)).await;
    assert!(seen(&bob).await.is_empty());
    bob.get(&at("sales", "")).await.expect(404);

    join(&alice, "sales", &north, &id(&bob).await).await.expect(200);
    assert_eq!(seen(&bob).await, ["sales"]);
    assert_eq!(bob.get(&at("sales", "")).await.expect(200).text("/name"), "sales");
    let scope = bob.get(&at("sales", "/scope")).await.expect(200);
    assert_eq!(scope.json, json!({ "everything": false, "departments": [north, oslo] }));
    assert_eq!(each(&bob.get(&at("sales", "/departments")).await.expect(200), "name"), ["North", "Oslo"]);
    for path in ["", "/scope", "/departments"] {
        bob.get(&at("support", path)).await.expect(404);
    }
    let everything = json!({ "everything": true, "departments": [] });
    assert_eq!(alice.get(&at("sales", "/scope")).await.expect(200).json, everything);

    // What is below comes along when it is moved.
    change(&alice, "sales", &oslo, json!({ "parentId": south })).await.expect(200);
    let scope = bob.get(&at("sales", "/scope")).await.expect(200);
    assert_eq!(scope.value("/departments"), json!([north]));
    let members = alice.get(&at("sales", &format!("/departments/{north}/members"))).await.expect(200);
    assert_eq!(each(&members, "email"), ["bob@example.com"]);
    let member = at("sales", &format!("/departments/{north}/members/{}", id(&bob).await));
    alice.delete(&member).await.expect(200);
    assert!(seen(&bob).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn managing_can_be_limited_to_a_namespace() {
    let server = TestServer::start().await;
    let (alice, bob, eve) = (server.user("alice").await, server.user("bob").await, server.user("eve").await);
    for namespace in ["sales", "support"] {
        create(&alice, namespace).await.expect(201);
    }
    let keys = alice.get("/api/v1/permissions/available").await.expect(200);
    let keys = each(&keys, "key");
    for key in ["namespaces:manage", "namespaces:plugins.manage", "namespace:sales:manage", "namespace:sales:plugins.manage"] {
        assert!(keys.iter().any(|known| known == key), "{key} in {keys:?}");
    }
    server.grant(&alice, &bob, &["namespace:sales:manage"]).await;
    server.grant(&alice, &eve, &["namespace:support:plugins.manage"]).await;
    assert_eq!((seen(&bob).await, seen(&eve).await), (vec!["sales".to_owned()], vec!["support".to_owned()]));
    department(&bob, "sales", "North", None).await;
    bob.patch(&at("sales", ""), json!({ "name": "Sales" })).await.expect(200);
    assert_eq!(bob.get(&at("sales", "")).await.expect(200).text("/name"), "Sales");
    for refused in [add(&bob, "support", "North", None).await, create(&bob, "more").await, add(&eve, "support", "x", None).await]
    {
        assert_eq!(refused.expect(403).code(), "forbidden");
    }
    assert_eq!(eve.get(&at("support", "/scope")).await.expect(200).value("/everything"), json!(true));
    // What is not there and what one may not touch look alike.
    assert_eq!(add(&bob, "nothing", "x", None).await.expect(403).code(), "forbidden");
    server.grant(&alice, &bob, &["namespaces:manage"]).await;
    create(&bob, "more").await.expect(201);
    add(&bob, "nothing", "x", None).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn departments_stay_a_tree_and_what_has_some_below_it_stays() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for namespace in ["sales", "support"] {
        create(&alice, namespace).await.expect(201);
    }
    let mut line = vec![department(&alice, "sales", "1", None).await];
    for level in 2..=8 {
        let below = department(&alice, "sales", &level.to_string(), line.last().map(String::as_str)).await;
        line.push(below);
    }
    let elsewhere = department(&alice, "support", "1", None).await;
    for (parent, text) in [
        (line[7].as_str(), "8 levels deep at most"),
        (elsewhere.as_str(), "the namespace has no such department"),
        (NOBODY, "the namespace has no such department"),
    ] {
        let refused = add(&alice, "sales", "x", Some(parent)).await.expect(400);
        assert!(refused.code() == "validation_failed" && refused.text("/error").contains(text), "{refused:?}");
    }
    for below in [&line[0], &line[3]] {
        let refused = change(&alice, "sales", &line[0], json!({ "parentId": below })).await.expect(400);
        assert!(refused.text("/error").contains("below itself"), "{refused:?}");
    }
    assert_eq!(add(&alice, "sales", "2", Some(&line[0])).await.expect(409).code(), "conflict");
    assert_eq!(add(&alice, "sales", " ", None).await.expect(400).code(), "validation_failed");
    change(&alice, "sales", NOBODY, json!({ "name": "x" })).await.expect(404);
    change(&alice, "sales", &elsewhere, json!({ "name": "x" })).await.expect(404);

    let moved = change(&alice, "sales", &line[4], json!({ "parentId": null, "name": "five" })).await.expect(200);
    assert_eq!(moved.json, json!({ "id": line[4], "name": "five", "parentId": null }));
    let same = change(&alice, "sales", &line[5], json!({ "name": "six" })).await.expect(200);
    assert_eq!(same.value("/parentId"), json!(line[4]), "what is not named stays");
    let path = |index: usize| at("sales", &format!("/departments/{}", line[index]));
    assert_eq!(alice.delete(&path(4)).await.expect(409).code(), "conflict");
    assert_eq!(alice.delete(&at("sales", "")).await.expect(409).code(), "conflict");
    for index in (0..8).rev() {
        alice.delete(&path(index)).await.expect(200);
    }
    alice.delete(&at("sales", "")).await.expect(200);
    alice.get(&at("sales", "")).await.expect(404);
    let keys = each(&alice.get("/api/v1/permissions/available").await.expect(200), "key");
    assert!(!keys.iter().any(|key| key.starts_with("namespace:sales:")), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_moves_at_once_make_no_circle() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    create(&alice, "sales").await.expect(201);
    let (a, b) = (department(&alice, "sales", "a", None).await, department(&alice, "sales", "b", None).await);
    for _ in 0..10 {
        let (first, second) = futures::join!(
            change(&alice, "sales", &a, json!({ "parentId": b })),
            change(&alice, "sales", &b, json!({ "parentId": a })),
        );
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
        for department in [&a, &b] {
            change(&alice, "sales", department, json!({ "parentId": null })).await.expect(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_another_tenant_is_not_there() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let carol = server.tenant(&alice, "acme", "carol").await;
    create(&carol, "sales").await.expect(201);
    let north = department(&carol, "sales", "North", None).await;
    assert!(seen(&alice).await.is_empty());
    let inside = |rest: &str| at("sales", &format!("/departments/{north}{rest}"));
    let member = format!("/members/{}", id(&alice).await);
    for answer in [
        alice.get(&at("sales", "")).await,
        alice.get(&at("sales", "/scope")).await,
        alice.get(&at("sales", "/departments")).await,
        alice.get(&inside("/members")).await,
        alice.patch(&at("sales", ""), json!({ "name": "x" })).await,
        add(&alice, "sales", "x", None).await,
        change(&alice, "sales", &north, json!({ "name": "x" })).await,
        alice.put(&inside(&member), Value::Null).await,
        alice.delete(&inside(&member)).await,
        alice.delete(&inside("")).await,
        alice.delete(&at("sales", "")).await,
    ] {
        assert_eq!(answer.expect(404).code(), "not_found");
    }
    // The same name in another tenant is another namespace, and its departments are nobody else's.
    create(&alice, "sales").await.expect(201);
    assert_eq!(alice.get(&at("sales", "/departments")).await.expect(200).json, json!([]));
    alice.get(&inside("/members")).await.expect(404);
    // Whoever is no member of the tenant does not get into its departments.
    carol.put(&inside(&member), Value::Null).await.expect(404);
    assert_eq!(create(&carol, "sales").await.expect(409).code(), "conflict");
    for wrong in ["", "Sales", "a-b", "1a"] {
        assert_eq!(create(&carol, wrong).await.expect(400).code(), "validation_failed", "{wrong}");
    }
}
