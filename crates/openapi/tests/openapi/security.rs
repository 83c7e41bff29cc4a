//! Which credential is asked for, and which operations it is good for.

use serde_json::{Value, json};
use weft_model::Manifest;
use weft_openapi::{Import, Options, import};

/// A document with one operation per requirement list; `null` stands for none.
fn document(schemes: &Value, by_default: &Value, operations: &[Value]) -> Value {
    let mut document = json!({
        "openapi": "3.1.0", "info": { "title": "Vault" }, "servers": [{ "url": "https://vault.example" }],
        "components": { "securitySchemes": schemes }, "paths": {},
    });
    if !by_default.is_null() {
        document["security"] = by_default.clone();
    }
    for (number, security) in operations.iter().enumerate() {
        let mut operation = json!({ "operationId": format!("op{number}"), "responses": {} });
        if !security.is_null() {
            operation["security"] = security.clone();
        }
        document["paths"][format!("/op{number}")] = json!({ "get": operation });
    }
    document
}

fn imported(schemes: &Value, by_default: &Value, operations: &[Value]) -> Import {
    let imported = import(&document(schemes, by_default, operations), &Options::default()).expect("imports");
    Manifest::parse(imported.manifest.clone()).unwrap_or_else(|faults| panic!("{faults:#?}\n{:#}", imported.manifest));
    imported
}

fn ids(imported: &Import) -> Vec<(&str, bool)> {
    let actions = imported.manifest["actions"].as_array().expect("actions").iter();
    actions.map(|action| (action["id"].as_str().expect("an id"), action["recipe"].get("auth").is_some())).collect()
}

fn schemes() -> Value {
    json!({
        "keyAuth": { "type": "apiKey", "in": "header", "name": "X-Key" },
        "appAuth": { "type": "apiKey", "in": "header", "name": "X-App", "description": "Names the application." },
        "bearer": { "type": "http", "scheme": "bearer" },
        "basic": { "type": "http", "scheme": "basic" },
        "certificate": { "type": "mutualTLS" },
    })
}

#[test]
fn keys_that_belong_together_are_all_placed() {
    let imported = imported(&schemes(), &json!([{ "keyAuth": [], "appAuth": [] }]), &[Value::Null]);
    assert_eq!(
        imported.manifest["http"]["auth"],
        json!([
            { "type": "header", "name": "X-App", "value": "{{ config.api_key }}" },
            { "type": "header", "name": "X-Key", "value": "{{ config.key_auth_api_key }}" },
        ])
    );
    let config = &imported.manifest["configSchema"];
    assert_eq!(config["required"], json!(["api_key", "key_auth_api_key"]));
    assert_eq!(config["properties"]["api_key"]["description"], "Names the application.");
    assert_eq!(config["properties"]["key_auth_api_key"]["platformSecret"], "VAULT_KEY_AUTH_API_KEY");
}

#[test]
fn operations_that_do_not_take_the_most_used_credential_are_left_out_and_told() {
    let both = json!([{ "keyAuth": [], "appAuth": [] }]);
    let operations = [
        json!([{ "bearer": [] }]),
        both.clone(),
        json!([{ "bearer": [] }, { "keyAuth": [], "appAuth": [] }]),
        json!([{ "keyAuth": [] }]),
        json!([]),
        json!([{ "certificate": [] }, {}]),
        json!([{}, { "keyAuth": [], "appAuth": [] }]),
        json!([{ "keyAuth": [], "bearer": [] }, { "basic": [] }]),
    ];
    let imported = imported(&schemes(), &Value::Null, &operations);
    let expected = [("op1", false), ("op2", false), ("op3", false), ("op4", true), ("op5", true), ("op6", false)];
    assert_eq!(ids(&imported), expected);
    assert_eq!(
        imported.notes,
        [
            "GET /op0 is left out: it takes another credential than most operations: bearer",
            "GET /op7 is left out: it takes another credential than most operations: bearer and keyAuth or basic",
        ]
    );
}

#[test]
fn what_recipes_cannot_place_gives_way_to_what_they_can() {
    let operations = [json!([{ "certificate": [] }]), json!([{ "certificate": [] }]), json!([{ "basic": [] }])];
    let chosen = imported(&schemes(), &Value::Null, &operations);
    assert_eq!(ids(&chosen), [("op2", false)]);
    assert_eq!(chosen.manifest["http"]["auth"]["type"], "basic");
    assert_eq!(chosen.notes.len(), 3, "{:?}", chosen.notes);
    assert!(chosen.notes[0].contains("'certificate' (mutualTLS)"), "{:?}", chosen.notes);

    let twice = [json!([{ "basic": [], "bearer": [] }]), json!([{ "nowhere": [] }])];
    let none = imported(&schemes(), &Value::Null, &twice);
    assert_eq!((ids(&none), none.manifest["http"].get("auth")), (vec![("op0", false), ("op1", false)], None));
    assert!(none.notes.iter().any(|note| note.contains("two Authorization headers")), "{:?}", none.notes);
    assert!(none.notes.iter().any(|note| note.contains("'nowhere' (not described)")), "{:?}", none.notes);
}

#[test]
fn oauth_and_a_key_go_together() {
    let mut schemes = schemes();
    let flow = json!({ "authorizationUrl": "https://vault.example/a", "tokenUrl": "https://vault.example/t", "scopes": {} });
    schemes["people"] = json!({ "type": "oauth2", "flows": { "authorizationCode": flow } });
    let imported = imported(&schemes, &json!([{ "people": ["read"], "appAuth": [] }]), &[Value::Null]);
    let names: Vec<_> = imported.manifest["http"]["auth"].as_array().expect("two").iter().map(|one| &one["type"]).collect();
    assert_eq!(names, ["header", "bearer"]);
    assert_eq!(imported.manifest["userAuth"]["type"], "oauth2");
    assert_eq!(imported.manifest["configSchema"]["required"], json!(["api_key", "clientId", "clientSecret"]));
}

#[test]
fn a_field_of_the_address_is_not_taken_for_the_credential() {
    let mut document = document(&schemes(), &json!([{ "keyAuth": [] }]), &[Value::Null]);
    document["servers"] = json!([{ "url": "https://{api_key}.vault.example", "variables": { "api_key": { "default": "eu" } } }]);
    let manifest = import(&document, &Options::default()).expect("imports").manifest;
    assert_eq!(manifest["http"]["baseUrl"], "https://{{ config.api_key }}.vault.example");
    assert_eq!(manifest["http"]["auth"]["value"], "{{ config.key_auth_api_key }}");
    assert_eq!(manifest["configSchema"]["required"], json!(["key_auth_api_key"]));
}

#[test]
fn a_document_that_forgot_to_ask_is_sent_its_credential() {
    let only = json!({ "keyAuth": { "type": "apiKey", "in": "query", "name": "key" } });
    let imported = imported(&only, &Value::Null, &[Value::Null]);
    assert_eq!((ids(&imported), &imported.manifest["http"]["auth"]["type"]), (vec![("op0", false)], &json!("query")));
}
