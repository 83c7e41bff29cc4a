//! Addresses: whatever a value says, the request goes to the host that the recipe names, below the path that it names.
//!
//! Values in a path are one segment each, percent-encoded; a list is several segments. A segment that a server could take for a
//! step upward is refused. Values in a host are labels, so they cannot end it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use url::Url;

use crate::{
    Failure,
    expression::Scope,
    template::{Piece, Text, as_text, split},
};

/// What stands in a segment as it is: RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How often a path is decoded in search of a step upward, the first look at it included.
const DECODINGS: u8 = 4;

/// The template of a base address.
#[derive(Debug)]
pub enum BaseTemplate {
    Fixed(Base),
    /// The beginning of the address, host included, is one value: `{{ config.url }}/api`.
    Given {
        origin: Box<Text>,
        path: String,
    },
    /// Labels of the host are values: `https://{{ config.subdomain }}.example.com`.
    Labels(Vec<Piece>),
}

/// A base address: scheme, host, port and the path below which everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base(Url);

/// The template of a path.
#[derive(Debug)]
pub struct PathTemplate(Vec<Piece>);

impl BaseTemplate {
    pub fn compile(source: &str) -> Result<Self, String> {
        let mut pieces = split(source)?;
        if pieces.iter().all(|piece| matches!(piece, Piece::Literal(_))) {
            return Base::parse(source).map(Self::Fixed);
        }
        if matches!(pieces.first(), Some(Piece::Value(_))) {
            let Piece::Value(first) = pieces.remove(0) else { return Err("an address begins somewhere".to_owned()) };
            let path = match <[Piece; 1]>::try_from(pieces) {
                Ok([Piece::Literal(path)]) if path.starts_with('/') => path,
                Err(pieces) if pieces.is_empty() => String::new(),
                _ => return Err("behind a value that is the whole host there may be a fixed path only".to_owned()),
            };
            return Ok(Self::Given { origin: Box::new(Text::Whole(first)), path });
        }
        // With any value in place of the expressions it has to be an address.
        let example = pieces.iter().map(|piece| if let Piece::Literal(text) = piece { text.as_str() } else { "x" });
        Base::parse(&example.collect::<String>())?;
        Ok(Self::Labels(pieces))
    }

    pub fn uses(&self) -> std::collections::BTreeSet<String> {
        match self {
            Self::Fixed(_) => std::collections::BTreeSet::new(),
            Self::Given { origin, .. } => origin.uses(),
            Self::Labels(pieces) => pieces.iter().flat_map(Piece::uses).collect(),
        }
    }

    /// The host, where no value decides it.
    pub fn fixed(&self) -> Option<&Base> {
        if let Self::Fixed(base) = self { Some(base) } else { None }
    }

    /// Values in the path that must not show anywhere: those made of secrets of the configuration, or of a person's account. What
    /// stands in the host is public.
    pub fn secrets(&self, scope: &Scope<'_>, is_secret: impl Fn(&str) -> bool) -> Vec<String> {
        let Self::Labels(pieces) = self else { return Vec::new() };
        let mut address = String::new();
        let in_path = pieces.iter().filter(|piece| {
            if let Piece::Literal(text) = piece {
                address.push_str(text);
            }
            address.matches('/').count() > 2
        });
        in_path.filter(|piece| piece.uses().iter().any(|name| is_secret(name))).flat_map(|piece| piece.values(scope)).collect()
    }

    pub fn render(&self, scope: &Scope<'_>) -> Result<Base, Failure> {
        match self {
            Self::Fixed(base) => Ok(base.clone()),
            Self::Given { origin, path } => {
                let given = origin.render_text(scope).map_err(Failure::input)?;
                let given = given.ok_or_else(|| Failure::input("the address of the vendor is not configured"))?;
                Base::parse(&format!("{}{path}", given.trim_end_matches('/'))).map_err(Failure::input)
            }
            Self::Labels(pieces) => {
                let mut address = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Literal(text) => address.push_str(text),
                        Piece::Value(expression) => {
                            let value = expression.evaluate(scope).map_err(Failure::input)?.unwrap_or(Value::Null);
                            address.push_str(&label(&value, expression.source())?);
                        }
                    }
                }
                Base::parse(&address).map_err(Failure::input)
            }
        }
    }
}

/// A value as a part of a host: letters, digits, hyphens and dots, so that it cannot end the host or name another port.
fn label(value: &Value, source: &str) -> Result<String, Failure> {
    let text = as_text(value).map_err(|error| Failure::input(format!("'{source}': {error}")))?;
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
    if text.is_empty() || text.len() > 200 || !text.chars().all(fits) || text.contains("..") || text.starts_with('.') {
        return Err(Failure::input(format!("'{source}' is part of an address: it may hold letters, digits, hyphens and dots")));
    }
    Ok(text)
}

