//! Keys that mean nothing here. They are no fault, because a manifest may be meant for a newer Weft as well, but whoever wrote one
//! should know that nothing comes of it.

use serde_json::Value;

/// What a property is that holds a schema of its own.
const CONFIGURATION: &str = "configSchema";
/// Words by which a node of the schema says more of an object than its own properties.
const FURTHER: [&str; 6] = ["additionalProperties", "oneOf", "anyOf", "allOf", "if", "patternProperties"];

/// The paths of keys that the schema of manifests does not know, where it lets others be.
pub(super) fn keys(document: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk((document, "$"), (schema, schema), &mut found);
    found
}

fn walk((value, path): (&Value, &str), (node, schema): (&Value, &Value), found: &mut Vec<String>) {
    let Some(node) = resolved(node, schema) else { return };
    match value {
        Value::Object(members) => {
            let Some(properties) = node.get("properties") else { return };
            let is_closed = FURTHER.iter().any(|word| node.get(word).is_some());
            for (key, member) in members {
                let path = format!("{path}.{key}");
                match properties.get(key) {
                    Some(_) if key == CONFIGURATION => {}
                    Some(property) => walk((member, &path), (property, schema), found),
                    None if is_closed => {}
                    None => found.push(path),
                }
            }
        }
        Value::Array(members) => {
            let Some(items) = node.get("items") else { return };
            for (index, member) in members.iter().enumerate() {
                walk((member, &format!("{path}[{index}]")), (items, schema), found);
            }
        }
        _ => {}
    }
}

/// The node itself, or what it is a name of; nothing if it says something beside the name.
fn resolved<'a>(node: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    let Some(reference) = node.get("$ref") else { return Some(node) };
    if node.get("properties").is_some() {
        return None;
    }
    resolved(schema.pointer(reference.as_str()?.strip_prefix('#')?)?, schema)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Manifest;

    #[test]
    fn keys_without_a_meaning_are_found_where_they_stand_and_others_are_left_alone() {
        let manifest = json!({
            "$schema": "x", "appId": "chat", "name": "Chat", "type": "integration", "acitons": [],
            "configSchema": { "type": "object", "properties": { "token": { "type": "string", "x-own": 1 } } },
            "actions": [{ "id": "send", "name": "Send", "timeout": 5, "inputSchema": { "properties": { "a": {} }, "x-own": 1 } }],
            "webhooks": ["events", { "name": "more", "methd": "x" }],
            "dataContract": [{ "entityName": "note", "fields": [{ "name": "text", "type": "text", "requierd": true }] }],
        });
        let found = Manifest::parse(manifest).expect("no fault").unknown_keys();
        assert_eq!(found, ["$.acitons", "$.actions[0].timeout", "$.dataContract[0].fields[0].requierd"]);
    }
}
