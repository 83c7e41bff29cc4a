use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::json;

use crate::deploy::{manifest, project, server};
use crate::fake::Fake;
use crate::machine::Machine;

struct Entry {
    name: String,
    mode: u32,
    mtime: u64,
    uid: u64,
    content: String,
}

fn entries(archive: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let read = |mut entry: tar::Entry<'_, _>| {
        let header = entry.header().clone();
        let name = entry.path().expect("a path").display().to_string();
        let mut content = String::new();
        entry.read_to_string(&mut content).expect("text");
        Entry {
            name,
            mode: header.mode().expect("a mode"),
            mtime: header.mtime().expect("a time"),
            uid: header.uid().expect("an owner"),
            content,
        }
    };
    archive.entries().expect("a tar").map(|entry| read(entry.expect("an entry"))).collect()
}

async fn uploaded(fake: &Fake) -> Vec<u8> {
    fake.request("POST /api/v1/apps/slack/deploy").parts().await.pop().expect("an archive").2.to_vec()
}

async fn deploy(machine: &Machine) -> Vec<u8> {
    let fake = server(true).await;
    let outcome = machine.run(&["deploy", "slack"], &[("WEFT_URL", &fake.url), ("WEFT_TOKEN", "t")], "").await;
    assert_eq!(outcome.code, 0, "{outcome}");
    uploaded(&fake).await
}

#[tokio::test]
async fn only_what_belongs_in_an_archive_is_in_it() {
    let machine = Machine::new();
    project(&machine);
    let mut with_icon = manifest();
    with_icon["icon"] = json!("./assets/icon.svg");
    machine.write("slack/manifest.json", &with_icon.to_string());
    for name in [
        "package.json",
        "bun.lock",
        "assets/icon.svg",
        "assets/other.svg",
        "README.md",
        "backend/weft.d.ts",
        "backend/lib/api.ts",
        "backend/lib/api.test.ts",
        "backend/.env",
        "backend/.env.local",
        "backend/.git/HEAD",
        "backend/node_modules/x/index.js",
        "backend/migrations/001_init.sql",
    ] {
        machine.write(&format!("slack/{name}"), name);
    }
    let entries = entries(&deploy(&machine).await);
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let expected =
        ["assets/icon.svg", "bun.lock", "index.ts", "lib/api.ts", "migrations/001_init.sql", "package.json", "weft.d.ts"];
    assert_eq!(names, expected);
    assert_eq!(entries[3].content, "backend/lib/api.ts");
    assert!(entries.iter().all(|entry| (entry.mode, entry.mtime, entry.uid) == (0o644, 0, 0)));
}

#[tokio::test]
async fn the_same_project_makes_the_same_archive() {
    let machine = Machine::new();
    project(&machine);
    let first = deploy(&machine).await;
    machine.write("slack/backend/index.ts", "defineIntegration({});\n");
    assert_eq!(deploy(&machine).await, first);
}

#[tokio::test]
async fn a_backends_own_package_wins() {
    let machine = Machine::new();
    project(&machine);
    machine.write("slack/package.json", "outer");
    machine.write("slack/bun.lock", "outer");
    machine.write("slack/backend/package.json", "inner");
    let entries = entries(&deploy(&machine).await);
    let found: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.content.trim())).collect();
    assert_eq!(found, [("index.ts", "defineIntegration({});"), ("package.json", "inner")]);
}

#[tokio::test]
async fn a_symbolic_link_is_refused_before_anything_is_sent() {
    let fake = server(true).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    std::os::unix::fs::symlink("/etc/passwd", machine.path("slack/backend/users.txt")).expect("a link");
    insta::assert_snapshot!(machine.weft(&["deploy", "slack"]).await);
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn an_icon_must_exist_inside_the_project() {
    let fake = server(true).await;
    let machine = Machine::logged_in(&fake);
    project(&machine);
    for icon in ["../../secret.png", "/etc/icon.png", "missing.png"] {
        let mut manifest = manifest();
        manifest["icon"] = json!(icon);
        machine.write("slack/manifest.json", &manifest.to_string());
        let outcome = machine.weft(&["deploy", "slack"]).await;
        assert_eq!(outcome.code, 2, "{outcome}");
        assert!(outcome.stderr.contains(icon), "{outcome}");
    }
    assert!(fake.requests().is_empty());
}
