//! Every kind of change leaves exactly its event, and what did not happen leaves none.

use std::collections::BTreeSet;

use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use weft_testkit::{Api, TestServer, server::PASSWORD};

use super::{EVENTS, actions, database, export, list, make_role, sql};
use crate::{
    fixtures::{app, eventually, integration, with},
    oauth::token,
    sign_on::{SignOn, alice as claims},
};

/// Reads along.
struct Witness {
    api: Api,
    last: i64,
    seen: BTreeSet<String>,
}

impl Witness {
    async fn new(api: &Api) -> Self {
        let last = list(api, "limit=1").await.first().and_then(|event| event["seq"].as_i64()).unwrap_or(0);
        Self { api: api.clone(), last, seen: BTreeSet::new() }
    }

    /// What was added since, oldest first.
    async fn added(&self) -> Vec<Value> {
        let mut events = list(&self.api, "limit=200").await;
        events.retain(|event| event["seq"].as_i64() > Some(self.last));
        events.reverse();
        events
    }

    /// Demands that these events, and no others, were added since it was asked last.
    #[track_caller]
    fn sees<'a>(&'a mut self, expected: &'a [&'a str]) -> impl Future<Output = Vec<Value>> + 'a {
        let place = std::panic::Location::caller();
        async move {
            let what = format!("{expected:?} at {place}");
            let added = eventually(&what, async || Some(self.added().await).filter(|added| added.len() >= expected.len())).await;
            assert_eq!(actions(&added), expected, "{place}");
            self.last = added.last().and_then(|event| event["seq"].as_i64()).unwrap_or(self.last);
            self.seen.extend(expected.iter().map(|action| (*action).to_owned()));
            added
        }
    }
}

