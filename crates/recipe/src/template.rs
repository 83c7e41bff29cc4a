//! Templates: texts and JSON documents with expressions in them.
//!
//! A text that is one expression and nothing else becomes the expression's value, of whatever type. Anything else around it makes
//! it a text into which values are written. A member whose value is not there is left out.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::expression::{Expression, Scope};

/// A text with expressions in it.
#[derive(Debug)]
pub enum Text {
    Literal(String),
    /// One expression, which keeps its type.
    Whole(Expression),
    Mixed(Vec<Piece>),
}

#[derive(Debug)]
pub enum Piece {
    Literal(String),
    Value(Expression),
}

/// A JSON document with expressions in its texts.
#[derive(Debug)]
pub enum Node {
    Literal(Value),
    Text(Text),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
    /// `{ "$each": "{{ input.list }}", "as": … }`: what every item of a list becomes, under the name `item`.
    Each {
        list: Text,
        template: Box<Node>,
    },
}

/// What becomes of a member whose expression gives null. One that is not there is always left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    LeftOut,
    Kept,
}

/// Items of a list that `$each` goes through at most.
const MOST_ITEMS: usize = 10_000;

impl Text {
    pub fn compile(source: &str) -> Result<Self, String> {
        let pieces = split(source)?;
        let all_literal = |pieces: &[Piece]| pieces.iter().all(|piece| matches!(piece, Piece::Literal(_)));
        if all_literal(&pieces) {
            return Ok(Self::Literal(source.to_owned()));
        }
        match <[Piece; 1]>::try_from(pieces) {
            Ok([Piece::Value(expression)]) => Ok(Self::Whole(expression)),
            Ok([piece]) => Ok(Self::Mixed(vec![piece])),
            Err(pieces) => Ok(Self::Mixed(pieces)),
        }
    }

    pub fn uses(&self) -> BTreeSet<String> {
        match self {
            Self::Literal(_) => BTreeSet::new(),
            Self::Whole(expression) => expression.uses().clone(),
            Self::Mixed(pieces) => pieces.iter().flat_map(Piece::uses).collect(),
        }
    }

    /// The value; `None` when the whole of it is one expression without a value.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Option<Value>, String> {
        match self {
            Self::Literal(text) => Ok(Some(Value::String(text.clone()))),
            Self::Whole(expression) => expression.evaluate(scope),
            Self::Mixed(pieces) => {
                let texts: Result<String, String> = pieces.iter().map(|piece| piece.render(scope)).collect();
                texts.map(|text| Some(Value::String(text)))
            }
        }
    }

    /// The same, with a null that the expression gives.
    fn render_with_null(&self, scope: &Scope<'_>) -> Result<Option<Value>, String> {
        if let Self::Whole(expression) = self { expression.evaluate_with_null(scope) } else { self.render(scope) }
    }

    /// What its expressions put in: their results where these are parts of a text, and the texts that they use.
    pub fn values(&self, scope: &Scope<'_>) -> Vec<String> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Whole(expression) => expression.texts(scope).collect(),
            Self::Mixed(pieces) => pieces.iter().flat_map(|piece| piece.values(scope)).collect(),
        }
    }

    /// The value as a text; numbers and truth values are written out, lists and objects are none.
    pub fn render_text(&self, scope: &Scope<'_>) -> Result<Option<String>, String> {
        self.render(scope)?.map(|value| as_text(&value)).transpose()
    }

    /// The text, where it holds no expression.
    pub fn literal(&self) -> Option<&str> {
        if let Self::Literal(text) = self { Some(text) } else { None }
    }
}

impl Piece {
    pub fn uses(&self) -> BTreeSet<String> {
        if let Self::Value(expression) = self { expression.uses().clone() } else { BTreeSet::new() }
    }

    /// What an expression puts in, and the texts that it uses.
    pub fn values(&self, scope: &Scope<'_>) -> Vec<String> {
        let Self::Value(expression) = self else { return Vec::new() };
        let result = self.render(scope).ok();
        expression.texts(scope).chain(result).collect()
    }

    fn render(&self, scope: &Scope<'_>) -> Result<String, String> {
        match self {
            Self::Literal(text) => Ok(text.clone()),
            Self::Value(expression) => {
                let value = expression.evaluate(scope)?;
                as_text(&value.ok_or_else(|| format!("'{}' has no value, but a text around it", expression.source()))?)
            }
        }
    }
}

