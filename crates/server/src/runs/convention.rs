//! What a result says that is no success though nothing failed, by the convention of integrations:
//! `{ok: false, error: {code, message}}`.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// The name by which integrations say that an account lacks rights.
const INSUFFICIENT: &str = "INSUFFICIENT_PERMISSIONS";

/// What an integration says why it did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Option<String>,
    pub message: Option<String>,
}

#[derive(Deserialize)]
struct Result {
    ok: bool,
    #[serde(default)]
    error: Value,
}

/// The refusal that a result is, if it is one.
pub fn refusal(output: &RawValue) -> Option<Refusal> {
    // Most results are large and say nothing of the kind.
    if !output.get().contains("\"ok\"") {
        return None;
    }
    let result: Result = serde_json::from_str(output.get()).ok().filter(|result: &Result| !result.ok)?;
    let text = |name: &str| result.error[name].as_str().map(str::to_owned);
    Some(Refusal { code: text("code"), message: text("message") })
}

/// What a result says that an account lacks rights.
pub fn lacks_rights(output: &RawValue) -> Option<String> {
    if !output.get().contains(INSUFFICIENT) {
        return None;
    }
    let refusal = refusal(output).filter(|refusal| refusal.code.as_deref() == Some(INSUFFICIENT))?;
    Some(refusal.message.unwrap_or_else(|| "the account lacks rights at the vendor".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn only_the_convention_for_lacking_rights_counts() {
        let found = |text: &str| lacks_rights(&raw(text));
        let told = r#"{"ok":false,"error":{"code":"INSUFFICIENT_PERMISSIONS","message":"no scope mail.send"}}"#;
        assert_eq!(found(told).as_deref(), Some("no scope mail.send"));
        for other in [
            r#"{"ok":true,"error":{"code":"INSUFFICIENT_PERMISSIONS"}}"#,
            r#"{"ok":false,"error":{"code":"NOT_FOUND"}}"#,
            r#""INSUFFICIENT_PERMISSIONS""#,
            "null",
        ] {
            assert!(found(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_refusal_is_one_whatever_it_says_of_itself() {
        let of = |code: Option<&str>, message: Option<&str>| {
            Some(Refusal { code: code.map(str::to_owned), message: message.map(str::to_owned) })
        };
        assert_eq!(refusal(&raw(r#"{ "ok": false, "error": { "code": "X", "message": "y" } }"#)), of(Some("X"), Some("y")));
        assert_eq!(refusal(&raw(r#"{"ok":false}"#)), of(None, None));
        assert_eq!(refusal(&raw(r#"{"ok":false,"error":"ratelimited","more":[1]}"#)), of(None, None));
        for other in [r#"{"ok":true}"#, r#"{"ok":"false"}"#, r#"[{"ok":false}]"#, r#"{"data":{"ok":false}}"#, "1"] {
            assert_eq!(refusal(&raw(other)), None, "{other}");
        }
    }
}
