//! One expression: compiled once, checked against what its place may use, evaluated with a bounded budget.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, LazyLock, OnceLock},
};

use base64::{Engine, engine::general_purpose};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, value::Serde};
use serde_json::Value as Json;

mod comparison;

/// Steps that one evaluation may take; what filters make counts by its size.
const FUEL: u64 = 200_000;
/// Characters that an expression has at most.
const LONGEST: usize = 4_000;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_fuel(Some(FUEL));
    let functions: Vec<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
    for name in functions {
        environment.remove_global(&name);
    }
    environment.add_filter("base64", |text: String| general_purpose::STANDARD.encode(text));
    environment.add_filter("base64url", |text: String| general_purpose::URL_SAFE_NO_PAD.encode(text));
    environment.add_filter("decode_base64", decode_base64);
    environment.add_filter("merge", merge);
    environment.add_filter("from_json", from_json);
    comparison::register(&mut environment);
    environment
});

/// A compiled expression.
pub struct Expression {
    compiled: minijinja::Expression<'static, 'static>,
    source: String,
    uses: BTreeSet<String>,
    /// Whether it only names a value, as most do: that is looked up as it is.
    is_path: bool,
}

/// The values that expressions of one place see, by name. A copy shares them.
#[derive(Debug, Clone, Default)]
pub struct Scope<'a>(Vec<Arc<Named<'a>>>);

#[derive(Debug)]
struct Named<'a> {
    name: &'static str,
    value: Cow<'a, Json>,
    /// As expressions take it, once one asks.
    converted: OnceLock<Value>,
}

/// What stands at a path.
enum Found<'a> {
    Value(&'a Json),
    Nothing,
    /// Not even what it would be a member of.
    NoParent,
}

impl<'a> Scope<'a> {
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'a Json) -> Self {
        self.put(name, Cow::Borrowed(value));
        self
    }

    #[must_use]
    pub fn with_own(mut self, name: &'static str, value: Json) -> Self {
        self.put(name, Cow::Owned(value));
        self
    }

    fn put(&mut self, name: &'static str, value: Cow<'a, Json>) {
        self.0.push(Arc::new(Named { name, value, converted: OnceLock::new() }));
    }

    /// The text at a dotted path, where there is one.
    pub fn text(&self, path: &str) -> Option<&str> {
        let mut names = path.split('.');
        let root = self.root(names.next()?)?;
        names.try_fold(root, |value, name| value.get(name))?.as_str()
    }

    // Of two with one name, the later counts.
    fn root(&self, name: &str) -> Option<&Json> {
        self.0.iter().rev().find(|named| named.name == name).map(|named| &*named.value)
    }

    /// What stands at a dotted path; `None` when its root is no name of this place.
    fn find(&self, path: &str) -> Option<Found<'_>> {
        let mut names = path.split('.');
        let mut found = Found::Value(self.root(names.next()?)?);
        for member in names {
            found = match found {
                Found::Value(value) => value.get(member).map_or(Found::Nothing, Found::Value),
                Found::Nothing | Found::NoParent => return Some(Found::NoParent),
            };
        }
        Some(found)
    }

    fn value(&self) -> Value {
        let value = |named: &Named<'_>| named.converted.get_or_init(|| Value::from(Serde(&*named.value))).clone();
        self.0.iter().map(|named| (named.name, value(named))).collect::<BTreeMap<_, _>>().into()
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl Expression {
    /// Compiles an expression that uses known filters and tests only.
    pub fn compile(source: &str) -> Result<Self, String> {
        let source = source.trim().to_owned();
        if source.is_empty() {
            return Err("an expression is empty".to_owned());
        }
        if source.len() > LONGEST {
            return Err(format!("an expression has more than {LONGEST} characters"));
        }
        let invalid = |error: Error| format!("'{source}' is no expression: {}", error.detail().unwrap_or("it does not parse"));
        ENVIRONMENT.compile_expression_owned(source.clone()).map_err(invalid)?;
        let rewritten = comparison::lenient(&source)
            .map_err(|comparison::TooLong| format!("'{source}' has too many comparisons within comparisons"))?;
        let compiled = ENVIRONMENT.compile_expression_owned(rewritten).map_err(invalid)?;
        for (kind, name) in helpers(&source) {
            if !is_known(kind, &name) {
                return Err(format!("'{source}' uses the {kind} '{name}', which does not exist"));
            }
        }
        let uses = compiled.undeclared_variables(true).into_iter().collect();
        Ok(Self { compiled, uses, is_path: source.split('.').all(is_name), source })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The values that it uses, as dotted paths from a root: `input.channel`.
    pub const fn uses(&self) -> &BTreeSet<String> {
        &self.uses
    }

    /// The texts that it uses.
    pub fn texts(&self, scope: &Scope<'_>) -> impl Iterator<Item = String> {
        self.uses.iter().filter_map(|path| scope.text(path).map(str::to_owned))
    }

    /// The value, `None` when it is null or not there. What goes wrong is told without quoting any value.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Option<Json>, String> {
        Ok(self.evaluate_with_null(scope)?.filter(|value| !value.is_null()))
    }

    /// The value, null included; `None` when it is not there.
    pub fn evaluate_with_null(&self, scope: &Scope<'_>) -> Result<Option<Json>, String> {
        match self.is_path.then(|| scope.find(&self.source)).flatten() {
            Some(Found::Value(value)) => return Ok(Some(value.clone())),
            Some(Found::Nothing) => return Ok(None),
            Some(Found::NoParent) => return Err(self.explain(&ErrorKind::UndefinedError.into())),
            None => {}
        }
        let value = self.compiled.eval(scope.value()).map_err(|error| self.explain(&error))?;
        if value.is_undefined() {
            return Ok(None);
        }
        serde_json::to_value(&value).map(Some).map_err(|_| format!("'{}' gives something that is not JSON", self.source))
    }

    fn explain(&self, error: &Error) -> String {
        let source = &self.source;
        match error.kind() {
            ErrorKind::UndefinedError => format!("'{source}' needs a value that is not there"),
            ErrorKind::OutOfFuel => format!("'{source}' takes too much work"),
            kind => format!("'{source}' cannot be evaluated: {kind}"),
        }
    }
}

fn is_known(kind: &str, name: &str) -> bool {
    // The helpers of comparisons are ours alone.
    if name.starts_with("__") {
        return false;
    }
    let question = ENVIRONMENT.compile_expression_owned(format!("name is {kind}"));
    let scope = Value::from(BTreeMap::from([("name", name.to_owned())]));
    question.and_then(|question| question.eval(scope)).is_ok_and(|answer| answer.is_true())
}

/// The filters and tests that an expression names.
fn helpers(source: &str) -> Vec<(&'static str, String)> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let mut next = tokens.iter().skip(index + 1);
        match token.as_str() {
            "|" => found.extend(next.next().map(|name| ("filter", name.clone()))),
            "is" => {
                let name = next.find(|name| name.as_str() != "not");
                // `is == 5` names a test by its sign.
                found.extend(name.filter(|name| is_word(name)).map(|name| ("test", name.clone())));
            }
            _ => {}
        }
    }
    found
}

