//! One integration, several ways to connect: each connection goes by its own, for as long as the manifest has it.

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};
use weft_testkit::{Answer, Api, TestServer, issuer::FakeIssuer, vendor::FakeVendor};

use crate::{
    fixtures::{app, eventually, integration, with},
    sign_on::server,
};

/// `me` is a recipe; `show` is what a backend gets.
const BACKEND: &str =
    "defineIntegration({ actions: { show: (_, ctx) => ({ way: ctx.connectionWay, ...ctx.userCredentials }) } });";
const DESK: &str = "/api/v1/integrations/desk";

/// A server, a vendor, and an integration of three ways.
struct World {
    server: TestServer,
    vendor: FakeVendor,
    admin: Api,
}

impl World {
    async fn start() -> Self {
        let (server, vendor) = (server().await, FakeVendor::start().await);
        vendor.key("bob@vendor.example", "made-up-key");
        let admin = server.user("admin").await;
        let it = Self { server, vendor, admin };
        it.server.deploy(&it.admin, &it.manifest(&it.account(), &json!([it.robot(), by_key()])), BACKEND).await;
        it
    }

    /// The first way: people agree in a browser.
    fn account(&self) -> Value {
        with(self.vendor.user_auth(), json!({ "name": "account", "title": "Desk account" }))
    }

    /// The server gets tokens for a robot, with its own secret.
    fn robot(&self) -> Value {
        let client = json!({ "grant_type": "client_credentials", "client_id": "{clientId}", "client_secret": "{clientSecret}" });
        json!({
            "name": "robot", "title": "Robot", "description": "For what runs at night", "type": "token", "label": "robot {number}",
            "schema": { "type": "object", "required": ["number"], "properties": { "number": { "type": "string" } } },
            "request": { "url": self.vendor.url("/token"), "form": client },
        })
    }

    fn manifest(&self, first: &Value, alternatives: &Value) -> Value {
        let fields =
            json!({ "clientId": { "type": "string" }, "clientSecret": { "type": "string", "platformSecret": "DESK_SECRET" } });
        let recipe = json!({ "id": "me", "name": "Me", "effect": "read", "recipe": { "method": "GET", "path": "/me" } });
        let http =
            json!({ "baseUrl": self.vendor.url(""), "auth": { "type": "bearer", "token": "{{ credentials.accessToken }}" } });
        let more = json!({
            "configSchema": { "properties": fields }, "http": http, "actions": [recipe, { "id": "show", "name": "Show" }],
            "userAuth": with(first.clone(), json!({ "alternatives": alternatives })),
        });
        with(integration("desk", &[]), more)
    }

    async fn install(&self, api: &Api, first: &Value, alternatives: &Value) {
        api.post("/api/v1/apps", self.manifest(first, alternatives)).await.expect(200);
    }

    /// Connects in every way, and says which connections came of it.
    async fn connect(&self) -> [String; 3] {
        let config = json!({ "clientId": FakeVendor::CLIENT, "clientSecret": FakeVendor::SECRET });
        self.admin.put(&format!("{DESK}/config"), config).await.expect(200);
        let started = self.admin.post(&format!("{DESK}/auth/start"), json!({})).await.expect(200);
        self.server.anonymous().get(&started.text("/url")).await.expect(200);
        let started = self.admin.post(&format!("{DESK}/auth/start"), json!({ "way": "robot" })).await.expect(200);
        assert_eq!((started.text("/type"), started.value("/schema/required")), ("credentials".into(), json!(["number"])));
        let robot = json!({ "way": "robot", "credentials": { "number": "7" } });
        let robot = self.admin.post(&format!("{DESK}/auth/credentials"), robot).await.expect(200);
        let key = json!({ "email": "bob@vendor.example", "key": "made-up-key" });
        let key = json!({ "way": "key", "label": "bob", "credentials": key });
        let key = self.admin.post(&format!("{DESK}/auth/credentials"), key).await.expect(200);
        let of = |way: &str, all: &[Value]| {
            all.iter().find(|one| one["way"] == way).and_then(|one| one["id"].as_str().map(str::to_owned))
        };
        let account = of("account", &self.connections(&self.admin).await).expect("the connection");
        [account, robot.text("/connectionId"), key.text("/connectionId")]
    }

    async fn connections(&self, api: &Api) -> Vec<Value> {
        api.get(&format!("{DESK}/connections")).await.expect(200).json.as_array().expect("a list").clone()
    }

