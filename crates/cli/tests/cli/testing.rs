use insta::assert_snapshot;

use crate::machine::Machine;

#[tokio::test]
async fn a_new_project_passes_its_own_tests() {
    let machine = Machine::new();
    for kind in ["integration", "app"] {
        machine.weft(&["init", kind, "--type", kind]).await;
        let outcome = machine.run(&["test", kind], &[("WEFT_RUNTIME_DIR", &runtime())], "").await;
        assert_eq!(outcome.code, 0, "{kind}: {outcome}");
        assert!(outcome.stderr.contains(" 0 fail"), "{kind}: {outcome}");
    }
}

#[tokio::test]
async fn a_failing_test_fails_the_command() {
    let machine = Machine::new();
    machine.weft(&["init", "demo"]).await;
    machine.write(
        "demo/test/vendor.test.ts",
        "import { test } from 'bun:test';\ntest('x', () => fetch('https://vendor.example/'));",
    );
    let outcome = machine.run(&["test", "demo", "--", "vendor"], &[("WEFT_RUNTIME_DIR", &runtime())], "").await;
    assert_eq!(outcome.code, 1, "{outcome}");
    let reason = "GET https://vendor.example/ is not in test/recordings/vendor.json: run `weft test --record` to record it";
    assert!(outcome.stderr.contains(reason), "{outcome}");
    assert!(outcome.stderr.ends_with("error: the tests failed\n"), "{outcome}");
}

#[tokio::test]
async fn types_follow_the_manifest() {
    let machine = Machine::new();
    machine.weft(&["init", "demo"]).await;
    let types = || std::fs::read_to_string(machine.path("demo/backend/manifest.d.ts")).expect("the types");
    assert_snapshot!("manifest_types", types());
    let again = machine.weft(&["types", "demo"]).await;
    assert_eq!(again.stdout, "Up to date: demo/backend/manifest.d.ts\n");
    let manifest = std::fs::read_to_string(machine.path("demo/manifest.json")).expect("the manifest");
    machine
        .write("demo/manifest.json", &manifest.replace("\"name\": { \"type\": \"string\"", "\"name\": { \"type\": \"integer\""));
    assert_eq!(machine.weft(&["types", "demo"]).await.stdout, "Wrote demo/backend/manifest.d.ts\n");
    assert!(types().contains("name: number;"));
}

/// Where Bun is, as for the tests of the server.
pub fn runtime() -> String {
    option_env!("WEFT_RUNTIME_DIR").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../runtime")).to_owned()
}
