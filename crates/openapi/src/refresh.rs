//! A new import over a manifest that people have worked on, and what changes for those who call its actions.
//!
//! Whatever an import does not write is people's and stays. So does the way in, which documents often describe wrongly.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::difference::{Side, differences};

/// One change for callers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Whether calls, or programs that read results, may fail because of it.
    pub breaking: bool,
    /// The action, or `http`.
    pub place: String,
    pub what: String,
}

/// A manifest that was brought up to date.
#[derive(Debug, Clone)]
pub struct Refresh {
    pub manifest: Value,
    /// The breaking ones come first.
    pub changes: Vec<Change>,
    /// Where the document says something else than what people wrote and what stays.
    pub kept: Vec<String>,
}

/// What an import writes.
const WRITTEN: [&str; 6] = ["type", "description", "http", "actions", "configSchema", "userAuth"];
const WRITTEN_OF_HTTP: [&str; 2] = ["baseUrl", "auth"];
const WRITTEN_OF_ACTIONS: [&str; 6] = ["id", "name", "description", "inputSchema", "outputSchema", "recipe"];
const WRITTEN_OF_RECIPES: [&str; 6] = ["method", "path", "query", "headers", "body", "auth"];
const WRITTEN_OF_CONFIG: [&str; 3] = ["type", "properties", "required"];
/// What a document says best about a variable of the server's address.
const WRITTEN_OF_FIELDS: [&str; 2] = ["default", "enum"];

/// Lays `new` over `old`. The version goes up by what changes.
pub fn refresh(old: &Value, new: &Value) -> Refresh {
    let mut manifest = new.clone();
    let (mut changes, mut kept) = (Vec::new(), Vec::new());
    keep(&mut manifest, old, &WRITTEN);
    keep(&mut manifest["http"], &old["http"], &WRITTEN_OF_HTTP);
    keep_way_in(&mut manifest, old, &mut kept);
    let has_credential = new["http"].get("auth").is_some();
    lay_actions(&mut manifest, old, has_credential, (&mut changes, &mut kept));
    for (member, what) in [("baseUrl", "the vendor's address"), ("auth", "the place of the credential")] {
        if old["http"][member] != manifest["http"][member] {
            changes.push(Change { breaking: member == "auth", place: "http".to_owned(), what: format!("{what} changes") });
        }
    }
    changes.sort_by(|one, other| other.breaking.cmp(&one.breaking).then_with(|| one.cmp(other)));
    changes.dedup();
    manifest["version"] = json!(next_version(old["version"].as_str().unwrap_or_default(), &changes));
    Refresh { manifest, changes, kept }
}

/// Takes all members from the earlier document but those that an import writes.
fn keep(into: &mut Value, from: &Value, written: &[&str]) {
    for (member, value) in from.as_object().into_iter().flatten().filter(|(member, _)| !written.contains(&member.as_str())) {
        into[member] = value.clone();
    }
}

fn actions(manifest: &Value) -> BTreeMap<&str, &Value> {
    let all = manifest["actions"].as_array().into_iter().flatten();
    all.filter_map(|action| Some((action["id"].as_str()?, action))).collect()
}

fn lay_actions(manifest: &mut Value, old: &Value, has_credential: bool, (changes, kept): (&mut Vec<Change>, &mut Vec<String>)) {
    let mut before = actions(old);
    let Some(all) = manifest["actions"].as_array_mut() else { return };
    for action in all.iter_mut() {
        let id = action["id"].as_str().unwrap_or_default().to_owned();
        match before.remove(id.as_str()) {
            None => changes.push(Change { breaking: false, place: id, what: "is new".to_owned() }),
            Some(earlier) if earlier.get("recipe").is_none() => {
                kept.push(format!("{id} stays as the backend serves it"));
                *action = earlier.clone();
            }
            Some(earlier) => {
                keep_action(action, earlier, has_credential);
                compare_action(earlier, action, &id, changes);
            }
        }
    }
    for (id, earlier) in before {
        if earlier.get("recipe").is_some() {
            changes.push(Change { breaking: true, place: id.to_owned(), what: "is not there any more".to_owned() });
        } else {
            all.push(earlier.clone());
        }
    }
}

fn keep_action(action: &mut Value, earlier: &Value, has_credential: bool) {
    keep(action, earlier, &WRITTEN_OF_ACTIONS);
    let (recipe, before) = (&mut action["recipe"], &earlier["recipe"]);
    let as_imported = json!({ "as": "base64" });
    let response = recipe.get("response").cloned();
    keep(recipe, before, &WRITTEN_OF_RECIPES);
    if before["response"] == as_imported
        && let Some(members) = recipe.as_object_mut()
    {
        members.remove("response");
        members.extend(response.map(|response| ("response".to_owned(), response)));
    }
    // Without a credential in the document, none of its operations can do without.
    if !has_credential && let Some(auth) = before.get("auth") {
        recipe["auth"] = auth.clone();
    }
}

