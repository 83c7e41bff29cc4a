//! Hooks: made and changed over HTTP, set off by changes of records, and their jobs.

use serde_json::{Value, json};
use weft_testkit::{Api, TestServer};

use crate::{
    fixtures::{app, eventually, fault_paths, with},
    oauth::Account,
};

const HOOKS: &str = "/api/v1/apps/crm/hooks";
const CONTACTS: &str = "/api/v1/apps/crm/collections/contacts";
const JOBS: &str = "/api/v1/apps/crm/jobs";
/// Says what it got.
const BACKEND: &str = "serve({ onJob: (payload, caller) => ({ payload, by: caller.email }) });";

fn manifest() -> Value {
    let fields = json!([
        { "name": "name", "type": "text", "unique": true },
        { "name": "stage", "type": "text" },
        { "name": "score", "type": "number" },
    ]);
    let note = json!([{ "name": "text", "type": "text" }]);
    let contract = json!([
        { "entityName": "contacts", "fields": fields },
        { "entityName": "notes", "access": "owner", "fields": note },
    ]);
    with(app("crm"), json!({ "dataContract": contract }))
}

async fn started() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    (server, admin)
}

fn on(operation: &str) -> Value {
    json!({ "entity": "contacts", "operation": operation, "action_type": "job" })
}

async fn hook(api: &Api, body: Value) -> Value {
    api.post(HOOKS, body).await.expect(200).json
}

async fn contact(api: &Api, body: Value) -> Value {
    api.post(CONTACTS, body).await.expect(201).json
}