async fn post(api: &Api, path: &str, body: Value) -> Value {
    let answer = api.post(path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
    answer.json
}

async fn delete(api: &Api, path: &str) {
    let answer = api.delete(path).await;
    assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn roles_and_people(api: &Api, log: &mut Witness) {
    let role = json!({ "name": "sales", "permissions": ["app:crm:*"] });
    post(api, "/api/v1/roles", role).await;
    log.sees(&["role.created"]).await;
    api.patch("/api/v1/roles/sales", json!({ "permissions": ["app:crm:invoke"] })).await.expect(200);
    let updated = log.sees(&["role.updated"]).await.remove(0);
    assert_eq!(updated["details"]["permissionsBefore"], json!(["app:crm:*"]), "what it was");
    let dora = json!({ "email": "dora@example.com", "password": "An0therPass!" });
    let dora = text(&post(api, "/api/v1/users", dora).await["user"]["id"]);
    log.sees(&["user.added"]).await;
    let assignment = json!({ "userId": dora, "role": "sales" });
    for _ in 0..2 {
        post(api, "/api/v1/roles/assign", assignment.clone()).await;
    }
    log.sees(&["role.assigned"]).await;
    post(api, "/api/v1/roles/revoke", assignment).await;
    log.sees(&["role.revoked"]).await;
    delete(api, "/api/v1/roles/sales").await;
    log.sees(&["role.deleted"]).await;
    post(api, &format!("/api/v1/users/{dora}/disable"), json!({})).await;
    log.sees(&["user.disabled"]).await;
    post(api, &format!("/api/v1/users/{dora}/enable"), json!({})).await;
    log.sees(&["user.enabled"]).await;
    delete(api, &format!("/api/v1/users/{dora}")).await;
    log.sees(&["user.removed"]).await;
}

/// Returns the key that it made.
async fn machines(server: &TestServer, api: &Api, log: &mut Witness) -> String {
    let me = api.get("/api/v1/auth/me").await.expect(200).text("/id");
    let account = text(&post(api, "/api/v1/service-accounts", json!({ "slug": "ci" })).await["id"]);
    log.sees(&["service_account.created"]).await;
    let at = |rest: &str| format!("/api/v1/service-accounts/{account}{rest}");
    let key = post(api, &at("/credentials"), json!({ "name": "k" })).await;
    log.sees(&["credential.created"]).await;
    token(server, &account, &text(&key["key"])).await.expect(200);
    log.sees(&["token.issued"]).await;
    token(server, &account, "wsk_wrong").await.expect(401);
    log.sees(&["token.refused"]).await;
    post(api, &at("/act-as"), json!({ "userId": me })).await;
    log.sees(&["act_as.granted"]).await;
    api.send(api.request(reqwest::Method::DELETE, &at("/act-as")).json(&json!({ "userId": me }))).await.expect(200);
    log.sees(&["act_as.revoked"]).await;
    post(api, &at("/transfer-ownership"), json!({ "new_owner": me })).await;
    log.sees(&["service_account.transferred"]).await;
    post(api, &at("/disable"), json!({})).await;
    log.sees(&["service_account.disabled"]).await;
    post(api, &at("/enable"), json!({})).await;
    log.sees(&["service_account.enabled"]).await;
    delete(api, &at(&format!("/credentials/{}", text(&key["id"])))).await;
    log.sees(&["credential.revoked"]).await;
    delete(api, &at("")).await;
    log.sees(&["service_account.deleted"]).await;
    text(&key["key"])
}

const SCHEMA: &str =
    r#"{"type":"object","properties":{"apiKey":{"type":"string","platformSecret":"CHAT_KEY"},"region":{"type":"string"}}}"#;

async fn secrets_and_apps(api: &Api, log: &mut Witness) {
    post(api, "/api/v1/platform/secrets", json!({ "key": "TOKEN", "value": "canary-of-a-secret" })).await;
    assert_eq!(log.sees(&["secret.set"]).await[0]["target"]["id"], "platform TOKEN");
    delete(api, "/api/v1/platform/secrets/TOKEN").await;
    log.sees(&["secret.deleted"]).await;
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    post(api, "/api/v1/apps", with(integration("chat", &["go"]), json!({ "configSchema": schema }))).await;
    log.sees(&["app.installed"]).await;
    for backend in ["1", "2"] {
        let backend = format!("defineIntegration({{ actions: {{ go: () => {backend} }} }})");
        api.deploy("chat", &[("index.ts", &backend)]).await.expect(200);
        log.sees(&["app.deployed"]).await;
    }
    api.deploy_frontend("chat", &[("index.html", "<!doctype html>")]).await.expect(200);
    assert_eq!(log.sees(&["app.frontend_deployed"]).await[0]["details"], json!({ "files": 1 }));
    let config = json!({ "apiKey": "canary-of-a-key", "region": "eu" });
    api.put("/api/v1/integrations/chat/config", config).await.expect(200);
    let saved = log.sees(&["configuration.saved"]).await.remove(0);
    assert_eq!(saved["details"], json!({ "fields": ["apiKey", "region"] }), "names and no values");
    post(api, "/api/v1/apps/chat/rollback", json!({ "version": 1 })).await;
    log.sees(&["app.rolled_back"]).await;
    delete(api, "/api/v1/apps/chat").await;
    log.sees(&["app.uninstalled"]).await;
    // Nothing was there any more, so nothing was done.
    delete(api, "/api/v1/apps/chat").await;
    log.sees(&[]).await;
}

/// Accounts at vendors, and what apps do by themselves.
async fn accounts_and_automation(api: &Api, log: &mut Witness) {
    let entered = json!({ "type": "object", "properties": { "password": { "type": "string", "secret": true } } });
    let config = json!({ "properties": { "apiKey": { "type": "string", "platformSecret": "MAIL_KEY" } } });
    let auth = json!({ "type": "credentials", "schema": entered });
    let watched = json!([{ "name": "watched", "action": "go", "every": "1 day", "perConnection": false, "autoStart": false }]);
    let mail = with(integration("mail", &["go"]), json!({ "userAuth": auth, "configSchema": config, "triggers": watched }));
    post(api, "/api/v1/apps", mail).await;
    let things = json!([{ "entityName": "things", "fields": [{ "name": "name", "type": "text" }] }]);
    post(api, "/api/v1/apps", with(app("crm"), json!({ "dataContract": things }))).await;
    log.sees(&["app.installed", "app.installed"]).await;
    let erin = json!({ "email": "erin@example.com", "password": "An0therPass!" });
    let erin = text(&post(api, "/api/v1/users", erin).await["user"]["id"]);
    log.sees(&["user.added"]).await;

    let vendor = |rest: &str| format!("/api/v1/integrations/mail{rest}");
    let connect = json!({ "label": "one", "credentials": { "password": "canary-of-a-connection" } });
    let connection = text(&post(api, &vendor("/auth/credentials"), connect.clone()).await["connectionId"]);
    log.sees(&["connection.created"]).await;
    post(api, &vendor("/auth/credentials"), connect).await;
    log.sees(&["connection.renewed"]).await;
    let connection = vendor(&format!("/connections/{connection}"));
    api.patch(&connection, json!({ "label": "two" })).await.expect(200);
    log.sees(&["connection.renamed"]).await;
    post(api, &vendor("/auth/delegate"), json!({ "user_id": erin })).await;
    log.sees(&["connection.delegated"]).await;
    let named = json!({ "label": "west", "credentials": { "apiKey": "canary-of-a-configuration" } });
    let named = text(&post(api, &vendor("/configs"), named).await["id"]);
    log.sees(&["configuration.saved"]).await;
    delete(api, &vendor(&format!("/configs/{named}"))).await;
    log.sees(&["configuration.deleted"]).await;
    post(api, "/api/v1/apps/crm/integrations", json!({ "integrationId": "mail" })).await;
    log.sees(&["app.bound"]).await;
    delete(api, "/api/v1/apps/crm/integrations/mail").await;
    log.sees(&["app.unbound"]).await;
    let syncs = "/api/v1/integrations/mail/syncs";
    let sync = api.get(syncs).await.expect(200).text("/0/id");
    for (wish, event) in [("run", "sync.run"), ("resume", "sync.resumed"), ("pause", "sync.paused"), ("reset", "sync.reset")] {
        post(api, &format!("{syncs}/{sync}/{wish}"), json!({})).await;
        log.sees(&[event]).await;
    }
    api.put(&format!("{syncs}/{sync}/input"), json!({ "folder": "inbox" })).await.expect(200);
    log.sees(&["sync.input_saved"]).await;
    delete(api, &connection).await;
    log.sees(&["connection.deleted"]).await;

    let hook = json!({ "entity": "things", "operation": "INSERT", "action_type": "job" });
    let hook = format!("/api/v1/apps/crm/hooks/{}", text(&post(api, "/api/v1/apps/crm/hooks", hook).await["id"]));
    log.sees(&["hook.created"]).await;
    api.patch(&hook, json!({ "active": false })).await.expect(200);
    log.sees(&["hook.changed"]).await;
    delete(api, &hook).await;
    log.sees(&["hook.deleted"]).await;
    let cron = json!({ "name": "nightly", "schedule": "0 9 * * *" });
    let cron = format!("/api/v1/apps/crm/crons/{}", text(&post(api, "/api/v1/apps/crm/crons", cron).await["id"]));
    log.sees(&["cron.created"]).await;
    api.patch(&cron, json!({ "schedule": "0 10 * * *" })).await.expect(200);
    log.sees(&["cron.changed"]).await;
    post(api, &format!("{cron}/trigger"), json!({})).await;
    log.sees(&["cron.triggered"]).await;
    delete(api, &cron).await;
    log.sees(&["cron.deleted"]).await;
    let file = Form::new().part("file", Part::bytes(b"canary-of-a-file".to_vec()).file_name("a.txt"));
    let upload = api.request(Method::POST, "/api/v1/apps/crm/storage/upload").multipart(file);
    let file = api.send(upload).await.expect(201).text("/file_id");
    log.sees(&[]).await;
    delete(api, &format!("/api/v1/apps/crm/storage/{file}")).await;
    log.sees(&["file.deleted"]).await;
    post(api, "/api/v1/storage/buckets", json!({ "name": "notes" })).await;
    log.sees(&["bucket.created"]).await;
    let folder = text(&post(api, "/api/v1/storage/objects/notes", json!({ "name": "a folder" })).await["id"]);
    log.sees(&[]).await;
    delete(api, &format!("/api/v1/storage/objects/notes/{folder}")).await;
    log.sees(&["object.deleted"]).await;
    delete(api, "/api/v1/storage/buckets/notes").await;
    log.sees(&["bucket.deleted"]).await;
    for app in ["crm", "mail"] {
        delete(api, &format!("/api/v1/apps/{app}")).await;
        log.sees(&["app.uninstalled"]).await;
    }
}

async fn namespaces(api: &Api, log: &mut Witness) {
    let me = api.get("/api/v1/auth/me").await.expect(200).text("/id");
    post(api, "/api/v1/namespaces", json!({ "id": "sales" })).await;
    log.sees(&["namespace.created"]).await;
    api.patch("/api/v1/namespaces/sales", json!({ "name": "Sales" })).await.expect(200);
    log.sees(&["namespace.renamed"]).await;
    let department = post(api, "/api/v1/namespaces/sales/departments", json!({ "name": "North" })).await;
    log.sees(&["department.created"]).await;
    let department = format!("/api/v1/namespaces/sales/departments/{}", text(&department["id"]));
    api.patch(&department, json!({ "name": "South" })).await.expect(200);
    log.sees(&["department.changed"]).await;
    let member = format!("{department}/members/{me}");
    for _ in 0..2 {
        api.put(&member, Value::Null).await.expect(200);
    }
    log.sees(&["department.member_added"]).await;
    for _ in 0..2 {
        delete(api, &member).await;
    }
    log.sees(&["department.member_removed"]).await;
    delete(api, &department).await;
    log.sees(&["department.deleted"]).await;
    delete(api, "/api/v1/namespaces/sales").await;
    log.sees(&["namespace.deleted"]).await;
}

async fn tenants_and_keys(api: &Api, log: &mut Witness) {
    let tenant = json!({ "id": "acme", "administrator": { "email": "carol@example.com", "password": PASSWORD } });
    post(api, "/api/v1/tenants", tenant).await;
    log.sees(&["tenant.created"]).await;
    post(api, "/api/v1/tenants/acme/disable", json!({})).await;
    log.sees(&["tenant.disabled"]).await;
    post(api, "/api/v1/tenants/acme/enable", json!({})).await;
    log.sees(&["tenant.enabled"]).await;
    delete(api, "/api/v1/tenants/acme?confirm=acme").await;
    log.sees(&["tenant.deleted"]).await;
    post(api, "/api/v1/vault/rotate-key", json!({})).await;
    log.sees(&["vault.key_rotated"]).await;
    post(api, "/api/v1/auth/signing-keys/rotate", json!({})).await;
    log.sees(&["signing_key.rotated"]).await;
}

/// Returns the token of the link that it made.
async fn ways_in(it: &SignOn, log: &mut Witness) -> String {
    let anonymous = it.server.anonymous();
    let bob = json!({ "email": "bob@example.com", "password": PASSWORD });
    post(&anonymous, "/api/v1/auth/register", bob.clone()).await;
    log.sees(&["user.registered"]).await;
    let wrong = json!({ "email": "bob@example.com", "password": "canary-of-a-password" });
    anonymous.post("/api/v1/auth/login", wrong).await.expect(401);
    assert_eq!(log.sees(&["login.failed"]).await[0]["details"], json!({ "reason": "wrong password" }));
    // Some type their password into the wrong field.
    let mixed_up = json!({ "email": "canary-of-a-password", "password": "bob@example.com" });
    anonymous.post("/api/v1/auth/login", mixed_up).await.expect(401);
    log.sees(&["login.failed"]).await;
    let login = post(&anonymous, "/api/v1/auth/login", bob).await;
    log.sees(&["login.succeeded"]).await;
    let bob = anonymous.clone().with_token(text(&login["accessToken"]));
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "canary-Of-1-password" });
    bob.put("/api/v1/auth/password", change).await.expect(200);
    log.sees(&["password.changed"]).await;
    post(&anonymous, "/api/v1/auth/logout", json!({ "refreshToken": login["refreshToken"] })).await;
    log.sees(&["session.ended"]).await;

    let link = post(&it.admin, "/api/v1/auth/magic-link/generate", json!({ "email": "new@example.com" })).await;
    log.sees(&["link.made"]).await;
    let link = text(&link["magicLinkUrl"]);
    let token = link.rsplit('=').next().unwrap_or_default().to_owned();
    post(&anonymous, "/api/v1/auth/magic-link/consume", json!({ "token": token })).await;
    assert_eq!(log.sees(&["user.added", "login.succeeded"]).await[1]["details"]["by"], "link");
    anonymous.post("/api/v1/auth/magic-link/consume", json!({ "token": token })).await.expect(401);
    assert_eq!(log.sees(&["login.failed"]).await[0]["details"]["by"], "link");

    it.save(json!({ "displayName": "Another name" })).await.expect(200);
    log.sees(&["provider.saved"]).await;
    it.exchange(&it.provider.sign(json!({ "claims": claims() })).await).await.expect(200);
    assert_eq!(log.sees(&["user.added", "login.succeeded"]).await[1]["details"]["provider"], "sso");
    it.exchange("rubbish").await;
    assert_eq!(log.sees(&["login.failed"]).await[0]["target"], json!({ "kind": "provider", "id": "sso" }));
    delete(&it.admin, "/api/v1/auth/oidc/providers/sso?force=true").await;
    log.sees(&["provider.deleted"]).await;
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_leaves_exactly_its_event_and_no_secret() {
    let it = SignOn::start().await;
    let (server, admin) = (&it.server, &it.admin);
    let mut log = Witness::new(admin).await;
    roles_and_people(admin, &mut log).await;
    let key = machines(server, admin, &mut log).await;
    secrets_and_apps(admin, &mut log).await;
    accounts_and_automation(admin, &mut log).await;
    namespaces(admin, &mut log).await;
    tenants_and_keys(admin, &mut log).await;
    let link = ways_in(&it, &mut log).await;

    let document = server.anonymous().get("/api/openapi.json").await.expect(200).json;
    let known = document["components"]["schemas"]["AuditAction"]["enum"].as_array().cloned().expect("a list");
    let known: BTreeSet<String> = known.iter().map(text).collect();
    assert_eq!(log.seen, known, "this test makes every event that the document names");

    let all = export(admin).await.join("\n");
    for secret in ["canary", PASSWORD, &key, &link] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_or_failed_leaves_no_event() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    assert_eq!(make_role(&alice, "sales").await, 200);
    let mut log = Witness::new(&alice).await;
    let me = alice.get("/api/v1/auth/me").await.expect(200).text("/id");
    assert_eq!(make_role(&alice, "sales").await, 400, "there is one already");
    alice.post("/api/v1/roles/revoke", json!({ "userId": me, "role": "admin" })).await.expect(400);
    alice.delete("/api/v1/platform/secrets/NOTHING").await.expect(404);
    alice.post("/api/v1/apps", json!({ "appId": "x" })).await.expect(400);
    alice.post("/api/v1/tenants/nowhere/disable", json!({})).await.expect(404);
    log.sees(&[]).await;

    // The change fails after its event was written: both are gone.
    let mut database = database(&server).await;
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;";
    sql(&mut database, refuse).await;
    let late = "create constraint trigger late after insert on roles deferrable initially deferred for each row execute function refuse()";
    sql(&mut database, late).await;
    assert_eq!(make_role(&alice, "support").await, 500);
    log.sees(&[]).await;
    sql(&mut database, "drop trigger late on roles").await;

    // The event cannot be written: there is no change either.
    sql(&mut database, "create trigger early before insert on audit_events for each row execute function refuse()").await;
    assert_eq!(make_role(&alice, "support").await, 500);
    sql(&mut database, "drop trigger early on audit_events").await;
    assert_eq!(make_role(&alice, "support").await, 200);
    log.sees(&["role.created"]).await;
    alice.post("/api/v1/apps", app("crm")).await.expect(200);
    log.sees(&["app.installed"]).await;
    alice.get(EVENTS).await.expect(200);
}
