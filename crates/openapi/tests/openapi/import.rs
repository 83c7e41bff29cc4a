//! Documents as manifests that the platform takes.

use serde_json::{Value, json};
use weft_model::Manifest;
use weft_openapi::{Error, Options, import, parse};

use crate::{action, pets};

#[test]
fn a_document_becomes_a_manifest_without_faults() {
    let imported = import(&pets(), &Options::default()).expect("imports");
    let manifest = &imported.manifest;
    let parsed = Manifest::parse(manifest.clone()).unwrap_or_else(|faults| panic!("{faults:#?}\n{manifest:#}"));
    assert!(!parsed.content.needs_backend());
    assert_eq!((&manifest["appId"], &manifest["description"]), (&json!("pet_store"), &json!("Keeps pets.")));
    assert_eq!(manifest["http"]["baseUrl"], "https://{{ config.region }}.pets.example/v2");
    assert_eq!(manifest["http"]["auth"], json!({ "type": "header", "name": "X-Api-Key", "value": "{{ config.api_key }}" }));
    assert_eq!(manifest["configSchema"]["properties"]["api_key"]["platformSecret"], "PET_STORE_API_KEY");
    assert_eq!(manifest["configSchema"]["required"], json!(["api_key"]));

    let list = action(manifest, "list_pets");
    assert_eq!(list["effect"], "read");
    assert_eq!(
        list["recipe"]["query"],
        json!({ "limit": "{{ input.limit }}", "tags[]": "{{ input.tags }}", "fields": "{{ input.fields | join(',') if input.fields is defined }}" })
    );
    assert_eq!(list["recipe"]["headers"], json!({ "X-Trace": "{{ input.X_Trace }}" }));
    assert_eq!(list["inputSchema"]["properties"]["limit"], json!({ "type": "integer", "exclusiveMaximum": 100 }));
    let create = action(manifest, "create_pet");
    assert_eq!(create["recipe"]["body"], json!({ "json": "{{ input.body }}" }));
    assert_eq!(create["inputSchema"]["required"], json!(["body"]));
    assert_eq!(create["inputSchema"]["$defs"]["Pet"]["properties"]["age"]["type"], json!(["integer", "null"]));
    let delete = action(manifest, "delete_pets_pet_id");
    assert_eq!((&delete["effect"], &delete["recipe"]["auth"]), (&json!("destructive"), &json!("none")));
    assert_eq!(delete["recipe"]["path"], "/pets/{{ input.pet_id }}");
    let photo = action(manifest, "set_photo");
    assert_eq!(
        photo["recipe"]["body"]["multipart"][0],
        json!({ "name": "photo", "base64": "{{ input.photo }}", "fileName": "photo" })
    );
    assert_eq!(photo["recipe"]["response"], json!({ "as": "base64" }));
    assert_eq!(imported.notes.len(), 1, "{:?}", imported.notes);
    assert!(imported.notes[0].starts_with("GET /broken/{x} is left out"), "{:?}", imported.notes);
}

