//! The document as a tree, and following the references within it.

use serde_json::Value;

use crate::Error;

/// References that lead to references.
const DEEPEST: usize = 16;

/// Reads JSON or YAML.
pub fn parse(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).or_else(|_| serde_norway::from_str(text).map_err(|error| Error::Unreadable(error.to_string())))
}

/// An OpenAPI document.
pub struct Document<'a> {
    pub root: &'a Value,
    /// 3.0 has a dialect of JSON Schema of its own.
    pub is_3_0: bool,
}

impl<'a> Document<'a> {
    pub fn new(root: &'a Value) -> Result<Self, Error> {
        let version = root["openapi"].as_str().unwrap_or_default();
        if !version.starts_with("3.0") && !version.starts_with("3.1") {
            let said = root.get("openapi").or_else(|| root.get("swagger")).map_or_else(|| "nothing".to_owned(), Value::to_string);
            return Err(Error::Version(said));
        }
        Ok(Self { root, is_3_0: version.starts_with("3.0") })
    }

    /// What a reference leads to, or the value itself; `None` when it leads nowhere.
    pub fn resolve<'v>(&self, value: &'v Value) -> Option<&'v Value>
    where
        'a: 'v,
    {
        let mut value = value;
        for _ in 0..DEEPEST {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Some(value) };
            value = self.root.pointer(reference.strip_prefix('#')?)?;
        }
        None
    }
}
