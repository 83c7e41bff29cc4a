//! Tokens that the server gets by itself: with a service account's key, for an app that was installed, by logging in.

use std::sync::Arc;

use chrono::Duration;
use futures::{StreamExt, future::join_all, stream};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::sync::Notify;
use weft_testkit::{Answer, Api, TestServer, canary::assert_without, issuer::FakeIssuer};

use crate::{
    fixtures::{eventually, fault_paths, integration, with},
    sign_on::server,
};

/// `me` is a recipe; `show` is what a backend gets.
const BACKEND: &str = "defineIntegration({ actions: { show: (_, ctx) => ctx.userCredentials } });";
const AUTH: &str = "/api/v1/integrations/files/auth";
const PROXY: &str = "/api/v1/integrations/files/proxy/me";

/// A server, a vendor, and an integration that gets tokens there.
struct World {
    server: TestServer,
    vendor: FakeIssuer,
    admin: Api,
}

impl World {
    async fn start(auth: impl Fn(&FakeIssuer) -> Value) -> Self {
        let (server, vendor) = (server().await, FakeIssuer::start().await);
        vendor.setup_url(&format!("{}/api/v1/integrations/auth/callback", server.url()));
        let admin = server.user("admin").await;
        let manifest = manifest(&vendor, &auth(&vendor));
        server.deploy(&admin, &manifest, BACKEND).await;
        Self { server, vendor, admin }
    }

    async fn enter(&self, api: &Api, credentials: Value) -> Answer {
        api.post(&format!("{AUTH}/credentials"), json!({ "credentials": credentials })).await
    }

    async fn connection(&self, api: &Api) -> Value {
        api.get("/api/v1/integrations/files/connections").await.expect(200).value("/0")
    }
}

fn manifest(vendor: &FakeIssuer, auth: &Value) -> Value {
    let fields = json!({
        "appId": { "type": "string" }, "appSlug": { "type": "string" },
        "appKey": { "type": "string", "platformSecret": "FILES_APP_KEY" },
    });
    let recipe = json!({ "id": "me", "name": "Me", "effect": "read", "recipe": { "method": "GET", "path": "/me" } });
    let http = json!({ "baseUrl": vendor.url(""), "auth": { "type": "bearer", "token": "{{ credentials.accessToken }}" } });
    let actions = json!([recipe, { "id": "show", "name": "Show" }]);
    let more = json!({ "configSchema": { "properties": fields }, "userAuth": auth, "http": http, "actions": actions });
    with(integration("files", &[]), more)
}

