//! What an answer means: the rules of the recipe first, then what the status says.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Category, Failure,
    answer::Answer,
    compile::Action,
    document::{self, OneOrMany},
    expression::Scope,
    retry,
    template::{Text, as_text},
};

/// Characters of a vendor's text that a failure quotes.
const LONGEST: usize = 1_000;

/// Where vendors put their explanation, in the order in which it is looked for.
const MESSAGES: [&str; 14] = [
    "/error/message",
    "/error_description",
    "/message",
    "/errors/0/message",
    "/errors/0/detail",
    "/errors/0/title",
    "/error/error_user_msg",
    "/detail",
    "/error/detail",
    "/title",
    "/error",
    "/errors/0",
    "/description",
    "/msg",
];
const CODES: [&str; 8] =
    ["/error/code", "/error/type", "/code", "/errors/0/code", "/error_code", "/error/status", "/type", "/error"];

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    condition: Condition,
    category: Category,
    pub code: Option<Text>,
    pub message: Option<Text>,
    retry_after: Option<RetryAfter>,
}

/// Where a rule has it from when to try again.
#[derive(Debug)]
enum RetryAfter {
    Fixed(Duration),
    Pointer(String),
}

/// Which answers a rule is about: all of it has to hold.
#[derive(Debug)]
struct Condition {
    statuses: Vec<Status>,
    place: Option<Place>,
    holds: Test,
}

#[derive(Debug)]
enum Place {
    Pointer(String),
    Header(String),
}

#[derive(Debug)]
enum Status {
    One(u16),
    Class(u16),
}

#[derive(Debug)]
enum Test {
    Truthy,
    Exists(bool),
    OneOf(Vec<Value>),
    Contains(String),
    /// Regular expressions as JSON Schema has them: there is one engine for both.
    Matches(jsonschema::Validator),
}

/// Where an integration's errors say what they are about.
#[derive(Debug, Default)]
pub struct ErrorBody {
    pub message: Vec<String>,
    pub code: Vec<String>,
}

impl Rule {
    pub fn compile(rule: &document::Rule, path: &str, fault: &mut impl FnMut(String, String)) -> Self {
        let condition = Condition::compile(&rule.when, &format!("{path}.when"), fault);
        let mut text = |member: &str, source: &Option<String>| {
            let source = source.as_ref()?;
            Text::compile(source).map_err(|message| fault(format!("{path}.{member}"), message)).ok()
        };
        let (code, message) = (text("code", &rule.code), text("message", &rule.message));
        let retry_after = rule.retry_after.as_ref().and_then(|value| {
            let path = format!("{path}.retryAfter");
            RetryAfter::compile(value, &path, fault)
        });
        Self { condition, category: rule.category, code, message, retry_after }
    }
}

impl RetryAfter {
    fn compile(value: &Value, path: &str, fault: &mut impl FnMut(String, String)) -> Option<Self> {
        if let Value::String(pointer) = value {
            check_pointer(pointer, path, fault);
            return Some(Self::Pointer(pointer.clone()));
        }
        let delay = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if delay.is_none() {
            fault(path.to_owned(), "is a number of seconds, or a JSON pointer to one".to_owned());
        }
        delay.map(Self::Fixed)
    }

    fn delay(&self, answer: &Answer) -> Option<Duration> {
        match self {
            Self::Fixed(delay) => Some(*delay),
            Self::Pointer(pointer) => retry::seconds(&as_text(answer.body.pointer(pointer)?).ok()?),
        }
    }
}

impl Condition {
    fn compile(when: &document::When, path: &str, fault: &mut impl FnMut(String, String)) -> Self {
        let mut statuses = Vec::new();
        for status in when.status.clone().map(OneOrMany::into_vec).unwrap_or_default() {
            if let Some(status) = Status::parse(&status) {
                statuses.push(status);
            } else {
                let message = format!("{status} is no status: write 404, or \"4xx\" for all of a class");
                fault(format!("{path}.status"), message);
            }
        }
        let place = match (&when.pointer, &when.header) {
            (Some(pointer), _) => Some(Place::Pointer(pointer.clone())),
            (None, Some(name)) => Some(Place::Header(name.to_ascii_lowercase())),
            (None, None) => None,
        };
        let asked = [
            when.equals.is_some(),
            when.one_of.is_some(),
            when.contains.is_some(),
            when.matches.is_some(),
            when.exists.is_some(),
        ];
        let tests = asked.iter().filter(|asked| **asked).count();
        let says_nothing = when.status.is_none() && place.is_none();
        if says_nothing || (tests > 0 && place.is_none()) || tests > 1 || (when.pointer.is_some() && when.header.is_some()) {
            let message =
                "names a status, or a pointer or a header, and for these at most one of equals, in, contains, matches and exists";
            fault(path.to_owned(), message.to_owned());
        }
        if let Some(pointer) = &when.pointer {
            check_pointer(pointer, &format!("{path}.pointer"), fault);
        }
        let holds = Test::compile(when, &format!("{path}.matches"), fault);
        Self { statuses, place, holds }
    }

    fn matches(&self, answer: &Answer) -> bool {
        let status = self.statuses.is_empty() || self.statuses.iter().any(|status| status.matches(answer.status));
        let value = match &self.place {
            Some(Place::Pointer(pointer)) => answer.body.pointer(pointer).cloned(),
            Some(Place::Header(name)) => answer.header(name).map(|value| Value::String(value.to_owned())),
            None => return status,
        };
        status && self.holds.holds(value.as_ref())
    }
}

