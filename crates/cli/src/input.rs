//! Values people hand to a command: JSON from an argument, a file or stdin; secrets from a file, stdin or a prompt.
//!
//! Never prompts unless stdin is a terminal; then the error names the flag or variable to use instead.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{CliError, Result};

/// The JSON of an argument (`-` reads stdin) or of a file; an empty object when neither is given.
pub fn json(argument: Option<&str>, file: Option<&Path>) -> Result<Value> {
    match (argument, file) {
        (Some("-"), _) => parse_json(&read_stdin()?, "stdin"),
        (Some(text), _) => parse_json(text, "the input"),
        (None, Some(path)) => parse_json(&read_file(path)?, &path.display().to_string()),
        (None, None) => Ok(Value::Object(serde_json::Map::new())),
    }
}

/// JSON where there is some.
pub fn optional_json(argument: Option<&str>) -> Result<Option<Value>> {
    argument.map(|text| json(Some(text), None)).transpose()
}

/// An object of those members that have a value.
pub fn members<const COUNT: usize>(given: [(&str, Option<Value>); COUNT]) -> Map<String, Value> {
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Parses JSON; a mistake is shown with its line and column in `origin`.
pub fn parse_json(text: &str, origin: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| CliError::usage(describe(text, origin, &error)))
}

fn describe(text: &str, origin: &str, error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let full = error.to_string();
    let reason = full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full);
    let Some(source) = line.checked_sub(1).and_then(|index| text.lines().nth(index)) else {
        return format!("{origin} is not JSON: {reason}");
    };
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let before: String = source.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    format!("{origin}:{line}:{column}: not JSON: {reason}\n  {number} | {source}\n  {margin} | {before}^")
}

/// Text named by `-` (stdin) or `@path`, without its last line break; `None` when the source is neither.
pub fn indirect(source: &str) -> Result<Option<String>> {
    let text = match source.strip_prefix('@') {
        Some(path) => read_file(Path::new(path))?,
        None if source == "-" => read_stdin()?,
        None => return Ok(None),
    };
    let trimmed = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Some(trimmed.strip_suffix('\r').unwrap_or(trimmed).to_owned()))
}

/// Something to ask a person for.
pub struct Question<'a> {
    /// What is shown before the cursor.
    pub text: &'a str,
    /// What is missing where nobody can be asked.
    pub subject: &'a str,
    /// The flag or variable to use then.
    pub instead: &'a str,
}

/// Asks for a line on the terminal.
pub fn prompt(question: &Question<'_>) -> Result<String> {
    require_terminal(question)?;
    write!(io::stderr(), "{}: ", question.text)?;
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Like [`prompt`], without showing what is typed.
pub fn prompt_secret(question: &Question<'_>) -> Result<String> {
    require_terminal(question)?;
    rpassword::prompt_password(format!("{}: ", question.text))
        .map_err(|error| CliError::failed(format!("cannot read from the terminal: {error}")))
}

fn require_terminal(question: &Question<'_>) -> Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    let message = format!("{} is missing, and there is no terminal to ask on", question.subject);
    Err(CliError::usage(message).with_hint(question.instead))
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|error| CliError::failed(format!("cannot read stdin: {error}")))?;
    Ok(text)
}

fn read_file(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| CliError::usage(format!("cannot read {}: {error}", path.display())))
}

/// An identifier that becomes one segment of a URL path.
pub fn identifier(text: &str) -> std::result::Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if text.is_empty() || text.chars().all(|c| c == '.') || !text.chars().all(allowed) {
        return Err("use letters, digits, '_', '-', '.' and ':' only".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_mistake_is_shown_where_it_is() {
        let error = parse_json("{\n  \"a\": 1\n  \"b\": 2\n}", "manifest.json").expect_err("a comma is missing");
        let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "manifest.json:3:3: not JSON: expected `,` or `}`");
        assert_eq!(lines[1], "  3 |   \"b\": 2");
        assert_eq!(lines[2], "    |   ^");
    }

    #[test]
    fn identifiers_cannot_climb_the_path() {
        assert!(identifier("send_message").is_ok());
        for bad in ["", ".", "..", "a/b", "a b", "a?b"] {
            assert!(identifier(bad).is_err(), "{bad:?}");
        }
    }
}
