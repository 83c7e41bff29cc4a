use std::fs;

use serde_json::Value;
use weft_testkit::npm::{FakeRegistry, Release};

use crate::machine::{Machine, Outcome};
use crate::testing::runtime;

const PIECE: &str = r#"
exports.demo = {
  displayName: "Demo",
  description: "Says things",
  auth: { type: "SECRET_TEXT", displayName: "API key", required: true },
  _actions: {
    say: {
      name: "say",
      displayName: "Say",
      description: "Say something",
      classification: "WRITE",
      props: {
        text: { type: "LONG_TEXT", displayName: "Text", required: true },
        loud: { type: "CHECKBOX", displayName: "Loud", required: true, defaultValue: false },
        note: { type: "MARKDOWN", description: "Read the manual." },
      },
      run: async ({ auth, propsValue }) => ({ said: propsValue.text, with: auth.secret_text }),
    },
  },
  getContextInfo: () => ({ version: "2" }),
};"#;

async fn add(machine: &Machine, registry: &FakeRegistry, arguments: &[&str]) -> Outcome {
    let home = machine.work().display().to_string();
    let variables = [("NPM_CONFIG_REGISTRY", registry.url()), ("WEFT_RUNTIME_DIR", runtime()), ("HOME", home)];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    machine.run(&[&["add", "piece"], arguments].concat(), &variables, "").await
}

#[tokio::test]
async fn a_piece_becomes_a_project_that_the_platform_accepts() {
    let (machine, registry) = (Machine::new(), FakeRegistry::start().await);
    registry.publish(&Release::new("@activepieces/piece-demo", "1.2.3").with_code(PIECE));
    let outcome = add(&machine, &registry, &["demo@1.2.3"]).await;
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(outcome.stdout.contains("an integration with 1 actions of @activepieces/piece-demo@1.2.3"), "{outcome}");

    let read = |name: &str| fs::read_to_string(machine.path("demo").join(name)).expect("the file was made");
    let manifest: Value = serde_json::from_str(&read("manifest.json")).expect("JSON");
    if let Err(faults) = weft_model::Manifest::parse(manifest.clone()) {
        panic!("{faults:?}");
    }
    assert_eq!(manifest["version"], "1.2.3");
    assert_eq!(manifest["userAuth"]["schema"]["properties"]["secret"]["secret"], true);
    let input = &manifest["actions"][0]["inputSchema"];
    assert_eq!(input["required"], serde_json::json!(["text"]));
    assert!(input["properties"]["note"].is_null());
    // Exactly this version, and a lockfile, because somebody else's code is going to run.
    let package: Value = serde_json::from_str(&read("package.json")).expect("JSON");
    assert_eq!(package["dependencies"]["@activepieces/piece-demo"], "1.2.3");
    assert!(machine.path("demo/bun.lock").is_file());
    assert!(read("backend/index.ts").contains("from \"@activepieces/piece-demo\""));
}

#[tokio::test]
async fn a_package_that_is_no_piece_is_refused_and_so_is_an_unknown_one() {
    let (machine, registry) = (Machine::new(), FakeRegistry::start().await);
    registry.publish(&Release::new("@own/piece-plain", "1.0.0"));
    let plain = add(&machine, &registry, &["@own/piece-plain"]).await;
    assert_ne!(plain.code, 0);
    assert!(plain.stderr.contains("the package exports no piece"), "{plain}");
    let unknown = add(&machine, &registry, &["nothing@1.0.0"]).await;
    assert!(unknown.stderr.contains("@activepieces/piece-nothing@1.0.0 cannot be installed"), "{unknown}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_package_that_is_looked_at_reads_nothing_of_the_machine() {
    let (machine, registry) = (Machine::new(), FakeRegistry::start().await);
    machine.write("secret.txt", "canary");
    let code = format!("require('fs').readFileSync({:?});\n{PIECE}", machine.path("secret.txt").display().to_string());
    registry.publish(&Release::new("@own/piece-curious", "1.0.0").with_code(&code));
    let outcome = add(&machine, &registry, &["@own/piece-curious"]).await;
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("EACCES") || outcome.stderr.contains("EPERM"), "{outcome}");
}