#[test]
fn oauth_becomes_a_way_to_connect_accounts() {
    let mut document = pets();
    let flow = json!({ "authorizationUrl": "https://pets.example/authorize", "tokenUrl": "https://pets.example/token", "scopes": { "read": "", "write": "" } });
    document["components"]["securitySchemes"] = json!({ "key": { "type": "oauth2", "flows": { "authorizationCode": flow } } });
    let manifest = import(&document, &Options::default()).expect("imports").manifest;
    Manifest::parse(manifest.clone()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(manifest["http"]["auth"]["token"], "{{ credentials.accessToken }}");
    assert_eq!(manifest["userAuth"]["scopes"], json!(["read", "write"]));
    assert_eq!(manifest["configSchema"]["properties"]["clientSecret"]["platformSecret"], "PET_STORE_CLIENT_SECRET");
}

/// Members that the vendor fills in stand in `required` all the same, because answers always have them.
#[test]
fn callers_need_not_give_what_the_vendor_fills_in() {
    let mut document = pets();
    let schemas = &mut document["components"]["schemas"];
    schemas["Id"] = json!({ "type": "integer", "readOnly": true });
    schemas["Kept"] = json!({ "required": ["id"], "properties": { "id": { "$ref": "#/components/schemas/Id" } } });
    schemas["Pet"]["allOf"] = json!([{ "$ref": "#/components/schemas/Kept" }, { "required": ["id", "since", "name"] }]);
    schemas["Pet"]["properties"]["since"] = json!({ "type": "string", "readOnly": true });
    schemas["Pet"]["required"] = json!(["since", "name"]);
    let manifest = import(&document, &Options::default()).expect("imports").manifest;
    let definitions = &action(&manifest, "create_pet")["inputSchema"]["$defs"];
    assert_eq!(definitions["Pet"]["required"], json!(["name"]));
    assert_eq!(definitions["Pet"]["allOf"][1]["required"], json!(["name"]));
    assert_eq!(definitions["Kept"].get("required"), None, "{definitions:#}");
    assert_eq!(definitions["Pet"]["properties"]["since"]["readOnly"], true, "it may be given still");
}

#[test]
fn a_body_goes_out_as_the_kind_of_json_that_it_is() {
    let sent = |content: Value| {
        let mut document = pets();
        document["paths"]["/pets"]["post"]["requestBody"]["content"] = content;
        let manifest = import(&document, &Options::default()).expect("imports").manifest;
        Manifest::parse(manifest.clone()).unwrap_or_else(|faults| panic!("{faults:#?}"));
        let recipe = &action(&manifest, "create_pet")["recipe"];
        assert_eq!(recipe["body"], json!({ "json": "{{ input.body }}" }));
        recipe["headers"]["content-type"].as_str().map(str::to_owned)
    };
    assert_eq!(sent(json!({ "application/json-patch+json": {} })).as_deref(), Some("application/json-patch+json"));
    assert_eq!(sent(json!({ "application/geo+json": {}, "application/json; charset=utf-8": {} })), None);
    assert_eq!(sent(json!({ "application/merge-patch+json": {}, "application/json": {} })), None);
}

#[test]
fn what_is_no_such_document_is_told() {
    let refused = |document: Value, options: &Options| import(&document, options).expect_err("refused");
    assert!(matches!(refused(json!({ "swagger": "2.0" }), &Options::default()), Error::Version(said) if said.contains("2.0")));
    let bare = json!({ "openapi": "3.1.0", "info": { "title": "X" }, "paths": { "/x": { "get": { "responses": {} } } } });
    assert_eq!(refused(bare.clone(), &Options::default()), Error::NoServer);
    let source = Some("https://a.example/docs/openapi.json".parse().expect("an address"));
    let placed = import(&bare, &Options { source, ..Options::default() }).expect("imports");
    assert_eq!(placed.manifest["http"]["baseUrl"], "https://a.example");
    assert!(parse("a: [").is_err());
}

/// As large as the largest public ones: a thousand operations over schemas that refer to each other.
#[test]
fn a_thousand_operations_are_imported_and_checked() {
    let mut paths = serde_json::Map::new();
    let mut schemas = serde_json::Map::new();
    for n in 0..1_000_usize {
        let next = format!("#/components/schemas/Thing{}", (n * 7 + 1) % 1_000);
        let parameter = json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } });
        let reference = json!({ "$ref": format!("#/components/schemas/Thing{n}") });
        let content = json!({ "application/json": { "schema": reference } });
        paths.insert(
            format!("/things{n}/{{id}}"),
            json!({ "put": {
                "operationId": format!("things/update-{n}"), "parameters": [parameter],
                "requestBody": { "content": content }, "responses": { "200": { "description": "ok", "content": content } },
            } }),
        );
        let properties = json!({ "name": { "type": "string" }, "next": { "$ref": next }, "tags": { "type": "array", "items": { "type": "string" } } });
        schemas.insert(format!("Thing{n}"), json!({ "type": "object", "properties": properties }));
    }
    let document = json!({
        "openapi": "3.1.0", "info": { "title": "Large" }, "servers": [{ "url": "https://large.example" }],
        "paths": paths, "components": { "schemas": schemas },
    });
    let imported = import(&document, &Options::default()).expect("imports");
    assert!(imported.manifest.to_string().len() < 50 * 1024 * 1024, "it can be installed");
    let parsed = Manifest::parse(imported.manifest).unwrap_or_else(|faults| panic!("{:?}", faults.first()));
    assert_eq!(parsed.content.actions.len(), 1_000);
}