/// The place of the credential, how people connect their accounts, and the configuration.
fn keep_way_in(manifest: &mut Value, old: &Value, kept: &mut Vec<String>) {
    let has_one = old["http"].get("auth").is_some() || old.get("userAuth").is_some();
    if has_one {
        for (pointer, what) in
            [("/http/auth", "puts the credential elsewhere"), ("/userAuth", "connects accounts in another way")]
        {
            let (before, after) = (old.pointer(pointer), manifest.pointer(pointer));
            if let Some(after) = after.filter(|after| Some(*after) != before) {
                let name = pointer.trim_start_matches('/').replace('/', ".");
                kept.push(format!("the document {what}, and {name} stays as it is; it would be {after}"));
            }
        }
        put(&mut manifest["http"], "auth", old["http"].get("auth"));
        put(manifest, "userAuth", old.get("userAuth"));
    }
    let before = old.get("configSchema").cloned().unwrap_or_else(|| json!({}));
    let Some(mut config) = manifest.get("configSchema").cloned().or_else(|| old.get("configSchema").cloned()) else { return };
    if has_one {
        forget_credential(&mut config, &before["properties"]);
    }
    keep_config(&mut config, &before);
    let is_empty = config["properties"].as_object().is_none_or(Map::is_empty) && old.get("configSchema").is_none();
    put(manifest, "configSchema", Some(&config).filter(|_| !is_empty));
}

/// Takes out the fields of the document's credential, which are those that an import requires, unless they are `known`.
fn forget_credential(config: &mut Value, known: &Value) {
    let required = config["required"].take();
    let required = required.as_array().into_iter().flatten().filter_map(Value::as_str);
    let (stay, go): (Vec<_>, Vec<_>) = required.partition(|name| known.get(*name).is_some());
    for name in go {
        config["properties"].as_object_mut().and_then(|properties| properties.remove(name));
    }
    config["required"] = json!(stay);
}

fn keep_config(config: &mut Value, old: &Value) {
    keep(config, old, &WRITTEN_OF_CONFIG);
    for (name, property) in old["properties"].as_object().into_iter().flatten() {
        let said = config["properties"].get(name).cloned().unwrap_or_default();
        let field = &mut config["properties"][name];
        *field = property.clone();
        for word in WRITTEN_OF_FIELDS {
            if let Some(value) = said.get(word) {
                field[word] = value.clone();
            }
        }
    }
    let mut required = old["required"].as_array().cloned().unwrap_or_default();
    for name in config["required"].as_array().into_iter().flatten() {
        if !required.contains(name) {
            required.push(name.clone());
        }
    }
    config["required"] = json!(required);
}

fn put(into: &mut Value, member: &str, value: Option<&Value>) {
    let Some(members) = into.as_object_mut() else { return };
    members.remove(member);
    members.extend(value.map(|value| (member.to_owned(), value.clone())));
}

fn compare_action(old: &Value, new: &Value, id: &str, changes: &mut Vec<Change>) {
    let mut told = |breaking: bool, what: String| changes.push(Change { breaking, place: id.to_owned(), what });
    for (member, side) in [("inputSchema", Side::Input), ("outputSchema", Side::Output)] {
        match (old.get(member), new.get(member)) {
            (Some(before), Some(after)) => {
                for difference in differences(before, after, side) {
                    told(difference.breaking, difference.what);
                }
            }
            (Some(_), None) if side == Side::Output => told(false, "does not say any more what the result is".to_owned()),
            _ => {}
        }
    }
    if old["recipe"]["path"] != new["recipe"]["path"] || old["recipe"]["method"] != new["recipe"]["method"] {
        told(false, "is called at another address of the vendor".to_owned());
    }
}

fn next_version(version: &str, changes: &[Change]) -> String {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().unwrap_or_default()).chain([0, 0, 0]);
    let mut next = || numbers.next().unwrap_or_default();
    let (major, minor, patch) = (next(), next(), next());
    let adds = |change: &Change| change.what == "is new" || change.what.starts_with("takes the new input");
    match changes.first() {
        None => version.to_owned(),
        Some(change) if change.breaking => format!("{}.0.0", major + 1),
        Some(_) if changes.iter().any(adds) => format!("{major}.{}.0", minor + 1),
        Some(_) => format!("{major}.{minor}.{}", patch + 1),
    }
}
