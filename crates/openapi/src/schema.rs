//! Schemas that are complete in themselves: what they refer to comes along, in the dialect that the platform checks with.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::document::Document;

/// Bytes of a schema beyond which what it refers to is left open.
const LARGEST: usize = 12 * 1024;
/// Schemas made of schemas made of schemas, that are looked through.
const DEEPEST: usize = 8;
/// What schemas of OpenAPI hold that is no JSON Schema.
const FOREIGN: [&str; 6] = ["discriminator", "xml", "externalDocs", "example", "nullable", "$schema"];
/// Members whose members are names of properties and not words of the language.
const BY_NAME: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// How far a schema is taken at its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// What callers send has to fit.
    Strict,
    /// What vendors answer is described: a member more, less or null is no fault of anybody's.
    Loose,
}

/// A schema of the document without references out of itself.
pub fn complete(document: &Document<'_>, schema: &Value, reading: Reading) -> Value {
    let mut names = BTreeSet::new();
    let mut whole = converted(document, schema, reading, Some(&mut names));
    let mut size = whole.to_string().len();
    let mut definitions = Map::new();
    while let Some(name) = names.pop_first() {
        let target = document.root["components"]["schemas"].get(&name).cloned().unwrap_or_else(|| json!({}));
        let definition = converted(document, &target, reading, Some(&mut names));
        size += definition.to_string().len();
        if size > LARGEST {
            return converted(document, opened(document, schema), reading, None);
        }
        definitions.insert(name, definition);
        names.retain(|name| !definitions.contains_key(name));
    }
    if let Some(members) = whole.as_object_mut().filter(|_| !definitions.is_empty()) {
        members.insert("$defs".to_owned(), Value::Object(definitions));
    }
    whole
}

/// One step into a schema that is nothing but a reference.
fn opened<'v>(document: &Document<'v>, schema: &'v Value) -> &'v Value {
    document.resolve(schema).unwrap_or(schema)
}

/// Rewrites a schema. References to components are collected; without a place to collect them they are left open.
fn converted(document: &Document<'_>, schema: &Value, reading: Reading, mut names: Option<&mut BTreeSet<String>>) -> Value {
    let Some(members) = schema.as_object() else { return if schema.is_boolean() { schema.clone() } else { json!({}) } };
    if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
        let name = reference.strip_prefix("#/components/schemas/").map(|name| name.replace("~1", "/").replace("~0", "~"));
        return match (name.filter(|name| !name.contains('/')), names) {
            (Some(name), Some(names)) => {
                let pointer = name.replace('~', "~0");
                names.insert(name);
                json!({ "$ref": format!("#/$defs/{pointer}") })
            }
            _ => json!({}),
        };
    }
    let mut rewritten = Map::new();
    for (word, value) in members {
        if FOREIGN.contains(&word.as_str()) || word.starts_with("x-") || (reading == Reading::Loose && is_narrowing(word)) {
            continue;
        }
        let value = match value {
            Value::Object(members) if BY_NAME.contains(&word.as_str()) => {
                let each = |(name, schema): (&String, &Value)| {
                    (name.clone(), converted(document, schema, reading, names.as_deref_mut()))
                };
                Value::Object(members.iter().map(each).collect())
            }
            Value::Object(_) if is_schema(word) => converted(document, value, reading, names.as_deref_mut()),
            Value::Array(items) if is_list_of_schemas(word) => {
                Value::Array(items.iter().map(|item| converted(document, item, reading, names.as_deref_mut())).collect())
            }
            other => other.clone(),
        };
        rewritten.insert(word.clone(), value);
    }
    dialect(document, members, &mut rewritten, reading);
    if reading == Reading::Strict {
        forgo(&mut rewritten, &read_only(document, schema));
    }
    Value::Object(rewritten)
}

/// The properties that the vendor fills in, in a schema and the schemas that it is made of.
pub fn read_only(document: &Document<'_>, schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![(schema, 0)];
    while let Some((schema, depth)) = open.pop() {
        let Some(schema) = document.resolve(schema).filter(|_| depth < DEEPEST) else { continue };
        let filled_in = |property: &Value| {
            [Some(property), document.resolve(property)].into_iter().flatten().any(|one| one["readOnly"] == true)
        };
        let properties = schema["properties"].as_object().into_iter().flatten();
        found.extend(properties.filter(|(_, property)| filled_in(property)).map(|(name, _)| name.clone()));
        open.extend(schema["allOf"].as_array().into_iter().flatten().map(|part| (part, depth + 1)));
    }
    found
}

/// Demands none of `names`, neither itself nor in the parts that are written here.
fn forgo(schema: &mut Map<String, Value>, names: &BTreeSet<String>) {
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !name.as_str().is_some_and(|name| names.contains(name)));
        if required.is_empty() {
            schema.remove("required");
        }
    }
    for part in schema.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
        forgo(part, names);
    }
}

/// What 3.0 writes otherwise than JSON Schema does.
fn dialect(document: &Document<'_>, members: &Map<String, Value>, rewritten: &mut Map<String, Value>, reading: Reading) {
    if let (Some(example), None) = (members.get("example"), members.get("examples")) {
        rewritten.insert("examples".to_owned(), json!([example]));
    }
    // Examples of OpenAPI are objects by name; those of JSON Schema are lists.
    if members.get("examples").is_some_and(|examples| !examples.is_array()) {
        rewritten.remove("examples");
    }
    for (limit, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match rewritten.get(exclusive) {
            Some(Value::Bool(true)) => {
                let value = rewritten.remove(limit).unwrap_or(Value::Null);
                rewritten.insert(exclusive.to_owned(), value);
            }
            Some(Value::Bool(false)) => _ = rewritten.remove(exclusive),
            _ => {}
        }
    }
    let nullable = document.is_3_0 && members.get("nullable") == Some(&Value::Bool(true));
    if nullable || reading == Reading::Loose {
        if let Some(Value::String(kind)) = rewritten.get("type").cloned() {
            rewritten.insert("type".to_owned(), json!([kind, "null"]));
        } else if let Some(Value::Array(kinds)) = rewritten.get_mut("type")
            && !kinds.contains(&json!("null"))
        {
            kinds.push(json!("null"));
        }
        if let Some(Value::Array(values)) = rewritten.get_mut("enum")
            && !values.contains(&Value::Null)
        {
            values.push(Value::Null);
        }
    }
}

fn is_schema(word: &str) -> bool {
    ["items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else", "unevaluatedProperties"]
        .contains(&word)
}

fn is_list_of_schemas(word: &str) -> bool {
    ["allOf", "anyOf", "oneOf", "prefixItems"].contains(&word)
}

/// Words that make valid answers fewer. What they would refuse is the vendor's to decide.
fn is_narrowing(word: &str) -> bool {
    [
        "required",
        "enum",
        "const",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "additionalProperties",
        "unevaluatedProperties",
        "not",
        "oneOf",
        "if",
        "then",
        "else",
        "propertyNames",
        "default",
        "examples",
        "readOnly",
        "writeOnly",
    ]
    .contains(&word)
}
