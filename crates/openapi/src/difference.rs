//! What a newer schema changes for those who keep to an earlier one.
//!
//! Schemas are followed through references, members, items and alternatives. What two pairs of references come to is told once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Schemas within schemas that are compared.
const DEEPEST: usize = 16;
/// Schemas made of schemas, where a type is looked for.
const DEEPEST_KIND: usize = 3;

/// Which way the values go that a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Callers give them: what was valid has to stay so.
    Input,
    /// Callers read them: what was there has to stay there.
    Output,
}

/// One difference. It breaks when calls, or programs that read results, may fail because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub breaking: bool,
    pub what: String,
}

/// Every difference between two schemas that are complete in themselves.
pub fn differences(old: &Value, new: &Value, side: Side) -> Vec<Difference> {
    let mut comparison = Comparison { roots: (Root(old), Root(new)), side, seen: BTreeSet::new(), found: Vec::new() };
    if old != new {
        comparison.schemas("", (old, new), 0);
    }
    comparison.found
}

struct Comparison<'v> {
    roots: (Root<'v>, Root<'v>),
    side: Side,
    /// References that were compared with each other.
    seen: BTreeSet<(&'v str, &'v str)>,
    found: Vec<Difference>,
}

type Pair<'v> = (&'v Value, &'v Value);

impl<'v> Comparison<'v> {
    fn schemas(&mut self, path: &str, (old, new): Pair<'v>, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        if let (Some(one), Some(other)) = (reference(old), reference(new))
            && !self.seen.insert((one, other))
        {
            return;
        }
        let (old, new) = (self.roots.0.opened(old), self.roots.1.opened(new));
        if is_open(new) {
            if self.side == Side::Output && !is_open(old) {
                self.tell(false, format!("does not say any more what {} is", self.named(path)));
            }
            return;
        }
        self.kinds(path, (old, new));
        if self.side == Side::Input {
            self.values(path, (old, new));
        }
        self.members(path, (old, new), depth);
        for (word, step) in [("items", "[]"), ("additionalProperties", ".*")] {
            if let (Some(before), Some(after)) = (old.get(word), new.get(word))
                && before.is_object()
                && after.is_object()
            {
                self.schemas(&format!("{path}{step}"), (before, after), depth + 1);
            }
        }
        for word in ["anyOf", "oneOf"] {
            self.alternatives(path, (&old[word], &new[word]), depth);
        }
    }

    fn kinds(&mut self, path: &str, (old, new): Pair<'v>) {
        let (before, after) = (self.roots.0.kinds(old, 0), self.roots.1.kinds(new, 0));
        let Some(after) = after else { return };
        let name = self.named(path);
        let fits = |all: &BTreeSet<&str>, one: &str| all.contains(one) || (one == "integer" && all.contains("number"));
        match (self.side, before) {
            (Side::Input, None) => self.tell(true, format!("{name} is {} instead of anything", said(&after))),
            (Side::Input, Some(before)) if !before.iter().all(|one| fits(&after, one)) => {
                self.tell(true, format!("{name} is {} instead of {}", said(&after), said(&before)));
            }
            (Side::Output, Some(before)) if !after.iter().all(|one| fits(&before, one)) => {
                self.tell(true, format!("gives back {name} with another type"));
            }
            _ => {}
        }
    }