impl Base {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = "is no base address: write https://host, with a path if need be, and nothing behind it";
        // The library would repair what was meant otherwise.
        if text.chars().any(|letter| letter.is_whitespace() || letter.is_control() || matches!(letter, '\\' | '@' | '?' | '#')) {
            return Err(wrong.to_owned());
        }
        if text.split_once("://").is_some_and(|(_, rest)| is_step(rest)) {
            return Err(wrong.to_owned());
        }
        let mut url = Url::parse(text).map_err(|_| wrong.to_owned())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) || url.cannot_be_a_base() {
            return Err(wrong.to_owned());
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    pub fn host(&self) -> &str {
        // An address in brackets is compared without them.
        self.0.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// The address of something below it; `path` is encoded already and begins with a slash, or is empty.
    pub fn join(&self, path: &str) -> Result<Url, String> {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        let stays = url.path().starts_with(self.0.path().trim_end_matches('/'));
        if stays && !is_step(path) { Ok(url) } else { Err("the path leads out of the vendor's interface".to_owned()) }
    }

    /// Whether an address is at the same host, port and scheme.
    pub fn has(&self, url: &Url) -> bool {
        self.0.scheme() == url.scheme()
            && self.0.host_str() == url.host_str()
            && self.0.port_or_known_default() == url.port_or_known_default()
    }
}

/// Whether a path, or a part of one, holds a segment that leads upward, in any way of writing it: vendors decode once, or more often.
fn is_step(path: &str) -> bool {
    let mut path = path.to_owned();
    for _ in 0..DECODINGS {
        if path.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) {
            return true;
        }
        path = percent_decode_str(&path).decode_utf8_lossy().into_owned();
    }
    false
}

/// A path of a caller's own, for the proxy: it stays as it is, unless it leads upward.
pub fn below(base: &Base, path: &str) -> Result<Url, Failure> {
    let path = format!("/{}", path.trim_start_matches('/'));
    if path.contains(['?', '#', '\\']) || path.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err(Failure::input("the path may not hold '?', '#', backslashes or blanks"));
    }
    base.join(&path).map_err(Failure::input)
}

impl PathTemplate {
    pub fn compile(source: &str) -> Result<Self, String> {
        let pieces = split(source)?;
        let literal: String =
            pieces.iter().map(|piece| if let Piece::Literal(text) = piece { text.as_str() } else { "x" }).collect();
        if !literal.is_empty() && !literal.starts_with('/') {
            return Err("a path begins with a slash".to_owned());
        }
        if literal.contains(['?', '#', '\\']) || literal.chars().any(char::is_whitespace) || is_step(&literal) {
            return Err("a path holds no '?', '#', '..' or blanks: write the query as `query`".to_owned());
        }
        Ok(Self(pieces))
    }

    pub fn uses(&self) -> std::collections::BTreeSet<String> {
        self.0.iter().flat_map(Piece::uses).collect()
    }

    /// The path with its values, encoded.
    pub fn render(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let mut path = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => path.push_str(text),
                Piece::Value(expression) => {
                    let value = expression.evaluate(scope).map_err(Failure::input)?;
                    path.push_str(&segments(value.unwrap_or(Value::Null), expression.source())?);
                }
            }
        }
        if is_step(&path) { Err(Failure::input("a value would lead out of the path")) } else { Ok(path) }
    }
}

fn segments(value: Value, source: &str) -> Result<String, Failure> {
    let parts = if let Value::Array(parts) = value { parts } else { vec![value] };
    if parts.is_empty() {
        return Err(Failure::input(format!("'{source}' is part of the path and has no value")));
    }
    let encoded: Result<Vec<_>, _> = parts.iter().map(|part| segment(part, source)).collect();
    Ok(encoded?.join("/"))
}