impl Node {
    /// Compiles a document; `fault` is told the pointer-like path of everything that does not compile.
    pub fn compile(document: &Value, path: &str, fault: &mut impl FnMut(String, String)) -> Self {
        match document {
            Value::String(text) => match Text::compile(text) {
                Ok(Text::Literal(text)) => Self::Literal(Value::String(text)),
                Ok(text) => Self::Text(text),
                Err(message) => {
                    fault(path.to_owned(), message);
                    Self::Literal(Value::Null)
                }
            },
            Value::Array(items) => {
                let item = |(index, item)| Self::compile(item, &format!("{path}[{index}]"), fault);
                Self::List(items.iter().enumerate().map(item).collect())
            }
            Value::Object(members) if members.len() == 2 && members.contains_key("$each") && members.contains_key("as") => {
                Self::each(members, path, fault)
            }
            Value::Object(members) => {
                let member =
                    |(name, member): (&String, _)| (name.clone(), Self::compile(member, &format!("{path}.{name}"), fault));
                Self::Object(members.iter().map(member).collect())
            }
            other => Self::Literal(other.clone()),
        }
    }

    fn each(members: &Map<String, Value>, path: &str, fault: &mut impl FnMut(String, String)) -> Self {
        let list = members.get("$each").and_then(Value::as_str).map(Text::compile);
        let template = Self::compile(members.get("as").unwrap_or(&Value::Null), &format!("{path}.as"), fault);
        if template.maps() {
            fault(format!("{path}.as"), "one $each cannot stand in another".to_owned());
        }
        match list {
            Some(Ok(list @ Text::Whole(_))) => return Self::Each { list, template: Box::new(template) },
            Some(Err(message)) => fault(format!("{path}.$each"), message),
            _ => fault(format!("{path}.$each"), "is one expression that gives a list".to_owned()),
        }
        Self::Literal(Value::Null)
    }

    fn maps(&self) -> bool {
        match self {
            Self::Literal(_) | Self::Text(_) => false,
            Self::Each { .. } => true,
            Self::List(items) => items.iter().any(Self::maps),
            Self::Object(members) => members.iter().any(|(_, member)| member.maps()),
        }
    }

    /// What every expression uses, each with the path of its place.
    pub fn uses(&self, path: &str) -> Vec<(String, BTreeSet<String>)> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Text(text) => vec![(path.to_owned(), text.uses())],
            Self::List(items) => {
                items.iter().enumerate().flat_map(|(index, item)| item.uses(&format!("{path}[{index}]"))).collect()
            }
            Self::Object(members) => members.iter().flat_map(|(name, member)| member.uses(&format!("{path}.{name}"))).collect(),
            Self::Each { list, template } => {
                let mut uses = template.uses(&format!("{path}.as"));
                for (_, names) in &mut uses {
                    names.retain(|name| name.split('.').next() != Some("item"));
                }
                uses.push((format!("{path}.$each"), list.uses()));
                uses
            }
        }
    }

    /// The document with its values; members and items that give null or nothing are left out.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Option<Value>, String> {
        self.render_with(scope, Nulls::LeftOut)
    }

    /// The document with its values; members and items that give nothing are left out.
    pub fn render_with(&self, scope: &Scope<'_>, nulls: Nulls) -> Result<Option<Value>, String> {
        match self {
            Self::Literal(value) => Ok(Some(value.clone())),
            Self::Text(text) if nulls == Nulls::Kept => text.render_with_null(scope),
            Self::Text(text) => text.render(scope),
            Self::List(items) => {
                let items = items.iter().filter_map(|item| item.render_with(scope, nulls).transpose());
                items.collect::<Result<Vec<_>, _>>().map(|items| Some(Value::Array(items)))
            }
            Self::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    if let Some(value) = member.render_with(scope, nulls).map_err(|error| format!("{name}: {error}"))? {
                        object.insert(name.clone(), value);
                    }
                }
                Ok(Some(Value::Object(object)))
            }
            Self::Each { list, template } => {
                let list = if nulls == Nulls::Kept { list.render_with_null(scope)? } else { list.render(scope)? };
                list.map(|list| mapped(list, template, (scope, nulls))).transpose()
            }
        }
    }
}

