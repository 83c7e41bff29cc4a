//! Single sign-on with a real provider and a real browser: `/api/v1/auth/oidc/{provider_id}/authorize` and its callback.

use chrono::Duration;
use futures::future::join_all;
use reqwest::Url;
use serde_json::{Value, json};
use weft_server::ServeArgs;
use weft_testkit::{
    Answer, Api, TestServer,
    sign_on::{Browser, Page, Provider},
};

use crate::fixtures::with;

const ME: &str = "/api/v1/auth/me";
const PROVIDERS: &str = "/api/v1/auth/oidc/providers";

/// A server that may call this machine.
pub async fn server() -> TestServer {
    TestServer::start_with(ServeArgs { egress_allow: vec!["127.0.0.0/8".into(), "::1".into()], ..ServeArgs::default() }).await
}

/// A server, its administrator, and a provider `sso` that it knows, where alice has an account with a verified address.
pub struct SignOn {
    pub server: TestServer,
    pub admin: Api,
    pub provider: Provider,
}

impl SignOn {
    pub async fn start() -> Self {
        let server = server().await;
        let admin = server.user("admin").await;
        let provider = Provider::start(&server.url()).await;
        provider.account(alice()).await;
        let sign_on = Self { server, admin, provider };
        sign_on.save(json!({})).await.expect(200);
        sign_on
    }

    /// Saves the provider with more in its configuration.
    pub async fn save(&self, more: Value) -> Answer {
        self.admin.post(PROVIDERS, with(self.provider.configuration("sso"), more)).await
    }

    /// Where a login begins that leads to `/health` of the server, with more in its query.
    pub fn begin(&self, more: &str) -> String {
        let app = format!("{}/health?from=app", self.server.url());
        let mut url = Url::parse(&self.begin_here()).expect("an address");
        url.query_pairs_mut().append_pair("redirect_uri", &app);
        format!("{url}&{more}")
    }

    /// Where a login begins that leads nowhere.
    pub fn begin_here(&self) -> String {
        format!("{}/api/v1/auth/oidc/sso/authorize", self.server.url())
    }

    /// The tokens that a page leads to.
    pub async fn tokens(&self, page: &Page) -> Api {
        let nonce = page.parameter("auth_nonce").unwrap_or_else(|| panic!("no nonce: {page:?}"));
        let answer = self.server.anonymous().post("/api/v1/auth/nonce-exchange", json!({ "nonce": nonce })).await.expect(200);
        self.server.anonymous().with_token(answer.text("/accessToken")).with_refresh_token(answer.text("/refreshToken"))
    }

    pub async fn exchange(&self, token: &str) -> Answer {
        let body = json!({ "providerId": "sso", "idToken": token });
        self.server.anonymous().post("/api/v1/auth/oidc/token-exchange", body).await
    }

    async fn roles(&self, user: &Api) -> Vec<Value> {
        let id = user.get(ME).await.expect(200).value("/id");
        let assignments = self.admin.get("/api/v1/roles/assignments").await.expect(200);
        let all = assignments.json.as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|one| one["userId"] == id).map(|one| one["role"].clone()).collect()
    }
}

/// Begins a login as a program that is no browser; where it would go, and the state in that.
async fn begun(program: &Api, begin: &str) -> (String, String) {
    let address = program.get(begin).await.expect(307).header("location").expect("an address").to_owned();
    let url = Url::parse(&address).expect("an address");
    let state = url.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
    (address, state)
}

