//! The packages of a deployed backend, from a registry that speaks npm's own wire format: which versions are installed, which are
//! refused, and what installing them may reach.

use chrono::Duration;
use serde_json::{Value, json};
use weft_testkit::{
    Answer, Api, TestServer,
    npm::{FakeRegistry, Release},
};

use crate::fixtures::{eventually, integration};

const LEFT: &str = "import left from 'left'; defineIntegration({ actions: { version: () => left } });";

/// A server whose packages come from `registry`, with more lines in that section of its settings, and its administrator.
async fn server(registry: &FakeRegistry, settings: &str) -> (TestServer, Api) {
    let settings = format!("[packages]\nregistry = \"{}\"\n{settings}\n", registry.url());
    let server = TestServer::start_with_file(&settings).await;
    let admin = server.user("admin").await;
    admin.post("/api/v1/apps", integration("chat", &["version"])).await.expect(200);
    (server, admin)
}

/// A registry that has had `left` in version 1.0.0 for years.
async fn registry() -> FakeRegistry {
    let registry = FakeRegistry::start().await;
    registry.publish(&Release::new("left", "1.0.0"));
    registry
}

fn package(wanted: &str) -> String {
    json!({ "name": "app", "dependencies": { "left": wanted } }).to_string()
}

async fn deploy(api: &Api, wanted: &str, more: &[(&str, &str)]) -> Answer {
    let package = package(wanted);
    let files = [&[("index.ts", LEFT), ("package.json", &*package)], more].concat();
    api.deploy("chat", &files).await
}

async fn version(api: &Api) -> Value {
    api.call("chat", "version", json!({})).await.expect(200).json
}