fn id(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

/// Every job that is over, oldest first, once there are so many.
async fn jobs(api: &Api, count: usize) -> Vec<Value> {
    eventually(&format!("{count} jobs are over"), async || {
        let listed = api.get(&format!("{JOBS}?archived=true&limit=1000")).await.expect(200).json;
        let mut jobs = listed.as_array().expect("a list").clone();
        jobs.reverse();
        (jobs.len() >= count).then_some(jobs)
    })
    .await
}

/// Changes something that a hook is about, and returns the jobs of everything before it.
async fn jobs_until_now(api: &Api) -> Vec<Value> {
    let marker =
        hook(api, with(on("INSERT"), json!({ "where": { "name": "the end" }, "action_config": { "marks": true } }))).await;
    let end = contact(api, json!({ "name": "the end" })).await;
    let is_marker = |job: &Value| job["payload"]["hook_id"] == marker["id"];
    // Jobs of other records may take longer than the last.
    let mut jobs = eventually("the last change has its job, and all are over", async || {
        let open = api.get(JOBS).await.expect(200).json;
        let jobs = jobs(api, 0).await;
        (open == json!([]) && jobs.iter().any(is_marker)).then_some(jobs)
    })
    .await;
    jobs.retain(|job| !is_marker(job) && job["payload"]["record_id"] != end["id"]);
    api.delete(&format!("{HOOKS}/{}", id(&marker))).await.expect(200);
    api.delete(&format!("{CONTACTS}/{}", id(&end))).await.expect(200);
    jobs
}

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_change_gives_a_job_with_the_record_before_and_after_as_whoever_made_the_hook() {
    let (server, admin) = started().await;
    let config = json!({ "queue": "x" });
    let mut hooks = Vec::new();
    for operation in ["insert", "Update", "DELETE"] {
        hooks.push(hook(&admin, with(on(operation), json!({ "action_config": config }))).await);
    }
    let me = admin.get("/api/v1/auth/me").await.expect(200).text("/id");
    let expected = json!({ "app_id": "crm", "entity": "contacts", "operation": "UPDATE", "action_type": "job", "action_config": config,
        "active": true, "created_by": me });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&hooks[1][name], value, "{name}");
    }
    let created = contact(&admin, json!({ "name": "Ann", "stage": "lead" })).await;
    let path = format!("{CONTACTS}/{}", id(&created));
    let changed = admin.patch(&path, json!({ "stage": "customer" })).await.expect(200).json;
    admin.delete(&path).await.expect(200);
    // What comes to nothing sets nothing off.
    admin.post(&format!("{CONTACTS}/bulk"), json!([{ "name": "Bob" }, { "name": "Bob" }])).await.expect(409);
    let ended = jobs_until_now(&admin).await;
    let states = [(Value::Null, created.clone()), (created.clone(), changed.clone()), (changed, Value::Null)];
    assert_eq!(ended.len(), 3, "{ended:?}");
    for ((job, hook), (before, after)) in ended.iter().zip(&hooks).zip(states) {
        let payload = json!({ "_hook": true, "hook_id": hook["id"], "entity": "contacts", "operation": hook["operation"],
            "record_id": created["id"], "record": after, "old_record": before, "action_type": "job", "action_config": config });
        assert_eq!(job["payload"], payload);
        assert_eq!(job["result"], json!({ "payload": payload, "by": "admin@example.com" }));
    }
    // What cascades, and what somebody does at the database, are changes like others.
    server.database.execute("insert into crm.contacts (name) values ('by hand')").await;
    eventually("what somebody does at the database is heard", async || {
        jobs(&admin, 0).await.into_iter().find(|job| job["payload"]["record"]["name"] == "by hand")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_hears_of_certain_fields_and_certain_records_only() {
    let (_server, admin) = started().await;
    let created = contact(&admin, json!({ "name": "Ann", "stage": "lead", "score": 1 })).await;
    let fields = hook(&admin, with(on("UPDATE"), json!({ "changed_fields": ["stage"] }))).await;
    let clause = json!({ "score": { "$gte": 10 }, "stage": { "$in": ["lead", "customer"] } });
    let records = hook(&admin, with(on("UPDATE"), json!({ "where": clause }))).await;
    assert_eq!((&fields["changed_fields"], &records["where"]), (&json!(["stage"]), &clause));
    let path = format!("{CONTACTS}/{}", id(&created));
    for change in [json!({ "score": 5 }), json!({ "score": 10 }), json!({ "stage": "customer" }), json!({ "stage": "lost" })] {
        admin.patch(&path, change).await.expect(200);
    }
    let jobs = jobs_until_now(&admin).await;
    let seen = |hook: &Value| -> Vec<String> {
        let of_hook = jobs.iter().filter(|job| job["payload"]["hook_id"] == hook["id"]);
        of_hook.map(|job| format!("{} {}", job["payload"]["record"]["score"], job["payload"]["record"]["stage"])).collect()
    };
    assert_eq!(seen(&fields), ["10 \"customer\"", "10 \"lost\""]);
    assert_eq!(seen(&records), ["10 \"lead\"", "10 \"customer\""]);
    // Both may be taken back.
    let change = json!({ "where": null });
    assert_eq!(admin.patch(&format!("{HOOKS}/{}", id(&records)), change).await.expect(200).value("/where"), Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hook_does_not_fit_is_refused_with_its_place() {
    let (_server, admin) = started().await;
    let refused = async |body: Value| fault_paths(&admin.post(HOOKS, body).await.expect(400));
    let wrong = json!({ "entity": "people", "operation": "UPSERT", "action_type": "mail" });
    assert_eq!(refused(wrong).await, ["$.action_type", "$.entity", "$.operation"]);
    let more = json!({ "changed_fields": ["size"], "where": { "size": 1 }, "action_config": [] });
    assert_eq!(refused(with(on("UPDATE"), more)).await, ["$.action_config", "$.changed_fields", "$.where.size"]);
    assert_eq!(refused(with(on("INSERT"), json!({ "changed_fields": ["stage"] }))).await, ["$.changed_fields"]);
    admin.get(&format!("{HOOKS}?operation=UPSERT")).await.expect(400);
    admin.get(&format!("{HOOKS}/none")).await.expect(400);
    admin.get("/api/v1/apps/other/hooks").await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_listed_newest_first_switched_off_and_removed() {
    let (_server, admin) = started().await;
    let first = hook(&admin, on("INSERT")).await;
    let second = hook(&admin, with(on("UPDATE"), json!({ "enabled": false }))).await;
    let ids = async |query: &str| -> Vec<String> {
        let list = admin.get(&format!("{HOOKS}{query}")).await.expect(200).json;
        list.as_array().expect("a list").iter().map(|hook| id(hook).to_owned()).collect()
    };
    assert_eq!(ids("").await, [id(&second), id(&first)]);
    assert_eq!(ids("?limit=1").await, [id(&second)]);
    assert_eq!(ids(&format!("?before={}", id(&second))).await, [id(&first)]);
    assert_eq!(ids("?entity=contacts&operation=update").await, [id(&second)]);
    assert_eq!(ids("?entity=notes").await, Vec::<String>::new());
    let path = format!("{HOOKS}/{}", id(&first));
    assert_eq!(admin.get(&path).await.expect(200).json, first);
    // What happens while it is switched off is nothing to it, then or later.
    admin.patch(&path, json!({ "active": false })).await.expect(200);
    contact(&admin, json!({ "name": "meanwhile" })).await;
    admin.patch(&path, json!({ "active": true })).await.expect(200);
    contact(&admin, json!({ "name": "after" })).await;
    let jobs = jobs_until_now(&admin).await;
    assert_eq!(jobs.iter().map(|job| &job["payload"]["record"]["name"]).collect::<Vec<_>>(), ["after"]);
    assert_eq!(admin.delete(&path).await.expect(200).json, json!({ "ok": true }));
    admin.delete(&path).await.expect(404);
    admin.get(&path).await.expect(404);
    let events = admin.get("/api/v1/audit/events?limit=200").await.expect(200).json;
    let said = events["data"].as_array().expect("a list").iter().map(|event| event["action"].as_str().unwrap_or_default());
    let said: Vec<_> = said.filter(|action| action.starts_with("hook.")).collect();
    assert!(said.contains(&"hook.created") && said.contains(&"hook.changed") && said.contains(&"hook.deleted"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_for_what_is_not_there_yet_are_kept_and_say_so() {
    let (_server, admin) = started().await;
    for action in ["agent", "workflow"] {
        let made = hook(&admin, with(on("INSERT"), json!({ "action_type": action }))).await;
        assert!(made["note"].as_str().is_some_and(|note| note.contains("not there")), "{made}");
    }
    contact(&admin, json!({ "name": "Ann" })).await;
    assert_eq!(jobs_until_now(&admin).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_needs_its_own_permission_and_that_to_read_and_is_not_found_by_others() {
    let (server, admin) = started().await;
    let user = server.user("ann").await;
    user.post(HOOKS, on("INSERT")).await.expect(403);
    server.grant(&admin, &user, &["app:crm:hook.read", "app:crm:hook.write"]).await;
    let refusal = user.post(HOOKS, on("INSERT")).await.expect(403);
    assert_eq!(refusal.value("/requires/0"), "app:crm:contacts.read", "a hook sees what it is about");
    server.grant(&admin, &user, &["app:crm:hook.read", "app:crm:hook.write", "app:crm:contacts.read", "app:crm:invoke"]).await;
    let made = hook(&user, on("INSERT")).await;
    let others = hook(&admin, on("INSERT")).await;
    assert_eq!(user.get(HOOKS).await.expect(200).json.as_array().map(Vec::len), Some(1), "one's own");
    assert_eq!(admin.get(HOOKS).await.expect(200).json.as_array().map(Vec::len), Some(2));
    for path in [format!("{HOOKS}/{}", id(&others))] {
        user.get(&path).await.expect(404);
        user.patch(&path, json!({ "active": false })).await.expect(404);
        user.delete(&path).await.expect(404);
    }
    let elsewhere = server.tenant(&admin, "elsewhere", "elsewhere").await;
    elsewhere.get(&format!("{HOOKS}/{}", id(&made))).await.expect(404);
    elsewhere.get(HOOKS).await.expect(404);
    elsewhere.post(HOOKS, on("INSERT")).await.expect(404);
    // What holds when the job is done, holds.
    server.grant(&admin, &user, &["app:crm:invoke"]).await;
    contact(&admin, json!({ "name": "Ann" })).await;
    let job = jobs(&admin, 2).await.into_iter().find(|job| job["payload"]["hook_id"] == made["id"]).expect("a job");
    assert_eq!(job["status"], "dead");
    assert!(job["error"].as_str().is_some_and(|error| error.contains("app:crm:contacts.read")), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_may_act_for_an_account_that_its_maker_may_act_as() {
    let (_server, admin) = started().await;
    let account = Account::create(&admin, "machine", &["app:crm:invoke", "app:crm:contacts.read"]).await;
    let body = with(on("INSERT"), json!({ "runAs": account.id }));
    admin.post(HOOKS, body.clone()).await.expect(403);
    let me = admin.get("/api/v1/auth/me").await.expect(200).text("/id");
    admin.post(&format!("/api/v1/service-accounts/{}/act-as", account.id), json!({ "userId": me })).await.expect(200);
    assert_eq!(hook(&admin, body).await["created_by"], account.id.as_str());
    contact(&admin, json!({ "name": "Ann" })).await;
    let job = jobs(&admin, 1).await.remove(0);
    assert_eq!((&job["status"], &job["user_id"]), (&json!("completed"), &json!(account.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_records_have_owners_a_hook_hears_of_those_that_its_maker_may_see() {
    let (server, admin) = started().await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    let rights = ["hook.read", "hook.write", "invoke", "notes.read", "notes.create"].map(|right| format!("app:crm:{right}"));
    let rights: Vec<_> = rights.iter().map(String::as_str).collect();
    for user in [&ann, &bob] {
        server.grant(&admin, user, &rights).await;
    }
    let of_ann = hook(&ann, with(on("INSERT"), json!({ "entity": "notes" }))).await;
    let of_all = hook(&admin, with(on("INSERT"), json!({ "entity": "notes" }))).await;
    for (user, text) in [(&bob, "bob's"), (&ann, "ann's")] {
        user.post("/api/v1/apps/crm/collections/notes", json!({ "text": text })).await.expect(201);
    }
    let jobs = jobs_until_now(&admin).await;
    let heard = |hook: &Value| -> Vec<&str> {
        let of_hook = jobs.iter().filter(|job| job["payload"]["hook_id"] == hook["id"] && job["status"] == "completed");
        of_hook.filter_map(|job| job["payload"]["record"]["text"].as_str()).collect()
    };
    assert_eq!((heard(&of_ann), heard(&of_all)), (vec!["ann's"], vec!["bob's", "ann's"]));
    assert_eq!(jobs.len(), 3, "and there is no refusal either");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_sets_itself_off_ends_with_a_dead_letter_however_its_job_writes() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let backend = "serve({ async onJob({ record: { id, score } }, caller, ctx) {
        if (score % 2) await ctx.collection('contacts').update({ id, score: score + 1 });
        else await ctx.sql('update contacts set score = score + 1 where id = $1', [id]);
        return score;
    } });";
    server.deploy(&admin, &manifest(), backend).await;
    let created = contact(&admin, json!({ "name": "Ann", "score": 0 })).await;
    hook(&admin, with(on("UPDATE"), json!({ "changed_fields": ["score"] }))).await;
    let path = format!("{CONTACTS}/{}", id(&created));
    admin.patch(&path, json!({ "score": 1 })).await.expect(200);
    let ended = jobs(&admin, 9).await;
    let of = |status: &str| ended.iter().filter(|job| job["status"] == status).collect::<Vec<_>>();
    let scores: Vec<_> = of("completed").iter().map(|job| job["result"].as_i64().unwrap_or_default()).collect();
    assert_eq!(scores, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(of("dead").len(), 1);
    assert!(of("dead")[0]["error"].as_str().is_some_and(|error| error.contains("a loop")), "{ended:?}");
    assert_eq!(admin.get(&path).await.expect(200).value("/score"), 9);
    // Somebody's next change begins anew.
    admin.patch(&path, json!({ "score": 21 })).await.expect(200);
    jobs(&admin, 18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_so_many_hooks_in_a_row_have_led_to_is_taken_for_a_loop() {
    let (server, admin) = started().await;
    hook(&admin, on("INSERT")).await;
    // As a hook's job at the end of a chain writes it.
    server
        .database
        .execute(
            "begin; select set_config('weft.audit', '{\"hops\": 7, \"tenant\": \"default\"}', true);
             insert into crm.contacts (name) values ('seventh'); commit;
             begin; select set_config('weft.audit', '{\"hops\": 8, \"tenant\": \"default\"}', true);
             insert into crm.contacts (name) values ('eighth'); commit;",
        )
        .await;
    let ended = jobs(&admin, 2).await;
    let of = |name: &str| ended.iter().find(|job| job["payload"]["record"]["name"] == name).expect("a job");
    assert_eq!(of("seventh")["status"], "completed");
    assert_eq!(of("eighth")["status"], "dead");
    assert!(of("eighth")["error"].as_str().is_some_and(|error| error.contains("a loop")), "{}", of("eighth"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_go_with_their_app_and_with_their_tenant() {
    let (server, admin) = started().await;
    let elsewhere = server.tenant(&admin, "elsewhere", "elsewhere").await;
    server.deploy(&elsewhere, &with(manifest(), json!({ "appId": "other" })), BACKEND).await;
    elsewhere.post("/api/v1/apps/other/hooks", on("INSERT")).await.expect(200);
    elsewhere.post("/api/v1/apps/other/collections/contacts", json!({ "name": "x" })).await.expect(201);
    hook(&admin, on("INSERT")).await;
    contact(&admin, json!({ "name": "Ann" })).await;
    jobs(&admin, 1).await;
    assert_eq!(server.database.count("hooks").await, 2);
    admin.delete("/api/v1/apps/crm").await.expect(200);
    admin.delete("/api/v1/tenants/elsewhere?confirm=elsewhere").await.expect(202);
    eventually("all is gone", async || {
        let left = server.database.count("hooks").await + server.database.count("event_interests").await;
        (left == 0).then_some(())
    })
    .await;
}
