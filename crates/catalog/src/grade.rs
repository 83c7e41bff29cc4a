//! Grading an integration's folder: what keeps it out of the catalog, and what would make it better.

use std::collections::BTreeSet;

use serde_json::Value;
use weft_model::{
    Manifest,
    manifest::{Action, Content, UserAuth},
    schema::Schema,
};
use weft_recipe::{
    Category,
    offline::{Case, play},
};

use crate::{Folder, hygiene};

/// Letters of a description that says something.
const SHORTEST_DESCRIPTION: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// Something that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub severity: Severity,
    /// A file, a part of the manifest, or an action.
    pub place: String,
    pub message: String,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub integration: String,
    pub actions: usize,
    /// Recorded calls that were played.
    pub cases: usize,
    /// Errors first.
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn passes(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}

/// Findings as they come in.
#[derive(Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    pub fn error(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding { severity: Severity::Error, place: place.into(), message: message.into() });
    }

    pub fn warning(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding { severity: Severity::Warning, place: place.into(), message: message.into() });
    }
}

/// Grades a folder; `name` is what the folder is called.
pub fn grade(name: &str, folder: &Folder) -> Report {
    let mut findings = Findings::default();
    let mut report = Report { integration: name.to_owned(), ..Report::default() };
    if let Some(manifest) = manifest(folder, &mut findings) {
        let content = &manifest.content;
        report.actions = content.actions.len();
        if content.app_id.as_str() != name {
            findings.error("manifest.json", format!("has the appId '{}', and the folder is called '{name}'", content.app_id));
        }
        texts(&manifest, folder, &mut findings);
        content.actions.iter().for_each(|action| action_texts(action, &mut findings));
        hygiene::settings(content.config_schema.as_ref(), &mut findings);
        hygiene::placements(content, &mut findings);
        ways(content, &mut findings);
        report.cases = cases(&manifest, folder, &mut findings);
        let needs_tests = content.actions.iter().any(|action| action.recipe.is_none());
        if needs_tests && folder.below("test", ".test.ts").next().is_none() {
            findings.error("test/", "has no *.test.ts for what the backend does");
        }
    }
    hygiene::files(folder, &mut findings);
    findings.0.sort();
    report.findings = findings.0;
    report
}

fn manifest(folder: &Folder, findings: &mut Findings) -> Option<Manifest> {
    let Some(text) = folder.text("manifest.json") else {
        findings.error("manifest.json", "is missing");
        return None;
    };
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            findings.error("manifest.json", format!("is not JSON: {error}"));
            return None;
        }
    };
    let faults = match Manifest::parse(document) {
        Ok(manifest) => return Some(manifest),
        Err(faults) => faults,
    };
    for fault in faults {
        findings.error(format!("manifest.json {}", fault.path), fault.message);
    }
    None
}

fn texts(manifest: &Manifest, folder: &Folder, findings: &mut Findings) {
    let content = &manifest.content;
    if content.description.len() < SHORTEST_DESCRIPTION {
        findings.error("description", "says nothing: what is the integration for?");
    }
    if content.instructions.as_deref().unwrap_or_default().is_empty() {
        findings.warning("instructions", "are missing: what does an agent have to know to use the actions well?");
    }
    match &content.icon {
        Some(icon) if !folder.0.contains_key(icon.trim_start_matches("./")) => {
            findings.error("icon", format!("{icon} is not there"));
        }
        None => findings.warning("icon", "is missing"),
        Some(_) => {}
    }
}

fn action_texts(action: &Action, findings: &mut Findings) {
    let place = |rest: &str| format!("{}{rest}", action.id);
    if action.description.len() < SHORTEST_DESCRIPTION {
        findings.error(place(""), "has no description that says something");
    }
    if action.effect.is_none() {
        findings.warning(place(""), "has no effect: read, search, write or destructive");
    }
    let Some(schema) = &action.input_schema else {
        findings.error(place(""), "has no inputSchema, so nobody knows what to pass");
        return;
    };
    let required: BTreeSet<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if property["description"].as_str().unwrap_or_default().is_empty() && property.get("title").is_none() {
            findings.warning(place(&format!(".{name}")), "has no description");
        }
        let shown = ["examples", "default", "enum", "const"].iter().any(|word| property.get(*word).is_some());
        if required.contains(name.as_str()) && !shown && property["type"] == "string" {
            findings.warning(place(&format!(".{name}")), "has no examples");
        }
    }
    if action.output_schema.is_none() && action.recipe.is_some() {
        findings.warning(place(""), "has no outputSchema, so agents do not know what comes back");
    }
}

