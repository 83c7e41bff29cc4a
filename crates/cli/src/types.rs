//! TypeScript declarations of a manifest: what each action takes and returns, and the configuration.
//!
//! Covers what manifests commonly use of JSON Schema; anything else becomes `unknown`, so that a type never promises more than
//! the schema. Pure: document in, text out.

use serde_json::{Map, Value};

/// How deep references are followed: a schema may contain itself.
const DEEPEST: usize = 12;
const HEADER: &str = "// Made from manifest.json by `weft types`; changes are lost.\n\n";

/// The content of `backend/manifest.d.ts`; nothing when the manifest declares no integration.
pub fn declarations(manifest: &Value) -> Option<String> {
    let id = manifest.get("appId")?.as_str()?;
    if manifest.get("type")?.as_str()? != "integration" {
        return None;
    }
    let config = manifest.get("configSchema").map_or_else(|| "Record<string, never>".to_owned(), config_type);
    let config = indented(&config, 2);
    let actions = manifest.get("actions").and_then(Value::as_array).into_iter().flatten();
    let actions: Option<Vec<String>> =
        actions.map(|action| Some(format!("      {}\n", indented(&action_type(action)?, 3)))).collect();
    let (name, actions) = (key(id), actions?.concat());
    Some(format!(
        "{HEADER}interface IntegrationManifest {{\n  {name}: {{\n    config: {config};\n    actions: {{\n{actions}    }};\n  }};\n}}\n"
    ))
}

fn action_type(action: &Value) -> Option<String> {
    let id = action.get("id")?.as_str()?;
    let side = |name: &str| action.get(name).map_or_else(|| "unknown".to_owned(), |schema| Schemas::of(schema).show(schema, 0));
    let (input, output) = (indented(&side("inputSchema"), 1), indented(&side("outputSchema"), 1));
    Some(format!("{}{}: {{\n  input: {input};\n  output: {output};\n}};", doc(action), key(id)))
}

/// A field with a default always has a value.
fn config_type(schema: &Value) -> String {
    let mut schema = schema.clone();
    let fields = schema.get("properties").and_then(Value::as_object);
    let defaulted =
        fields.into_iter().flatten().filter(|(_, field)| field.get("default").is_some()).map(|(name, _)| name.clone());
    let mut required: Vec<Value> = defaulted.map(Value::from).collect();
    required.extend(schema.get("required").and_then(Value::as_array).into_iter().flatten().cloned());
    if let Some(object) = schema.as_object_mut() {
        object.insert("required".to_owned(), required.into());
    }
    Schemas::of(&schema).show(&schema, 0)
}

/// The document that references point into.
struct Schemas<'a> {
    root: &'a Value,
}

impl<'a> Schemas<'a> {
    fn of(root: &'a Value) -> Self {
        Self { root }
    }

    fn show(&self, schema: &Value, depth: usize) -> String {
        let unknown = || "unknown".to_owned();
        if schema == &Value::Bool(false) {
            return "never".to_owned();
        }
        let Some(object) = schema.as_object().filter(|_| depth < DEEPEST) else { return unknown() };
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or_else(unknown, |target| self.show(target, depth + 1));
        }
        if let Some(value) = object.get("const") {
            return literal(value);
        }
        if let Some(values) = object.get("enum").and_then(Value::as_array) {
            return union(values.iter().map(literal).collect());
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(choices) = object.get(word).and_then(Value::as_array) {
                return union(choices.iter().map(|choice| self.show(choice, depth + 1)).collect());
            }
        }
        match object.get("type") {
            Some(Value::Array(kinds)) => union(kinds.iter().map(|kind| self.of_kind(kind, object, depth)).collect()),
            Some(kind) => self.of_kind(kind, object, depth),
            None if object.contains_key("properties") => self.object(object, depth),
            None => unknown(),
        }
    }

    fn of_kind(&self, kind: &Value, schema: &Map<String, Value>, depth: usize) -> String {
        match kind.as_str().unwrap_or_default() {
            "string" => "string".to_owned(),
            "number" | "integer" => "number".to_owned(),
            "boolean" => "boolean".to_owned(),
            "null" => "null".to_owned(),
            "array" => {
                let item = schema.get("items").map_or_else(|| "unknown".to_owned(), |items| self.show(items, depth + 1));
                if item.contains(" | ") && !item.starts_with('{') { format!("({item})[]") } else { format!("{item}[]") }
            }
            "object" => self.object(schema, depth),
            _ => "unknown".to_owned(),
        }
    }

    fn object(&self, schema: &Map<String, Value>, depth: usize) -> String {
        let rest = schema.get("additionalProperties");
        let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|fields| !fields.is_empty()) else {
            return match rest {
                Some(Value::Bool(false)) => "Record<string, never>".to_owned(),
                Some(rest) => format!("Record<string, {}>", self.show(rest, depth + 1)),
                None => "Record<string, unknown>".to_owned(),
            };
        };
        let required = |name: &str| {
            schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|required| required == name))
        };
        let field = |(name, field): (&String, &Value)| {
            let mark = if required(name) { "" } else { "?" };
            let line = format!("{}{}{mark}: {};", doc(field), key(name), self.show(field, depth + 1));
            format!("  {}\n", indented(&line, 1))
        };
        let fields: String = properties.iter().map(field).collect();
        // Every declared field has to fit the signature, so it cannot say more than this.
        let open = matches!(rest, Some(Value::Object(_) | Value::Bool(true)));
        let signature = if open { "  [name: string]: unknown;\n" } else { "" };
        format!("{{\n{fields}{signature}}}")
    }
}

