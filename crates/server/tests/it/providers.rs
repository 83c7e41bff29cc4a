//! `/api/v1/auth/oidc/providers`.

use serde_json::{Value, json};
use weft_testkit::{TestServer, sign_on::Provider};

use crate::{
    fixtures::{fault_paths, with},
    sign_on::{SignOn, alice},
};

const PROVIDERS: &str = "/api/v1/auth/oidc/providers";

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_saved_shown_without_its_secret_and_replaced() {
    let it = SignOn::start().await;
    let anonymous = it.server.anonymous();
    assert_eq!(anonymous.get(PROVIDERS).await.expect(200).json, json!([{ "id": "sso", "displayName": "The provider" }]));
    let mode = anonymous.get("/api/v1/auth/mode").await.expect(200);
    assert_eq!(mode.value("/providers"), json!([{ "id": "sso", "displayName": "The provider" }]));

    let shown = it.admin.get(&format!("{PROVIDERS}/sso")).await.expect(200);
    let expected = json!({
        "id": "sso",
        "displayName": "The provider",
        "issuerUrl": it.provider.issuer,
        "clientId": "weft",
        "scopes": ["openid", "email", "profile"],
        "autoRegister": true,
        "defaultRole": "base",
        "roleClaim": null,
        "enabled": true,
    });
    assert_eq!(shown.json, expected);

    let answer = it.save(json!({ "displayName": "Another name", "clientSecret": null, "enabled": false })).await.expect(200);
    assert_eq!(answer.json, json!({ "message": "provider 'sso' saved" }));
    assert_eq!(anonymous.get(PROVIDERS).await.expect(200).json, json!([]));
    anonymous.get("/api/v1/auth/oidc/sso/authorize").await.expect(404);
    let token = it.provider.sign(json!({ "claims": alice() })).await;
    it.exchange(&token).await.expect(404);
    assert_eq!(it.admin.get(&format!("{PROVIDERS}/sso")).await.expect(200).text("/displayName"), "Another name");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_set_providers_up() {
    let it = SignOn::start().await;
    let user = it.server.user("user").await;
    it.server.grant(&it.admin, &user, &["admin:*", "auth.invite", "platform:*"]).await;
    let configuration = it.provider.configuration("other");
    for (api, status) in [(user, 403), (it.server.anonymous(), 401)] {
        api.post(PROVIDERS, configuration.clone()).await.expect(status);
        api.get(&format!("{PROVIDERS}/sso")).await.expect(status);
        api.delete(&format!("{PROVIDERS}/sso?force=true")).await.expect(status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_provider_is_named_at_once() {
    let it = SignOn::start().await;
    let save = async |more: Value| it.admin.post(PROVIDERS, with(it.provider.configuration("other"), more)).await;
    for (more, paths, text) in [
        (json!({ "id": "" }), &["$.id"][..], "id required"),
        (json!({ "id": "a/b" }), &["$.id"], "letters"),
        (json!({ "id": "providers" }), &["$.id"], "word of the API"),
        (json!({ "issuerUrl": "" }), &["$.issuerUrl"], "issuer_url required"),
        (json!({ "issuerUrl": "nonsense" }), &["$.issuerUrl"], "invalid issuer_url"),
        (json!({ "issuerUrl": "http://example.com" }), &["$.issuerUrl"], "issuer_url must be HTTPS (except localhost)"),
        (json!({ "clientId": "", "displayName": " " }), &["$.clientId", "$.displayName"], "client_id required"),
        (
            json!({ "scopes": ["a b"], "defaultRole": "nobody", "roleClaim": "" }),
            &["$.defaultRole", "$.roleClaim", "$.scopes"],
            "exists",
        ),
    ] {
        let answer = save(more.clone()).await.expect(400);
        assert_eq!(answer.code(), "validation_failed");
        assert_eq!(fault_paths(&answer), paths, "{more}: {answer:?}");
        assert!(answer.text("/error").contains(text), "{more}: {answer:?}");
    }
    it.admin.post(PROVIDERS, json!({ "id": "other" })).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_discovered_is_not_saved() {
    let it = SignOn::start().await;
    for (issuer, why) in [
        (format!("{}/", it.provider.issuer), "unexpected issuer"),
        (it.server.url(), "the answer was 404"),
        ("http://127.0.0.1:1".to_owned(), "127.0.0.1 cannot be reached"),
        ("https://10.0.0.1".to_owned(), "10.0.0.1 is not on the public internet"),
        ("https://169.254.169.254/latest".to_owned(), "is not on the public internet"),
    ] {
        let answer = it.save(json!({ "issuerUrl": issuer })).await.expect(400);
        let text = answer.text("/error");
        assert!(text.starts_with("failed to fetch discovery document: ") && text.contains(why), "{issuer}: {text}");
    }
    assert_eq!(it.admin.get(&format!("{PROVIDERS}/sso")).await.expect(200).text("/issuerUrl"), it.provider.issuer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_asks_its_own_machine_only_if_the_operator_opened_it() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let provider = Provider::start(&server.url()).await;
    for issuer in [provider.issuer.clone(), provider.issuer.replace("127.0.0.1", "localhost")] {
        let answer = admin.post(PROVIDERS, with(provider.configuration("sso"), json!({ "issuerUrl": issuer }))).await.expect(400);
        assert!(answer.text("/error").contains("egress_allow"), "{answer:?}");
    }
    assert_eq!(provider.key_fetches().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_with_linked_users_is_deleted_only_by_force_and_the_users_stay() {
    let it = SignOn::start().await;
    it.exchange(&it.provider.sign(json!({ "claims": alice() })).await).await.expect(200);
    let refused = it.admin.delete(&format!("{PROVIDERS}/sso")).await.expect(400);
    assert_eq!(refused.code(), "provider_in_use");
    assert!(refused.text("/error").starts_with("1 user(s) are linked"), "{refused:?}");
    let answer = it.admin.delete(&format!("{PROVIDERS}/sso?force=true")).await.expect(200);
    assert_eq!(answer.json, json!({ "message": "provider 'sso' deleted" }));
    it.admin.delete(&format!("{PROVIDERS}/sso?force")).await.expect(404);
    assert_eq!(it.admin.get("/api/v1/users").await.json.as_array().map(Vec::len), Some(2));
    assert_eq!(it.server.database.count("secrets").await, 0, "its secret is gone");

    // Set up anew, it links the same account again by the verified address.
    it.save(json!({ "autoRegister": false })).await.expect(200);
    it.exchange(&it.provider.sign(json!({ "claims": alice() })).await).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_of_another_issuer_are_other_people() {
    let it = SignOn::start().await;
    it.exchange(&it.provider.sign(json!({ "claims": alice() })).await).await.expect(200);
    let other = Provider::start(&it.server.url()).await;
    it.save(json!({ "issuerUrl": other.issuer, "autoRegister": false })).await.expect(200);
    let impostor = json!({ "sub": "alice", "email": "mallory@example.com", "email_verified": true });
    it.exchange(&other.sign(json!({ "claims": impostor })).await).await.expect(403);
    it.exchange(&it.provider.sign(json!({ "claims": alice() })).await).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_word_is_good_for_its_own_tenant_only() {
    let it = SignOn::start().await;
    let alice_here = it.server.user("alice").await;
    let elsewhere = it.server.tenant(&it.admin, "acme", "boss").await;
    let evil = Provider::start(&it.server.url()).await;
    elsewhere.post(PROVIDERS, evil.configuration("sso")).await.expect(200);
    let anonymous = it.server.anonymous();
    let names = anonymous.get(&format!("{PROVIDERS}?tenant=acme")).await.expect(200);
    assert_eq!(names.json, json!([{ "id": "sso", "displayName": "The provider" }]));
    assert_eq!(anonymous.get("/api/v1/auth/mode?tenant=acme").await.expect(200).value("/providers"), names.json);
    assert_eq!(elsewhere.get(&format!("{PROVIDERS}/sso")).await.expect(200).text("/issuerUrl"), evil.issuer);
    assert_eq!(it.admin.get(&format!("{PROVIDERS}/sso")).await.expect(200).text("/issuerUrl"), it.provider.issuer);

    // Acme's provider vouches for somebody of the tenant `default`, and for another name.
    let claims = with(alice(), json!({ "name": "Renamed" }));
    let exchange = async |tenant: &str| {
        let body = json!({ "tenant": tenant, "providerId": "sso", "idToken": evil.sign(json!({ "claims": claims })).await });
        anonymous.post("/api/v1/auth/oidc/token-exchange", body).await
    };
    exchange("default").await.expect(401);
    let there = anonymous.clone().with_token(exchange("acme").await.expect(200).text("/accessToken"));
    let me = there.get("/api/v1/auth/me").await.expect(200);
    assert_eq!([me.text("/tenant"), me.value("/memberships/1").to_string()], ["acme", "null"]);
    there.post("/api/v1/auth/switch", json!({ "tenant": "default" })).await.expect(403);
    assert_eq!(alice_here.get("/api/v1/auth/me").await.expect(200).value("/displayName"), Value::Null);
    // Where a login to the whole server leads is not acme's to decide.
    let again = it.server.login("alice@example.com").await;
    assert_eq!(again.get("/api/v1/auth/me").await.expect(200).text("/tenant"), "default");

    it.admin.post("/api/v1/tenants/acme/disable", json!({})).await.expect(200);
    exchange("acme").await.expect(404);
    assert_eq!(anonymous.get(&format!("{PROVIDERS}?tenant=acme")).await.expect(200).json, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_removed_comes_back_only_where_the_provider_may_make_accounts() {
    let it = SignOn::start().await;
    let signed_on = it.exchange(&it.provider.sign(json!({ "claims": alice() })).await).await.expect(200);
    let id = it.server.anonymous().with_token(signed_on.text("/accessToken")).get("/api/v1/auth/me").await.text("/id");
    // A membership elsewhere keeps the account, and with it the link.
    it.server
        .tenant(&it.admin, "acme", "boss")
        .await
        .post("/api/v1/users", json!({ "email": "alice@example.com" }))
        .await
        .expect(201);
    it.admin.delete(&format!("/api/v1/users/{id}")).await.expect(200);
    it.save(json!({ "autoRegister": false })).await.expect(200);
    it.exchange(&it.provider.sign(json!({ "claims": alice() })).await).await.expect(403);
    it.save(json!({})).await.expect(200);
    it.exchange(&it.provider.sign(json!({ "claims": alice() })).await).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_of_two_providers_keeps_to_the_first() {
    let it = SignOn::start().await;
    let other = Provider::start(&it.server.url()).await;
    it.admin.post(PROVIDERS, other.configuration("other")).await.expect(200);
    it.exchange(&it.provider.sign(json!({ "claims": alice() })).await).await.expect(200);
    let body = json!({ "providerId": "other", "idToken": other.sign(json!({ "claims": alice() })).await });
    let refused = it.server.anonymous().post("/api/v1/auth/oidc/token-exchange", body).await.expect(403);
    assert!(refused.text("/error").contains("linked to another sign-on"), "{refused:?}");
}
