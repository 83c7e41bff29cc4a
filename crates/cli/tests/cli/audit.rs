//! The log of a real server: listed, exported, and checked without it.

use insta::assert_snapshot;
use serde_json::json;
use weft_testkit::TestServer;

use crate::fake::Fake;
use crate::machine::Machine;

#[tokio::test]
async fn events_are_a_table_with_the_way_to_more() {
    let fake = Fake::ready().await;
    let machine = Machine::logged_in(&fake);
    let actor = json!({ "id": "u1", "kind": "user", "name": "alice@example.com" });
    let assigned = json!({
        "seq": 12, "chain": "default", "at": "2026-01-15T10:30:00.123456Z", "action": "role.assigned", "actor": actor,
        "target": { "kind": "role", "id": "sales" }, "address": "192.0.2.7", "traceId": "t1", "hash": "00"
    });
    let failed = json!({
        "seq": 11, "chain": "default", "at": "2026-01-15T10:29:00Z", "action": "login.failed", "traceId": "t2", "count": 20, "hash": "00"
    });
    let line = "GET /api/v1/audit/events?actor=u1&target=role%3Asales&since=2026-01-01T00%3A00%3A00Z&limit=2";
    fake.ok(line, &json!({ "data": [assigned, failed], "nextCursor": "c2" }));
    let flags = ["--actor", "u1", "--target", "role:sales", "--since", "2026-01-01T00:00:00Z", "--limit", "2"];
    assert_snapshot!(machine.weft(&[&["audit", "list"][..], &flags].concat()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_proved_offline_and_what_was_done_to_it_is_named() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    let machine = Machine::new();
    let (url, token) = (server.url(), alice.token.clone().expect("a token"));
    let online = async |arguments: &[&str]| machine.run(arguments, &[("WEFT_URL", &url), ("WEFT_TOKEN", &token)], "").await;
    alice.post("/api/v1/roles", json!({ "name": "sales" })).await.expect(200);
    let outcome = online(&["audit", "export", "first.ndjson"]).await;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "Wrote first.ndjson\n"), "{outcome}");
    alice.post("/api/v1/roles", json!({ "name": "support" })).await.expect(200);
    assert_eq!(online(&["audit", "export", "all.ndjson", "--json"]).await.json()["file"], "all.ndjson");
    machine.write("keys.json", &online(&["audit", "keys"]).await.stdout);
    let wrong = online(&["audit", "export", "none.ndjson", "--from", "99"]).await;
    assert_eq!(wrong.code, 1, "{wrong}");
    assert!(!machine.path("none.ndjson").exists(), "nothing is left of what did not come");
    server.stop().await;

    let verify = async |file: &str, more: &[&str]| {
        machine.weft(&[&["audit", "verify", file, "--jwks", "keys.json", "--json"][..], more].concat()).await
    };
    let outcome = verify("all.ndjson", &["--earlier", "first.ndjson"]).await;
    assert_eq!(outcome.code, 0, "{outcome}");
    let report = outcome.json();
    assert_eq!((&report["chain"], &report["events"], &report["findings"]), (&json!("default"), &json!(4), &json!([])));
    let plain = machine.weft(&["audit", "verify", "all.ndjson"]).await;
    assert!(plain.stdout.starts_with("log default: in order up to event 4, "), "{plain}");
    assert!(plain.stderr.contains("--jwks"), "{plain}");

    let text = std::fs::read_to_string(machine.path("all.ndjson")).expect("readable");
    let lines: Vec<&str> = text.lines().collect();
    // A checkpoint may stand between any two events.
    let event = |number: u64| lines.iter().position(|line| line.contains(&format!("\"seq\":{number},"))).expect("the event");
    let (second, third) = (event(2), event(3));
    let without = |index: usize| [&lines[..index], &lines[index + 1..]].concat().join("\n");
    for (name, content, finding) in [
        ("changed", text.replace("sales", "salts"), "event 3 does not fit what stands before it"),
        ("removed", without(third), "events 3 to 3 are missing"),
        (
            "moved",
            [&lines[..second], &[lines[third]], &lines[second..third], &lines[third + 1..]].concat().join("\n"),
            "event 2 stands in the wrong place",
        ),
        ("cut", lines[..=third].join("\n"), "the file breaks off after event 3"),
    ] {
        machine.write(name, &content);
        let outcome = verify(name, &[]).await;
        assert_eq!(outcome.code, 1, "{name}: {outcome}");
        assert!(outcome.json()["findings"][0].as_str().is_some_and(|first| first.contains(finding)), "{name}: {outcome}");
        assert!(outcome.stderr.contains(finding), "{name}: {outcome}");
    }
    let back = verify("first.ndjson", &["--earlier", "all.ndjson"]).await;
    assert!(back.stderr.contains("the earlier export ended with event 4, and this one does not have it"), "{back}");
    let other = server_of_others().await;
    machine.write("other.json", &other);
    let outcome = machine.weft(&["audit", "verify", "all.ndjson", "--jwks", "other.json"]).await;
    assert!(outcome.code == 1 && outcome.stderr.contains("was not made by any of the keys"), "{outcome}");
    for (arguments, reason) in [
        (&["audit", "verify", "nothing"][..], "cannot read nothing"),
        (&["audit", "verify", "all.ndjson", "--jwks", "first.ndjson"], "is no set of keys"),
    ] {
        let outcome = machine.weft(arguments).await;
        assert!(outcome.code == 2 && outcome.stderr.contains(reason), "{outcome}");
    }
}

/// The keys of another server.
async fn server_of_others() -> String {
    let server = TestServer::start().await;
    let keys = server.anonymous().get("/.well-known/jwks.json").await.expect(200);
    keys.json.to_string()
}
