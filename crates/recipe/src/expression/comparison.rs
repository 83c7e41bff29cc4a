//! Comparisons in which what is missing counts as nothing.
//!
//! The engine refuses a missing member wherever a value is needed, which is right for texts and filters, and wrong for
//! `input.kind == 'a'`. So an expression's comparisons are rewritten before it is compiled: their sides go through filters that
//! know what is missing. Comparisons bind weaker than everything except `not`, `and`, `or` and `if`, so a side ends at these, at a
//! comma, colon or equals sign, and at the bracket around it.

use minijinja::{Environment, Value};

/// Sides of `==`, `!=` and `in`: what is missing is null.
const NOTHING: &str = "__or_none";
/// What `in` looks into: nothing holds nothing.
const HOLDER: &str = "__or_empty";
/// Order: nothing is neither less nor more than anything.
const ORDERED: &str = "__ordered";

/// Bytes that a rewritten expression, or a part of one, may have. The middle of `a < b < c` is written twice, so chains within
/// chains double with each bracket.
const LONGEST: usize = 16 * super::LONGEST;

/// Why an expression is not rewritten.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

const OPERATORS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];

pub fn register(environment: &mut Environment<'_>) {
    environment.add_filter(NOTHING, |value: &Value| if is_nothing(value) { Value::from(()) } else { value.clone() });
    environment.add_filter(
        HOLDER,
        |value: &Value| {
            if is_nothing(value) { Value::from(Vec::<Value>::new()) } else { value.clone() }
        },
    );
    environment.add_filter(ORDERED, |left: &Value, operator: &str, right: &Value| {
        let comparable = !is_nothing(left) && !is_nothing(right);
        comparable
            && match operator {
                "<" => left < right,
                "<=" => left <= right,
                ">" => left > right,
                _ => left >= right,
            }
    });
}

fn is_nothing(value: &Value) -> bool {
    value.is_undefined() || value.is_none()
}

/// The same expression, with comparisons that take what is missing. The source has to be an expression.
pub fn lenient(source: &str) -> Result<String, TooLong> {
    let tokens = tokens(source);
    let mut rest = tokens.as_slice();
    let mut written = String::new();
    while !rest.is_empty() {
        written.push_str(&level(&mut rest)?);
        // Behind a bracket that nothing opened; a source that compiles has none.
        if let Some((token, behind)) = rest.split_first() {
            written.push_str(token.text);
            rest = behind;
        }
    }
    Ok(written)
}

#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    /// Whether it is a part of a comparison's side whatever it says: a text, or the name of a member.
    plain: bool,
}

/// One bracket's contents, up to the bracket that closes it.
fn level(rest: &mut &[Token<'_>]) -> Result<String, TooLong> {
    let (mut written, mut side, mut chain) = (String::new(), String::new(), Vec::new());
    let mut before = "";
    while let Some((token, behind)) = rest.split_first() {
        if !token.plain && matches!(token.text, ")" | "]" | "}") {
            break;
        }
        *rest = behind;
        let names_test = before == "is" || before == "is not";
        let word = token.text;
        match word {
            _ if token.plain => side.push_str(word),
            "(" | "[" | "{" => {
                side.push_str(word);
                side.push_str(&level(rest)?);
                bounded(side.len())?;
                if let Some((close, behind)) = rest.split_first() {
                    side.push_str(close.text);
                    *rest = behind;
                }
            }
            "not" if before == "is" => side.push_str(" not "),
            "not" if rest.first().is_some_and(|next| next.text == "in") && !side.is_empty() => {
                *rest = rest.get(1..).unwrap_or_default();
                chain.push((std::mem::take(&mut side), "not in"));
            }
            "in" if !names_test => chain.push((std::mem::take(&mut side), "in")),
            _ if !names_test && OPERATORS.contains(&word) => chain.push((std::mem::take(&mut side), word)),
            "and" | "or" | "not" | "if" | "else" | "," | ":" | "=" => {
                written.push_str(&chained(std::mem::take(&mut chain), std::mem::take(&mut side))?);
                bounded(written.len())?;
                written.push_str(&spaced(word));
            }
            _ => side.push_str(&spaced(word)),
        }
        before = match word {
            _ if token.plain => "",
            "not" if before == "is" => "is not",
            _ => word,
        };
    }
    written.push_str(&chained(chain, side)?);
    bounded(written.len())?;
    Ok(written)
}

const fn bounded(length: usize) -> Result<(), TooLong> {
    if length > LONGEST { Err(TooLong) } else { Ok(()) }
}

/// Words need blanks around them; signs do not mind, but for those that make up one together.
fn spaced(token: &str) -> String {
    let is_word = token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
    if is_word { format!(" {token} ") } else { token.to_owned() }
}

/// `a < b < c` says `a < b and b < c`.
fn chained(chain: Vec<(String, &str)>, last: String) -> Result<String, TooLong> {
    if chain.is_empty() {
        return Ok(last);
    }
    let (sides, operators): (Vec<_>, Vec<_>) = chain.into_iter().unzip();
    bounded(sides.iter().map(String::len).sum())?;
    let rights = sides.iter().skip(1).chain([&last]);
    let pairs = sides.iter().zip(operators).zip(rights).map(|((left, operator), right)| compared(left, operator, right));
    Ok(format!("({})", pairs.collect::<Vec<_>>().join(" and ")))
}

fn compared(left: &str, operator: &str, right: &str) -> String {
    match operator {
        "==" | "!=" => format!("(({left})|{NOTHING} {operator} ({right})|{NOTHING})"),
        "in" | "not in" => format!("(({left})|{NOTHING} {operator} ({right})|{HOLDER})"),
        _ => format!("(({left})|{ORDERED}('{operator}', ({right})))"),
    }
}

/// Texts, words with the numbers in them, and signs.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let after_dot = tokens.last().is_some_and(|last| last.text == "." && !last.plain);
        let (length, plain) = match first {
            '"' | '\'' => (text_length(rest, first), true),
            _ if is_word(first) => (rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()), after_dot),
            _ => (sign_length(rest, first), false),
        };
        let (text, behind) = rest.split_at(length);
        tokens.push(Token { text, plain });
        rest = behind.trim_start();
    }
    tokens
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn sign_length(rest: &str, first: char) -> usize {
    let double = ["==", "!=", "<=", ">=", "//", "**"].iter().any(|sign| rest.starts_with(sign));
    if double { 2 } else { first.len_utf8() }
}

