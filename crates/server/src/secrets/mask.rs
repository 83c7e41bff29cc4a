//! What a backend says, without the secrets that it was given.
//!
//! A handler may throw an error that quotes its token, and a process that dies may print its environment. Whoever calls an action
//! has no right to its secrets, and the history is no vault: so known values are replaced before anything is stored or answered.

use serde_json::Value;
use weft_model::Secret;
use weft_workers::{CallError, Death, Failure, StartError};

/// Shorter values are words that occur anywhere.
const SHORTEST: usize = 6;
const WORD: &str = "[masked]";

/// Values that must not show.
#[derive(Debug, Clone, Default)]
pub struct Masks {
    /// Longest first, so that a value within another one does not leave the rest of it.
    values: Vec<Secret<String>>,
    /// Whether the values are not known, so that nothing may show.
    blind: bool,
}

impl Masks {
    /// Hides these values, the lines they consist of, and the way they appear in URLs.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let parts = secrets.into_iter().flat_map(|secret| std::iter::once(secret).chain(secret.lines()));
        let forms = parts.map(str::trim).filter(|part| part.len() >= SHORTEST).flat_map(|part| [part.to_owned(), in_url(part)]);
        let mut values: Vec<String> = forms.collect();
        values.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        values.dedup();
        Self { values: values.into_iter().map(Secret::new).collect(), blind: false }
    }

    /// For a time in which nobody knows what is secret.
    pub fn blind() -> Self {
        Self { values: Vec::new(), blind: true }
    }

    pub fn text(&self, text: &str) -> String {
        if self.blind {
            return WORD.to_owned();
        }
        self.values.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.expose().as_str()) { text.replace(secret.expose().as_str(), WORD) } else { text }
        })
    }

    fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, field)| (self.text(&name), self.json(field))).collect(),
            other => other,
        }
    }

    pub fn failure(&self, failure: Failure) -> Failure {
        Failure {
            message: self.text(&failure.message),
            code: failure.code.map(|code| self.text(&code)),
            details: failure.details.map(|details| self.json(details)),
            ..failure
        }
    }

    pub fn call_error(&self, error: CallError) -> CallError {
        match error {
            CallError::Failed(failure) => CallError::Failed(Box::new(self.failure(*failure))),
            CallError::Died(death) => CallError::Died(self.death(&death)),
            CallError::DoesNotStart(death) => CallError::DoesNotStart(self.death(&death)),
            CallError::NotReady { app, death } => CallError::NotReady { app, death: death.map(|death| self.death(&death)) },
            other => other,
        }
    }

    pub fn start_error(&self, error: StartError) -> StartError {
        let lines = |lines: Vec<String>| lines.iter().map(|line| self.text(line)).collect();
        match error {
            StartError::Fatal { message } => StartError::Fatal { message: self.text(&message) },
            StartError::Exited { death, stderr } => StartError::Exited { death: self.death(&death), stderr: lines(stderr) },
            StartError::Timeout { after, stderr } => StartError::Timeout { after, stderr: lines(stderr) },
            other => other,
        }
    }

    fn death(&self, death: &Death) -> Death {
        Death { kind: death.kind, reason: self.text(&death.reason).into() }
    }
}

/// A value as it stands in a query string.
fn in_url(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_values_are_replaced_wherever_they_stand() {
        let masks = Masks::new(["s3cret", "s3cret/longer", "short", "-----BEGIN-----\nabcdefgh\n-----END-----"]);
        for (text, masked) in [
            ("no secret: short", "no secret: short"),
            ("s3cret and s3cret", "[masked] and [masked]"),
            ("as s3cret/longer", "as [masked]"),
            ("?token=s3cret%2Flonger&x=1", "?token=[masked]&x=1"),
            ("one line: abcdefgh", "one line: [masked]"),
        ] {
            assert_eq!(masks.text(text), masked);
        }
        let mut failure = Failure::new("with s3cret").with_code("s3cret");
        failure.details = Some(json!({ "s3cret": ["s3cret", 1] }));
        let masked = masks.failure(failure);
        assert_eq!((masked.message.as_str(), masked.code.as_deref()), ("with [masked]", Some("[masked]")));
        assert_eq!(masked.details, Some(json!({ "[masked]": ["[masked]", 1] })));
        assert_eq!(Masks::blind().text("anything"), "[masked]");
    }
}