fn is_word(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
}

fn is_name(text: &str) -> bool {
    is_word(text) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Words and signs, without the contents of texts.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let (mut quote, mut escaped, mut in_word) = (None, false, false);
    for letter in source.chars() {
        if let Some(end) = quote {
            if escaped {
                escaped = false;
            } else if letter == '\\' {
                escaped = true;
            } else if letter == end {
                quote = None;
            }
            continue;
        }
        let word = letter.is_alphanumeric() || letter == '_';
        match (letter, tokens.last_mut()) {
            ('"' | '\'', _) => {
                quote = Some(letter);
                tokens.push("text".to_owned());
            }
            // A member named like a word of the language is none: `item.is`.
            (_, Some(last)) if word && (in_word || last == ".") => last.push(letter),
            _ if letter.is_whitespace() => {}
            _ => tokens.push(letter.to_string()),
        }
        in_word = word;
    }
    tokens
}

fn decode_base64(text: &str) -> Result<String, Error> {
    let invalid = || Error::new(ErrorKind::InvalidOperation, "the text is not Base64 of UTF-8");
    let bytes = general_purpose::STANDARD.decode(text.split_whitespace().collect::<String>()).map_err(|_| invalid())?;
    String::from_utf8(bytes).map_err(|_| invalid())
}

/// Both objects in one; members of the second count. Members that are null or not there are left out.
fn merge(first: &Value, second: &Value) -> Result<Value, Error> {
    let mut members = BTreeMap::new();
    for object in [first, second] {
        if object.is_undefined() || object.is_none() {
            continue;
        }
        if object.kind() != minijinja::value::ValueKind::Map {
            return Err(Error::new(ErrorKind::InvalidOperation, "merge takes objects"));
        }
        for name in object.try_iter()? {
            let member = object.get_item(&name)?;
            if !member.is_undefined() && !member.is_none() {
                members.insert(name.to_string(), member);
            }
        }
    }
    Ok(members.into())
}

