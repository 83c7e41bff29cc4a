//! Why an action came to nothing, in the platform's categories.

use std::time::Duration;

use serde::Deserialize;

/// What kind of failure it is, and so what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Category {
    /// The vendor refuses the credential.
    Auth,
    RateLimited,
    /// The vendor is down or cannot be reached: the same call may succeed later.
    Unavailable,
    NotFound,
    /// The vendor, or the recipe, refuses the input.
    Validation,
    /// Anything that neither waiting nor another input mends.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub category: Category,
    /// The vendor's own name for it, or `http_<status>`, or the name of what went wrong here.
    pub code: String,
    pub message: String,
    pub retry_after: Option<Duration>,
    /// The status of the vendor's answer, when there was one. 401 says that another credential may do.
    pub status: Option<u16>,
    /// Whether the vendor may have done what was asked for.
    pub may_have_happened: bool,
}

impl Failure {
    pub(crate) fn new(category: Category, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { category, code, message, retry_after: None, status: None, may_have_happened: false }
    }

    /// A value of the input that the recipe cannot use.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Category::Validation, "invalid_input", message)
    }

    /// An answer that is not what the recipe expects.
    pub(crate) fn answer(message: impl Into<String>) -> Self {
        Self { may_have_happened: true, ..Self::new(Category::Failed, "unexpected_answer", message) }
    }

    /// The same without the credentials that stand in its text.
    pub(crate) fn without(mut self, secrets: &[String]) -> Self {
        let mut secrets: Vec<_> = secrets.iter().filter(|secret| secret.len() >= 6).collect();
        // The whole of one before its parts.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            for text in [&mut self.message, &mut self.code] {
                if text.contains(secret.as_str()) {
                    *text = text.replace(secret.as_str(), "[masked]");
                }
            }
        }
        self
    }
}
