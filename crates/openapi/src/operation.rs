//! One operation as an action: its parameters and body as the input, its success as the output.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{
    document::Document,
    names,
    schema::{Reading, complete, read_only},
    security::{Access, Security},
};

const METHODS: [&str; 6] = ["get", "post", "put", "patch", "delete", "head"];
/// Headers that follow from elsewhere.
const OWN_HEADERS: [&str; 4] = ["accept", "content-type", "authorization", "cookie"];

/// The input and the request of an action, as they grow.
#[derive(Default)]
struct Shape {
    properties: Map<String, Value>,
    required: Vec<String>,
    query: Map<String, Value>,
    headers: Map<String, Value>,
}

/// Every operation of the document: its method, its path, the path's item and itself.
pub fn all<'v>(document: &Document<'v>) -> impl Iterator<Item = (&'static str, &'v str, &'v Value, &'v Value)> {
    let items = document.root["paths"].as_object().into_iter().flatten();
    let items = items.filter_map(|(path, item)| Some((path.as_str(), document.resolve(item)?)));
    items.flat_map(|(path, item)| METHODS.iter().filter_map(move |method| Some((*method, path, item, item.get(*method)?))))
}

/// Every operation as an action.
pub fn actions(document: &Document<'_>, security: &Security, notes: &mut Vec<String>) -> Vec<Value> {
    let mut taken = BTreeSet::new();
    let mut actions = Vec::new();
    for (path, item) in document.root["paths"].as_object().into_iter().flatten() {
        if document.resolve(item).is_none() {
            notes.push(format!("{path} refers to something that is not there"));
        }
    }
    for (method, path, item, operation) in all(document) {
        match action(document, security, (method, path, item), operation) {
            Ok(mut action) => {
                let id = free(action["id"].as_str().unwrap_or_default(), &mut taken);
                action["id"] = json!(id);
                actions.push(action);
            }
            Err(why) => notes.push(format!("{} {path} is left out: {why}", method.to_uppercase())),
        }
    }
    actions
}

fn free(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{wanted}_{number}"));
    let found = std::iter::once(wanted.to_owned()).chain(numbered).find(|id| !taken.contains(id)).unwrap_or_default();
    taken.insert(found.clone());
    found
}

fn action(
    document: &Document<'_>,
    security: &Security,
    (method, path, item): (&str, &str, &Value),
    operation: &Value,
) -> Result<Value, String> {
    let id = operation["operationId"].as_str().map_or_else(|| names::action(&format!("{method} {path}")), names::action);
    let mut shape = Shape::default();
    let mut template = path.to_owned();
    for parameter in parameters(document, item, operation)? {
        template = shape.take(document, parameter, template)?;
    }
    if template.replace("{{", "").contains('{') {
        return Err("a part of the path is not declared as a parameter".to_owned());
    }
    let mut recipe = json!({ "method": method.to_uppercase(), "path": template });
    if method != "get"
        && method != "head"
        && let Some(body) = shape.body(document, operation)?
    {
        recipe["body"] = body;
    }
    let output = output(document, operation, &mut recipe);
    for (member, values) in [("query", shape.query), ("headers", shape.headers)] {
        if !values.is_empty() {
            recipe[member] = Value::Object(values);
        }
    }
    match security.access(operation) {
        Access::WithCredential => {}
        Access::Anonymous => recipe["auth"] = json!("none"),
        Access::Otherwise(schemes) => return Err(format!("it takes another credential than most operations: {schemes}")),
    }
    let summary = operation["summary"].as_str().map(|text| names::cut(text, 120)).filter(|text| !text.is_empty());
    let said = operation["description"].as_str().or(operation["summary"].as_str()).unwrap_or_default();
    let mut input = json!({ "type": "object", "properties": shape.properties, "additionalProperties": false });
    if !shape.required.is_empty() {
        input["required"] = json!(shape.required);
    }
    let mut action = json!({
        "name": summary.unwrap_or_else(|| names::title(&id)),
        "description": names::first_paragraph(said),
        "id": id,
        "effect": effect(method),
        "inputSchema": lifted(input),
        "recipe": recipe,
    });
    if let Some(output) = output {
        action["outputSchema"] = output;
    }
    Ok(action)
}