fn segment(value: &Value, source: &str) -> Result<String, Failure> {
    let refused = |why: &str| Failure::input(format!("'{source}' is part of the path and {why}"));
    let text = if value.is_null() { String::new() } else { as_text(value).map_err(|error| refused(&error))? };
    match text.as_str() {
        "" => Err(refused("has no value")),
        text if is_step(text) => Err(refused("would lead out of it")),
        _ if text.chars().any(char::is_control) => Err(refused("holds control characters")),
        _ => Ok(utf8_percent_encode(&text, SEGMENT).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn scope(value: &Value) -> Scope<'_> {
        Scope::default().with("input", value).with("config", value)
    }

    fn url(base: &str, path: &str, values: &Value) -> Result<String, Failure> {
        let base = BaseTemplate::compile(base).map_err(Failure::input)?.render(&scope(values))?;
        let path = PathTemplate::compile(path).map_err(Failure::input)?.render(&scope(values))?;
        base.join(&path).map(String::from).map_err(Failure::input)
    }

    #[test]
    fn values_become_segments() {
        for (base, path, values, expected) in [
            (
                "https://a.example/v1/",
                "/x/{{ input.id }}",
                json!({ "id": "a/b?c#d%" }),
                "https://a.example/v1/x/a%2Fb%3Fc%23d%25",
            ),
            ("https://a.example", "/x/{{ input.n }}.json", json!({ "n": 5 }), "https://a.example/x/5.json"),
            ("https://a.example", "/x/{{ input.p | split('/') }}", json!({ "p": "a/b c" }), "https://a.example/x/a/b%20c"),
            ("https://{{ config.s }}.a.example", "/x", json!({ "s": "acme" }), "https://acme.a.example/x"),
            ("{{ config.url }}/api", "/x", json!({ "url": "http://git.example:8080/" }), "http://git.example:8080/api/x"),
            ("https://a.example/v1", "", json!({}), "https://a.example/v1"),
        ] {
            assert_eq!(url(base, path, &values).expect(base), expected);
        }
    }

    #[test]
    fn nothing_leads_elsewhere() {
        for (base, path, values) in [
            ("https://a.example", "/x/{{ input.id }}", json!({ "id": ".." })),
            ("https://a.example", "/x/{{ input.id }}", json!({ "id": "" })),
            ("https://a.example", "/x/{{ input.id }}", json!({})),
            ("https://a.example", "/x/.{{ input.id }}/y", json!({ "id": "." })),
            ("https://a.example", "/x/{{ input.id | split('/') | list }}", json!({ "id": "a/../../b" })),
            ("https://{{ config.s }}.a.example", "/x", json!({ "s": "evil.example/" })),
            ("https://{{ config.s }}.a.example", "/x", json!({ "s": "evil.example#" })),
            ("https://{{ config.s }}.a.example", "/x", json!({ "s": "u@evil" })),
            ("https://{{ config.s }}.a.example", "/x", json!({})),
            ("{{ config.url }}", "/x", json!({ "url": "file:///etc/passwd" })),
            ("{{ config.url }}", "/x", json!({ "url": "https://u:p@a.example" })),
            ("{{ config.url }}/api", "/x", json!({ "url": "https://a.example?x=" })),
        ] {
            assert!(url(base, path, &values).is_err(), "{base}{path} {values}");
        }
        for wrong in ["ftp://a.example", "a.example", "https://", "{{ config.url }}.example.com", "https://a/../b"] {
            assert!(BaseTemplate::compile(wrong).is_err(), "{wrong}");
        }
        for wrong in ["x", "/a?b", "/a/../b", "/a/%2e%2E/b", "/a b"] {
            assert!(PathTemplate::compile(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_way_of_writing_a_step_upward_gets_through() {
        let base = Base::parse("https://a.example/api/v1").expect("an address");
        for step in [
            "..",
            ".",
            "../../admin",
            "..%2f",
            "%2e%2e%2fadmin",
            "x/.%2e%2fadmin",
            "x/%2E./admin",
            "x%2F..%2Fadmin",
            "%252e%252e%252fadmin",
            "x/..%5cadmin",
            "x%255c..%255Cadmin",
            "..\\admin",
        ] {
            assert!(url("https://a.example", "/x/{{ input.id }}", &json!({ "id": step })).is_err(), "{step}");
            assert!(below(&base, step).is_err(), "{step}");
        }
        for (value, sent) in [
            ("a/b", "a%2Fb"),
            ("a\\b", "a%5Cb"),
            ("a..b/c", "a..b%2Fc"),
            ("...", "..."),
            ("a%2Fb", "a%252Fb"),
            ("100%", "100%25"),
        ] {
            let sent = format!("https://a.example/x/{sent}");
            assert_eq!(url("https://a.example", "/x/{{ input.id }}", &json!({ "id": value })), Ok(sent));
        }
    }

    #[test]
    fn the_path_of_a_caller_stays_below_the_base() {
        let base = Base::parse("https://a.example/api/v1").expect("an address");
        assert_eq!(below(&base, "users/a%2Fb").expect("below").as_str(), "https://a.example/api/v1/users/a%2Fb");
        for wrong in ["../admin", "x/%2e%2e/%2E./admin", "x/..%2fadmin", "a?b", "a\\..\\b", "..", "//evil.example/x/.."] {
            assert!(below(&base, wrong).is_err(), "{wrong}");
        }
        assert_eq!(below(&base, "//evil.example/x").expect("below").host_str(), Some("a.example"));
    }

    proptest! {
        #[test]
        fn whatever_a_value_says_host_and_depth_stay(text in "\\PC{1,30}|[./%2eE\\\\?#@:]{1,12}") {
            if let Ok(url) = url("https://a.example/v1", "/x/{{ input.id }}/y", &json!({ "id": text })) {
                let url = Url::parse(&url).expect("an address");
                prop_assert_eq!(url.host_str(), Some("a.example"));
                let segments: Vec<_> = url.path_segments().expect("a path").map(str::to_owned).collect();
                prop_assert_eq!(segments.len(), 4);
                prop_assert_eq!((segments[0].as_str(), segments[1].as_str(), segments[3].as_str()), ("v1", "x", "y"));
                let decoded = percent_encoding::percent_decode_str(&segments[2]).decode_utf8().expect("text");
                prop_assert_eq!(decoded.as_ref(), text.as_str());
                prop_assert!(url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
            }
        }

        #[test]
        fn whatever_a_label_says_the_domain_stays(text in "[-a-zA-Z0-9./@:#?%\\\\_ ]{1,20}") {
            let base = BaseTemplate::compile("https://{{ config.s }}.a.example/v1").expect("compiles");
            if let Ok(base) = base.render(&scope(&json!({ "s": text }))) {
                prop_assert!(base.host().ends_with(".a.example"), "{}", base.host());
            }
        }
    }
}
