//! One thing that is wrong with a document a person sent, and where.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// A fault in a JSON document: where it is and what is wrong with it.
///
/// `path` is a JSONPath from the document's root, for example `$.actions[0].id`; `$` is the document itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fault {
    /// JSONPath of the offending value.
    pub path: String,
    /// What is wrong, in words for a person.
    pub message: String,
}

impl Fault {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }

    /// Turns a JSON Pointer (`/actions/0/id`) into the JSONPath that faults use (`$.actions[0].id`).
    pub fn path_from_pointer(pointer: &str) -> String {
        let mut path = String::from("$");
        for segment in pointer.split('/').skip(1) {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
                let _ = write!(path, "[{segment}]");
            } else if segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                path.push('.');
                path.push_str(&segment);
            } else {
                let _ = write!(path, "['{segment}']");
            }
        }
        path
    }
}

/// All of them in one line.
pub fn listed(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn pointers_become_json_paths() {
        for (pointer, path) in [("", "$"), ("/actions/0/id", "$.actions[0].id"), ("/a~1b/c~0d", "$['a/b']['c~d']")] {
            assert_eq!(Fault::path_from_pointer(pointer), path);
        }
    }
}
