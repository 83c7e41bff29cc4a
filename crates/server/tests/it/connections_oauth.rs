//! OAuth 2 in the platform: to the vendor and back, tokens kept fresh by one request however many need them, and taken back.

use std::sync::Arc;

use chrono::Duration;
use futures::future::join_all;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tokio::sync::Notify;
use weft_server::ServeArgs;
use weft_testkit::{
    Answer, Api, TestServer,
    server::url,
    sign_on::{Browser, Provider},
    vendor::{FakeVendor, Trouble},
};

use crate::{
    fixtures::{eventually, fault_paths, integration, with},
    sign_on::{alice as account, server},
};

const BACKEND: &str = "defineIntegration({
    actions: {
        who: async (_, ctx) => {
            const { accessToken } = ctx.userCredentials;
            const response = await fetch(ctx.config.apiUrl, { headers: { authorization: `Bearer ${accessToken}` } });
            if (!response.ok) throw new ActionError(`refused ${accessToken}`, { code: `http_${response.status}`, category: 'Auth' });
            return response.json();
        },
        show: (_, ctx) => ctx.userCredentials,
        soft: async (_, ctx) => {
            const headers = { authorization: `Bearer ${ctx.userCredentials.accessToken}` };
            return (await fetch(ctx.config.apiUrl, { headers })).json();
        },
        sync_connect: (_, ctx) => ({ ok: false, error: { code: 'SYNC', message: `<b>${ctx.connectionId}</b>` } }),
    },
});";
const FORM: &str = "application/x-www-form-urlencoded";
const AUTH: &str = "/api/v1/integrations/mail/auth";

/// A server, a vendor, and an integration that knows the vendor's OAuth.
struct World {
    server: TestServer,
    vendor: FakeVendor,
    admin: Api,
}

impl World {
    async fn start() -> Self {
        Self::start_with(json!({}), &["who", "show"]).await
    }

    async fn start_with(more: Value, actions: &[&str]) -> Self {
        let (server, vendor) = (server().await, FakeVendor::start().await);
        let admin = server.user("admin").await;
        let it = Self { server, vendor, admin };
        it.install(more, actions).await;
        let config =
            json!({ "clientId": FakeVendor::CLIENT, "clientSecret": FakeVendor::SECRET, "apiUrl": it.vendor.url("/me") });
        it.admin.put("/api/v1/integrations/mail/config", config).await.expect(200);
        it
    }

    async fn install(&self, more: Value, actions: &[&str]) {
        let fields = json!({
            "clientId": { "type": "string" },
            "clientSecret": { "type": "string", "platformSecret": "MAIL_CLIENT_SECRET" },
            "apiUrl": { "type": "string" },
        });
        let auth = with(self.vendor.user_auth(), more);
        let manifest = with(integration("mail", actions), json!({ "userAuth": auth, "configSchema": { "properties": fields } }));
        self.server.deploy(&self.admin, &manifest, BACKEND).await;
    }

    /// The address that somebody is sent to.
    async fn start_at(&self, api: &Api, more: &str) -> String {
        let started = api.post(&format!("{AUTH}/start{more}"), json!({})).await.expect(200);
        assert_eq!((started.text("/type"), started.value("/url")), ("redirect".into(), started.value("/redirectUrl")));
        started.text("/url")
    }

    /// Goes to the vendor and comes back, as this account.
    async fn connect_as(&self, api: &Api, account: &str) -> Answer {
        let address = format!("{}&login_hint={account}", self.start_at(api, "").await);
        self.server.anonymous().get(&address).await
    }

    async fn connect(&self, api: &Api) {
        self.connect_as(api, "alice@vendor.example").await.expect(200);
    }

    fn refreshes(&self) -> usize {
        self.vendor.requests("refresh_token").len()
    }
}

async fn who(api: &Api) -> Answer {
    api.call("mail", "who", json!({})).await
}