/// Whoever has to choose a way needs to know what it is.
fn ways(content: &Content, findings: &mut Findings) {
    let Some(auth) = content.user_auth.as_ref().filter(|auth| !auth.alternatives.is_empty()) else { return };
    for way in auth.ways().filter(|way| way.title.is_none()) {
        findings.error(format!("userAuth.{}", way.name()), "has no title, and there are several ways to choose from");
    }
}

/// Plays every recorded call.
fn cases(manifest: &Manifest, folder: &Folder, findings: &mut Findings) -> usize {
    let mut played = 0;
    let (mut covered, mut fails) = (BTreeSet::new(), BTreeSet::<String>::new());
    for (path, content) in folder.below("test", ".json").filter(|(path, _)| !path.contains("/recordings/")) {
        let cases = match read(content) {
            Ok(cases) => cases,
            Err(error) => {
                findings.error(path, error);
                continue;
            }
        };
        for case in cases {
            let place = format!("{path}: {}", case.name);
            played += 1;
            covered.insert(case.action.clone());
            if case.error.is_some() {
                fails.insert(case.action.clone());
            }
            one(manifest, &case, &place, findings);
        }
    }
    for action in manifest.content.actions.iter().filter(|action| action.recipe.is_some()) {
        if !covered.contains(&action.id) {
            findings.error(&action.id, "has no recorded call in test/*.json");
        }
    }
    if !covered.is_empty() && fails.is_empty() {
        findings.warning("test/", "has no recorded call that fails");
    }
    played
}

/// A file holds one case or a list of them.
fn read(content: &[u8]) -> Result<Vec<Case>, String> {
    let document: Value = serde_json::from_slice(content).map_err(|error| format!("is not JSON: {error}"))?;
    let list = if let Value::Array(list) = document { list } else { vec![document] };
    let case = |(index, value)| serde_json::from_value(value).map_err(|error| format!("[{index}] is no recorded call: {error}"));
    list.into_iter().enumerate().map(case).collect()
}

fn one(manifest: &Manifest, case: &Case, place: &str, findings: &mut Findings) {
    let Some(recipes) = &manifest.recipes else {
        findings.error(place, "the manifest has no recipes");
        return;
    };
    if let Some(way) = &case.way
        && !manifest.content.user_auth.iter().flat_map(UserAuth::ways).any(|known| known.name() == way)
    {
        findings.error(place, format!("there is no way '{way}' to connect"));
    }
    let action = manifest.content.actions.iter().find(|action| action.id == case.action);
    let expects_refusal =
        case.error.as_ref().is_some_and(|error| error.category == Category::Validation && case.exchanges.is_empty());
    if let Some(schema) = action.and_then(|action| action.input_schema.as_ref()).filter(|_| !expects_refusal) {
        told(schema, &case.input, "input", place, findings);
    }
    let egress = manifest.content.egress.as_deref().unwrap_or_default();
    let permits = |host: &str, port: u16| egress.iter().any(|pattern| pattern.matches(host, Some(port)));
    match play(recipes, case, &permits) {
        Ok(Ok(result)) => {
            if let Some(schema) = action.and_then(|action| action.output_schema.as_ref()) {
                told(schema, &result, "result", place, findings);
            }
        }
        Ok(Err(_)) => {}
        Err(differences) => differences.into_iter().for_each(|difference| findings.error(place, difference)),
    }
}

fn told(schema: &Value, value: &Value, what: &str, place: &str, findings: &mut Findings) {
    let Ok(schema) = Schema::compile(schema) else { return };
    for fault in schema.faults(value) {
        findings.error(place, format!("the {what} breaks the action's schema at {}: {}", fault.path, fault.message));
    }
}