pub fn alice() -> Value {
    json!({ "sub": "alice", "email": "alice@example.com", "email_verified": true, "name": "Alice Martin" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_on_and_gets_a_nonce_that_is_exchanged_once() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    let page = browser.log_in(&it.begin("token_delivery=nonce"), "alice").await;
    assert!(page.url.starts_with(&format!("{}/health?from=app&auth_nonce=", it.server.url())), "{}", page.url);
    assert!(!page.url.contains("token") && !page.url.contains('#'), "{}", page.url);
    assert_eq!((page.status, page.referer.as_deref()), (200, None));

    let alice = it.tokens(&page).await;
    let me = alice.get(ME).await.expect(200);
    assert_eq!([me.text("/email"), me.text("/displayName")], ["alice@example.com", "Alice Martin"]);
    alice.post("/api/v1/auth/refresh", json!({ "refreshToken": alice.refresh_token })).await.expect(200);
    let again = json!({ "nonce": page.parameter("auth_nonce") });
    assert_eq!(it.server.anonymous().post("/api/v1/auth/nonce-exchange", again).await.expect(401).code(), "unauthenticated");

    let page = browser.open(&it.begin("token_delivery=nonce")).await;
    it.server.advance(Duration::seconds(31));
    let late = json!({ "nonce": page.parameter("auth_nonce") });
    it.server.anonymous().post("/api/v1/auth/nonce-exchange", late).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_clients_get_tokens_in_query_and_fragment_and_who_has_no_page_gets_them_as_the_answer() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    let page = browser.log_in(&it.begin(""), "alice").await;
    let token = page.parameter("access_token").expect("a token");
    let alice = it.server.anonymous().with_token(&token);
    assert_eq!(alice.get(ME).await.expect(200).text("/email"), "alice@example.com");
    let (refresh, expires) = (page.parameter("refresh_token").expect("a token"), page.parameter("expires_in"));
    assert_eq!(expires.as_deref(), Some("900"));
    it.server.anonymous().post("/api/v1/auth/refresh", json!({ "refreshToken": refresh })).await.expect(200);
    assert!(page.url.ends_with(&format!("#access_token={token}&refresh_token={refresh}&expires_in=900")), "{}", page.url);
    assert_eq!(page.referer, None);

    let page = browser.open(&it.begin_here()).await;
    let tokens: Value = serde_json::from_str(&page.text).expect("the page is JSON");
    assert_eq!(crate::auth::members(&tokens), ["accessToken", "expiresIn", "refreshToken"]);
    let alice = it.server.anonymous().with_token(tokens["accessToken"].as_str().expect("a token"));
    alice.get(ME).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_begins_under_another_name_of_the_server_is_led_to_the_public_one() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    let begin = it.begin("token_delivery=nonce").replacen("127.0.0.1", "localhost", 1);
    let page = browser.log_in(&begin, "alice").await;
    it.tokens(&page).await.get(ME).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_accounts_get_the_roles_of_the_claim_or_else_the_default() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    for role in ["editor", "reader"] {
        it.admin.post("/api/v1/roles", json!({ "name": role, "permissions": [] })).await.expect(200);
    }
    it.save(json!({ "roleClaim": "groups", "defaultRole": "reader" })).await.expect(200);
    for (name, groups, expected) in [
        ("one", json!("editor"), json!(["editor"])),
        ("many", json!(["nonsense", "editor", "base"]), json!(["base", "editor"])),
        ("none", json!(["nonsense"]), json!(["reader"])),
        ("absent", json!(null), json!(["reader"])),
    ] {
        it.provider.account(json!({ "sub": name, "email": format!("{name}@example.com"), "groups": groups })).await;
        browser.forget().await;
        let user = it.tokens(&browser.log_in(&it.begin("token_delivery=nonce"), name).await).await;
        let mut roles = it.roles(&user).await;
        roles.sort_by_key(Value::to_string);
        assert_eq!(json!(roles), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_leaves_the_address_to_its_userinfo_endpoint_is_asked_there() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    it.provider.keep_tokens_plain().await;
    let user = it.tokens(&browser.log_in(&it.begin("token_delivery=nonce"), "alice").await).await;
    let me = user.get(ME).await.expect(200);
    assert_eq!([me.text("/email"), me.text("/displayName")], ["alice@example.com", "Alice Martin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_linked_by_a_verified_address_and_by_no_other() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    let (alice, bob) = (it.server.user("alice").await, it.server.user("bob").await);
    let page = browser.log_in(&it.begin("token_delivery=nonce"), "alice").await;
    let signed_on = it.tokens(&page).await;
    assert_eq!(signed_on.get(ME).await.expect(200).value("/id"), alice.get(ME).await.expect(200).value("/id"));
    it.server.login("alice@example.com").await;

    for verified in [json!(false), json!(null), json!("false")] {
        it.provider.account(json!({ "sub": "mallory", "email": "Bob@example.com", "email_verified": verified })).await;
        browser.forget().await;
        let page = browser.log_in(&it.begin("token_delivery=nonce"), "mallory").await;
        assert_eq!(page.parameter("error").as_deref(), Some("not_admitted"), "{page:?}");
        assert!(page.parameter("error_description").is_some_and(|text| text.contains("has not verified")), "{page:?}");
    }
    let page = browser.open(&it.begin_here()).await;
    assert_eq!(page.status, 403, "{page:?}");
    assert!(page.text.contains("has not verified"), "{page:?}");

    it.provider.account(json!({ "sub": "bob", "email": "BOB@example.com", "email_verified": true })).await;
    browser.forget().await;
    let signed_on = it.tokens(&browser.log_in(&it.begin("token_delivery=nonce"), "bob").await).await;
    assert_eq!(signed_on.get(ME).await.expect(200).value("/id"), bob.get(ME).await.expect(200).value("/id"));

    // Somebody else at the provider with the same address, which now belongs to another subject.
    it.provider.account(json!({ "sub": "bob2", "email": "bob@example.com", "email_verified": true })).await;
    browser.forget().await;
    let page = browser.log_in(&it.begin(""), "bob2").await;
    assert_eq!(page.parameter("error").as_deref(), Some("not_admitted"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_account_follows_the_provider_but_takes_no_address_that_is_taken_or_unverified() {
    let it = SignOn::start().await;
    it.server.user("bob").await;
    let token = async |claims: Value| {
        let answer = it.exchange(&it.provider.sign(json!({ "claims": with(json!({ "sub": "alice" }), claims) })).await).await;
        it.server.anonymous().with_token(answer.expect(200).text("/accessToken")).get(ME).await.expect(200)
    };
    let first = token(json!({ "email": "alice@example.com" })).await;
    for (claims, email, name) in [
        (json!({ "email": "alice@new.example.com", "email_verified": true, "name": "Ada" }), "alice@new.example.com", "Ada"),
        (json!({ "email": "alice@unverified.example.com", "preferred_username": "al" }), "alice@new.example.com", "al"),
        (json!({ "email": "bob@example.com", "email_verified": true }), "alice@new.example.com", "al"),
        (json!({}), "alice@new.example.com", "al"),
    ] {
        let me = token(claims.clone()).await;
        assert_eq!(me.value("/id"), first.value("/id"));
        assert_eq!([me.text("/email"), me.text("/displayName")], [email, name], "{claims}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_provisioned_or_disabled_is_told_so() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    it.save(json!({ "autoRegister": false })).await.expect(200);
    let page = browser.log_in(&it.begin(""), "alice").await;
    assert_eq!(page.parameter("error").as_deref(), Some("not_admitted"), "{page:?}");
    let page = browser.open(&it.begin_here()).await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("user not provisioned"), "{page:?}");

    it.server.user("alice").await;
    browser.open(&it.begin_here()).await;
    it.server
        .database
        .execute(
            "update memberships set disabled_at = now() where user_id = (select id from users where email = 'alice@example.com')",
        )
        .await;
    let page = browser.open(&it.begin_here()).await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("the account is disabled"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_refuses_is_explained_where_the_login_leads() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    let page = browser.cancel(&it.begin("token_delivery=nonce")).await;
    assert_eq!(page.parameter("error").as_deref(), Some("access_denied"), "{page:?}");
    assert!(page.parameter("error_description").is_some_and(|text| text.contains("the person said <no>")), "{page:?}");
    let page = browser.cancel(&it.begin_here()).await;
    assert_eq!(page.status, 401, "{page:?}");
    assert!(page.text.contains("access_denied (the person said <no>)"), "{page:?}");

    it.save(json!({ "clientSecret": "a wrong one" })).await.expect(200);
    let page = browser.log_in(&it.begin(""), "alice").await;
    assert_eq!(page.parameter("error").as_deref(), Some("sign_on_failed"), "{page:?}");
    assert!(page.parameter("error_description").is_some_and(|text| text.contains("invalid_client")), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_comes_back_once_in_its_own_browser_and_in_time() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    let program = it.server.anonymous().staying();
    let page = browser.log_in(&it.begin("token_delivery=nonce"), "alice").await;
    let callback = page.visited.iter().find(|url| url.contains("/callback?")).expect("the callback was visited");
    let replayed = program.get(callback).await.expect(401);
    assert_eq!(replayed.code(), "sign_on_failed");
    assert!(replayed.text("/error").contains("invalid or expired state"), "{replayed:?}");
    assert_eq!(browser.open(callback).await.status, 401);

    // Begun by somebody else, who lures this browser into finishing it.
    let (address, _) = begun(&program, &it.begin("")).await;
    let page = browser.open(&address).await;
    assert_eq!(page.status, 401, "{page:?}");
    assert!(page.text.contains("begun in another browser"), "{page:?}");

    // A program that is no browser may finish what it began.
    let (_, state) = begun(&program, &it.begin("")).await;
    let callback = format!("/api/v1/auth/oidc/callback?error=access_denied&state={state}");
    assert!(program.get(&callback).await.expect(401).text("/error").contains("access_denied"));
    assert!(program.get(&callback).await.expect(401).text("/error").contains("invalid or expired state"));

    let (_, state) = begun(&program, &it.begin("")).await;
    it.server.advance(Duration::minutes(10));
    let late = program.get(&format!("/api/v1/auth/oidc/callback?code=c&state={state}")).await.expect(401);
    assert!(late.text("/error").contains("expired"), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_ahead_at_a_callback_uses_nothing_up() {
    let it = SignOn::start().await;
    let program = it.server.anonymous().staying();
    let (_, state) = begun(&program, &it.begin("")).await;
    let callback = format!("/api/v1/auth/oidc/callback?error=access_denied&state={state}");
    program.send(program.request(reqwest::Method::HEAD, &callback)).await.expect(405);
    program.send(program.request(reqwest::Method::GET, &callback).header("sec-purpose", "prefetch;prerender")).await.expect(409);
    assert!(program.get(&callback).await.expect(401).text("/error").contains("access_denied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_refused_in_the_flow_and_at_the_exchange() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    let now = it.server.clock.now().timestamp();
    for (what, changes, why) in [
        ("unsigned", json!({ "header": { "alg": "none" } }), "No signature"),
        ("signed with the public key", json!({ "header": { "alg": "HS256" } }), "Disallowed signature"),
        ("for another client", json!({ "claims": { "aud": "other" } }), "Invalid audiences"),
        ("for several clients", json!({ "claims": { "aud": ["weft", "other"] } }), "does not say who asked"),
        ("by another client", json!({ "claims": { "aud": ["weft", "other"], "azp": "other" } }), "for another client"),
        ("from another issuer", json!({ "claims": { "iss": "https://evil.example.com" } }), "Invalid issuer"),
        ("expired", json!({ "claims": { "iat": now - 500, "exp": now - 61 } }), "Expired"),
        ("from the future", json!({ "claims": { "iat": now + 300 } }), "from the future"),
        ("of nobody", json!({ "claims": { "sub": "" } }), "subject is empty"),
        ("with a key that nobody has", json!({ "header": { "kid": "other" } }), "fits no key"),
    ] {
        it.provider.tamper(changes.clone()).await;
        let page = browser.log_in(&it.begin("token_delivery=nonce"), "alice").await;
        assert_eq!(page.parameter("error").as_deref(), Some("sign_on_failed"), "{what}: {page:?}");
        let text = page.parameter("error_description").unwrap_or_default();
        assert!(text.contains(why), "{what}: {text}");

        let token = it.provider.sign(json!({
            "claims": with(with(alice(), json!({})), changes.get("claims").cloned().unwrap_or_else(|| json!({}))),
            "header": changes.get("header").cloned().unwrap_or_else(|| json!({})),
        }));
        let answer = it.exchange(&token.await).await.expect(401);
        assert!(answer.text("/error").contains(why), "{what}: {answer:?}");
    }
    it.provider.tamper(json!({ "claims": { "nonce": "another" } })).await;
    let page = browser.open(&it.begin("")).await;
    assert!(page.parameter("error_description").is_some_and(|text| text.contains("nonce")), "{page:?}");
    it.provider.tamper(json!({ "claims": { "nonce": null } })).await;
    let page = browser.open(&it.begin("")).await;
    assert!(page.parameter("error_description").is_some_and(|text| text.contains("nonce")), "{page:?}");

    it.provider.tamper(json!({ "claims": { "aud": ["weft", "other"], "azp": "weft" } })).await;
    it.tokens(&browser.open(&it.begin("token_delivery=nonce")).await).await;
    it.provider.tamper(Value::Null).await;
    it.tokens(&browser.open(&it.begin("token_delivery=nonce")).await).await;
    assert_eq!(it.admin.get("/api/v1/users").await.json.as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_provider_replaced_are_fetched_but_not_for_every_made_up_one() {
    let (it, browser) = (SignOn::start().await, Browser::start().await);
    it.tokens(&browser.log_in(&it.begin("token_delivery=nonce"), "alice").await).await;
    it.provider.rotate().await;
    it.server.advance(Duration::seconds(11));
    it.tokens(&browser.log_in(&it.begin("token_delivery=nonce"), "alice").await).await;

    let fetched = it.provider.key_fetches().await;
    it.server.advance(Duration::seconds(11));
    let made_up = it.provider.sign(json!({ "claims": alice(), "header": { "kid": "made up" } })).await;
    for answer in join_all((0..10).map(|_| it.exchange(&made_up))).await {
        answer.expect(401);
    }
    assert_eq!(it.provider.key_fetches().await, fetched + 1);
    it.exchange(&it.provider.sign(json!({ "claims": alice() })).await).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_may_be_a_minute_apart_and_no_more() {
    let it = SignOn::start().await;
    let fresh = it.provider.sign(json!({ "claims": alice() })).await;
    it.server.advance(Duration::seconds(-50));
    it.exchange(&fresh).await.expect(200);
    it.server.advance(Duration::seconds(-30));
    assert!(it.exchange(&fresh).await.expect(401).text("/error").contains("from the future"));
    it.server.advance(Duration::seconds(80 + 3600 + 40));
    it.exchange(&fresh).await.expect(200);
    it.server.advance(Duration::seconds(30));
    assert!(it.exchange(&fresh).await.expect(401).text("/error").contains("Expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_down_what_is_known_of_it_serves_for_a_day() {
    let it = SignOn::start().await;
    let in_two_days = it.server.clock.now().timestamp() + 2 * 86_400;
    let token = it.provider.sign(json!({ "claims": with(alice(), json!({ "exp": in_two_days })) })).await;
    let SignOn { server, provider, .. } = it;
    let begin = format!("{}/api/v1/auth/oidc/sso/authorize", server.url());
    drop(provider);
    let program = server.anonymous().staying();
    let exchange = async || {
        let body = json!({ "providerId": "sso", "idToken": token });
        program.post("/api/v1/auth/oidc/token-exchange", body).await
    };
    server.advance(Duration::hours(2));
    program.get(&begin).await.expect(307);
    exchange().await.expect(200);
    server.advance(Duration::hours(23));
    let down = program.get(&begin).await.expect(502);
    assert_eq!(down.code(), "vendor_unavailable");
    assert!(down.text("/error").contains("the provider 'sso' cannot be asked: 127.0.0.1 cannot be reached"), "{down:?}");
    exchange().await.expect(502);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchanged_token_opens_a_short_session_of_one_account_however_often_it_comes_at_once() {
    let it = SignOn::start().await;
    let token = it.provider.sign(json!({ "claims": alice() })).await;
    let answers = join_all((0..8).map(|_| it.exchange(&token))).await;
    let mut ids = Vec::new();
    for answer in answers {
        let answer = answer.expect(200);
        assert_eq!(crate::auth::members(&answer.json), ["accessToken", "expiresIn"]);
        assert_eq!(answer.value("/expiresIn"), json!(900));
        ids.push(it.server.anonymous().with_token(answer.text("/accessToken")).get(ME).await.expect(200).text("/id"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);

    let nameless = it.provider.sign(json!({ "claims": { "sub": "nameless" } })).await;
    assert!(it.exchange(&nameless).await.expect(401).text("/error").contains("id_token missing email claim"));
    assert_eq!(it.exchange("rubbish").await.expect(401).code(), "sign_on_failed");
    let body = json!({ "providerId": "unknown", "idToken": token });
    it.server.anonymous().post("/api/v1/auth/oidc/token-exchange", body).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_leads_only_here_or_to_the_machine_of_whoever_logs_in() {
    let it = SignOn::start().await;
    let program = it.server.anonymous().staying();
    let begin = |redirect_uri: &str| format!("{}?redirect_uri={redirect_uri}", it.begin_here());
    for bad in ["https://evil.example.com/", "//evil.example.com", "javascript:alert(1)", "http://127.0.0.1@evil.example.com/"] {
        assert_eq!(program.get(&begin(bad)).await.expect(400).code(), "invalid_request", "{bad}");
    }
    for good in ["", "http://localhost:5173/app", "http://127.0.0.1:1/callback", &it.server.url()] {
        let answer = program.get(&begin(good)).await.expect(307);
        let address = answer.header("location").expect("an address");
        for part in [
            "code_challenge_method=S256",
            "code_challenge=",
            "state=",
            "nonce=",
            "response_type=code",
            "scope=openid+email+profile",
        ] {
            assert!(address.contains(part), "{part} in {address}");
        }
        assert!(answer.header("set-cookie").is_some_and(|cookie| cookie.contains("HttpOnly; SameSite=Lax")), "{answer:?}");
    }
    program.get("/api/v1/auth/oidc/unknown/authorize").await.expect(404);
}