fn from_json(text: &str) -> Result<Value, Error> {
    serde_json::from_str::<Json>(text)
        .map(|value| Value::from(Serde(value)))
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "the text is not JSON"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn evaluate(source: &str, input: &Json) -> Result<Option<Json>, String> {
        Expression::compile(source)?.evaluate(&Scope::default().with("input", input))
    }

    #[test]
    fn values_keep_their_types_and_what_is_not_there_is_nothing() {
        for (source, input, expected) in [
            ("input.n", json!({ "n": 5 }), Some(json!(5))),
            ("input.n + 1", json!({ "n": 1.5 }), Some(json!(2.5))),
            ("input.list", json!({ "list": [1, "a", null, true] }), Some(json!([1, "a", null, true]))),
            ("input.missing", json!({}), None),
            ("input.none", json!({ "none": null }), None),
            ("input.missing | default('x')", json!({}), Some(json!("x"))),
            ("'yes' if input.flag", json!({}), None),
            ("input.big", json!({ "big": 9_007_199_254_740_993_i64 }), Some(json!(9_007_199_254_740_993_i64))),
            ("input.text | base64", json!({ "text": "a:b" }), Some(json!("YTpi"))),
            ("input.a | merge({'b': 2, 'c': input.c})", json!({ "a": { "b": 1, "d": 1 } }), Some(json!({ "b": 2, "d": 1 }))),
            ("input.tags | join(',')", json!({ "tags": ["a", "b"] }), Some(json!("a,b"))),
            ("input.people | map(attribute='id') | list", json!({ "people": [{ "id": 1 }] }), Some(json!([1]))),
        ] {
            assert_eq!(evaluate(source, &input), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_only_names_a_value_gives_what_it_would_as_any_expression() {
        let input = json!({
            "a": { "b": { "c": 1.0, "true": false, "_x1": -5 } }, "none": null, "text": "t", "list": [1, { "b": 2 }], "empty": {},
            "big": u64::MAX, "is": 1,
        });
        for path in [
            "input",
            "input.a",
            "input.a.b.c",
            "input.a.b.true",
            "input.a.b._x1",
            "input.none",
            "input.none.b",
            "input.none.b.c",
            "input.text.b",
            "input.text.b.c",
            "input.list",
            "input.list.b",
            "input.list.b.c",
            "input.missing",
            "input.missing.b",
            "input.empty",
            "input.empty.b",
            "input.big",
            "input.is",
            "other",
            "other.a",
            "none",
            "true",
        ] {
            // In brackets it is more than names.
            assert_eq!(
                evaluate(path, &input),
                evaluate(&format!("({path})"), &input).map_err(|error| error.replace(['(', ')'], "")),
                "{path}"
            );
        }
    }

    #[test]
    fn what_does_not_exist_is_found_before_anything_is_evaluated() {
        for wrong in ["", "input.", "input | nofilter", "input.x is nosuch", "{% if x %}", "input }} {{ input"] {
            assert!(Expression::compile(wrong).is_err(), "{wrong}");
        }
        for right in ["'a | b' ~ input.x", "input.is", "input.x is not none", "input.x is defined", "input.a or input.b"] {
            assert!(Expression::compile(right).is_ok(), "{right}");
        }
        let expression = Expression::compile("input.a.b ~ config.url ~ range(3)").expect("compiles");
        assert_eq!(expression.uses().iter().collect::<Vec<_>>(), ["config.url", "input.a.b", "range"]);
    }

    #[test]
    fn errors_never_quote_values() {
        for source in ["input.secret | int", "input.secret + 1", "input.secret.x.y", "input.secret | from_json"] {
            let error = evaluate(source, &json!({ "secret": "canary" })).expect_err(source);
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn work_is_bounded() {
        let doubling = "input.a".to_owned() + &"|replace('a','aaaa')".repeat(60);
        assert!(evaluate(&doubling, &json!({ "a": "a" })).expect_err("too much").contains("too much work"));
        assert!(evaluate("'a' * 100000000000", &json!({})).is_err());
    }

    #[test]
    fn comparisons_within_comparisons_are_refused_before_they_are_written_out() {
        let nested = |depth: usize| format!("{}1{}", "0<(".repeat(depth), ")<2".repeat(depth));
        assert!(Expression::compile(&nested(5)).is_ok());
        assert!(Expression::compile(&nested(30)).expect_err("too much").contains("too many comparisons"));
        let beside = vec![nested(8); 40].join(" and ");
        assert!(Expression::compile(&beside).expect_err("too much").contains("too many comparisons"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(source in "[ -~]{0,60}", text in ".{0,20}") {
            let _ = evaluate(&source, &json!({ "text": text, "n": 1, "list": [1, 2] }));
            let _ = evaluate(&format!("input.text | {source}"), &json!({ "text": text }));
        }
    }
}