#[track_caller]
fn assert_refused(answer: &Answer, words: &[&str]) {
    assert_eq!((answer.status, answer.code().as_str()), (422, "deploy_failed"), "{answer:?}");
    for word in words {
        assert!(answer.text("/error").contains(word), "{word}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_too_young_is_not_installed_locked_or_not() {
    let registry = registry().await;
    registry.publish(&Release::new("left", "1.1.0").out_for(Duration::hours(71)));
    let (_server, admin) = server(&registry, "").await;
    deploy(&admin, "^1.0.0", &[]).await.expect(200);
    assert_eq!(version(&admin).await, "left@1.0.0", "an older version that fits is chosen");

    assert_refused(&deploy(&admin, "1.1.0", &[]).await, &["left", "minimum-release-age"]);
    let lock = registry.bun_lock("left", "^1.0.0", "1.1.0");
    let refused = deploy(&admin, "^1.0.0", &[("bun.lock", &lock)]).await;
    assert_refused(&refused, &["left@1.1.0 is out since", "72 hours", "packages.minimum_age_hours"]);
    let lock = registry.npm_lock("left", "^1.0.0", "1.1.0");
    assert_refused(&deploy(&admin, "^1.0.0", &[("package-lock.json", &lock)]).await, &["left@1.1.0 is out since"]);
    assert_eq!(version(&admin).await, "left@1.0.0");
    assert!(!registry.requests().contains(&"/left/-/left-1.1.0.tgz".to_owned()), "it is not even downloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_whose_age_nobody_knows_counts_as_too_young() {
    let registry = registry().await;
    let (_server, admin) = server(&registry, "").await;
    let by_address = format!("{}left/-/left-1.0.0.tgz", registry.url());
    assert_refused(&deploy(&admin, &by_address, &[]).await, &["left@http", "is not from the registry"]);
    registry.forget_times();
    assert_refused(&deploy(&admin, "1.0.0", &[]).await, &["does not say since when left@1.0.0 is out"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_decides_how_old_packages_have_to_be_and_which_need_not() {
    let registry = registry().await;
    registry.publish(&Release::new("left", "1.1.0").out_for(Duration::minutes(1)));
    let lock = registry.bun_lock("left", "^1.0.0", "1.1.0");
    for settings in ["minimum_age_hours = 0", "minimum_age_excludes = [\"left\"]", "minimum_age_hours = 0.01"] {
        let (_server, admin) = server(&registry, settings).await;
        deploy(&admin, "^1.0.0", &[("bun.lock", &lock)]).await.expect(200);
        assert_eq!(version(&admin).await, "left@1.1.0", "{settings}");
        deploy(&admin, "1.1.0", &[]).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_installed_may_be_of_any_age() {
    let registry = registry().await;
    registry.publish(&Release::new("tool", "9.0.0").out_for(Duration::minutes(1)));
    let (_server, admin) = server(&registry, "").await;
    let package =
        json!({ "name": "app", "dependencies": { "left": "1.0.0" }, "devDependencies": { "tool": "9.0.0" } }).to_string();
    let mut lock: Value = serde_json::from_str(&registry.bun_lock("left", "1.0.0", "1.0.0")).expect("JSON");
    let tool: Value = serde_json::from_str(&registry.bun_lock("tool", "9.0.0", "9.0.0")).expect("JSON");
    lock["packages"]["tool"] = tool["packages"]["tool"].clone();
    lock["workspaces"][""]["devDependencies"] = json!({ "tool": "9.0.0" });
    let files = [("index.ts", LEFT), ("package.json", &*package), ("bun.lock", &*lock.to_string())];
    admin.deploy("chat", &files).await.expect(200);
    assert_eq!(version(&admin).await, "left@1.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lockfile_is_kept_to_and_has_to_fit() {
    let registry = registry().await;
    registry.publish(&Release::new("left", "1.2.0"));
    let (_server, admin) = server(&registry, "").await;
    deploy(&admin, "^1.0.0", &[]).await.expect(200);
    assert_eq!(version(&admin).await, "left@1.2.0", "without a lockfile it is the latest");
    let locks = [
        ("bun.lock", registry.bun_lock("left", "^1.0.0", "1.0.0")),
        ("package-lock.json", registry.npm_lock("left", "^1.0.0", "1.0.0")),
    ];
    for (name, lock) in &locks {
        deploy(&admin, "^1.0.0", &[(name, lock)]).await.expect(200);
        assert_eq!(version(&admin).await, "left@1.0.0", "{name}");
        assert_refused(&deploy(&admin, "^1.2.0", &[(name, lock)]).await, &["frozen"]);
        deploy(&admin, "^1.0.0", &[]).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lockfile_that_the_server_made_holds_wherever_and_whenever_the_version_is_installed_again() {
    let registry = registry().await;
    let (mut server, admin) = server(&registry, "").await;
    deploy(&admin, "^1.0.0", &[]).await.expect(200);
    registry.publish(&Release::new("left", "1.1.0"));

    let (second, _data_dir) = server.second_node().await;
    let there = admin.clone().at(weft_testkit::server::url(&second));
    assert_eq!(version(&there).await, "left@1.0.0");
    second.stop().await.expect("it stops in order");

    server.stop().await;
    for folder in ["apps", "packages"] {
        std::fs::remove_dir_all(server.data_path(folder)).expect("there are files");
    }
    server.restart().await;
    assert_eq!(version(&admin.at(server.url())).await, "left@1.0.0");
}

/// Everything in a project and its packages that could run while packages are installed, each leaving a mark if it does.
const MARKS: &str = "
    import { existsSync } from 'node:fs';
    const places = ['', 'node_modules/left/', '../', process.env.TMPDIR + '/'];
    const marks = ['postinstall', 'preinstall', 'prepare', 'scanner', 'own'];
    const ran = marks.filter((mark) => places.some((place) => existsSync(place + mark)));
    defineIntegration({ actions: { version: () => ran } });";

#[tokio::test(flavor = "multi_thread")]
async fn no_code_of_a_project_or_its_packages_runs_while_they_are_installed() {
    let registry = FakeRegistry::start().await;
    let scripts = json!({ "preinstall": "touch preinstall", "postinstall": "touch postinstall" });
    registry.publish(&Release::new("left", "1.0.0").with("scripts", scripts));
    let (_server, admin) = server(&registry, "").await;
    let package = json!({
        "name": "app", "dependencies": { "left": "1.0.0" }, "trustedDependencies": ["left"],
        "scripts": { "postinstall": "touch own", "prepare": "touch prepare" },
    });
    let scanner =
        "require('node:fs').writeFileSync('scanner', ''); export const scanner = { version: '1', scan: async () => [] };";
    let files = [
        ("index.ts", MARKS),
        ("package.json", &*package.to_string()),
        ("bunfig.toml", "[install.security]\nscanner = \"./scanner.ts\"\n"),
        ("scanner.ts", scanner),
        (".env", "NPM_CONFIG_REGISTRY=http://127.0.0.1:1/\n"),
    ];
    admin.deploy("chat", &files).await.expect(200);
    assert_eq!(version(&admin).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_outside_the_registry_is_reached_only_when_the_operator_adds_it() {
    let (registry, outside) = (FakeRegistry::start().await, registry().await);
    registry.publish(&Release::new("left", "1.0.0").with_tarball_on(&outside.url()));
    let status = {
        let (_server, admin) = server(&registry, "").await;
        let status = admin.get("/api/v1/status").await.expect(200);
        if status.value("/workers/confinement/packages") == json!(true) {
            assert_refused(&deploy(&admin, "1.0.0", &[]).await, &[&outside.place(), "packages.hosts"]);
            assert_eq!(outside.requests(), Vec::<String>::new());
        }
        status
    };
    assert!(status.value("/workers/confinement/packages").is_boolean(), "{status:?}");

    let (_server, admin) = server(&registry, &format!("hosts = [\"{}\"]", outside.place())).await;
    deploy(&admin, "1.0.0", &[]).await.expect(200);
    assert_eq!(version(&admin).await, "left@1.0.0");
    assert_eq!(outside.requests(), ["/left/-/left-1.0.0.tgz"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_a_project_is_not_the_operators() {
    let (registry, outside) = (registry().await, registry().await);
    let (_server, admin) = server(&registry, "").await;
    let own = format!("registry={}\n", outside.url());
    deploy(&admin, "1.0.0", &[(".npmrc", &own)]).await.expect(200);
    assert_eq!(outside.requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_comes_from_a_registry_of_its_own_if_the_operator_opened_it() {
    let (registry, own) = (FakeRegistry::start().await, FakeRegistry::start().await);
    own.publish(&Release::new("@own/left", "1.0.0"));
    let (_server, admin) = server(&registry, &format!("hosts = [\"{}\"]", own.place())).await;
    let npmrc = format!("@own:registry={}\n", own.url());
    let package = json!({ "name": "app", "dependencies": { "@own/left": "1.0.0" } }).to_string();
    let code = LEFT.replace("'left'", "'@own/left'");
    let files = [("index.ts", &*code), ("package.json", &*package), (".npmrc", &*npmrc)];
    admin.deploy("chat", &files).await.expect(200);
    assert_eq!(version(&admin).await, "@own/left@1.0.0");
    assert_eq!(registry.requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_downloaded_goes_with_it() {
    let registry = registry().await;
    let (server, admin) = server(&registry, "").await;
    deploy(&admin, "1.0.0", &[]).await.expect(200);
    assert!(server.data_path("packages/chat").is_dir());
    admin.delete("/api/v1/apps/chat").await.expect(200);
    eventually("its packages are removed", async || (!server.data_path("packages/chat").exists()).then_some(())).await;
}