    async fn connection(&self, api: &Api, id: &str) -> Value {
        self.connections(api).await.into_iter().find(|connection| connection["id"] == id).expect("the connection")
    }
}

/// People enter a key of theirs, which goes elsewhere than a token.
fn by_key() -> Value {
    json!({
        "name": "key", "title": "Key", "type": "credentials",
        "schema": { "type": "object", "required": ["email", "key"], "properties": { "email": { "type": "string" }, "key": { "type": "string", "secret": true } } },
        "auth": { "type": "basic", "username": "{{ credentials.email }}", "password": "{{ credentials.key }}" },
    })
}

/// Calls an action through the app `crm`, with a connection that is named or with the one that it is bound to.
async fn call(api: &Api, action: &str, connection: Option<&str>) -> Answer {
    let request = api.request(Method::POST, &format!("{DESK}/actions/{action}")).header("x-app-id", "crm").json(&json!({}));
    api.send(match connection {
        Some(id) => request.header("x-connection-id", id),
        None => request,
    })
    .await
}

async fn me(api: &Api, connection: Option<&str>) -> String {
    call(api, "me", connection).await.expect(200).text("/account")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_is_made_renewed_and_used_by_its_own_way() {
    let it = World::start().await;
    // What there is to choose from, and what each way still lacks.
    let offered = it.admin.get(&format!("{DESK}/auth")).await.expect(200);
    assert_eq!(offered.text("/type"), "oauth2");
    let told = |field: &str| -> Vec<Value> {
        offered.value("/ways").as_array().expect("a list").iter().map(|way| way[field].clone()).collect()
    };
    assert_eq!(told("name"), [json!("account"), json!("robot"), json!("key")]);
    assert_eq!(told("title"), [json!("Desk account"), json!("Robot"), json!("Key")]);
    assert_eq!(told("missing"), [json!(["clientId"]), json!(["clientId", "clientSecret"]), json!([])]);
    assert_eq!(told("configured"), [json!(false), json!(false), json!(true)]);
    assert_eq!(told("schema")[2]["required"], json!(["email", "key"]));
    assert_eq!(it.admin.get("/api/v1/integrations").await.expect(200).value("/0/ways"), offered.value("/ways"));
    let refused = it.admin.post(&format!("{DESK}/auth/start"), json!({ "way": "telepathy" })).await.expect(400);
    assert_eq!(refused.code(), "invalid_request");
    assert!(refused.text("/error").contains("no way 'telepathy' to connect; it has: account, robot, key"), "{refused:?}");
    let refused = it.admin.post(&format!("{DESK}/auth/credentials"), json!({ "credentials": {} })).await.expect(400);
    assert!(refused.text("/error").contains("name a way that asks for something: robot, key"), "{refused:?}");

    let [account, robot, key] = it.connect().await;
    for (id, way) in [(&account, "account"), (&robot, "robot"), (&key, "key")] {
        assert_eq!(it.connection(&it.admin, id).await["way"], way);
    }

    // One app acts with all of them: the one that it is bound to, and others that are named.
    it.admin.post("/api/v1/apps", app("crm")).await.expect(200);
    let bound = json!({ "integrationId": "desk", "connectionId": robot });
    it.admin.post("/api/v1/apps/crm/integrations", bound).await.expect(200);
    let accounts = async |api: &Api| [me(api, None).await, me(api, Some(&account)).await, me(api, Some(&key)).await];
    let expected = ["the-client", "alice@vendor.example", "bob@vendor.example"];
    assert_eq!(accounts(&it.admin).await, expected);
    for (id, way, shown) in [(&account, "account", "accessToken"), (&robot, "robot", "tokenType"), (&key, "key", "email")] {
        let told = call(&it.admin, "show", Some(id)).await.expect(200);
        assert_eq!(told.text("/way"), way);
        assert!(told.value(&format!("/{shown}")).is_string(), "{told:?}");
    }
    let through = it.admin.request(Method::GET, &format!("{DESK}/proxy/me")).header("x-connection-id", &key);
    assert_eq!(it.admin.send(through).await.expect(200).text("/account"), "bob@vendor.example");

    // Each is renewed as it was got, and what people entered stays.
    it.server.advance(Duration::minutes(56));
    let admin = it.server.login("admin@example.com").await;
    assert_eq!(accounts(&admin).await, expected);
    assert_eq!((it.vendor.requests("refresh_token").len(), it.vendor.requests("client_credentials").len()), (1, 2));
    it.server.advance(Duration::minutes(1));
    it.vendor.expire_access();
    assert_eq!((me(&admin, None).await, me(&admin, Some(&account)).await), (expected[0].to_owned(), expected[1].to_owned()));
    assert_eq!((it.vendor.requests("refresh_token").len(), it.vendor.requests("client_credentials").len()), (2, 3));
    assert_eq!(call(&admin, "me", Some(&key)).await.expect(424).code(), "vendor_auth");
    assert_eq!(it.connection(&admin, &key).await["status"], "active", "nobody can renew it, and the next call may work");

    // What the vendor is told at the end goes by the way, too.
    for (id, revocation) in [(&account, "revoked"), (&robot, "not_offered"), (&key, "nothing_to_revoke")] {
        let deleted = admin.delete(&format!("{DESK}/connections/{id}")).await.expect(200);
        assert_eq!(deleted.text("/revocation"), revocation);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_keeps_its_way_and_ends_when_a_new_version_has_it_no_more() {
    let it = World::start().await;
    let [account, robot, key] = it.connect().await;
    let again = |id: &str| format!("{DESK}/auth/start?connection_id={id}");
    // Connecting again leads the way that the connection was made by, unless another one is named.
    let started = it.admin.post(&again(&robot), json!({})).await.expect(200);
    assert_eq!(started.value("/schema/required"), json!(["number"]));
    let entered = json!({ "credentials": { "number": "8" } });
    let entered = it.admin.post(&format!("{DESK}/auth/credentials?connection_id={robot}"), entered).await.expect(200);
    assert_eq!((entered.text("/connectionId"), entered.text("/label")), (robot.clone(), "robot 8".into()));
    assert_eq!(it.connection(&it.admin, &robot).await["way"], "robot");
    assert_eq!(it.admin.post(&again(&robot), json!({ "way": "key" })).await.expect(200).value("/schema/required/0"), "email");

    // The way goes while somebody is on it and connections are by it.
    let on_their_way = it.admin.post(&again(&account), json!({})).await.expect(200).text("/url");
    it.install(&it.admin, &with(it.account(), json!({ "name": "office" })), &json!([by_key()])).await;
    let back = it.server.anonymous().get(&on_their_way).await.expect(424);
    assert!(back.text("/error").contains("does not offer the way 'account' any more; it offers: office, key"), "{back:?}");
    for id in [&account, &robot] {
        let ended = it.connection(&it.admin, id).await;
        assert_eq!((&ended["status"], &ended["statusCause"]), (&json!("error"), &json!("way_removed")));
    }
    assert_eq!(it.connection(&it.admin, &key).await["status"], "active");
    let dead = it.admin.request(Method::POST, &format!("{DESK}/actions/me")).header("x-connection-id", &robot).json(&json!({}));
    let dead = it.admin.send(dead).await.expect(424);
    assert_eq!(dead.code(), "reconnect_required");
    assert!(dead.text("/error").contains("the way 'robot' any more; it offers: office, key"), "{dead:?}");
    let checked = it.admin.post(&format!("{DESK}/connections/{robot}/check"), json!({})).await.expect(200);
    assert_eq!((checked.value("/ok"), checked.text("/findings/1/what")), (json!(false), "status".into()));
    assert!(checked.text("/findings/1/cure").contains("weft connect desk"), "{checked:?}");
    // The cure leads on by a way that there is, and the connection stays what it is for those who are bound to it.
    let started = it.admin.post(&dead.text("/reconnectUrl"), json!({})).await.expect(200);
    assert_eq!(started.text("/type"), "redirect");
    it.server.anonymous().get(&format!("{}&login_hint=eve@vendor.example", started.text("/url"))).await.expect(200);
    let led_on = it.connection(&it.admin, &robot).await;
    assert_eq!((&led_on["way"], &led_on["status"]), (&json!("office"), &json!("active")));

    // What comes back wakes what had ended by that alone.
    it.install(&it.admin, &it.account(), &json!([by_key()])).await;
    assert_eq!(it.connection(&it.admin, &account).await["status"], "active");
    assert_eq!(it.connection(&it.admin, &robot).await["statusCause"], "way_removed");
    let alice = async || {
        let request = it.admin.request(Method::POST, &format!("{DESK}/actions/me")).header("x-connection-id", &account);
        let answer = it.admin.send(request.json(&json!({}))).await;
        (answer.status == 200).then(|| answer.text("/account"))
    };
    assert_eq!(eventually("the account serves again", alice).await, "alice@vendor.example");
    assert_eq!(it.admin.delete(&format!("{DESK}/connections/{account}")).await.expect(200).text("/revocation"), "revoked");
}

/// A bundled integration that finds its vendor at other addresses.
fn moved(id: &str, addresses: &[(&str, String)]) -> Value {
    let mut text = weft_catalog::find(id).expect("bundled").document.to_string();
    for (from, to) in addresses {
        assert!(text.contains(from), "{id} names {from}");
        text = text.replace(from, to);
    }
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_integrations_are_connected_by_each_of_their_ways() {
    let (server, issuer, vendor) = (server().await, FakeIssuer::start().await, FakeVendor::start().await);
    issuer.setup_url(&format!("{}/api/v1/integrations/auth/callback", server.url()));
    let admin = server.user("admin").await;
    let me = async |id: &str, connection: &str| {
        let request = admin.request(Method::GET, &format!("/api/v1/integrations/{id}/proxy/me"));
        admin.send(request.header("x-connection-id", connection)).await.expect(200).text("/account")
    };
    let enter = async |id: &str, way: &str, credentials: Value| {
        let body = json!({ "way": way, "credentials": credentials });
        admin.post(&format!("/api/v1/integrations/{id}/auth/credentials"), body).await.expect(200).text("/connectionId")
    };

    // GitHub: an account, a token that somebody made there, and the app where it is installed.
    let addresses = [
        ("https://github.com/login/oauth/authorize", vendor.url("/authorize")),
        ("https://github.com/login/oauth/access_token", vendor.url("/token")),
        ("https://github.com/apps", issuer.url("/apps")),
        ("https://api.github.com", issuer.url("")),
    ];
    admin.post("/api/v1/apps", moved("github", &addresses)).await.expect(200);
    let ways = admin.get("/api/v1/integrations/github/auth").await.expect(200).value("/ways");
    assert_eq!(ways[0]["missing"], json!(["clientId", "clientSecret"]));
    assert_eq!((&ways[1]["name"], &ways[1]["configured"]), (&json!("token"), &json!(true)));
    assert_eq!((&ways[2]["name"], &ways[2]["missing"]), (&json!("installation"), &json!(["appId", "privateKey"])));
    let login = json!({ "user": "octocat", "password": "correct horse" });
    let token = server.anonymous().post(&issuer.url("/login"), login).await.expect(200).text("/data/session");
    assert_eq!(me("github", &enter("github", "token", json!({ "accessToken": token })).await).await, "octocat");
    let config = json!({
        "clientId": FakeVendor::CLIENT, "clientSecret": FakeVendor::SECRET,
        "appId": FakeIssuer::APP, "appSlug": "weft", "privateKey": FakeIssuer::RSA_KEY,
    });
    admin.put("/api/v1/integrations/github/config", config).await.expect(200);
    for body in [json!({}), json!({ "way": "installation" })] {
        let started = admin.post("/api/v1/integrations/github/auth/start", body).await.expect(200);
        server.anonymous().get(&started.text("/url")).await.expect(200);
    }
    let made = admin.get("/api/v1/integrations/github/connections").await.expect(200);
    let by = |way: &str| made.json.as_array().and_then(|all| all.iter().find(|one| one["way"] == way)).expect("the connection");
    assert_eq!((&by("token")["label"], &by("account")["label"]), (&Value::Null, &json!("alice@vendor.example")));
    assert_eq!(by("installation")["label"], "installation 42");
    assert_eq!(me("github", by("installation")["id"].as_str().expect("an id")).await, "installation-42");

    // Google: the service account signs for each API what that API asks for.
    for (id, base) in [
        ("gmail", "https://gmail.googleapis.com/gmail/v1/users/me"),
        ("google_calendar", "https://www.googleapis.com/calendar/v3"),
        ("google_drive", "\"https://www.googleapis.com\""),
        ("google_sheets", "https://sheets.googleapis.com/v4"),
    ] {
        let there = if base.starts_with('"') { format!("\"{}\"", issuer.url("")) } else { issuer.url("") };
        let manifest = moved(id, &[(base, there), ("https://oauth2.googleapis.com/token", issuer.url("/oauth/token"))]);
        issuer.scope(manifest["userAuth"]["alternatives"][0]["jwt"]["claims"]["scope"].as_str().expect("scopes"));
        admin.post("/api/v1/apps", manifest).await.expect(200);
        let account =
            json!({ "client_email": FakeIssuer::ROBOT, "private_key": FakeIssuer::RSA_KEY, "subject": "ada@vendor.example" });
        assert_eq!(me(id, &enter(id, "service_account", account).await).await, "ada@vendor.example", "{id}");
    }
}