fn union(mut choices: Vec<String>) -> String {
    let mut seen = Vec::new();
    choices.retain(|choice| {
        !seen.contains(choice) && {
            seen.push(choice.clone());
            true
        }
    });
    if choices.is_empty() { "unknown".to_owned() } else { choices.join(" | ") }
}

fn literal(value: &Value) -> String {
    if value.is_object() || value.is_array() { "unknown".to_owned() } else { value.to_string() }
}

/// A name as a key: in quotes unless it is an identifier.
fn key(name: &str) -> String {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.to_owned() } else { Value::from(name).to_string() }
}

fn doc(schema: &Value) -> String {
    let Some(text) = schema.get("description").and_then(Value::as_str).filter(|text| !text.trim().is_empty()) else {
        return String::new();
    };
    let text = text.replace("*/", "*\u{200b}/");
    let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
    match lines.as_slice() {
        [line] => format!("/** {line} */\n"),
        lines => format!("/**\n * {}\n */\n", lines.join("\n * ")),
    }
}

/// The lines after the first one, moved to the right.
fn indented(text: &str, levels: usize) -> String {
    text.replace('\n', &format!("\n{}", "  ".repeat(levels)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(schema: &Value) -> String {
        Schemas::of(schema).show(schema, 0)
    }

    #[test]
    fn common_schemas_become_types() {
        for (schema, expected) in [
            (json!({ "type": "string", "minLength": 1 }), "string"),
            (json!({ "type": "integer" }), "number"),
            (json!({ "type": ["string", "null"] }), "string | null"),
            (json!({ "enum": ["a", 1, null, "a"] }), r#""a" | 1 | null"#),
            (json!({ "const": true }), "true"),
            (json!({ "type": "array", "items": { "type": "boolean" } }), "boolean[]"),
            (json!({ "type": "array", "items": { "enum": ["a", "b"] } }), r#"("a" | "b")[]"#),
            (json!({ "type": "array" }), "unknown[]"),
            (json!({ "type": "object" }), "Record<string, unknown>"),
            (json!({ "type": "object", "additionalProperties": false }), "Record<string, never>"),
            (json!({ "type": "object", "additionalProperties": { "type": "number" } }), "Record<string, number>"),
            (json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }), "string | number"),
            (json!({ "$ref": "#/$defs/id", "$defs": { "id": { "type": "string" } } }), "string"),
            (json!({}), "unknown"),
            (json!(true), "unknown"),
            (json!(false), "never"),
            (json!({ "not": { "type": "string" } }), "unknown"),
        ] {
            assert_eq!(shown(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let schema = json!({ "type": "object", "properties": { "child": { "$ref": "#" } } });
        assert!(shown(&schema).contains("child?: unknown"));
    }

    #[test]
    fn a_comment_cannot_end_early() {
        assert_eq!(doc(&json!({ "description": "a */ b" })).matches("*/").count(), 1);
    }
}
