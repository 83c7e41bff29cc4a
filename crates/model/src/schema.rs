//! JSON Schemas that integrations declare: compiled once, applied often, with every fault reported.

use std::{fmt, sync::OnceLock};

use serde_json::Value;

use crate::Fault;

/// A compiled JSON Schema.
pub struct Schema {
    validator: jsonschema::Validator,
}

/// A document that is not a usable JSON Schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid JSON Schema: {reason}")]
pub struct InvalidSchema {
    pub reason: String,
}

impl Schema {
    /// Compiles `document`. References to other documents are refused: a schema must be complete in itself.
    pub fn compile(document: &Value) -> Result<Self, InvalidSchema> {
        jsonschema::validator_for(document)
            .map(|validator| Self { validator })
            .map_err(|error| InvalidSchema { reason: error.to_string() })
    }

    /// Every fault of `instance`, in document order; empty when it is valid. Messages never repeat the value itself.
    pub fn faults(&self, instance: &Value) -> Vec<Fault> {
        if self.validator.is_valid(instance) {
            return Vec::new();
        }
        self.validator
            .iter_errors(instance)
            .map(|error| Fault::new(Fault::path_from_pointer(error.instance_path().as_str()), error.masked().to_string()))
            .collect()
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Schema")
    }
}

/// A schema of a manifest that was checked. Compiled, it is many times as large as its text, so it is compiled for the first use.
#[derive(Debug)]
pub struct LazySchema {
    document: Value,
    compiled: OnceLock<Option<Schema>>,
}

impl LazySchema {
    pub fn new(document: Value) -> Self {
        Self { document, compiled: OnceLock::new() }
    }

    /// Every fault of `instance`, as [`Schema::faults`] reports them.
    pub fn faults(&self, instance: &Value) -> Vec<Fault> {
        // It compiled when the manifest was checked; where it does not any more, it says nothing.
        let compiled = self.compiled.get_or_init(|| Schema::compile(&self.document).ok());
        compiled.as_ref().map(|schema| schema.faults(instance)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_is_reported_with_its_path() {
        let schema = Schema::compile(&json!({
            "type": "object",
            "properties": { "channel": { "type": "string" }, "tags": { "type": "array", "items": { "type": "string" } } },
            "required": ["channel", "text"],
        }))
        .expect("a valid schema");
        let paths: Vec<_> =
            schema.faults(&json!({ "channel": 5, "tags": ["a", 1] })).into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths.len(), 3);
        for expected in ["$", "$.channel", "$.tags[1]"] {
            assert!(paths.iter().any(|path| path == expected), "{expected} in {paths:?}");
        }
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        assert!(Schema::compile(&json!({ "type": "strnig" })).is_err());
    }
}