fn effect(method: &str) -> &'static str {
    match method {
        "get" | "head" => "read",
        "delete" => "destructive",
        _ => "write",
    }
}

/// Those of the path, overridden by those of the operation.
fn parameters<'v>(document: &Document<'v>, item: &'v Value, operation: &'v Value) -> Result<Vec<&'v Value>, String> {
    let mut all: Vec<&Value> = Vec::new();
    for parameter in [item, operation].into_iter().flat_map(|place| place["parameters"].as_array().into_iter().flatten()) {
        let parameter = document.resolve(parameter).ok_or("a parameter refers to something that is not there")?;
        all.retain(|other| other["name"] != parameter["name"] || other["in"] != parameter["in"]);
        all.push(parameter);
    }
    Ok(all)
}

impl Shape {
    /// Takes a parameter into the input, and its value into the request.
    fn take(&mut self, document: &Document<'_>, parameter: &Value, path: String) -> Result<String, String> {
        let (name, place) = (parameter["name"].as_str().unwrap_or_default(), parameter["in"].as_str().unwrap_or_default());
        let required = parameter["required"] == true || place == "path";
        if name.is_empty() || (place == "header" && OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str())) {
            return Ok(path);
        }
        if place == "cookie" {
            return if required { Err(format!("it needs the cookie '{name}'")) } else { Ok(path) };
        }
        let schema = parameter.get("schema").or_else(|| parameter["content"]["application/json"].get("schema"));
        let schema = schema.cloned().unwrap_or_else(|| json!({ "type": "string" }));
        let property = self.declare(document, name, &schema, (parameter["description"].as_str(), required));
        let is_json = parameter["content"].get("application/json").is_some();
        let is_list = document.resolve(&schema).is_some_and(|schema| schema["type"] == "array");
        let joined = is_list && (place != "query" || parameter["explode"] == false || parameter["style"] == "pipeDelimited");
        let separator = if parameter["style"] == "pipeDelimited" { "|" } else { "," };
        let value = accessor(&property);
        let value = match (is_json, joined) {
            (true, _) => format!("{{{{ {value} | tojson if {value} is defined }}}}"),
            (false, true) => format!("{{{{ {value} | join('{separator}') if {value} is defined }}}}"),
            (false, false) => format!("{{{{ {value} }}}}"),
        };
        match place {
            "path" => return Ok(path.replace(&format!("{{{name}}}"), &value)),
            "query" => _ = self.query.insert(name.to_owned(), json!(value)),
            "header" => _ = self.headers.insert(name.to_owned(), json!(value)),
            _ => {}
        }
        Ok(path)
    }

    /// Declares a property of the input under a name that expressions can say and that is not taken.
    fn declare(
        &mut self,
        document: &Document<'_>,
        name: &str,
        schema: &Value,
        (description, required): (Option<&str>, bool),
    ) -> String {
        let plain: String = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
        let plain = plain.trim_matches('_');
        let plain = if plain.is_empty() || plain.starts_with(|first: char| first.is_ascii_digit()) {
            format!("p{plain}")
        } else {
            plain.to_owned()
        };
        let mut property = plain.clone();
        let mut number = 2;
        while self.properties.contains_key(&property) {
            property = format!("{plain}_{number}");
            number += 1;
        }
        let mut schema = complete(document, schema, Reading::Strict);
        if let (Some(description), Some(members)) = (description, schema.as_object_mut()) {
            members.insert("description".to_owned(), json!(names::first_paragraph(description)));
        }
        self.properties.insert(property.clone(), schema);
        if required {
            self.required.push(property.clone());
        }
        property
    }

    /// The body, as one property of the input.
    fn body(&mut self, document: &Document<'_>, operation: &Value) -> Result<Option<Value>, String> {
        let Some(body) = operation.get("requestBody") else { return Ok(None) };
        let body = document.resolve(body).ok_or("its body refers to something that is not there")?;
        let Some(content) = body["content"].as_object().filter(|content| !content.is_empty()) else { return Ok(None) };
        let kinds = |wanted: fn(&str) -> bool| content.iter().find(|(kind, _)| wanted(kind));
        let found = kinds(is_plain_json)
            .or_else(|| kinds(|kind| kind.contains("json")))
            .or_else(|| kinds(|kind| kind.starts_with("application/x-www-form-urlencoded")))
            .or_else(|| kinds(|kind| kind.starts_with("multipart/form-data")))
            .or_else(|| kinds(|kind| kind.starts_with("text/")))
            .or_else(|| content.iter().next());
        let Some((kind, media)) = found else { return Ok(None) };
        let schema = media.get("schema").cloned().unwrap_or_else(|| json!({}));
        let about = (body["description"].as_str(), body["required"] == true);
        if kind.starts_with("multipart/form-data") {
            return Ok(Some(self.multipart(document, &schema)));
        }
        let binary = !kind.contains("json") && !kind.starts_with("text/") && !kind.contains("urlencoded");
        let schema = if binary { json!({ "type": "string", "contentEncoding": "base64" }) } else { schema };
        let value = format!("{{{{ {} }}}}", accessor(&self.declare(document, "body", &schema, about)));
        if !is_plain_json(kind) {
            self.headers.insert("content-type".to_owned(), json!(kind.replace("*/*", "application/octet-stream")));
        }
        Ok(Some(match kind.as_str() {
            kind if kind.contains("json") => json!({ "json": value }),
            kind if kind.contains("urlencoded") => json!({ "form": value }),
            kind if kind.starts_with("text/") => json!({ "text": value }),
            _ => json!({ "bytes": value }),
        }))
    }

    fn multipart(&mut self, document: &Document<'_>, schema: &Value) -> Value {
        let resolved = document.resolve(schema).cloned().unwrap_or_default();
        let required: Vec<_> = resolved["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let filled_in = read_only(document, &resolved);
        let mut parts = Vec::new();
        for (name, schema) in resolved["properties"].as_object().into_iter().flatten() {
            let target = document.resolve(schema);
            let is_file = target.is_some_and(|schema| schema["format"] == "binary" || schema.get("contentMediaType").is_some());
            let schema = if is_file { json!({ "type": "string", "contentEncoding": "base64" }) } else { schema.clone() };
            let property =
                self.declare(document, name, &schema, (None, required.contains(&name.as_str()) && !filled_in.contains(name)));
            let value = format!("{{{{ {} }}}}", accessor(&property));
            parts.push(if is_file {
                json!({ "name": name, "base64": value, "fileName": name })
            } else {
                json!({ "name": name, "value": value })
            });
        }
        json!({ "multipart": parts })
    }
}

