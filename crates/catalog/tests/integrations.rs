//! Every folder of `integrations/` is fit for the catalog, and what is not is told.

use std::{fs, path::Path};

use weft_catalog::{Folder, Severity, all, find, grade};

#[test]
fn every_bundled_integration_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integrations");
    let mut names: Vec<_> =
        fs::read_dir(folder.as_path()).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    let mut failed = Vec::new();
    for path in names.iter().filter(|path| path.is_dir()) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let report = grade(&name, &Folder::read(path).expect("readable"));
        let errors = report.findings.into_iter().filter(|finding| finding.severity == Severity::Error);
        failed.extend(errors.map(|finding| format!("{name}: {}: {}", finding.place, finding.message)));
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(!names.is_empty());
}

#[test]
fn what_is_bundled_can_be_deployed() {
    let slack = find("slack").expect("bundled");
    let archive = slack.archive().expect("packed").expect("it has a backend");
    let mut files = tar::Archive::new(flate2::read::GzDecoder::new(archive.as_slice()));
    let names: Vec<_> = files
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    for name in ["index.ts", "package.json", "bun.lock", "icon.svg"] {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    for (id, bundled) in all() {
        let backend = bundled.archive().expect("packed").is_some();
        assert!(backend || !bundled.content.needs_backend(), "{id} needs a backend and has none");
        assert_eq!(id, bundled.content.app_id.as_str());
    }
}

const MANIFEST: &str = r#"{
    "appId": "vendor", "name": "Vendor", "type": "integration", "description": "Things of a vendor", "instructions": "Use them.", "icon": "icon.svg",
    "configSchema": { "properties": { "apiToken": { "type": "string" SECRET, "description": "Settings" } } },
    "http": { "baseUrl": "https://api.vendor.example", "auth": { "type": "bearer", "token": "{{ config.apiToken }}" } },
    "actions": [{
        "id": "get", "name": "Get", "description": "Reads a thing", "effect": "read",
        "inputSchema": { "properties": { "id": { "type": "string", "description": "Its id", "examples": ["1"] } }, "required": ["id"] },
        "outputSchema": { "type": "object" },
        "recipe": { "method": "GET", "path": "/things/{{ input.id }}" }
    }]
}"#;
const CASES: &str = r#"[
    { "name": "reads", "action": "get", "input": { "id": "1" }, "config": { "apiToken": "t" },
      "exchanges": [{ "request": { "method": "GET", "url": "https://api.vendor.example/things/1" }, "answer": { "json": ANSWER } }], "result": ANSWER },
    { "name": "is told", "action": "get", "input": { "id": "2" }, "config": { "apiToken": "t" },
      "exchanges": [{ "request": { "method": "GET", "url": "https://api.vendor.example/things/2" }, "answer": { "status": 404 } }], "error": { "category": "notFound" } }
]"#;

fn folder(files: &[(&str, String)]) -> Folder {
    Folder(files.iter().map(|(name, content)| ((*name).to_owned(), content.clone().into_bytes())).collect())
}

#[test]
fn a_good_folder_has_nothing_to_complain_of() {
    let good = folder(&[
        ("manifest.json", MANIFEST.replace("SECRET", r#", "platformSecret": "VENDOR_TOKEN""#)),
        ("icon.svg", "<svg/>".to_owned()),
        ("test/things.json", CASES.replace("ANSWER", r#"{ "a": 1 }"#)),
    ]);
    let report = grade("vendor", &good);
    assert!(report.findings.is_empty(), "{report:#?}");
    assert_eq!((report.actions, report.cases), (1, 2));
}

#[test]
fn an_action_of_the_backend_needs_no_recorded_call() {
    let backed = r#""actions": [{
        "id": "send", "name": "Send", "description": "Sends a thing", "effect": "write",
        "inputSchema": { "properties": {} }, "outputSchema": { "type": "object" }
    }, {"#;
    let manifest = MANIFEST.replace("SECRET", r#", "platformSecret": "VENDOR_TOKEN""#).replacen(r#""actions": [{"#, backed, 1);
    let good = folder(&[
        ("manifest.json", manifest),
        ("icon.svg", "<svg/>".to_owned()),
        ("backend/index.ts", "export {};".to_owned()),
        ("test/things.json", CASES.replace("ANSWER", r#"{ "a": 1 }"#)),
        ("test/send.test.ts", "export {};".to_owned()),
    ]);
    let report = grade("vendor", &good);
    assert!(report.findings.is_empty(), "{report:#?}");
    assert_eq!((report.actions, report.cases), (2, 2));
}

#[test]
fn only_a_server_of_the_tests_may_have_its_key_in_the_folder() {
    let key = || format!("-----BEGIN {}-----", "PRIVATE KEY");
    let report = grade("x", &folder(&[("test/tls/server-key.pem", key()), ("backend/key.pem", key()), ("test/key.pem", key())]));
    let keys = report.findings.iter().filter(|finding| finding.message.contains("private key"));
    assert_eq!(keys.map(|finding| finding.place.as_str()).collect::<Vec<_>>(), ["backend/key.pem", "test/key.pem"]);
}

#[test]
fn everything_that_is_wrong_with_a_folder_is_found() {
    let bad = folder(&[
        ("manifest.json", MANIFEST.replace("SECRET", "")),
        ("notes.md", format!("use ghp_{}", "a1".repeat(18))),
        ("test/things.json", CASES.replace("ANSWER", "[1]").replace("/things/2", "/things/3")),
    ]);
    let report = grade("other", &bad);
    let errors: Vec<_> = report.findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    for (place, part) in [
        ("manifest.json", "folder is called 'other'"),
        ("icon", "is not there"),
        ("configSchema.apiToken", "sounds secret"),
        ("notes.md", "real credential"),
        ("test/things.json: reads", "the result breaks the action's schema"),
        ("test/things.json: is told", "goes to https://api.vendor.example/things/2"),
    ] {
        assert!(
            errors.iter().any(|error| error.place == place && error.message.contains(part)),
            "{place}: {part} in {errors:#?}"
        );
    }
    assert!(!report.passes());
    let untested = folder(&[("manifest.json", MANIFEST.replace("SECRET", ""))]);
    let report = grade("vendor", &untested);
    assert!(report.findings.iter().any(|finding| finding.message.contains("no recorded call in")), "{report:#?}");
    assert!(!grade("x", &folder(&[])).passes() && !grade("x", &folder(&[("manifest.json", "{".to_owned())])).passes());
}
