//! Which values an expression may use where, and whether they exist.

use std::collections::BTreeSet;

use serde_json::Value;

/// Where no caller has a say: addresses and credentials.
pub const WITHOUT_INPUT: &[&str] = &["config", "credentials"];
pub const ABOUT_REQUESTS: &[&str] = &["input", "config", "credentials", "key"];
pub const ABOUT_ANSWERS: &[&str] = &["body", "headers", "status", "input"];
pub const ABOUT_PAGES: &[&str] = &["items", "more", "body", "headers", "status", "input"];
pub const ABOUT_ITEMS: &[&str] = &["item", "input"];

/// What else a manifest says that recipes refer to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// JSON Schema of the configuration.
    pub config: Option<&'a Value>,
    /// JSON Schemas of what connections hold, one for each way to connect. Absent where that is not known.
    pub credentials: Option<&'a [&'a Value]>,
    /// Ways to connect whose credential does not go where `http.auth` says.
    pub ways: &'a [Elsewhere<'a>],
}

/// Where the credential of connections by one way goes.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere<'a> {
    /// Its place in the manifest, for faults.
    pub path: &'a str,
    pub way: &'a str,
    /// One placement, or a list of them.
    pub auth: &'a Value,
    /// JSON Schema of what such a connection holds, where it is known.
    pub credentials: Option<&'a Value>,
}

/// The members of the roots, where they are known.
pub struct Names {
    config: Option<BTreeSet<String>>,
    credentials: Option<BTreeSet<String>>,
    input: Option<BTreeSet<String>>,
}

/// The fields of the configuration that are secret, as expressions name them.
pub fn secret_fields(context: &Context<'_>) -> BTreeSet<String> {
    let properties = context.config.and_then(|schema| schema.get("properties")?.as_object());
    let secret = properties.into_iter().flatten().filter(|(_, field)| field.get("platformSecret").is_some());
    secret.map(|(name, _)| format!("config.{name}")).collect()
}

impl Names {
    pub fn new(context: &Context<'_>) -> Self {
        let config = Some(context.config.map_or_else(|| Some(BTreeSet::new()), members));
        let credentials =
            context.credentials.and_then(|all| all.iter().map(|schema| members(schema)).collect::<Option<Vec<_>>>());
        let credentials = credentials.map(|all| all.into_iter().flatten().collect());
        Self { config: config.flatten(), credentials, input: None }
    }

    /// The same for connections by one way.
    pub fn of_way(context: &Context<'_>, way: &Elsewhere<'_>) -> Self {
        Self { credentials: way.credentials.and_then(members), ..Self::new(context) }
    }

    pub fn with_input(self, schema: Option<&Value>) -> Self {
        Self { input: schema.and_then(members), ..self }
    }

    pub fn check_all(&self, places: Vec<(String, BTreeSet<String>)>, roots: &[&str], report: &mut impl FnMut(String, String)) {
        for (path, uses) in places {
            self.check(&path, &uses, roots, report);
        }
    }

    /// Reports what does not exist, or not here.
    pub fn check(&self, path: &str, uses: &BTreeSet<String>, roots: &[&str], report: &mut impl FnMut(String, String)) {
        for name in uses {
            let mut parts = name.split('.');
            let (root, member) = (parts.next().unwrap_or_default(), parts.next());
            if !roots.contains(&root) {
                report(path.to_owned(), format!("'{root}' does not exist here; there is: {}", roots.join(", ")));
                continue;
            }
            let (known, declared) = match root {
                "input" => (&self.input, "inputSchema"),
                "config" => (&self.config, "configSchema"),
                "credentials" => (&self.credentials, "userAuth.schema"),
                _ => continue,
            };
            if let (Some(known), Some(member)) = (known, member)
                && !known.contains(member)
            {
                report(path.to_owned(), format!("'{name}': {declared} has no property '{member}'"));
            }
        }
    }
}

/// The properties of an object, unless the schema leaves it open what there may be.
fn members(schema: &Value) -> Option<BTreeSet<String>> {
    let schema = schema.as_object()?;
    let words = ["$ref", "allOf", "oneOf", "anyOf", "patternProperties", "if"];
    let open = schema.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false));
    // A configuration may list alternatives of what it requires: its properties are all there are.
    let is_composed = words.iter().any(|word| schema.get(*word).is_some_and(|part| !only_requires(part)));
    if open || is_composed {
        return None;
    }
    Some(schema.get("properties")?.as_object()?.keys().cloned().collect())
}

fn only_requires(part: &Value) -> bool {
    let only = |schema: &Value| schema.as_object().is_some_and(|schema| schema.keys().all(|key| key == "required"));
    part.as_array().is_some_and(|alternatives| alternatives.iter().all(only))
}