/// A service account as Google has it.
fn service_account(vendor: &FakeIssuer) -> Value {
    json!({
        "type": "token",
        "schema": {
            "type": "object", "required": ["client_email", "private_key"],
            "properties": {
                "client_email": { "type": "string" }, "private_key": { "type": "string", "secret": true }, "subject": { "type": "string" },
            },
        },
        "jwt": {
            "key": "{private_key}", "lifetime": 3600,
            "claims": { "iss": "{client_email}", "sub": "{subject}", "scope": "files", "aud": vendor.url("/oauth/token"), "jti": "{uuid}" },
        },
        "request": {
            "url": vendor.url("/oauth/token"),
            "form": { "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "{jwt}" },
        },
        "label": "{client_email}",
    })
}

/// The installation of an app as GitHub has it.
fn installation(vendor: &FakeIssuer) -> Value {
    json!({
        "type": "token",
        "schema": { "type": "object", "required": ["installationId"], "properties": { "installationId": { "type": "string", "pattern": "^[0-9]+$" } } },
        "installation": { "url": vendor.url("/apps/{appSlug}/installations/new"), "fields": { "installationId": "installation_id" } },
        "jwt": { "key": "{appKey}", "lifetime": 600, "claims": { "iss": "{appId}" } },
        "request": {
            "url": vendor.url("/app/installations/{installationId}/access_tokens"), "headers": { "authorization": "Bearer {jwt}" },
        },
        "responseMapping": { "accessToken": "/token", "expiresAt": "/expires_at" },
        "label": "installation {installationId}",
    })
}

/// A session that one logs in to.
fn login(vendor: &FakeIssuer) -> Value {
    json!({
        "type": "token",
        "schema": {
            "type": "object", "required": ["user", "password"],
            "properties": { "user": { "type": "string" }, "password": { "type": "string", "secret": true } },
        },
        "request": { "url": vendor.url("/login"), "json": { "user": "{user}", "password": "{password}" } },
        "responseMapping": { "accessToken": "/data/session", "expiresIn": "/data/ttl" },
        "label": "{user}",
    })
}

async fn me(api: &Api) -> Answer {
    api.call("files", "me", json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_entered_once_and_its_assertions_are_exchanged_one_at_a_time() {
    let it = World::start(service_account).await;
    let start = it.admin.post(&format!("{AUTH}/start"), json!({})).await.expect(200);
    assert_eq!((start.text("/type"), start.value("/schema/required/1")), ("credentials".into(), json!("private_key")));
    let account = json!({ "client_email": FakeIssuer::ROBOT, "private_key": FakeIssuer::RSA_KEY });

    // What is wrong is told with its place, before anything is kept.
    let refused = it.enter(&it.admin, with(account.clone(), json!({ "private_key": FakeIssuer::EC_KEY }))).await.expect(400);
    assert_eq!(fault_paths(&refused), ["$.credentials.private_key"]);
    let refused = it.enter(&it.admin, with(account.clone(), json!({ "client_email": "other@vendor.example" }))).await.expect(424);
    assert_eq!(refused.code(), "connect_failed");
    assert!(refused.text("/error").contains("invalid_grant (Invalid JWT Signature: [masked])"), "{refused:?}");
    assert_eq!(it.admin.get(AUTH).await.expect(200).value("/connected"), json!(false));

    let entered = it.enter(&it.admin, account.clone()).await.expect(200);
    assert_eq!(entered.text("/label"), FakeIssuer::ROBOT);
    assert_eq!(me(&it.admin).await.expect(200).text("/account"), FakeIssuer::ROBOT);
    let shown = it.admin.call("files", "show", json!({})).await.expect(200);
    assert!(shown.text("/accessToken").starts_with("token-robot") && shown.text("/expiresAt").ends_with('Z'), "{shown:?}");
    assert_eq!((shown.text("/client_email"), shown.value("/private_key")), (FakeIssuer::ROBOT.into(), Value::Null));

    // Hundreds of calls need a new token: one assertion is signed and exchanged.
    let asked = it.vendor.requests("assertion");
    it.server.advance(Duration::minutes(56));
    let admin = it.server.login("admin@example.com").await;
    let release = Arc::new(Notify::new());
    it.vendor.hold(&release);
    let calls = join_all((0..200).map(|_| me(&admin)));
    let watch = async {
        eventually("the vendor is asked", async || (it.vendor.requests("assertion") > asked).then_some(())).await;
        release.notify_one();
    };
    let (answers, ()) = tokio::join!(calls, watch);
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(it.vendor.requests("assertion"), asked + 1);

    // For somebody of the account's domain, who may cease to be there.
    let subject = with(account, json!({ "subject": "ada@vendor.example" }));
    let id = it.connection(&admin).await["id"].as_str().expect("an id").to_owned();
    let again = json!({ "credentials": subject });
    admin.post(&format!("{AUTH}/credentials?connection_id={id}"), again).await.expect(200);
    assert_eq!(me(&admin).await.expect(200).text("/account"), "ada@vendor.example");
    let key_line = FakeIssuer::RSA_KEY.lines().nth(1).expect("a line").to_owned();
    let runs = json!(admin.runs("files", 5).await).to_string();
    assert_without(&[key_line], &runs, "the runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_installed_at_the_vendor_and_gets_tokens_for_that_installation() {
    let it = World::start(installation).await;
    let config = json!({ "appId": FakeIssuer::APP, "appSlug": "weft", "appKey": FakeIssuer::RSA_KEY });
    it.admin.put("/api/v1/integrations/files/config", config).await.expect(200);
    // The server's own key signs for any installation that is named, so naming one is not for everybody.
    let bob = it.server.user("bob").await;
    it.server.grant(&it.admin, &bob, &["integration:files:me"]).await;
    assert_eq!(bob.post(&format!("{AUTH}/start"), json!({})).await.expect(403).code(), "forbidden");
    it.enter(&bob, json!({ "installationId": FakeIssuer::INSTALLATION })).await.expect(403);

    let started = it.admin.post(&format!("{AUTH}/start"), json!({ "shared": true })).await.expect(200);
    assert_eq!(started.text("/type"), "redirect");
    let page = it.server.anonymous().get(&started.text("/url")).await.expect(200);
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    assert!(text.contains("files is connected as installation 42, for everybody in your organisation."), "{text}");
    assert_eq!(me(&bob).await.expect(200).text("/account"), "installation-42");
    let connection = it.connection(&it.admin).await;
    assert_eq!((&connection["label"], &connection["shared"]), (&json!("installation 42"), &json!(true)));

    it.server.advance(Duration::minutes(56));
    let bob = it.server.login("bob@example.com").await;
    me(&bob).await.expect(200);
    assert_eq!(it.vendor.requests("installation"), 2);

    // A key that the vendor does not know is the administrator's business.
    let admin = it.server.login("admin@example.com").await;
    admin.put("/api/v1/integrations/files/config", json!({ "appId": "1" })).await.expect(200);
    it.server.advance(Duration::minutes(1));
    it.vendor.expire_access();
    assert_eq!(me(&bob).await.expect(409).code(), "not_configured");
    assert_eq!(it.connection(&admin).await["status"], "active");
    admin.put("/api/v1/integrations/files/config", json!({ "appId": FakeIssuer::APP })).await.expect(200);
    it.server.advance(Duration::seconds(6));
    me(&bob).await.expect(200);
    // The app was removed at the vendor.
    it.server.advance(Duration::minutes(1));
    it.vendor.revoke_all();
    let dead = me(&bob).await.expect(424);
    assert_eq!(dead.code(), "reconnect_required");
    assert!(dead.text("/error").contains("http_404 (Not Found)"), "{dead:?}");
    assert_eq!(it.connection(&admin).await["statusCause"], "refresh_refused");
    // Somebody who comes back without having installed anything connects nothing.
    let started = admin.post(&format!("{AUTH}/start"), json!({})).await.expect(200).text("/url");
    let state = started.split_once("state=").expect("a state").1;
    let back = format!("/api/v1/integrations/auth/callback?state={state}&setup_action=request");
    let page = it.server.anonymous().get(&back).await.expect(424);
    assert!(page.text("/error").contains("no 'installation_id'"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_logged_in_to_again_when_it_is_over_or_refused_and_the_password_shows_nowhere() {
    let it = World::start(login).await;
    let wrong = it.enter(&it.admin, json!({ "user": "ada", "password": "a wrong one" })).await.expect(424);
    assert!(wrong.text("/error").contains("BAD_LOGIN (the password \"[masked]\" is wrong)"), "{wrong:?}");
    it.enter(&it.admin, json!({ "user": "ada", "password": "correct horse" })).await.expect(200);
    assert_eq!(me(&it.admin).await.expect(200).text("/account"), "ada");
    it.server.advance(Duration::minutes(18));
    let admin = it.server.login("admin@example.com").await;
    me(&admin).await.expect(200);
    it.server.advance(Duration::minutes(1));
    it.vendor.expire_access();
    me(&admin).await.expect(200);
    assert_eq!(it.vendor.requests("login"), 4, "a wrong one, the first, one before the end, one after a refusal");

    let id = it.connection(&admin).await["id"].as_str().expect("an id").to_owned();
    let check = format!("/api/v1/integrations/files/connections/{id}/check");
    it.server.advance(Duration::minutes(1));
    let good = admin.post(&check, json!({})).await.expect(200);
    assert_eq!((good.value("/ok"), good.text("/findings/2/what")), (json!(true), "token".into()), "{good:?}");
    it.server.advance(Duration::minutes(1));
    it.vendor.revoke_all();
    let dead = me(&admin).await.expect(424);
    assert_eq!(dead.code(), "reconnect_required");
    let connection = it.connection(&admin).await.to_string();
    assert_without(
        &["correct horse".to_owned()],
        &format!("{dead:?}{connection}{:?}", admin.runs("files", 4).await),
        "what is told",
    );
    assert_eq!(
        admin.delete(&format!("/api/v1/integrations/files/connections/{id}")).await.expect(200).text("/revocation"),
        "not_offered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_signs_may_be_the_token_itself() {
    let auth = |_: &FakeIssuer| {
        json!({
            "type": "token",
            "schema": { "type": "object", "required": ["issuer", "key"], "properties": { "issuer": { "type": "string" }, "key": { "type": "string", "secret": true } } },
            "jwt": { "algorithm": "ES256", "key": "{key}", "keyId": "{issuer}", "lifetime": 300, "claims": { "iss": "{issuer}", "aud": "vendor" } },
        })
    };
    let it = World::start(auth).await;
    it.enter(&it.admin, json!({ "issuer": "team-1", "key": FakeIssuer::EC_KEY })).await.expect(200);
    assert_eq!(me(&it.admin).await.expect(200).text("/account"), "team-1");
    let token = async || it.admin.call("files", "show", json!({})).await.expect(200).text("/accessToken");
    let before = token().await;
    it.server.advance(Duration::minutes(4));
    assert_eq!(me(&it.admin).await.expect(200).text("/account"), "team-1");
    assert_ne!(token().await, before);

    // What a manifest gets wrong is told when it is installed.
    let wrong = with(auth(&it.vendor), json!({ "jwt": { "key": "{keys}" } }));
    let refused = it.admin.post("/api/v1/apps", manifest(&it.vendor, &wrong)).await.expect(400);
    assert_eq!(fault_paths(&refused), ["$.userAuth.jwt.key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_through_the_proxy_is_made_once_more_with_a_newer_token_if_it_can_be_sent_again() {
    let it = World::start(login).await;
    it.enter(&it.admin, json!({ "user": "ada", "password": "correct horse" })).await.expect(200);
    it.server.advance(Duration::minutes(1));
    it.vendor.expire_access();
    let post = |body: Body| it.admin.send(it.admin.request(Method::POST, PROXY).body(body));
    let answers = join_all((0..20).map(|index| post(format!("message {index}").into()))).await;
    for (index, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.expect(200).text("/sent"), format!("message {index}"));
    }
    assert_eq!(it.vendor.requests("login"), 2);
    it.server.advance(Duration::minutes(1));
    it.vendor.expire_access();
    it.admin.get(PROXY).await.expect(200);

    // What comes as it is made cannot be sent again. It gets its refusal, and the next one a token that is good.
    it.server.advance(Duration::minutes(1));
    it.vendor.expire_access();
    let streamed = || Body::wrap_stream(stream::iter(["in ", "parts"]).map(Ok::<_, std::io::Error>));
    let refused = post(streamed()).await.expect(401);
    assert!(refused.header("x-weft-run-id").is_some(), "it is the vendor's: {refused:?}");
    assert_eq!(post(streamed()).await.expect(200).text("/sent"), "in parts");
    assert_eq!(it.vendor.requests("login"), 4);
    // Nobody can log in any more: the call says what to do.
    it.server.advance(Duration::minutes(1));
    it.vendor.revoke_all();
    assert_eq!(post("x".into()).await.expect(424).code(), "reconnect_required");
}
