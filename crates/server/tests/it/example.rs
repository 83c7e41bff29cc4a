//! `examples/crm`, as somebody uses it in a browser.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use weft_testkit::{
    Api, TestServer,
    server::PASSWORD,
    sign_on::{Browser, Page},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/crm")
}

/// The text files below a folder, by their names in it.
fn files(folder: &Path, prefix: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let entry = entry.expect("an entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            found.extend(files(&entry.path(), &format!("{name}/")));
        } else {
            found.insert(name, fs::read_to_string(entry.path()).expect("a text"));
        }
    }
    found
}

fn borrowed(files: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
}

/// Builds the pages, as `weft deploy` does, into a folder of the test's own.
fn build() -> BTreeMap<String, String> {
    assert!(folder().join("node_modules").is_dir(), "the packages of examples/crm are missing: run `make js`");
    let out = tempfile::tempdir().expect("a folder");
    let built = Command::new("npm")
        .args(["run", "build", "--", "--emptyOutDir", "--outDir"])
        .arg(out.path())
        .env("WEFT_BASE", "/apps/crm/")
        .current_dir(folder())
        .output()
        .expect("npm runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stdout));
    files(out.path(), "")
}

async fn deployed() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    let manifest = fs::read_to_string(folder().join("manifest.json")).expect("a manifest");
    let backend = files(&folder().join("backend"), "");
    let answer = admin.deploy_with("crm", &manifest, &borrowed(&backend)).await.expect(200);
    assert_eq!(answer.value("/migrationsApplied"), json!(["001_company_overview.sql"]));
    let pages = tokio::task::spawn_blocking(build).await.expect("built");
    admin.deploy_frontend("crm", &borrowed(&pages)).await.expect(200);
    (server, admin)
}

/// Signs in and goes on from there.
async fn use_it(server: &TestServer, browser: &Browser, email: &str, steps: Value) -> Page {
    let sign_in = json!([["fill", "E-mail", email], ["fill", "Password", PASSWORD], ["press", "Sign in"], ["see", "Companies"]]);
    let all: Vec<Value> = [sign_in, steps].iter().flat_map(|steps| steps.as_array().cloned().unwrap_or_default()).collect();
    browser.act(&format!("{}/apps/crm/", server.url()), &json!(all)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_signs_in_adds_a_company_and_a_contact_and_sees_their_own_deals_only() {
    let (server, admin) = deployed().await;
    let browser = Browser::start().await;
    let page = use_it(
        &server,
        &browser,
        "admin@example.com",
        json!([
            ["fill", "Company name", "ACME"],
            ["fill", "City", "Vienna"],
            ["press", "Add company"],
            ["see", "Vienna"],
            ["press", "Contacts"],
            ["fill", "Full name", "Ann Lee"],
            ["fill", "E-mail", "ann@acme.com"],
            ["fill", "Company", "ACME"],
            ["press", "Add contact"],
            ["see", "Ann Lee"],
            ["fill", "Full name", "Bob Ray"],
            ["fill", "Company", "Globex"],
            ["press", "Add contact"],
            ["see", "Globex"],
            ["press", "Deals"],
            ["fill", "Deal", "Ten anvils"],
            ["fill", "Amount", "1200"],
            ["press", "Add deal"],
            ["see", "Ten anvils"],
            ["press", "Won"],
            ["see", "won"],
        ]),
    )
    .await;
    assert!(page.text.contains("Ten anvils"), "{}", page.text);
    let contacts = admin.get("/api/v1/apps/crm/collections/contacts?sort=name&order=asc&expand=company").await.expect(200);
    assert_eq!(contacts.value("/0/_expanded/company/name"), json!("ACME"));
    assert_eq!(contacts.value("/1/_expanded/company/name"), json!("Globex"));
    let deal = admin.get("/api/v1/apps/crm/collections/deals").await.expect(200);
    assert_eq!((deal.value("/0/stage"), deal.value("/0/amount")), (json!("won"), json!(1200)));

    let bob = server.user("bob").await;
    let entities = ["companies", "contacts", "deals"];
    let rights = entities.iter().flat_map(|entity| ["read", "create", "update"].map(|right| format!("app:crm:{entity}.{right}")));
    let rights: Vec<_> = rights.chain(["app:crm:invoke".to_owned()]).collect();
    server.grant(&admin, &bob, &rights.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let page = use_it(
        &server,
        &browser,
        "bob@example.com",
        json!([["see", "Globex"], ["press", "Deals"], ["see", "No deals yet. Yours are seen by nobody else."]]),
    )
    .await;
    assert!(!page.text.contains("Ten anvils"), "{}", page.text);
}
