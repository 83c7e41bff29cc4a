//! A newer document over a manifest that people have worked on.

use serde_json::{Value, json};
use weft_model::Manifest;
use weft_openapi::{Options, Refresh, import, refresh};

use crate::{action, pets};

fn imported(document: &Value) -> Value {
    import(document, &Options::default()).expect("imports").manifest
}

fn lines(refreshed: &Refresh) -> Vec<(bool, &str, &str)> {
    refreshed.changes.iter().map(|change| (change.breaking, change.place.as_str(), change.what.as_str())).collect()
}

#[test]
fn a_refresh_keeps_what_people_wrote_and_names_what_breaks() {
    let mut old = imported(&pets());
    old["name"] = json!("Our pets");
    let list = &mut old["actions"]
        .as_array_mut()
        .expect("actions")
        .iter_mut()
        .find(|one| one["id"] == "list_pets")
        .expect("there")["recipe"];
    list["pagination"] = json!({ "type": "link" });
    let mut document = pets();
    document["paths"]["/pets"]["get"]["parameters"][0]["schema"]["type"] = json!("string");
    document["paths"]["/pets"]["post"]["parameters"] =
        json!([{ "name": "owner", "in": "query", "required": true, "schema": {} }]);
    document["paths"].as_object_mut().expect("paths").remove("/pets/{pet-id}/photo");
    document["paths"]["/owners"] = json!({ "get": { "operationId": "listOwners", "responses": {} } });
    let new = imported(&document);
    let Refresh { manifest: merged, changes, .. } = refresh(&old, &new);
    Manifest::parse(merged.clone()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!((&merged["name"], &merged["version"]), (&json!("Our pets"), &json!("2.0.0")));
    assert_eq!(action(&merged, "list_pets")["recipe"]["pagination"], json!({ "type": "link" }));
    let told: Vec<_> = changes.iter().map(|change| (change.breaking, change.place.as_str(), change.what.as_str())).collect();
    assert_eq!(
        told,
        [
            (true, "create_pet", "needs the new input 'owner'"),
            (true, "list_pets", "the input 'limit' is \"string\" instead of \"integer\""),
            (true, "set_photo", "is not there any more"),
            (false, "list_owners", "is new"),
        ]
    );
    let same = refresh(&old, &imported(&pets()));
    assert!(same.changes.is_empty() && same.kept.is_empty(), "{same:?}");
    assert_eq!(same.manifest, old);
}

#[test]
fn what_an_import_does_not_write_stays() {
    let mut old = imported(&pets());
    let hand_made = json!({
        "limits": { "memoryMib": 128 }, "webhooks": ["changed"], "crons": [{ "name": "daily", "schedule": "0 3 * * *" }],
        "dataContract": [{ "entityName": "pets", "fields": [{ "name": "name", "type": "text" }] }], "keepRunning": false,
        "rateLimit": { "requests": 5, "seconds": 1 },
    });
    for (member, value) in hand_made.as_object().expect("members") {
        old[member] = value.clone();
    }
    old["http"]["maxResponseMib"] = json!(20);
    old["http"]["headers"] = json!({ "X-Version": "3" });
    old["actions"][0]["cacheSeconds"] = json!(60);
    old["actions"][0]["recipe"]["baseUrl"] = json!("https://lists.pets.example");
    let by_hand = json!({ "id": "count_pets", "name": "Count", "inputSchema": { "type": "object" } });
    let over_one = json!({ "id": "create_pet", "name": "Create a pet, with care" });
    old["actions"][1] = over_one.clone();
    old["actions"].as_array_mut().expect("actions").push(by_hand.clone());
    Manifest::parse(old.clone()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let refreshed = refresh(&old, &imported(&pets()));
    assert_eq!(refreshed.manifest, old);
    assert_eq!(lines(&refreshed), []);
    assert_eq!(refreshed.kept, ["create_pet stays as the backend serves it"]);
}

#[test]
fn members_of_a_recipe_that_the_document_drops_go() {
    let mut document = pets();
    let old = imported(&document);
    document["paths"]["/pets"]["get"].as_object_mut().expect("members").remove("parameters");
    document["paths"]["/pets/{pet-id}/photo"]["put"]["responses"] = json!({});
    let refreshed = refresh(&old, &imported(&document));
    assert_eq!(refreshed.manifest["actions"], imported(&document)["actions"]);
}

#[test]
fn a_way_in_that_people_made_stays_whole() {
    let mut old = imported(&pets());
    old["http"]["auth"] = json!({ "type": "header", "name": "X-Api-Key", "value": "{{ credentials.key }}" });
    let key = json!({ "type": "object", "properties": { "key": { "type": "string", "secret": true } }, "required": ["key"] });
    old["userAuth"] = json!({ "type": "credentials", "schema": key });
    old["configSchema"] =
        json!({ "type": "object", "title": "Ours", "properties": { "region": { "type": "string", "title": "Where" } } });
    let mut document = pets();
    document["servers"][0]["variables"]["region"]["enum"] = json!(["eu", "us", "ap"]);
    let refreshed = refresh(&old, &imported(&document));
    assert_eq!((&refreshed.manifest["http"]["auth"], &refreshed.manifest["userAuth"]), (&old["http"]["auth"], &old["userAuth"]));
    let config = &refreshed.manifest["configSchema"];
    assert_eq!((&config["title"], &config["required"]), (&json!("Ours"), &json!([])));
    let region = json!({ "type": "string", "title": "Where", "default": "eu", "enum": ["eu", "us", "ap"] });
    assert_eq!(config["properties"], json!({ "region": region }));
    assert_eq!((lines(&refreshed), &refreshed.manifest["version"]), (vec![], &json!("1.0.0")));
    assert_eq!(refreshed.kept.len(), 1, "{:?}", refreshed.kept);
    assert!(
        refreshed.kept[0].contains("http.auth stays") && refreshed.kept[0].contains("config.api_key"),
        "{:?}",
        refreshed.kept
    );
}

#[test]
fn secrets_that_people_renamed_keep_their_names() {
    let mut old = imported(&pets());
    old["configSchema"]["properties"]["api_key"]["platformSecret"] = json!("PETS_OF_OURS");
    assert_eq!(refresh(&old, &imported(&pets())).manifest, old);
}

#[test]
fn a_document_that_names_no_credential_takes_none_away() {
    let mut bare = pets();
    bare.as_object_mut().expect("members").remove("security");
    bare["components"].as_object_mut().expect("members").remove("securitySchemes");
    let old = imported(&pets());
    let refreshed = refresh(&old, &imported(&bare));
    assert_eq!(refreshed.manifest, old);
    let refreshed = refresh(&imported(&bare), &imported(&pets()));
    assert_eq!(refreshed.manifest["configSchema"]["required"], json!(["api_key"]));
    assert!(lines(&refreshed).contains(&(true, "http", "the place of the credential changes")), "{refreshed:?}");
}

#[test]
fn changes_within_bodies_and_results_are_told_with_their_place() {
    let mut document = pets();
    let pet = |document: &mut Value, member: &str| document["components"]["schemas"]["Pet"]["properties"][member].take();
    document["components"]["schemas"]["Owner"] = json!({
        "type": "object", "required": ["name"],
        "properties": { "name": { "type": "string" }, "mood": { "enum": ["good", "bad"] }, "fax": { "type": "string" }, "pets": { "type": "array", "items": { "$ref": "#/components/schemas/Pet" } } },
    });
    document["components"]["schemas"]["Pet"]["properties"]["owner"] = json!({ "$ref": "#/components/schemas/Owner" });
    let old = imported(&document);
    let owner = &mut document["components"]["schemas"]["Owner"];
    owner["required"] = json!(["name", "mood"]);
    owner["properties"]["name"] = json!({ "type": "string", "maxLength": 20 });
    owner["properties"]["mood"] = json!({ "enum": ["good"] });
    owner["properties"]["since"] = json!({ "type": "string" });
    owner["properties"].as_object_mut().expect("properties").remove("fax");
    let age = pet(&mut document, "age");
    assert_eq!(age["type"], "integer");
    document["components"]["schemas"]["Pet"]["properties"]["age"] = json!({ "type": "string" });
    let refreshed = refresh(&old, &imported(&document));
    assert_eq!(
        lines(&refreshed),
        [
            (true, "create_pet", "does not give back 'owner.fax' any more"),
            (true, "create_pet", "does not take the input 'body.owner.fax' any more"),
            (true, "create_pet", "gives back 'age' with another type"),
            (true, "create_pet", "needs the input 'body.owner.mood' now"),
            (true, "create_pet", "the input 'body.age' is \"string\" instead of \"integer\" or \"null\""),
            (true, "create_pet", "the input 'body.owner.mood' does not take \"bad\" any more"),
            (true, "create_pet", "the input 'body.owner.name' keeps to maxLength 20 now"),
            (true, "list_pets", "does not give back '[].owner.fax' any more"),
            (true, "list_pets", "gives back '[].age' with another type"),
            (false, "create_pet", "takes the new input 'body.owner.since'"),
        ]
    );
}

#[test]
fn what_takes_more_than_before_breaks_nothing() {
    let mut document = pets();
    let old = imported(&document);
    let pet = &mut document["components"]["schemas"]["Pet"];
    pet["required"] = json!([]);
    pet["properties"]["age"] = json!({ "type": "number", "nullable": true });
    pet["properties"]["nick"] = json!({ "anyOf": [{ "type": "string" }, { "$ref": "#/components/schemas/Pet" }] });
    document["paths"]["/pets"]["get"]["parameters"][0]["schema"]["maximum"] = json!(1_000);
    let responses = document["paths"]["/pets"]["post"].as_object_mut().expect("members");
    responses.remove("responses");
    document["paths"]["/pets"]["get"]["responses"] = json!({});
    let refreshed = refresh(&old, &imported(&document));
    assert!(refreshed.changes.iter().all(|change| !change.breaking), "{refreshed:?}");
    assert_eq!(refreshed.manifest["version"], "1.1.0");
}