    /// Values of the earlier schema that the newer one does not take.
    fn values(&mut self, path: &str, (old, new): Pair<'v>) {
        let name = self.named(path);
        if let Some(kept) = allowed(new) {
            match allowed(old).map(|before| before.into_iter().find(|value| !kept.contains(value))) {
                Some(Some(gone)) => self.tell(true, format!("{name} does not take {gone} any more")),
                Some(None) => {}
                None => self.tell(true, format!("{name} takes only certain values now")),
            }
        }
        let number = |schema: &Value, word: &str| schema[word].as_f64();
        for word in ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"] {
            if number(new, word).is_some_and(|after| number(old, word).is_none_or(|before| after < before)) {
                self.tell(true, format!("{name} keeps to {word} {} now", new[word]));
            }
        }
        for (word, least) in [
            ("minimum", None),
            ("exclusiveMinimum", None),
            ("minLength", Some(0.0)),
            ("minItems", Some(0.0)),
            ("minProperties", Some(0.0)),
        ] {
            if number(new, word).is_some_and(|after| number(old, word).or(least).is_none_or(|before| after > before)) {
                self.tell(true, format!("{name} keeps to {word} {} now", new[word]));
            }
        }
        if new.get("pattern").is_some_and(|pattern| Some(pattern) != old.get("pattern")) {
            self.tell(true, format!("{name} has to match another pattern"));
        }
        if new["additionalProperties"] == false && old["additionalProperties"] != false {
            self.tell(true, format!("{name} takes no other members any more"));
        }
    }

    fn members(&mut self, path: &str, (old, new): Pair<'v>, depth: usize) {
        let (before, after) = (self.roots.0.members(old), self.roots.1.members(new));
        for (name, schema) in &after.properties {
            let inner = below(path, name);
            let needed = after.required.contains(name);
            let earlier = before.properties.get(name);
            if self.side == Side::Input {
                match earlier {
                    None if needed => self.tell(true, format!("needs the new input '{inner}'")),
                    // What took any members took this one too.
                    None if path.is_empty() || !before.properties.is_empty() => {
                        self.tell(false, format!("takes the new input '{inner}'"));
                    }
                    Some(_) if needed && !before.required.contains(name) => {
                        self.tell(true, format!("needs the input '{inner}' now"));
                    }
                    _ => {}
                }
            }
            if let Some(earlier) = earlier {
                self.schemas(&inner, (earlier, schema), depth + 1);
            }
        }
        for name in before.properties.keys().filter(|name| !after.properties.contains_key(*name)) {
            let inner = below(path, name);
            match self.side {
                Side::Input => self.tell(true, format!("does not take the input '{inner}' any more")),
                Side::Output => self.tell(true, format!("does not give back '{inner}' any more")),
            }
        }
    }

    /// Those that read alike belong together; the others go by their order.
    fn alternatives(&mut self, path: &str, (old, new): Pair<'v>, depth: usize) {
        let (Some(old), Some(new)) = (old.as_array(), new.as_array()) else { return };
        for same in new.iter().filter(|one| old.contains(one)) {
            self.schemas(path, (same, same), depth + 1);
        }
        let (before, after): (Vec<_>, Vec<_>) =
            (old.iter().filter(|one| !new.contains(one)).collect(), new.iter().filter(|one| !old.contains(one)).collect());
        if before.len() > after.len() && self.side == Side::Input {
            self.tell(true, format!("{} has fewer alternatives", self.named(path)));
        } else if before.len() != after.len() {
            self.tell(false, format!("{} has other alternatives", self.named(path)));
        } else {
            for pair in before.into_iter().zip(after) {
                self.schemas(path, pair, depth + 1);
            }
        }
    }

    fn named(&self, path: &str) -> String {
        match (self.side, path) {
            (Side::Input, "") => "the input".to_owned(),
            (Side::Input, path) => format!("the input '{path}'"),
            (Side::Output, "") => "the result".to_owned(),
            (Side::Output, path) => format!("'{path}'"),
        }
    }

    fn tell(&mut self, breaking: bool, what: String) {
        self.found.push(Difference { breaking, what });
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Types as they stand in a schema.
fn said(kinds: &BTreeSet<&str>) -> String {
    let kinds: Vec<_> = kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
    kinds.join(" or ")
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()
}

/// Whether a schema says nothing about what it describes.
fn is_open(schema: &Value) -> bool {
    const WORDS: [&str; 8] = ["type", "properties", "items", "allOf", "anyOf", "oneOf", "enum", "const"];
    schema.as_object().is_none_or(|members| !WORDS.iter().any(|word| members.contains_key(*word)))
}

/// The only values that a schema takes.
fn allowed(schema: &Value) -> Option<Vec<&Value>> {
    let one = schema.get("const").map(|value| vec![value]);
    one.or_else(|| schema["enum"].as_array().map(|values| values.iter().collect()))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What references of a schema lead into.
#[derive(Clone, Copy)]
struct Root<'v>(&'v Value);

/// The members of an object, of all parts that its schema is made of.
#[derive(Default)]
struct Members<'v> {
    properties: BTreeMap<&'v str, &'v Value>,
    required: BTreeSet<&'v str>,
}

impl<'v> Root<'v> {
    fn opened(self, schema: &'v Value) -> &'v Value {
        let mut schema = schema;
        for _ in 0..DEEPEST {
            let target = reference(schema).and_then(|reference| self.0.pointer(reference.strip_prefix('#')?));
            let Some(target) = target else { break };
            schema = target;
        }
        schema
    }

    /// The types that values may have; `None` when any.
    fn kinds(self, schema: &'v Value, depth: usize) -> Option<BTreeSet<&'v str>> {
        let schema = self.opened(schema);
        let each = |word: &str| schema[word].as_array().filter(|_| depth < DEEPEST_KIND).into_iter().flatten();
        match &schema["type"] {
            Value::String(kind) => return Some(BTreeSet::from([kind.as_str()])),
            Value::Array(kinds) => return Some(kinds.iter().filter_map(Value::as_str).collect()),
            _ if schema.get("properties").is_some() => return Some(BTreeSet::from(["object"])),
            _ if schema.get("items").is_some() => return Some(BTreeSet::from(["array"])),
            _ => {}
        }
        if let Some(values) = allowed(schema) {
            return Some(values.into_iter().map(kind_of).collect());
        }
        let of_parts = each("allOf").find_map(|part| self.kinds(part, depth + 1));
        of_parts.or_else(|| {
            // One alternative that takes any type is enough.
            let all: Option<Vec<_>> = each("anyOf").chain(each("oneOf")).map(|one| self.kinds(one, depth + 1)).collect();
            all.filter(|all| !all.is_empty()).map(|all| all.into_iter().flatten().collect())
        })
    }

    fn members(self, schema: &'v Value) -> Members<'v> {
        let (mut found, mut seen) = (Members::default(), BTreeSet::new());
        let mut open = vec![schema];
        while let Some(schema) = open.pop() {
            if reference(schema).is_some_and(|reference| !seen.insert(reference)) {
                continue;
            }
            let schema = self.opened(schema);
            let properties = schema["properties"].as_object().into_iter().flatten();
            found.properties.extend(properties.map(|(name, property)| (name.as_str(), property)));
            found.required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
            open.extend(schema["allOf"].as_array().into_iter().flatten());
        }
        found
    }
}