/// Whether a media type is JSON itself and not a format made of it, such as `application/json-patch+json`.
fn is_plain_json(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A property in an expression; some names are words of the language.
fn accessor(property: &str) -> String {
    const WORDS: [&str; 12] = ["not", "and", "or", "in", "is", "if", "else", "true", "false", "none", "True", "None"];
    if WORDS.contains(&property) { format!("input['{property}']") } else { format!("input.{property}") }
}

/// The definitions of properties, at the root, where references expect them.
fn lifted(mut schema: Value) -> Value {
    let mut definitions = Map::new();
    for (_, property) in schema["properties"].as_object_mut().into_iter().flatten() {
        if let Some(Value::Object(own)) = property.as_object_mut().and_then(|members| members.remove("$defs")) {
            definitions.extend(own);
        }
    }
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
    schema
}

/// The schema of what a success brings; the recipe says how it is read where it is no JSON.
fn output(document: &Document<'_>, operation: &Value, recipe: &mut Value) -> Option<Value> {
    let responses = operation["responses"].as_object()?;
    let (_, response) =
        responses.iter().filter(|(status, _)| status.starts_with('2')).min_by_key(|(status, _)| status.as_str())?;
    let content = document.resolve(response)?["content"].as_object()?;
    if let Some((_, media)) = content.iter().find(|(kind, _)| kind.contains("json")) {
        let schema = complete(document, media.get("schema")?, Reading::Loose);
        return schema.as_object().is_some_and(|members| !members.is_empty()).then_some(schema);
    }
    let (kind, _) = content.iter().next()?;
    if !kind.starts_with("text/") && !kind.contains("xml") && !kind.starts_with("*/*") {
        recipe["response"] = json!({ "as": "base64" });
    }
    None
}
