//! A new import over a manifest that people have worked on, and what changes for those who call its actions.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// One change for callers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Whether calls, or programs that read results, may fail because of it.
    pub breaking: bool,
    /// The action, or `http`.
    pub place: String,
    pub what: String,
}

/// What people write by hand, and an import does not take back.
const KEPT: [&str; 6] = ["appId", "name", "version", "instructions", "icon", "egress"];
const KEPT_OF_ACTIONS: [&str; 2] = ["timeoutSeconds", "effect"];
const KEPT_OF_RECIPES: [&str; 5] = ["pagination", "response", "errors", "retry", "arrays"];
const KEPT_OF_HTTP: [&str; 9] =
    ["headers", "query", "arrays", "idempotencyHeader", "rateLimit", "errorBody", "errors", "pagination", "retry"];

/// Lays `new` over `old`; the changes come with the breaking ones first. The version goes up accordingly.
pub fn refresh(old: &Value, new: &Value) -> (Value, Vec<Change>) {
    let mut merged = new.clone();
    keep(&mut merged, old, &KEPT, Keep::Always);
    keep(&mut merged["http"], &old["http"], &KEPT_OF_HTTP, Keep::IfNew);
    let before = actions(old);
    let mut changes = Vec::new();
    for action in merged["actions"].as_array_mut().into_iter().flatten() {
        let id = action["id"].as_str().unwrap_or_default().to_owned();
        let Some(earlier) = before.get(id.as_str()) else {
            changes.push(Change { breaking: false, place: id, what: "is new".to_owned() });
            continue;
        };
        keep(action, earlier, &KEPT_OF_ACTIONS, Keep::Always);
        keep(&mut action["recipe"], &earlier["recipe"], &KEPT_OF_RECIPES, Keep::IfNew);
        compare_action(earlier, action, &id, &mut changes);
    }
    let after = actions(&merged);
    for id in before.keys().filter(|id| !after.contains_key(*id)) {
        changes.push(Change { breaking: true, place: (*id).clone(), what: "is not there any more".to_owned() });
    }
    for (member, what) in [("baseUrl", "the vendor's address"), ("auth", "the place of the credential")] {
        if old["http"][member] != merged["http"][member] {
            changes.push(Change { breaking: member == "auth", place: "http".to_owned(), what: format!("{what} changes") });
        }
    }
    changes.sort_by(|one, other| other.breaking.cmp(&one.breaking).then_with(|| one.cmp(other)));
    merged["version"] = json!(next_version(old["version"].as_str().unwrap_or_default(), &changes));
    (merged, changes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Always,
    /// Where the import has nothing of its own to say.
    IfNew,
}

fn keep(into: &mut Value, from: &Value, members: &[&str], when: Keep) {
    for member in members {
        if let Some(value) = from.get(*member)
            && (when == Keep::Always || into.get(*member).is_none())
        {
            into[*member] = value.clone();
        }
    }
}

fn actions(manifest: &Value) -> BTreeMap<String, Value> {
    let all = manifest["actions"].as_array().into_iter().flatten();
    all.filter_map(|action| Some((action["id"].as_str()?.to_owned(), action.clone()))).collect()
}

fn compare_action(old: &Value, new: &Value, id: &str, changes: &mut Vec<Change>) {
    let mut told = |breaking: bool, what: String| changes.push(Change { breaking, place: id.to_owned(), what });
    let (before, after) = (&old["inputSchema"], &new["inputSchema"]);
    let required =
        |schema: &Value, name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    let (old_input, new_input) = (properties(before), properties(after));
    for (name, schema) in &new_input {
        match old_input.get(name) {
            None if required(after, name) => told(true, format!("needs the new input '{name}'")),
            None => told(false, format!("takes the new input '{name}'")),
            Some(_) if required(after, name) && !required(before, name) => told(true, format!("needs the input '{name}' now")),
            Some(earlier) => {
                if let Some(what) = narrowed(earlier, schema) {
                    told(true, format!("the input '{name}' {what}"));
                }
            }
        }
    }
    for name in old_input.keys().filter(|name| !new_input.contains_key(*name)) {
        told(true, format!("does not take the input '{name}' any more"));
    }
    let (old_output, new_output) = (properties(&old["outputSchema"]), properties(&new["outputSchema"]));
    if old.get("outputSchema").is_some() && new.get("outputSchema").is_some() {
        for name in old_output.keys().filter(|name| !new_output.contains_key(*name)) {
            told(true, format!("does not give back '{name}' any more"));
        }
        for (name, schema) in &new_output {
            if old_output.get(name).is_some_and(|earlier| earlier["type"] != schema["type"]) {
                told(true, format!("gives back '{name}' with another type"));
            }
        }
    }
    if old["recipe"]["path"] != new["recipe"]["path"] || old["recipe"]["method"] != new["recipe"]["method"] {
        told(false, "is called at another address of the vendor".to_owned());
    }
}

/// The properties of a schema, through the reference that it may consist of.
fn properties(schema: &Value) -> Map<String, Value> {
    let reference = schema["$ref"].as_str().and_then(|reference| schema.pointer(reference.strip_prefix('#')?));
    reference.unwrap_or(schema)["properties"].as_object().cloned().unwrap_or_default()
}

/// Why what was valid may not be any more.
fn narrowed(old: &Value, new: &Value) -> Option<String> {
    if old["type"] != new["type"] && !new["type"].is_null() {
        return Some(format!("is {} instead of {}", new["type"], old["type"]));
    }
    let gone = |word: &str| {
        let kept = new[word].as_array()?;
        let before = old[word].as_array()?;
        before.iter().find(|value| !kept.contains(value)).cloned()
    };
    gone("enum").map(|value| format!("does not take {value} any more"))
}

fn next_version(version: &str, changes: &[Change]) -> String {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().unwrap_or_default()).chain([0, 0, 0]);
    let mut next = || numbers.next().unwrap_or_default();
    let (major, minor, patch) = (next(), next(), next());
    match changes.first() {
        None => version.to_owned(),
        Some(change) if change.breaking => format!("{}.0.0", major + 1),
        Some(_) if changes.iter().any(|change| change.what.contains("new")) => format!("{major}.{}.0", minor + 1),
        Some(_) => format!("{major}.{minor}.{}", patch + 1),
    }
}