/// What the items of a list become; null stays null.
fn mapped(list: Value, template: &Node, (scope, nulls): (&Scope<'_>, Nulls)) -> Result<Value, String> {
    let items = match list {
        Value::Null => return Ok(Value::Null),
        Value::Array(items) if items.len() <= MOST_ITEMS => items,
        Value::Array(_) => return Err(format!("$each goes through {MOST_ITEMS} items at most")),
        _ => return Err("$each goes through a list".to_owned()),
    };
    let item = |(index, item): (usize, &Value)| {
        let value = template.render_with(&scope.clone().with("item", item), nulls);
        value.map_err(|error| format!("[{index}]: {error}")).transpose()
    };
    items.iter().enumerate().filter_map(item).collect::<Result<_, _>>().map(Value::Array)
}

/// A value as it is written into texts, addresses and headers.
pub fn as_text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null => Err("null cannot be written into a text".to_owned()),
        Value::Array(_) | Value::Object(_) => {
            Err("a list or an object cannot be written into a text: use the filters join or tojson".to_owned())
        }
    }
}

/// Literal parts and expressions of a text.
pub fn split(source: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{{") {
        if !before.is_empty() {
            pieces.push(Piece::Literal(before.to_owned()));
        }
        let end =
            end_of_expression(after).ok_or_else(|| format!("'{source}' begins an expression with {{{{ and does not end it"))?;
        let (expression, behind) = after.split_at(end);
        pieces.push(Piece::Value(Expression::compile(expression)?));
        rest = behind.strip_prefix("}}").unwrap_or(behind);
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

/// Where the `}}` is that ends an expression: outside of texts and of objects in it.
fn end_of_expression(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (index, letter) in text.char_indices() {
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
        match letter {
            '"' | '\'' => quote = Some(letter),
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' if text.get(index..).is_some_and(|rest| rest.starts_with("}}")) => return Some(index),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn render(document: &Value, input: &Value) -> Result<Option<Value>, String> {
        let mut faults = Vec::new();
        let node = Node::compile(document, "$", &mut |path, message| faults.push((path, message)));
        assert!(faults.is_empty(), "{faults:?}");
        node.render(&Scope::default().with("input", input))
    }

    #[test]
    fn whole_expressions_keep_their_type_and_embedded_ones_are_written_out() {
        let document = json!({
            "n": "{{ input.n }}", "text": "n is {{ input.n }}", "gone": "{{ input.gone }}", "null": null,
            "list": ["{{ input.gone }}", "{{ input.n }}", { "deep": "{{ {'a': {'b': '}}'}} }}" }],
        });
        let expected = json!({ "n": 5, "text": "n is 5", "null": null, "list": [5, { "deep": { "a": { "b": "}}" } } }] });
        assert_eq!(render(&document, &json!({ "n": 5 })), Ok(Some(expected)));
    }

    #[test]
    fn a_text_with_a_hole_in_it_is_an_error() {
        assert!(render(&json!("Bearer {{ input.token }}"), &json!({})).is_err());
        assert!(render(&json!("ids {{ input.ids }}"), &json!({ "ids": [1] })).expect_err("a list").contains("join"));
    }

    #[test]
    fn faults_name_their_place() {
        let mut faults = Vec::new();
        Node::compile(&json!({ "a": ["{{ x", "{{ x | no }}"] }), "$.body", &mut |path, _| faults.push(path));
        assert_eq!(faults, ["$.body.a[0]", "$.body.a[1]"]);
    }

    proptest! {
        #[test]
        fn a_document_without_expressions_comes_out_as_it_went_in(text in "[^{]{0,40}", n: i64, flag: bool) {
            let document = json!({ "text": text, "list": [n, flag, null, { "n": n }] });
            prop_assert_eq!(render(&document, &json!({})), Ok(Some(document)));
        }

        #[test]
        fn any_text_of_a_caller_is_written_as_it_is(text in ".{0,40}") {
            let rendered = render(&json!("<{{ input.text }}>"), &json!({ "text": text }));
            prop_assert_eq!(rendered, Ok(Some(json!(format!("<{text}>")))));
        }
    }
}