impl Test {
    fn compile(when: &document::When, path: &str, fault: &mut impl FnMut(String, String)) -> Self {
        if let Some(value) = &when.equals {
            return Self::OneOf(vec![value.clone()]);
        }
        if let Some(values) = &when.one_of {
            return Self::OneOf(values.clone());
        }
        if let Some(part) = &when.contains {
            return Self::Contains(part.clone());
        }
        if let Some(pattern) = &when.matches {
            match jsonschema::validator_for(&json!({ "type": "string", "pattern": pattern })) {
                Ok(validator) => return Self::Matches(validator),
                Err(_) => fault(path.to_owned(), format!("'{pattern}' is no regular expression")),
            }
        }
        when.exists.map_or(Self::Truthy, Self::Exists)
    }

    fn holds(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Exists(wanted), value) => value.is_some_and(|value| !value.is_null()) == *wanted,
            (Self::Truthy, value) => value.is_some_and(is_truthy),
            (Self::OneOf(values), Some(value)) => values.contains(value),
            (Self::OneOf(values), None) => values.iter().any(Value::is_null),
            (Self::Contains(part), value) => value.and_then(Value::as_str).is_some_and(|text| text.contains(part.as_str())),
            (Self::Matches(pattern), value) => value.is_some_and(|value| pattern.is_valid(value)),
        }
    }
}

impl Status {
    fn parse(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => {
                number.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| (100..600).contains(n)).map(Self::One)
            }
            Value::String(text) => {
                let class = text.strip_suffix("xx")?.parse().ok()?;
                (1..=5).contains(&class).then_some(Self::Class(class))
            }
            _ => None,
        }
    }

    fn matches(&self, status: u16) -> bool {
        match self {
            Self::One(one) => *one == status,
            Self::Class(class) => status / 100 == *class,
        }
    }
}

/// Whether a value says yes: neither null, false, zero nor empty.
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// A JSON pointer is empty or begins with a slash.
pub fn check_pointer(pointer: &str, path: &str, fault: &mut impl FnMut(String, String)) {
    let tilde = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if !(pointer.is_empty() || pointer.starts_with('/')) || !tilde {
        fault(path.to_owned(), format!("'{pointer}' is no JSON pointer: write /a/b/0"));
    }
}

/// The failure that an answer tells of, if it tells of one.
pub fn failure(action: &Action, answer: &Answer, input: &Value, now: chrono::DateTime<chrono::Utc>) -> Option<Failure> {
    let common = &action.common;
    let rule = action.errors.iter().chain(&common.errors).find(|rule| rule.condition.matches(answer));
    if rule.is_none() && (200..300).contains(&answer.status) {
        return None;
    }
    let exhausted = common.rate_limit.is_exhausted(answer, now);
    let category = rule.map_or_else(|| by_status(answer.status, exhausted), |rule| rule.category);
    let scope = rule.filter(|rule| rule.code.is_some() || rule.message.is_some()).map(|_| answer.scope(input));
    let said = |text: Option<&Text>| rendered(text, scope.as_ref());
    let code = said(rule.and_then(|rule| rule.code.as_ref()))
        .or_else(|| found(answer, &common.error_body.code))
        .or_else(|| found(answer, &CODES).filter(|code| code.len() <= 80 && !code.contains(' ')))
        .unwrap_or_else(|| format!("http_{}", answer.status));
    let message = said(rule.and_then(|rule| rule.message.as_ref()))
        .or_else(|| found(answer, &common.error_body.message))
        .or_else(|| found(answer, &MESSAGES))
        .or_else(|| answer.body.as_str().filter(|text| text.len() < 300 && !text.contains('<')).map(str::to_owned))
        .unwrap_or_else(|| format!("the vendor answered with status {}", answer.status));
    let mut failure = Failure::new(category, &shortened(&code, 100), shortened(&message, LONGEST));
    failure.status = Some(answer.status);
    // A vendor that counts requests does so before it carries them out, whatever status it answers with. One that says 408 may have
    // had the whole of it.
    let carried_out = matches!(answer.status, 200..300 | 408 | 500..);
    failure.may_have_happened = carried_out && category != Category::RateLimited;
    if matches!(category, Category::RateLimited | Category::Unavailable) {
        let said = rule.and_then(|rule| rule.retry_after.as_ref()?.delay(answer));
        failure.retry_after = said.or_else(|| retry::wanted(answer, &common.rate_limit, now));
    }
    Some(failure)
}

const fn by_status(status: u16, exhausted: bool) -> Category {
    match status {
        429 => Category::RateLimited,
        403 if exhausted => Category::RateLimited,
        401 | 403 | 407 => Category::Auth,
        404 | 410 => Category::NotFound,
        408 | 425 | 500..=599 => Category::Unavailable,
        400..=499 => Category::Validation,
        _ => Category::Failed,
    }
}

fn rendered(text: Option<&Text>, scope: Option<&Scope<'_>>) -> Option<String> {
    text?.render_text(scope?).ok().flatten().filter(|text| !text.is_empty())
}

fn found(answer: &Answer, pointers: &[impl AsRef<str>]) -> Option<String> {
    let texts = pointers.iter().filter_map(|pointer| as_text(answer.body.pointer(pointer.as_ref())?).ok());
    texts.map(|text| text.trim().to_owned()).find(|text| !text.is_empty())
}

fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