fn text_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::lenient;
    use crate::expression::{ENVIRONMENT, Expression, Scope};

    fn evaluate(source: &str, input: &Value) -> Result<Option<Value>, String> {
        Expression::compile(source)?.evaluate(&Scope::default().with("input", input))
    }

    #[test]
    fn what_is_missing_compares_like_nothing() {
        let input = json!({ "n": 3, "text": "abc", "list": [1, 3], "none": null, "in": 1, "if": 2, "is": 4, "a b": "x" });
        for (source, expected) in [
            ("input.x == 'a'", false),
            ("input.x != 'a'", true),
            ("'a' == input.x", false),
            ("input.x == none", true),
            ("input.none == input.x", true),
            ("input.x in ['a', 'b']", false),
            ("input.x not in ['a', 'b']", true),
            ("'a' in input.x", false),
            ("'a' not in input.none", true),
            ("input.x < 5 or input.x > 5 or input.x <= 5 or input.x >= 5", false),
            ("input.none < 5", false),
            ("not input.x == 'a' and input.n == 3", true),
            ("1 < input.n < 5", true),
            ("1 < input.n < 2", false),
            ("input.n + 1 == 4 and input.list | length >= 2", true),
            ("input.n is not none and input.x is not defined", true),
            ("input.n is eq 3 and input.n is in [3]", true),
            ("input.in == 1 and input.if == 2 and input['a b'] == 'x'", true),
            ("input.is == 4 and input.is in [4] and not input.is == input.x", true),
            ("{'a == b': input.n == 3}['a == b']", true),
            ("(input.list | select('>', 2) | list) == [3]", true),
            ("'b' in input.text and not 'd' in input.text", true),
            ("(1 if input.x == 'a' else 2) == 2", true),
            ("input.n == -3 or input.n==3", true),
            ("[input.n == 3, input.x == 1] == [true, false]", true),
            ("input.list[0:1] == [1]", true),
        ] {
            assert_eq!(evaluate(source, &input), Ok(Some(json!(expected))), "{source}");
        }
        assert!(evaluate("input.x.y == 'a'", &input).is_err(), "a member of something missing");
        assert!(evaluate("'a' ~ input.x", &input).is_err(), "a hole in a text");
    }

    /// Expressions in which every value is there.
    fn expressions() -> impl Strategy<Value = String> {
        let texts =
            ["n", "m", "text", "list", "'a b'", "\"in\"", "3", "1.5", "[1, 3]", "{'a': n}", "list[0]", "o.in", "o['if']", "true"];
        proptest::sample::select(texts.to_vec()).prop_map(str::to_owned).prop_recursive(5, 40, 3, |inner| {
            let operators =
                ["==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "+", "-", "~", "//", "is eq", "is not eq"];
            prop_oneof![
                (inner.clone(), proptest::sample::select(operators.to_vec()), inner.clone())
                    .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
                inner.clone().prop_map(|inner| format!("({inner})")),
                inner.clone().prop_map(|inner| format!("(not {inner})")),
                inner.clone().prop_map(|inner| format!("[{inner}, {inner}]")),
                inner.clone().prop_map(|inner| format!("({inner})|string|length")),
                inner.clone().prop_map(|inner| format!("list|select('>=',{inner})|list")),
                inner.clone().prop_map(|inner| format!("{{'k':{inner}}}")),
                inner.clone().prop_map(|inner| format!("n|default(value={inner})")),
                (inner.clone(), inner.clone(), inner).prop_map(|(one, two, three)| format!("{one} if {two} else {three}")),
            ]
        })
    }

    proptest! {
        #[test]
        fn where_nothing_is_missing_a_rewritten_expression_says_the_same(source in expressions()) {
            let scope = minijinja::Value::from(minijinja::value::Serde(&json!({
                "n": 3, "m": -1, "text": "a b in", "list": [1, 3], "o": { "in": 1, "if": 2 },
            })));
            let evaluate = |source: &str| {
                let compiled = ENVIRONMENT.compile_expression_owned(source.to_owned()).map_err(|_| "does not parse")?;
                let value = compiled.eval(scope.clone()).map_err(|_| "cannot be evaluated")?;
                serde_json::to_value(&value).map_err(|_| "is not JSON")
            };
            let rewritten = lenient(&source).expect("it is short");
            prop_assert_eq!(evaluate(&rewritten), evaluate(&source), "{}", rewritten);
        }
    }
}
