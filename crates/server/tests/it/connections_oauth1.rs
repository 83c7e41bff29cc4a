//! OAuth 1.0a: to a vendor and back, and every request signed, as another implementation checks it.

use reqwest::Method;
use serde_json::{Value, json};
use weft_testkit::{Api, TestServer, canary::assert_without, oauth1::SigningVendor};

use crate::{
    fixtures::{fault_paths, integration, with},
    sign_on::server,
};

const BACKEND: &str = "defineIntegration({ actions: { show: (_, ctx) => ctx.userCredentials } });";
const AUTH: &str = "/api/v1/integrations/photos/auth";

fn manifest(vendor: &SigningVendor, method: &str) -> Value {
    let auth = json!({
        "type": "oauth1", "requestTokenUrl": vendor.url("/request_token"), "authorizeUrl": vendor.url("/authorize"),
        "accessTokenUrl": vendor.url("/access_token"), "signatureMethod": method, "label": "screen_name",
    });
    let fields =
        json!({ "consumerKey": { "type": "string" }, "consumerSecret": { "type": "string", "platformSecret": "PHOTOS_SECRET" } });
    let signature = json!({
        "type": "oauth1", "signatureMethod": method,
        "consumerKey": "{{ config.consumerKey }}", "consumerSecret": "{{ config.consumerSecret }}",
        "token": "{{ credentials.token }}", "tokenSecret": "{{ credentials.tokenSecret }}",
    });
    let recipe = |id: &str, recipe: Value| json!({ "id": id, "name": id, "recipe": recipe });
    let query = json!({ "q": "{{ input.q }}", "tag": ["b", "a"] });
    let actions = json!([
        recipe("find", json!({ "method": "GET", "path": "/photos/my%20own", "query": query })),
        recipe("tell", json!({ "method": "POST", "path": "/status", "query": { "q": "1" }, "body": { "form": { "status": "{{ input.q }}" } } })),
        recipe("send", json!({ "method": "PUT", "path": "/status", "body": { "json": { "status": "{{ input.q }}" } } })),
        { "id": "show", "name": "Show" },
    ]);
    let more = json!({
        "configSchema": { "properties": fields }, "userAuth": auth, "http": { "baseUrl": vendor.url(""), "auth": signature }, "actions": actions,
    });
    with(integration("photos", &[]), more)
}

/// Connects at a vendor that takes this method, and makes each kind of request.
async fn walk(server: &TestServer, admin: &Api, method: &str) -> SigningVendor {
    const TEXT: &str = "Ladies + Gentlemen, 100 % signed: ä&b=c/~*";
    let vendor = SigningVendor::start(method).await;
    server.deploy(admin, &manifest(&vendor, method), BACKEND).await;
    let config = json!({ "consumerKey": SigningVendor::KEY, "consumerSecret": SigningVendor::SECRET });
    admin.put("/api/v1/integrations/photos/config", config).await.expect(200);
    let address = admin.post(&format!("{AUTH}/start"), json!({})).await.expect(200).text("/url");
    let page = server.anonymous().get(&address).await.expect(200);
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    assert!(text.contains("photos is connected as ada"), "{text}");

    for (action, parameter) in [("find", "/parameters/q"), ("tell", "/parameters/q"), ("send", "/method")] {
        let answer = admin.call("photos", action, json!({ "q": TEXT })).await.expect(200);
        assert_eq!(answer.text("/account"), "ada", "{answer:?}");
        assert!(!answer.value(parameter).is_null(), "{answer:?}");
    }
    let proxy = "/api/v1/integrations/photos/proxy/status?x=%C3%A4+b&x=1";
    let body = url::form_urlencoded::Serializer::new(String::new()).append_pair("status", TEXT).append_pair("x", "0").finish();
    let form = admin.request(Method::POST, proxy).header("content-type", "application/x-www-form-urlencoded").body(body);
    assert_eq!(admin.send(form).await.expect(200).value("/parameters/x"), json!(["ä b", "1"]));
    admin.send(admin.request(Method::PATCH, proxy).json(&json!({ "x": 1 }))).await.expect(200);
    assert_eq!(vendor.refused().await, json!([]));
    vendor
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_connects_by_oauth_1_and_another_implementation_takes_every_signature() {
    let server = server().await;
    let admin = server.user("admin").await;
    for method in ["HMAC-SHA256", "HMAC-SHA1"] {
        let vendor = walk(&server, &admin, method).await;
        if method == "HMAC-SHA256" {
            continue;
        }
        let shown = admin.call("photos", "show", json!({})).await.expect(200);
        assert!(shown.text("/token").starts_with("token-") && !shown.text("/tokenSecret").is_empty(), "{shown:?}");
        assert_eq!(shown.text("/response/screen_name"), "ada");

        // A token that was taken back at the vendor, and a secret that is wrong, are told without showing them.
        vendor.revoke().await;
        let refused = admin.call("photos", "find", json!({})).await.expect(424);
        assert_eq!(refused.code(), "vendor_auth");
        admin.put("/api/v1/integrations/photos/config", json!({ "consumerSecret": "another secret" })).await.expect(200);
        let refused = admin.post(&format!("{AUTH}/start"), json!({})).await.expect(409);
        assert_eq!(refused.code(), "not_configured");
        let secrets = [shown.text("/tokenSecret"), SigningVendor::SECRET.to_owned(), "another secret".to_owned()];
        assert_without(&secrets, &json!(admin.runs("photos", 7).await).to_string(), "the runs");
        assert_eq!(vendor.refused().await, json!(["token_rejected", "signature_invalid"]));

        let mut wrong = manifest(&vendor, method);
        wrong["http"]["auth"].as_object_mut().expect("an object").remove("tokenSecret");
        let faults = admin.post("/api/v1/apps", wrong).await.expect(400);
        assert_eq!(fault_paths(&faults), ["$.http.auth.tokenSecret"]);
    }
}