async fn connection(api: &Api) -> Value {
    api.get("/api/v1/integrations/mail/connections").await.expect(200).value("/0")
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_goes_to_the_vendor_and_comes_back_connected() {
    let it = World::start().await;
    let address = it.start_at(&it.admin, "").await;
    let url = Url::parse(&address).expect("an address");
    let asked = |name: &str| url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned());
    assert_eq!(
        (asked("scope").as_deref(), asked("code_challenge_method").as_deref()),
        (Some("mail.read mail.send"), Some("S256"))
    );
    assert_eq!(asked("redirect_uri"), Some(format!("{}/api/v1/integrations/auth/callback", it.server.url())));

    let page = it.server.anonymous().get(&address).await.expect(200);
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    assert!(
        text.contains("Connected to mail!") && text.contains("alice@vendor.example") && text.contains("You can close this tab."),
        "{text}"
    );
    assert_eq!(who(&it.admin).await.expect(200).text("/account"), "alice@vendor.example");
    let connection = connection(&it.admin).await;
    assert_eq!((&connection["label"], &connection["status"]), (&json!("alice@vendor.example"), &json!("active")));

    // The refresh token is the server's own business.
    let shown = it.admin.call("mail", "show", json!({})).await.expect(200);
    assert!(shown.text("/accessToken").starts_with("access-alice") && shown.text("/expiresAt").ends_with('Z'), "{shown:?}");
    assert!(!String::from_utf8_lossy(&shown.bytes).contains("refresh-"), "{shown:?}");
    // The same account again is the same connection.
    it.connect(&it.admin).await;
    it.connect_as(&it.admin, "other@vendor.example").await.expect(200);
    let list = it.admin.get("/api/v1/integrations/mail/connections").await.expect(200);
    assert_eq!(list.json.as_array().map(Vec::len), Some(2));
    assert_eq!(list.value("/0/id"), connection["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_good_once_and_for_ten_minutes_and_refusals_are_explained() {
    let it = World::start().await;
    let anonymous = it.server.anonymous().staying();
    let address = it.start_at(&it.admin, "").await;
    let back = anonymous.get(&address).await.expect(307).header("location").expect("an address").to_owned();
    it.server.anonymous().get(&back).await.expect(200);
    let again = it.server.anonymous().get(&back).await.expect(400);
    assert!(again.text("/error").contains("used before"), "{again:?}");
    anonymous.get("/api/v1/integrations/auth/callback").await.expect(400);

    let address = it.start_at(&it.admin, "").await;
    let back = anonymous.get(&address).await.expect(307).header("location").expect("an address").to_owned();
    it.server.advance(Duration::minutes(11));
    assert!(it.server.anonymous().get(&back).await.expect(400).text("/error").contains("10 minutes"));

    let admin = it.server.login("admin@example.com").await;
    let address = Url::parse(&it.start_at(&admin, "").await).expect("an address");
    let state = address.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
    let refused = format!("/api/v1/integrations/auth/callback?state={state}&error=access_denied&error_description=%3Cscript%3E");
    let request = anonymous.request(Method::GET, &refused).header("accept", "text/html");
    let page = anonymous.send(request).await.expect(424);
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    assert!(text.contains("access was not granted [access_denied] (&lt;script&gt;)") && !text.contains("<script>"), "{text}");

    // Whoever was switched off meanwhile connects nothing.
    let bob = it.server.user("bob").await;
    let address = it.start_at(&bob, "").await;
    let id = bob.get("/api/v1/auth/me").await.expect(200).text("/id");
    admin.post(&format!("/api/v1/users/{id}/disable"), json!({})).await.expect(200);
    it.server.anonymous().get(&address).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_calls_on_two_nodes_need_one_new_token_and_cause_one_request() {
    let mut it = World::start().await;
    it.connect(&it.admin).await;
    let (second, _folder) = it.server.second_node().await;
    for api in [it.admin.clone(), it.admin.clone().at(url(&second))] {
        who(&api).await.expect(200);
    }
    it.server.advance(Duration::minutes(56));
    let admin = it.server.login("admin@example.com").await;
    let there = admin.clone().at(url(&second));
    // Both know who calls: this is about the token.
    for api in [&admin, &there] {
        api.get("/api/v1/auth/me").await.expect(200);
    }
    let release = Arc::new(Notify::new());
    it.vendor.trouble(Trouble::Hold(Arc::clone(&release)));
    let calls = (0..500).map(|index| {
        let api = if index % 2 == 0 { admin.clone() } else { there.clone() };
        tokio::spawn(async move { who(&api).await })
    });
    let calls = join_all(calls);
    let watch = async {
        eventually("the vendor is asked", async || (it.refreshes() > 0).then_some(())).await;
        release.notify_one();
    };
    let (answers, ()) = tokio::join!(calls, watch);
    let failed: Vec<_> =
        answers.into_iter().map(|answer| answer.expect("answered")).filter(|answer| answer.status != 200).collect();
    assert_eq!((it.refreshes(), failed.len()), (1, 0), "{failed:?}");
    // It is renewed before it is over, with the refresh token that came last.
    it.server.advance(Duration::minutes(56));
    let admin = it.server.login("admin@example.com").await;
    who(&admin).await.expect(200);
    let used: Vec<_> =
        it.vendor.requests("refresh_token").into_iter().filter_map(|mut request| request.remove("refresh_token")).collect();
    assert_eq!(used.len(), 2);
    assert_ne!(used[0], used[1]);
    second.stop().await.expect("the second node stops in order");
    it.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_broke_off_after_the_vendor_changed_the_token_is_recognised_and_explained() {
    let it = World::start().await;
    it.connect(&it.admin).await;
    it.server.advance(Duration::minutes(61));
    let admin = it.server.login("admin@example.com").await;
    it.vendor.trouble(Trouble::BreakOff);
    assert_eq!(who(&admin).await.expect(502).code(), "vendor_unavailable");
    it.server.advance(Duration::seconds(31));
    // The old token is tried, once.
    let dead = who(&admin).await.expect(424);
    assert_eq!(dead.code(), "reconnect_required");
    assert!(dead.text("/error").contains("broke off after the vendor was asked"), "{dead:?}");
    assert_eq!(connection(&admin).await["statusCause"], "refresh_interrupted");
    let asked = it.refreshes();
    who(&admin).await.expect(424);
    assert_eq!(it.refreshes(), asked);

    let id = connection(&admin).await["id"].as_str().expect("an id").to_owned();
    let address = it.start_at(&admin, &format!("?connection_id={id}")).await;
    it.server.anonymous().get(&address).await.expect(200);
    who(&admin).await.expect(200);
    let connection = connection(&admin).await;
    assert_eq!((&connection["id"], &connection["status"]), (&json!(id), &json!("active")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_died_before_the_vendor_was_asked_costs_nothing_but_a_moment() {
    let it = World::start().await;
    it.connect(&it.admin).await;
    it.server.advance(Duration::minutes(61));
    let admin = it.server.login("admin@example.com").await;
    // What a server leaves that is killed with the intent written: a lease that nobody gives back.
    it.server
        .database
        .execute(
            "update connections set refresh_holder = gen_random_uuid(), refresh_started_at = now() + interval '60 minutes',
             refresh_until = now() + interval '60 minutes 30 seconds'",
        )
        .await;
    who(&admin).await.expect(200);
    assert_eq!(it.refreshes(), 1);
    assert_eq!(connection(&admin).await["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_away_costs_nothing_while_the_token_is_good() {
    let it = World::start().await;
    it.connect(&it.admin).await;
    it.server.advance(Duration::minutes(56));
    let admin = it.server.login("admin@example.com").await;
    it.vendor.trouble(Trouble::Answer(503, json!({})));
    who(&admin).await.expect(200);
    it.server.advance(Duration::seconds(6));
    who(&admin).await.expect(200);
    assert_eq!((it.refreshes(), &connection(&admin).await["status"]), (2, &json!("active")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_vendor_refuses_is_renewed_and_the_call_made_once_more() {
    let it = World::start().await;
    it.connect(&it.admin).await;
    who(&it.admin).await.expect(200);
    it.server.advance(Duration::minutes(1));
    it.vendor.expire_access();
    let statuses = join_all((0..50).map(async |_| who(&it.admin).await.status)).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(it.refreshes(), 1);
    // Somebody has taken access back in the vendor's settings: then there is nothing to renew.
    it.server.advance(Duration::minutes(1));
    it.vendor.forget("alice@vendor.example");
    let dead = who(&it.admin).await.expect(424);
    assert_eq!(dead.code(), "reconnect_required");
    assert!(dead.text("/error").contains("invalid_grant"), "{dead:?}");
    assert_eq!(connection(&it.admin).await["statusCause"], "refresh_refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_may_say_in_its_own_way_that_a_token_is_over() {
    let rule = json!({ "expiredWhen": { "pointer": "/code", "matches": "^http_40[13]$" } });
    let it = World::start_with(rule, &["who", "show"]).await;
    it.connect(&it.admin).await;
    it.server.advance(Duration::minutes(1));
    it.vendor.expire_access();
    who(&it.admin).await.expect(200);
    assert_eq!(it.refreshes(), 1);

    // Also in an answer that is none of an error.
    it.install(json!({ "expiredWhen": { "pointer": "/error", "equals": "invalid_token" } }), &["soft"]).await;
    it.server.advance(Duration::minutes(1));
    it.vendor.expire_access();
    let answer = it.admin.call("mail", "soft", json!({})).await.expect(200);
    assert_eq!((answer.text("/account"), it.refreshes()), ("alice@vendor.example".into(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_neither_loses_a_token_nor_renews_it_again_and_again() {
    let mut it = World::start().await;
    it.connect(&it.admin).await;
    it.server.advance(Duration::hours(48));
    let admin = it.server.login("admin@example.com").await;
    for _ in 0..3 {
        who(&admin).await.expect(200);
    }
    assert_eq!(it.refreshes(), 1);
    it.server.advance(Duration::hours(-48));
    let admin = it.server.login("admin@example.com").await;
    who(&admin).await.expect(200);
    // A lease of a clock that was ahead binds nobody for two days.
    it.server
        .database
        .execute("update connections set refresh_until = now() + interval '2 days', refresh_at = now(), expires_at = now()")
        .await;
    it.server.restart().await;
    who(&it.server.login("admin@example.com").await).await.expect(200);
    assert_eq!(it.refreshes(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_nobody_uses_are_kept_alive() {
    let mut it = World::start().await;
    it.connect(&it.admin).await;
    it.server.advance(Duration::hours(25));
    it.server.restart().await;
    eventually("the token is renewed", async || (it.refreshes() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnecting_takes_the_tokens_back_and_says_what_came_of_it() {
    let it = World::start().await;
    it.connect(&it.admin).await;
    let token = it.vendor.refresh_token("alice@vendor.example").expect("a token");
    let id = connection(&it.admin).await["id"].as_str().expect("an id").to_owned();
    let deleted = it.admin.delete(&format!("/api/v1/integrations/mail/connections/{id}")).await.expect(200);
    assert_eq!((deleted.text("/revocation"), it.vendor.revoked()), ("revoked".into(), vec![token]));
    who(&it.admin).await.expect(409);

    it.install(json!({ "revokeUrl": "https://192.0.2.1/revoke" }), &["who"]).await;
    it.connect(&it.admin).await;
    let id = connection(&it.admin).await["id"].as_str().expect("an id").to_owned();
    let deleted = it.admin.delete(&format!("/api/v1/integrations/mail/connections/{id}")).await.expect(200);
    assert_eq!(deleted.text("/revocation"), "failed");
    assert!(deleted.text("/detail").contains("remove the access in its settings"), "{deleted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_proves_that_the_vendor_renews_the_token_or_says_why_not_and_what_to_do() {
    let it = World::start().await;
    it.connect(&it.admin).await;
    let id = connection(&it.admin).await["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/integrations/mail/connections/{id}/check");
    it.server.advance(Duration::minutes(1));
    let good = it.admin.post(&path, json!({})).await.expect(200);
    assert_eq!((good.value("/ok"), good.text("/findings/2/what"), it.refreshes()), (json!(true), "token".into(), 1), "{good:?}");

    it.server.advance(Duration::minutes(1));
    it.vendor.trouble(Trouble::Answer(503, json!({})));
    let away = it.admin.post(&path, json!({})).await.expect(200);
    assert!(away.value("/ok") == false && away.text("/findings/2/cure").contains("vendor is up"), "{away:?}");
    it.server.advance(Duration::seconds(10));
    it.vendor.forget("alice@vendor.example");
    let dead = it.admin.post(&path, json!({})).await.expect(200);
    assert!(dead.text("/findings/2/cure").contains("weft connect mail"), "{dead:?}");
    // From now on it is known.
    let known = it.admin.post(&path, json!({})).await.expect(200);
    assert_eq!(
        (known.value("/ok"), known.value("/findings/1/ok"), known.value("/findings/2")),
        (json!(false), json!(false), Value::Null)
    );
    let bob = it.server.user("bob").await;
    bob.post(&path, json!({})).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_rights_of_its_own_gets_tokens_without_anybody() {
    let it = World::start_with(json!({ "grant": "clientCredentials", "tokenRequestAuth": "body" }), &["who", "show"]).await;
    let started = it.admin.post(&format!("{AUTH}/start"), json!({ "shared": true, "label": "the client" })).await.expect(200);
    assert_eq!(started.text("/type"), "connected");
    let bob = it.server.user("bob").await;
    it.server.grant(&it.admin, &bob, &["integration:mail:*"]).await;
    assert_eq!(who(&bob).await.expect(200).text("/account"), "the-client");
    it.server.advance(Duration::minutes(61));
    let bob = it.server.login("bob@example.com").await;
    who(&bob).await.expect(200);
    assert_eq!(it.vendor.requests("client_credentials").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_the_vendor_does_not_know_is_the_administrators_business() {
    let it = World::start().await;
    it.connect(&it.admin).await;
    it.admin.put("/api/v1/integrations/mail/config", json!({ "clientSecret": "a wrong one" })).await.expect(200);
    it.server.advance(Duration::minutes(61));
    let admin = it.server.login("admin@example.com").await;
    assert_eq!(who(&admin).await.expect(409).code(), "not_configured");
    // Nothing is wrong with the connection.
    assert_eq!(connection(&admin).await["status"], "active");
    admin.put("/api/v1/integrations/mail/config", json!({ "clientSecret": FakeVendor::SECRET })).await.expect(200);
    it.server.advance(Duration::seconds(6));
    who(&admin).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clients_at_one_vendor_are_named_configurations_that_connections_remember() {
    let it = World::start().await;
    let configs = "/api/v1/integrations/mail/configs";
    it.admin.put("/api/v1/integrations/mail/config", json!({ "clientId": "another client" })).await.expect(200);
    let wrong = it.admin.post(configs, json!({ "label": "eu", "credentials": { "clientid": "x" } })).await.expect(400);
    assert_eq!(fault_paths(&wrong), ["$.clientid"]);
    let client = json!({ "label": "eu", "credentials": { "clientId": FakeVendor::CLIENT } });
    let id = it.admin.post(configs, client.clone()).await.expect(200).text("/id");
    it.admin.post(configs, client).await.expect(409);
    let list = it.admin.get(configs).await.expect(200);
    assert_eq!((list.text("/0/id"), list.text("/0/label")), (id.clone(), "eu".into()));
    assert!(!String::from_utf8_lossy(&list.bytes).contains(FakeVendor::CLIENT));

    let address = it.start_at(&it.admin, &format!("?config_id={id}")).await;
    it.server.anonymous().get(&address).await.expect(200);
    who(&it.admin).await.expect(200);
    it.server.advance(Duration::minutes(56));
    let admin = it.server.login("admin@example.com").await;
    who(&admin).await.expect(200);
    let clients: Vec<_> = it.vendor.requests("refresh_token").iter().map(|request| request["client_id"].clone()).collect();
    assert_eq!(clients, [FakeVendor::CLIENT]);

    let config = format!("{configs}/{id}");
    assert!(admin.delete(&config).await.expect(400).text("/error").contains("1 connection(s) still use this config"));
    admin.delete(AUTH).await.expect(200);
    admin.delete(&config).await.expect(200);
    admin.post(&format!("{AUTH}/start?config_id={id}"), json!({})).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_sync_is_made_and_what_it_says_cannot_become_a_part_of_the_page() {
    let it = World::start_with(json!({}), &["who", "sync_connect"]).await;
    let page = it.connect_as(&it.admin, "alice@vendor.example").await.expect(200);
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    let id = connection(&it.admin).await["id"].as_str().expect("an id").to_owned();
    assert!(text.contains("Connected, but sync failed") && text.contains(&format!("[SYNC] &lt;b&gt;{id}&lt;/b&gt;")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_may_lead_through_it_itself() {
    let it = World::start().await;
    let backend = |start: &str| {
        format!(
            "defineIntegration({{
                actions: {{ show: (_, ctx) => ctx.userCredentials }},
                authStart: ({{ callbackUrl, state }}) => ({start}),
                authCallback: ({{ query }}) => query.code === 'none' ? {{}} : ({{ credentials: {{ token: query.code }}, account: 'acme' }}),
            }});"
        )
    };
    let manifest = with(integration("chat", &["show"]), json!({ "userAuth": { "type": "redirect" } }));
    let shapes = [
        "{ redirectUrl: 'https://vendor.example/?back=' + encodeURIComponent(callbackUrl) + '&state=' + state }",
        "{ type: 'redirect', url: 'https://vendor.example/?state=' + state }",
    ];
    for shape in shapes {
        it.server.deploy(&it.admin, &manifest, &backend(shape)).await;
        let started = it.admin.post("/api/v1/integrations/chat/auth/start", json!({})).await.expect(200);
        let address = Url::parse(&started.text("/redirectUrl")).expect("an address");
        let state = address.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
        let back = |code: &str| format!("/api/v1/integrations/auth/callback?state={state}&code={code}");
        it.server.anonymous().get(&back("secret-code")).await.expect(200);
        it.server.anonymous().get(&back("secret-code")).await.expect(400);
        let shown = it.admin.call("chat", "show", json!({})).await.expect(200);
        assert_eq!(shown.text("/token"), "secret-code");
    }
    let list = it.admin.get("/api/v1/integrations/chat/connections").await.expect(200);
    assert_eq!((list.json.as_array().map(Vec::len), list.text("/0/label")), (Some(1), "acme".into()));
    for (shape, problem) in [
        ("null", "another shape"),
        ("{}", "returned no redirectUrl"),
        ("{ redirectUrl: 'javascript:alert(1)' }", "no web address"),
    ] {
        it.server.deploy(&it.admin, &manifest, &backend(shape)).await;
        let failed = it.admin.post("/api/v1/integrations/chat/auth/start", json!({})).await.expect(502);
        assert!(failed.text("/error").contains(problem), "{failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_named_configuration_says_otherwise_is_masked_wherever_a_backend_leads_through_it() {
    let it = World::start().await;
    let backend = "defineIntegration({
        actions: { show: (_, ctx) => ctx.userCredentials },
        authStart: ({ config }) => { throw new Error('no client ' + config.clientSecret); },
    });";
    let fields = json!({ "clientSecret": { "type": "string", "platformSecret": "CHAT_SECRET" } });
    let auth = json!({ "userAuth": { "type": "redirect" }, "configSchema": { "properties": fields } });
    it.server.deploy(&it.admin, &with(integration("chat", &["show"]), auth), backend).await;
    it.admin.put("/api/v1/integrations/chat/config", json!({ "clientSecret": "canary-of-all" })).await.expect(200);
    let named = json!({ "label": "eu", "credentials": { "clientSecret": "canary-of-eu" } });
    let id = it.admin.post("/api/v1/integrations/chat/configs", named).await.expect(200).text("/id");
    for query in [String::new(), format!("?config_id={id}")] {
        let failed = it.admin.post(&format!("/api/v1/integrations/chat/auth/start{query}"), json!({})).await.expect(502);
        assert!(failed.text("/error").contains("no client [masked]"), "{failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_new_token_is_refused_at_once_does_not_ask_for_another_with_each_call() {
    let it = World::start_with(json!({ "grant": "clientCredentials", "tokenRequestAuth": "body" }), &["who", "show"]).await;
    it.admin.post(&format!("{AUTH}/start"), json!({ "shared": true, "label": "the client" })).await.expect(200);
    let asked = it.vendor.requests("client_credentials").len();
    for _ in 0..3 {
        it.vendor.expire_access();
        assert_eq!(who(&it.admin).await.expect(424).code(), "vendor_auth");
    }
    assert_eq!(
        it.vendor.requests("client_credentials").len(),
        asked,
        "a token that is seconds old is refused for another reason"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_tokens_whose_vendor_is_away_wait_and_do_not_hold_up_others() {
    let mut it = World::start().await;
    it.connect(&it.admin).await;
    it.server.advance(Duration::hours(25));
    it.vendor.trouble(Trouble::Answer(503, json!({})));
    it.server.restart().await;
    eventually("the vendor is asked", async || (it.refreshes() == 1).then_some(())).await;
    // The next round leaves it alone for a while.
    it.server.restart().await;
    it.server.restart().await;
    assert_eq!(it.refreshes(), 1);
    it.server.advance(Duration::hours(2));
    it.server.restart().await;
    eventually("the token is renewed", async || (it.refreshes() == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_did_not_begin_is_told_for_whom_it_would_connect_and_asked() {
    let it = World::start().await;
    let browser = it.server.anonymous().staying();
    let visit = async |path: &str, cookie: &str| {
        let request = browser.request(Method::GET, path).header("accept", "text/html").header("sec-fetch-mode", "navigate");
        browser.send(request.header("cookie", cookie)).await
    };
    // Mallory sends somebody the address where she was told to go.
    let mallory = it.server.user("mallory").await;
    let address = it.start_at(&mallory, "").await;
    let back = browser.get(&address).await.expect(307).header("location").expect("an address").to_owned();
    let page = visit(&back, "").await.expect(200);
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    assert!(text.contains("mallory@example.com began to connect mail") && text.contains("close this tab"), "{text}");
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("form-action 'self'")), "{page:?}");
    assert_eq!(mallory.get(AUTH).await.expect(200).value("/connected"), json!(false));
    // Whoever wants that says so.
    let query = back.split_once('?').expect("a query").1.to_owned();
    let press = browser.request(Method::POST, "/api/v1/integrations/auth/callback").header("content-type", FORM).body(query);
    let done = browser.send(press).await.expect(200);
    assert!(String::from_utf8_lossy(&done.bytes).contains("mail is connected as alice@vendor.example, for mallory@example.com"));

    // The browser that began is not asked.
    let started = mallory.post(&format!("{AUTH}/start"), json!({})).await.expect(200);
    let cookie = started.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.starts_with("weft_connect=") && cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    let back = browser.get(&started.text("/url")).await.expect(307).header("location").expect("an address").to_owned();
    let done = visit(&back, cookie.split(';').next().expect("a pair")).await.expect(200);
    assert!(String::from_utf8_lossy(&done.bytes).contains("Connected to mail!"), "{done:?}");
    browser.send(browser.request(Method::POST, "/api/v1/integrations/auth/callback")).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_connects_in_a_browser_at_a_real_authorization_server() {
    let server =
        TestServer::start_with(ServeArgs { egress_allow: vec!["127.0.0.0/8".into(), "::1".into()], ..ServeArgs::default() })
            .await;
    let admin = server.user("admin").await;
    let (provider, browser) = (Provider::start(&server.url()).await, Browser::start().await);
    provider.account(account()).await;
    let auth = json!({
        "type": "oauth2", "authorizeUrl": format!("{}/auth", provider.issuer), "tokenUrl": format!("{}/token", provider.issuer),
        "revokeUrl": format!("{}/token/revocation", provider.issuer), "scopes": ["openid", "email"], "tokenRequestAuth": "basic",
    });
    let fields = json!({ "clientId": { "type": "string" }, "clientSecret": { "type": "string", "platformSecret": "SECRET" }, "apiUrl": { "type": "string" } });
    let manifest =
        with(integration("mail", &["who", "show"]), json!({ "userAuth": auth, "configSchema": { "properties": fields } }));
    server.deploy(&admin, &manifest, BACKEND).await;
    let config =
        json!({ "clientId": Provider::CLIENT, "clientSecret": Provider::SECRET, "apiUrl": format!("{}/me", provider.issuer) });
    admin.put("/api/v1/integrations/mail/config", config).await.expect(200);

    let address = admin.post(&format!("{AUTH}/start"), json!({})).await.expect(200).text("/url");
    let page = browser.log_in(&address, "alice").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(
        page.text.contains("Connect mail?") && page.text.contains("admin@example.com began to connect mail"),
        "{}",
        page.text
    );
    let steps = json!([["press", "Connect for admin@example.com"], ["see", "Connected to mail!"]]);
    let page = browser.act(&page.url, &steps).await;
    assert!(page.text.contains("Connected to mail!") && page.text.contains("alice@example.com"), "{}", page.text);
    assert_eq!(who(&admin).await.expect(200).text("/sub"), "alice");
    // It lasts an hour at this provider; the refresh token is good once.
    for _ in 0..2 {
        server.advance(Duration::minutes(56));
        who(&server.login("admin@example.com").await).await.expect(200);
    }
    let admin = server.login("admin@example.com").await;
    let id = connection(&admin).await["id"].as_str().expect("an id").to_owned();
    let deleted = admin.delete(&format!("/api/v1/integrations/mail/connections/{id}")).await.expect(200);
    assert_eq!(deleted.text("/revocation"), "revoked");

    browser.forget().await;
    let address = admin.post(&format!("{AUTH}/start"), json!({})).await.expect(200).text("/url");
    let page = browser.cancel(&address).await;
    assert_eq!(page.status, 424, "{page:?}");
    assert!(page.text.contains("access was not granted [access_denied] (the person said <no>)"), "{}", page.text);
}
