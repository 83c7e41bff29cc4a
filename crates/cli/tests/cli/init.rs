use insta::assert_snapshot;

use crate::machine::Machine;

#[tokio::test]
async fn an_integration_project_is_made_with_next_steps() {
    let machine = Machine::new();
    assert_snapshot!(machine.weft(&["init", "my_slack"]).await);
    let read = |name: &str| std::fs::read_to_string(machine.path(name)).expect("the file was made");
    assert_snapshot!("integration_manifest", read("my_slack/manifest.json"));
    assert_snapshot!("integration_backend", read("my_slack/backend/index.ts"));
    assert!(read("my_slack/backend/weft.d.ts").contains("declare function defineIntegration"));
}

#[tokio::test]
async fn an_app_project_is_made() {
    let machine = Machine::new();
    let outcome = machine.weft(&["init", "crm", "--type", "app", "--json"]).await;
    assert_eq!(outcome.json()["name"], "crm");
    assert_eq!(outcome.stderr, "");
    assert_snapshot!("app_backend", std::fs::read_to_string(machine.path("crm/backend/index.ts")).expect("the file was made"));
}

#[tokio::test]
async fn a_wrong_name_is_refused_with_the_rule() {
    let machine = Machine::new();
    assert_snapshot!(machine.weft(&["init", "My-App"]).await);
    assert!(!machine.path("My-App").exists());
}

#[tokio::test]
async fn a_folder_with_content_is_left_alone() {
    let machine = Machine::new();
    machine.write("crm/notes.txt", "mine");
    assert_snapshot!(machine.weft(&["init", "crm"]).await);
    assert!(!machine.path("crm/manifest.json").exists());
}

#[tokio::test]
async fn templates_are_manifests_that_the_platform_accepts() {
    let machine = Machine::new();
    for kind in ["integration", "app"] {
        machine.weft(&["init", kind, "--type", kind]).await;
        let text = std::fs::read_to_string(machine.path(kind).join("manifest.json")).expect("the file was made");
        let document = serde_json::from_str(&text).expect("JSON");
        if let Err(faults) = weft_model::Manifest::parse(document) {
            panic!("{kind}: {faults:?}");
        }
    }
}
