//! Syncs and triggers: records kept as a vendor has them, and what is new told once, whatever dies in the middle.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use weft_server::ServeArgs;
use weft_testkit::{Api, TestServer, vendor::FakeVendor};

use crate::fixtures::{app, eventually, fault_paths, integration, with};

const TRACKER: &str = "/api/v1/integrations/tracker";
const PEOPLE: &str = "/api/v1/apps/tracker/collections/people";

/// A vendor that gives people two by two, and tags all at once.
struct Vendor {
    url: String,
    desk: Arc<Mutex<Desk>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Desk {
    people: Vec<Value>,
    tags: Vec<Value>,
    /// What was asked for: `since after`.
    asked: Vec<String>,
    /// Whoever asks for this page next waits.
    hold: Option<(String, Arc<Notify>)>,
}

impl Vendor {
    async fn start(people: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let desk = Arc::new(Mutex::new(Desk { people: people.to_vec(), ..Desk::default() }));
        let router =
            Router::new().route("/people", get(people_from)).route("/tags", get(tags_from)).with_state(Arc::clone(&desk));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { url, desk, serving }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("no panic")
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.desk().asked)
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Given = Query<BTreeMap<String, String>>;

async fn people_from(State(desk): State<Arc<Mutex<Desk>>>, Query(given): Given) -> Json<Value> {
    let text = |name: &str| given.get(name).cloned().unwrap_or_default();
    let (since, after) = (text("since"), text("after"));
    let held = {
        let mut desk = desk.lock().expect("no panic");
        desk.asked.push(format!("{since} {after}").trim().to_owned());
        desk.hold.take_if(|(page, _)| *page == after)
    };
    if let Some((_, release)) = held {
        release.notified().await;
    }
    let desk = desk.lock().expect("no panic");
    let found: Vec<_> = desk.people.iter().filter(|person| person["at"].as_str() >= Some(since.as_str())).cloned().collect();
    let from = after.parse::<usize>().unwrap_or(0);
    let next = (found.len() > from + 2).then(|| (from + 2).to_string());
    Json(json!({ "items": found.iter().skip(from).take(2).collect::<Vec<_>>(), "next": next }))
}

async fn tags_from(State(desk): State<Arc<Mutex<Desk>>>) -> Json<Value> {
    Json(json!(desk.lock().expect("no panic").tags))
}

fn person(id: u32, name: &str, day: u32) -> Value {
    json!({ "id": id, "at": format!("2026-01-{day:02}T00:00:00Z"), "properties": { "name": name } })
}

fn manifest(vendor: &Vendor, more: Value) -> Value {
    let (text, unique) = (
        |name: &str| json!({ "name": name, "type": "text" }),
        json!([{ "columns": ["connection_id", "external_id"], "unique": true }]),
    );
    let own = [text("external_id"), text("connection_id"), text("name")];
    let string = json!({ "type": "string" });
    let base = json!({
        "appId": "tracker", "name": "Tracker", "type": "integration",
        "userAuth": { "type": "credentials", "schema": { "type": "object", "properties": { "key": string } } },
        "http": { "baseUrl": vendor.url, "auth": { "type": "bearer", "token": "{{ credentials.key }}" } },
        "actions": [
            {
                "id": "list_people", "name": "People", "effect": "read",
                "inputSchema": { "type": "object", "properties": { "since": string, "after": string } },
                "recipe": { "method": "GET", "path": "/people", "query": { "since": "{{ input.since }}", "after": "{{ input.after }}" } },
            },
            { "id": "list_tags", "name": "Tags", "effect": "read", "recipe": { "method": "GET", "path": "/tags" } },
        ],
        "dataContract": [
            { "entityName": "people", "fields": own, "indexes": unique },
            { "entityName": "tags", "fields": own, "indexes": unique },
        ],
        "syncs": [
            {
                "name": "people", "action": "list_people", "every": "15 minutes", "entity": "people", "records": "/items",
                "page": { "input": "after", "output": "/next" }, "cursor": { "input": "since", "field": "/at" },
                "fields": { "name": "/properties/name" },
            },
            { "name": "tags", "action": "list_tags", "every": "1 hour", "entity": "tags", "deletions": "missing", "onDisconnect": "delete" },
        ],
    });
    with(base, more)
}

async fn server() -> TestServer {
    TestServer::start_with(ServeArgs { egress_allow: vec!["127.0.0.0/8".to_owned()], ..ServeArgs::default() }).await
}

async fn connect(api: &Api, label: &str) -> String {
    let body = json!({ "label": label, "credentials": { "key": format!("key-of-{label}") } });
    api.post(&format!("{TRACKER}/auth/credentials"), body).await.expect(200).text("/connectionId")
}

/// A sync as soon as it is like this.
async fn sync(api: &Api, integration: &str, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/api/v1/integrations/{integration}/syncs");
    let what = format!("the sync {name} is as it should be");
    eventually(&what, async || {
        let listed = api.get(&path).await.expect(200).json;
        let found = listed.as_array().expect("a list").iter().find(|sync| sync["name"] == name).cloned();
        found.filter(|sync| is(sync))
    })
    .await
}

fn done(runs: i64) -> impl Fn(&Value) -> bool {
    move |sync| sync["runs"] == runs && sync["running"] == false && sync["error"].is_null() && !sync["succeededAt"].is_null()
}

async fn tell(api: &Api, sync: &Value, what: &str) {
    let (app, id) = (sync["integrationId"].as_str().expect("a name"), sync["id"].as_str().expect("an id"));
    api.post(&format!("/api/v1/integrations/{app}/syncs/{id}/{what}"), json!({})).await.expect(200);
}

/// A sync of five people that waits for the second page until it is released.
async fn held_at_the_second_page(server: &TestServer) -> (Vendor, Api, Arc<Notify>) {
    let people: Vec<_> = (1..=5).map(|id| person(id, &format!("p{id}"), id)).collect();
    let vendor = Vendor::start(&people).await;
    let admin = server.user("admin").await;
    let more = manifest(&vendor, json!({}));
    let only_people = json!({ "syncs": [more["syncs"][0]] });
    admin.post("/api/v1/apps", with(more, only_people)).await.expect(200);
    let release = Arc::new(Notify::new());
    vendor.desk().hold = Some(("2".to_owned(), Arc::clone(&release)));
    connect(&admin, "main").await;
    eventually("it waits for the second page", async || vendor.desk().hold.is_none().then_some(())).await;
    (vendor, admin, release)
}

async fn names(api: &Api, entity: &str) -> Vec<String> {
    let listed = api.get(&format!("/api/v1/apps/tracker/collections/{entity}")).await.expect(200).json;
    let records = listed.as_array().or_else(|| listed["data"].as_array()).cloned().expect("records");
    let mut names: Vec<_> = records.iter().map(|record| record["name"].as_str().unwrap_or("-").to_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn records_follow_the_vendor_page_by_page_then_only_what_changed_and_go_when_it_has_them_no_more() {
    let server = server().await;
    let vendor = Vendor::start(&[person(1, "Ann", 1), person(2, "Bob", 3), person(3, "Cid", 2)]).await;
    vendor.desk().tags =
        vec![json!({ "id": "a", "name": "blue" }), json!({ "id": "b", "name": "red" }), json!({ "id": "c", "name": 7 })];
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", manifest(&vendor, json!({}))).await.expect(200);
    assert_eq!(admin.get(&format!("{TRACKER}/syncs")).await.expect(200).json, json!([]), "nobody is connected");
    let hook = json!({ "entity": "people", "operation": "UPDATE", "action_type": "job" });
    admin.post("/api/v1/apps/tracker/hooks", hook).await.expect(200);

    let connection = connect(&admin, "main").await;
    let people = sync(&admin, "tracker", "people", done(1)).await;
    assert_eq!((&people["counts"]["created"], &people["cursor"]), (&json!(3), &json!("2026-01-03T00:00:00Z")));
    assert_eq!((&people["connectionId"], &people["connectionLabel"]), (&json!(connection), &json!("main")));
    assert_eq!(
        (names(&admin, "people").await, vendor.asked()),
        (vec!["Ann".into(), "Bob".into(), "Cid".into()], vec![String::new(), "2".into()])
    );
    let tags = sync(&admin, "tracker", "tags", done(1)).await;
    assert_eq!((&tags["counts"]["created"], &tags["counts"]["rejected"]), (&json!(2), &json!(1)));
    assert!(tags["counts"]["rejection"].as_str().is_some_and(|why| why.starts_with("c: $.name: must be a text")), "{tags}");

    {
        let mut desk = vendor.desk();
        desk.people = vec![person(1, "Ann", 1), person(2, "Bob", 3), person(3, "Cis", 4), person(4, "Dan", 5)];
        desk.tags.remove(0);
    }
    server.advance(Duration::minutes(16));
    let admin = server.login("admin@example.com").await;
    let people = sync(&admin, "tracker", "people", done(2)).await;
    let counts = |sync: &Value| ["created", "updated", "deleted"].map(|kind| sync["counts"][kind].as_i64());
    assert_eq!(counts(&people), [Some(1), Some(1), Some(0)], "what has not changed is left alone");
    assert_eq!(vendor.asked(), ["2026-01-03T00:00:00Z", "2026-01-03T00:00:00Z 2"]);
    let audit = admin.get("/api/v1/audit").await.expect(200).json;
    let changes = audit.as_array().cloned().unwrap_or_default();
    let synced = changes.iter().filter(|change| change["table_name"] == "people" && change["trigger_ref"] == "sync");
    assert_eq!(synced.count(), 5, "{audit}");
    let jobs = eventually("the hook has heard of it", async || {
        let jobs = admin.get("/api/v1/apps/tracker/jobs").await.expect(200).json;
        jobs.as_array().filter(|jobs| !jobs.is_empty()).cloned()
    });
    assert_eq!(jobs.await.len(), 1);
    tell(&admin, &tags, "run").await;
    assert_eq!(counts(&sync(&admin, "tracker", "tags", done(2)).await), [Some(0), Some(0), Some(1)]);
    assert_eq!(names(&admin, "tags").await, ["red"]);

    let other = server.user("other").await;
    assert_eq!(other.get(&format!("{TRACKER}/syncs")).await.expect(200).json, json!([]));
    let run = format!("{TRACKER}/syncs/{}/run", people["id"].as_str().expect("an id"));
    other.post(&run, json!({})).await.expect(404);
    tell(&admin, &people, "pause").await;
    let paused = sync(&admin, "tracker", "people", |sync| sync["status"] == "paused").await;
    assert!(paused["nextRunAt"].is_null());
    tell(&admin, &people, "reset").await;
    sync(&admin, "tracker", "people", done(3)).await;
    assert_eq!(vendor.asked(), ["", "2"], "from the beginning");

    admin.delete(&format!("{TRACKER}/connections/{connection}")).await.expect(200);
    assert_eq!(admin.get(&format!("{TRACKER}/syncs")).await.expect(200).json, json!([]));
    server.advance(Duration::hours(2));
    let admin = server.login("admin@example.com").await;
    eventually("records go with their connection where the manifest says so", async || {
        names(&admin, "tags").await.is_empty().then_some(())
    })
    .await;
    assert_eq!(admin.get(PEOPLE).await.expect(200).value("/0/connection_id"), json!(connection), "others stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_lacks_most_of_what_was_there_deletes_nothing_before_somebody_agrees() {
    let server = server().await;
    let vendor = Vendor::start(&[]).await;
    let tags: Vec<_> = (0..30).map(|number| json!({ "id": number, "name": format!("tag {number}") })).collect();
    vendor.desk().tags.clone_from(&tags);
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", manifest(&vendor, json!({}))).await.expect(200);
    connect(&admin, "main").await;
    let found = sync(&admin, "tracker", "tags", done(1)).await;
    assert_eq!(found["counts"]["created"], 30);

    vendor.desk().tags.clear();
    tell(&admin, &found, "run").await;
    let stopped = sync(&admin, "tracker", "tags", |sync| sync["status"] == "stopped").await;
    assert_eq!(stopped["error"]["code"], "too_many_deletions");
    assert!(stopped["error"]["message"].as_str().is_some_and(|why| why.contains("lacks 30 of 30 records")), "{stopped}");
    assert_eq!(names(&admin, "tags").await.len(), 30);
    // The vendor is well again, and has lost a few.
    vendor.desk().tags.extend_from_slice(&tags[..25]);
    tell(&admin, &stopped, "resume").await;
    let deleted = sync(&admin, "tracker", "tags", |sync| sync["running"] == false && sync["counts"]["deleted"] == 5).await;
    assert!(deleted["error"].is_null(), "{deleted}");

    vendor.desk().tags.clear();
    tell(&admin, &found, "run").await;
    sync(&admin, "tracker", "tags", |sync| sync["status"] == "stopped").await;
    tell(&admin, &found, "run?confirmDeletions=true").await;
    sync(&admin, "tracker", "tags", |sync| sync["counts"]["deleted"] == 25 && sync["running"] == false).await;
    assert!(names(&admin, "tags").await.is_empty());
    // That counted once.
    vendor.desk().tags.clone_from(&tags);
    tell(&admin, &found, "run").await;
    sync(&admin, "tracker", "tags", |sync| sync["counts"]["created"] == 30 && sync["running"] == false).await;
    vendor.desk().tags.clear();
    tell(&admin, &found, "run").await;
    sync(&admin, "tracker", "tags", |sync| sync["status"] == "stopped").await;
    assert_eq!(names(&admin, "tags").await.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_a_sync_belongs_to_says_what_it_asks_for() {
    let server = server().await;
    let vendor = Vendor::start(&[person(1, "Ann", 1), person(2, "Bob", 3)]).await;
    let admin = server.user("admin").await;
    let mut syncs = json!([manifest(&vendor, json!({}))["syncs"][0]]);
    syncs[0]["autoStart"] = json!(false);
    syncs[0].as_object_mut().expect("a sync").remove("cursor");
    syncs[0]["deletions"] = json!("missing");
    syncs[0]["input"] = json!({ "since": "2026-01-02" });
    admin.post("/api/v1/apps", manifest(&vendor, json!({ "syncs": syncs }))).await.expect(200);
    connect(&admin, "main").await;
    let found = sync(&admin, "tracker", "people", |sync| sync["status"] == "paused").await;
    assert_eq!(found["input"], json!({}));
    let path = format!("{TRACKER}/syncs/{}/input", found["id"].as_str().expect("an id"));

    let refused = admin.put(&path, json!({ "after": "2" })).await.expect(400);
    assert_eq!(refused.value("/errors/0/path"), json!("$.after"), "{refused:?}");
    assert_eq!(admin.put(&path, json!({ "since": 5 })).await.expect(400).value("/errors/0/path"), json!("$.since"));
    assert_eq!(admin.put(&path, json!({ "since": "x".repeat(20_000) })).await.expect(400).value("/errors/0/path"), json!("$"));
    server.user("other").await.put(&path, json!({ "since": "2026-01-01" })).await.expect(404);
    let set = admin.put(&path, json!({ "since": "2026-01-03" })).await.expect(200).json;
    assert_eq!(
        (&set["input"], &set["status"]),
        (&json!({ "since": "2026-01-03" }), &json!("paused")),
        "it waits until it is let go on"
    );
    assert!(vendor.asked().is_empty());
    tell(&admin, &found, "resume").await;
    sync(&admin, "tracker", "people", done(1)).await;
    assert_eq!((vendor.asked(), names(&admin, "people").await), (vec!["2026-01-03".to_owned()], vec!["Bob".to_owned()]));

    // The same once more is no other question; an empty object leaves what the manifest says.
    admin.put(&path, json!({ "since": "2026-01-03" })).await.expect(200);
    admin.put(&path, json!({})).await.expect(200);
    sync(&admin, "tracker", "people", done(2)).await;
    assert_eq!(vendor.asked(), ["2026-01-02"]);

    // Whose it is does not suffice: it is asked by calling the action.
    let user = server.user("user").await;
    server.grant(&admin, &user, &["integration:tracker:list_tags"]).await;
    connect(&user, "mine").await;
    let found = sync(&user, "tracker", "people", |sync| sync["status"] == "paused").await;
    let path = format!("{TRACKER}/syncs/{}/input", found["id"].as_str().expect("an id"));
    let denied = user.put(&path, json!({ "since": "2026-01-01" })).await.expect(403);
    assert!(denied.text("/error").contains("integration:tracker:list_people"), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_agreed_to_deletions_did_so_for_the_question_that_was_asked_then() {
    let server = server().await;
    let people: Vec<_> = (1..=30).map(|day| person(day, &format!("Person {day}"), day)).collect();
    let vendor = Vendor::start(&people).await;
    let admin = server.user("admin").await;
    let mut syncs = json!([manifest(&vendor, json!({}))["syncs"][0]]);
    syncs[0].as_object_mut().expect("a sync").remove("cursor");
    syncs[0]["deletions"] = json!("missing");
    admin.post("/api/v1/apps", manifest(&vendor, json!({ "syncs": syncs }))).await.expect(200);
    connect(&admin, "main").await;
    let found = sync(&admin, "tracker", "people", done(1)).await;
    tell(&admin, &found, "pause").await;
    tell(&admin, &found, "run?confirmDeletions=true").await;
    let path = format!("{TRACKER}/syncs/{}/input", found["id"].as_str().expect("an id"));
    admin.put(&path, json!({ "since": "2026-01-29" })).await.expect(200);
    tell(&admin, &found, "resume").await;
    let stopped = sync(&admin, "tracker", "people", |sync| sync["status"] == "stopped").await;
    assert_eq!((&stopped["error"]["code"], names(&admin, "people").await.len()), (&json!("too_many_deletions"), 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vendor_marks_as_deleted_goes_while_only_what_changed_is_read() {
    let server = server().await;
    let vendor = Vendor::start(&[person(1, "Ann", 1), person(2, "Bob", 2), person(3, "Cid", 3)]).await;
    let admin = server.user("admin").await;
    let mut syncs = json!([manifest(&vendor, json!({}))["syncs"][0]]);
    syncs[0]["deletions"] = json!({ "flagged": { "at": "/properties/state", "is": "gone" } });
    let mut contract = manifest(&vendor, json!({}))["dataContract"].clone();
    contract[0]["fields"][2]["unique"] = json!(true);
    contract[1]["fields"] =
        json!([{ "name": "about", "type": "entity_link", "references": { "entity": "people" }, "required": true }]);
    contract[1]["indexes"] = json!([]);
    admin.post("/api/v1/apps", manifest(&vendor, json!({ "syncs": syncs, "dataContract": contract }))).await.expect(200);
    connect(&admin, "main").await;
    let found = sync(&admin, "tracker", "people", done(1)).await;

    let marked =
        |id: u32, state: &str, day: u32| with(person(id, "x", day), json!({ "properties": { "name": "x", "state": state } }));
    // One is gone, and another has its name now; one says something else there, and one that is gone was never seen.
    vendor.desk().people =
        vec![person(4, "Ann", 4), marked(1, "gone", 4), marked(2, "kept", 4), person(3, "Cid", 3), marked(9, "gone", 4)];
    tell(&admin, &found, "run").await;
    let found = sync(&admin, "tracker", "people", done(2)).await;
    assert_eq!(["created", "updated", "deleted"].map(|kind| found["counts"][kind].as_i64()), [Some(1), Some(1), Some(1)]);
    assert_eq!(names(&admin, "people").await, ["Ann", "Cid", "x"]);
    // It comes back, and one may not go, because something refers to it.
    let listed = admin.get(PEOPLE).await.expect(200).json;
    let bob = listed.as_array().into_iter().flatten().find(|person| person["external_id"] == "2");
    let about = bob.and_then(|bob| bob["id"].as_str()).expect("an id").to_owned();
    admin.post("/api/v1/apps/tracker/collections/tags", json!({ "about": about })).await.expect(201);
    admin.delete(&format!("{PEOPLE}/{about}")).await.expect(409);
    vendor.desk().people = vec![person(1, "Ada", 5), marked(2, "gone", 5), marked(4, "gone", 5)];
    tell(&admin, &found, "run").await;
    let found = sync(&admin, "tracker", "people", done(3)).await;
    let counts = ["created", "deleted", "rejected"].map(|kind| found["counts"][kind].as_i64());
    assert_eq!(counts, [Some(1), Some(1), Some(1)], "{found}");
    assert_eq!(names(&admin, "people").await, ["Ada", "Cid", "x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_its_turn_in_the_middle_of_a_page_writes_nothing_and_whoever_comes_goes_on_there() {
    let server = server().await;
    let (vendor, admin, release) = held_at_the_second_page(&server).await;
    assert_eq!(names(&admin, "people").await, ["p1", "p2"], "the first page is kept");

    // What a server that is gone leaves: a lease that is over.
    let database = PgPool::connect(&server.database.url).await.expect("the database answers");
    let lost = "update queue_messages set visible_at = $1 where state = 2 and lane = 'default/tracker:polls'";
    sqlx::query(lost).bind(server.clock.now() - Duration::seconds(1)).execute(&database).await.expect("done");
    let (second, _data_dir) = server.second_node().await;
    sync(&admin, "tracker", "people", done(1)).await;
    release.notify_one();
    assert_eq!(vendor.asked(), ["", "2", "2", "4"], "a page at most is asked for twice");
    assert_eq!(names(&admin, "people").await, ["p1", "p2", "p3", "p4", "p5"]);

    server.advance(Duration::minutes(15));
    let admin = server.login("admin@example.com").await;
    sync(&admin, "tracker", "people", done(2)).await;
    assert_eq!(vendor.asked(), ["2026-01-05T00:00:00Z"], "two servers ask once");
    let changes = "select count(*) from data_audit where app_id = 'tracker' and entity = 'people'";
    let changes: i64 = sqlx::query_scalar(changes).fetch_one(&database).await.expect("a count");
    assert_eq!(changes, 5, "nothing was written twice");
    database.close().await;
    second.stop().await.expect("the second node stops in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_asked_for_while_one_is_at_work_is_that_one() {
    let server = server().await;
    let (vendor, admin, release) = held_at_the_second_page(&server).await;

    let at_work = sync(&admin, "tracker", "people", |sync| sync["running"] == true).await;
    tell(&admin, &at_work, "run").await;
    release.notify_one();
    let after = sync(&admin, "tracker", "people", done(1)).await;
    let next: DateTime<Utc> = serde_json::from_value(after["nextRunAt"].clone()).expect("a time");
    assert!(next > server.clock.now(), "no other one is due: {after}");
    assert_eq!(names(&admin, "people").await, ["p1", "p2", "p3", "p4", "p5"]);
    let asked = vendor.asked();
    assert_eq!(asked.iter().filter(|page| page.is_empty()).count(), 1, "it began once: {asked:?}");
    assert!(asked.iter().all(|page| ["", "2", "4"].contains(&page.as_str())), "and no other began: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_on_the_way_and_a_connection_that_was_taken_back_stops_its_syncs_until_it_is_made_again() {
    let (server, vendor) = (server().await, FakeVendor::start().await);
    let admin = server.user("admin").await;
    let fields =
        json!({ "clientId": { "type": "string" }, "clientSecret": { "platformSecret": "S" }, "url": { "type": "string" } });
    let text = |name: &str| json!({ "name": name, "type": "text" });
    let accounts = json!([{ "entityName": "accounts", "access": "owner", "fields": [text("external_id"), text("connection_id"), text("account")],
        "indexes": [{ "columns": ["external_id", "connection_id"], "unique": true }] }]);
    let syncs = json!([{ "name": "accounts", "action": "list", "every": "1 day", "entity": "accounts", "id": "/account" }]);
    let more = json!({ "userAuth": vendor.user_auth(), "configSchema": { "properties": fields, "required": ["clientId", "clientSecret"] },
        "dataContract": accounts, "syncs": syncs });
    let backend = "defineIntegration({ actions: { list: async (_, ctx) => {
        const response = await fetch(ctx.config.url, { headers: { authorization: `Bearer ${ctx.userCredentials.accessToken}` } });
        if (!response.ok) throw new ActionError('refused', { code: `http_${response.status}`, category: 'Auth' });
        return [await response.json()];
    } } })";
    server.deploy(&admin, &with(integration("mail", &["list"]), more), backend).await;
    let config = json!({ "clientId": FakeVendor::CLIENT, "clientSecret": FakeVendor::SECRET, "url": vendor.url("/me") });
    admin.put("/api/v1/integrations/mail/config", config).await.expect(200);
    let go = async |api: &Api| {
        let started = api.post("/api/v1/integrations/mail/auth/start", json!({})).await.expect(200).text("/url");
        server.anonymous().get(&format!("{started}&login_hint=alice@vendor.example")).await.expect(200);
    };
    go(&admin).await;
    let first = sync(&admin, "mail", "accounts", done(1)).await;

    // A token that is seconds old would be refused for another reason.
    server.advance(Duration::minutes(1));
    vendor.expire_access();
    tell(&admin, &first, "run").await;
    sync(&admin, "mail", "accounts", done(2)).await;
    assert_eq!(vendor.requests("refresh_token").len(), 1);

    server.advance(Duration::minutes(1));
    vendor.forget("alice@vendor.example");
    tell(&admin, &first, "run").await;
    let stopped = sync(&admin, "mail", "accounts", |sync| sync["status"] == "stopped").await;
    assert_eq!((&stopped["error"]["category"], &stopped["nextRunAt"]), (&json!("Auth"), &Value::Null), "{stopped}");
    assert!(stopped["error"]["message"].as_str().is_some_and(|message| message.contains("onnect again")), "{stopped}");
    server.advance(Duration::hours(3));
    let admin = server.login("admin@example.com").await;
    assert_eq!(sync(&admin, "mail", "accounts", |_| true).await["runs"], 2, "nobody is asked meanwhile");
    go(&admin).await;
    let again = sync(&admin, "mail", "accounts", done(3)).await;
    assert_eq!((&again["status"], &again["failures"]), (&json!("active"), &json!(0)));
    let records = admin.get("/api/v1/apps/mail/collections/accounts").await.expect(200);
    assert_eq!(records.value("/0/account"), json!("alice@vendor.example"));
    let other = server.user("other").await;
    server.grant(&admin, &other, &["app:mail:accounts.read"]).await;
    assert_eq!(other.get("/api/v1/apps/mail/collections/accounts").await.expect(200).json, json!([]), "records have owners");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_learns_what_is_there_and_then_tells_of_each_new_thing_once_also_after_a_restart() {
    let mut server = server().await;
    let vendor = Vendor::start(&[person(1, "Ann", 1), person(2, "Bob", 2), person(3, "Cid", 3)]).await;
    let admin = server.user("admin").await;
    let trigger = json!([{ "name": "new_person", "action": "list_people", "every": "1 minute", "records": "/items",
        "page": { "input": "after", "output": "/next" }, "cursor": { "input": "since", "field": "/at" } }]);
    let installed = manifest(&vendor, json!({ "syncs": [], "triggers": trigger }));
    server.deploy(&admin, &installed, "serve({ rpc: {}, onJob: (told, caller) => ({ told, by: caller.email }) })").await;
    let database = PgPool::connect(&server.database.url).await.expect("the database answers");
    // Somebody who reads late, so that no event is removed.
    sqlx::query("insert into event_consumers (name) values ('late')").execute(&database).await.expect("done");
    let connection = connect(&admin, "main").await;
    let crm = with(app("crm"), json!({}));
    server.deploy(&admin, &crm, "serve({ rpc: {}, onJob: (told) => told.item.id })").await;
    let binding = |trigger: &str| json!({ "integrationId": "tracker", "connectionId": connection, "triggers": [trigger] });
    admin.post("/api/v1/apps/crm/integrations", binding("gone")).await.expect(400);
    admin.post("/api/v1/apps/crm/integrations", binding("new_person")).await.expect(200);
    let seeded = sync(&admin, "tracker", "new_person", done(1)).await;
    assert_eq!((&seeded["kind"], &seeded["counts"]["created"]), (&json!("trigger"), &json!(0)));

    vendor.desk().people.extend([person(4, "Dan", 5), person(5, "Eve", 6)]);
    server.advance(Duration::minutes(2));
    sync(&admin, "tracker", "new_person", done(2)).await;
    server.restart().await;
    vendor.desk().people.push(person(6, "Fay", 6));
    server.advance(Duration::minutes(2));
    let admin = server.login("admin@example.com").await;
    sync(&admin, "tracker", "new_person", done(3)).await;
    let jobs = eventually("three jobs are over", async || {
        let jobs = admin.get("/api/v1/apps/tracker/jobs?archived=true").await.expect(200).json;
        jobs.as_array().filter(|jobs| jobs.len() >= 3).cloned()
    })
    .await;
    let mut told = Vec::new();
    for job in jobs.iter().rev() {
        let job = admin.get(&format!("/api/v1/apps/tracker/jobs/{}", job["msg_id"])).await.expect(200);
        assert_eq!(job.value("/result/by"), json!("admin@example.com"), "{job:?}");
        told.push(job.value("/result/told"));
    }
    let items: Vec<_> = told.iter().map(|told| told["item"]["properties"]["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(items, ["Dan", "Eve", "Fay"], "in order, once each");
    assert_eq!(
        (&told[0]["type"], &told[0]["trigger"], &told[0]["connectionId"]),
        (&json!("trigger"), &json!("new_person"), &json!(connection))
    );
    eventually("the app that is bound has heard of them", async || {
        let jobs = admin.get("/api/v1/apps/crm/jobs?archived=true").await.expect(200).json;
        (jobs.as_array().map(Vec::len) == Some(3)).then_some(())
    })
    .await;
    let events = "select count(*) from events where kind = 'trigger' and subject = 'tracker/new_person'";
    let events: i64 = sqlx::query_scalar(events).fetch_one(&database).await.expect("a count");
    assert_eq!(events, 3);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_trigger_is_a_hook_that_is_there_once_and_goes_with_it() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let agent = |on: Value| {
        with(app("helper"), json!({ "type": "agent", "trigger": { "appId": "crm", "entity": "contacts", "on": on } }))
    };
    let early = admin.post("/api/v1/apps", agent(json!(["insert"]))).await;
    assert_eq!((early.status, fault_paths(&early)), (400, vec!["$.trigger.appId".to_owned()]), "{early:?}");
    let contacts = json!([{ "entityName": "contacts", "fields": [{ "name": "name", "type": "text" }] }]);
    admin.post("/api/v1/apps", with(app("crm"), json!({ "dataContract": contacts }))).await.expect(200);
    admin.post("/api/v1/apps", agent(json!(["insert", "update"]))).await.expect(200);
    let hooks = async || {
        let listed = admin.get("/api/v1/apps/crm/hooks").await.expect(200).json;
        let mut hooks = listed.as_array().cloned().expect("a list");
        hooks.sort_by_key(|hook| hook["operation"].to_string());
        hooks
    };
    let first = hooks().await;
    assert_eq!(first.iter().map(|hook| hook["operation"].clone()).collect::<Vec<_>>(), [json!("INSERT"), json!("UPDATE")]);
    assert_eq!((&first[0]["action_type"], &first[0]["action_config"]), (&json!("agent"), &json!({ "app_id": "helper" })));
    assert_eq!(first[0]["created_by"], admin.get("/api/v1/auth/me").await.value("/id"));
    admin.post("/api/v1/apps", agent(json!(["update", "delete"]))).await.expect(200);
    let second = hooks().await;
    assert_eq!(second.iter().map(|hook| hook["operation"].clone()).collect::<Vec<_>>(), [json!("DELETE"), json!("UPDATE")]);
    assert_eq!(second[1]["id"], first[1]["id"], "it is the same as before");
    admin.delete("/api/v1/apps/helper").await.expect(200);
    assert_eq!(hooks().await, Vec::<Value>::new());
}
