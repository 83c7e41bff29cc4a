//! Guards the conditions that contracts write in SQL: of checks, of computed index columns, of partial indexes.
//!
//! Whoever may install an app must not come to run SQL as the server by it. So an expression may hold the entity's fields, literals,
//! operators, and functions and types that are named here, all of which compute from what they are given and nothing else. Its
//! parentheses are balanced and it holds no comment, so it stays inside the statement it is put into.

/// Functions that compute from their arguments alone, in bounded memory.
const FUNCTIONS: [&str; 42] = [
    "abs",
    "array_length",
    "array_position",
    "btrim",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "coalesce",
    "date_part",
    "date_trunc",
    "extract",
    "floor",
    "greatest",
    "initcap",
    "jsonb_array_length",
    "jsonb_typeof",
    "least",
    "left",
    "length",
    "lower",
    "ltrim",
    "md5",
    "mod",
    "nullif",
    "octet_length",
    "position",
    "replace",
    "reverse",
    "right",
    "round",
    "rtrim",
    "sign",
    "split_part",
    "sqrt",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "to_tsvector",
    "trim",
    "trunc",
];
/// `upper` and words that may stand before a parenthesis without being functions.
const BEFORE_PARENTHESES: [&str; 13] =
    ["upper", "and", "or", "not", "in", "any", "all", "between", "then", "when", "else", "cast", "is"];
const KEYWORDS: [&str; 38] = [
    "and",
    "or",
    "not",
    "in",
    "is",
    "null",
    "true",
    "false",
    "between",
    "symmetric",
    "like",
    "ilike",
    "similar",
    "to",
    "escape",
    "case",
    "when",
    "then",
    "else",
    "end",
    "distinct",
    "from",
    "any",
    "all",
    "unknown",
    "as",
    "for",
    "both",
    "leading",
    "trailing",
    "year",
    "month",
    "day",
    "dow",
    "hour",
    "minute",
    "second",
    "epoch",
];
const TYPES: [&str; 17] = [
    "text",
    "integer",
    "int",
    "bigint",
    "numeric",
    "double",
    "precision",
    "boolean",
    "date",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "jsonb",
    "json",
    "regconfig",
    "varchar",
];
/// Words that mean something to PostgreSQL even where a field has the name; in double quotes they mean the field.
const RESERVED: [&str; 15] = [
    "select",
    "with",
    "table",
    "values",
    "user",
    "current_user",
    "session_user",
    "current_role",
    "current_catalog",
    "current_schema",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
];
const LONGEST: usize = 2000;

/// Whether an expression is one that a contract may hold; otherwise what is wrong with it.
pub fn check(expression: &str, is_field: impl Fn(&str) -> bool) -> Result<(), String> {
    if expression.trim().is_empty() || expression.len() > LONGEST {
        return Err(format!("must be an expression of 1 to {LONGEST} characters"));
    }
    let mut rest = expression;
    let (mut depth, mut previous) = (0_usize, None);
    while let Some(first) = rest.chars().next() {
        let token = token(rest, first)?;
        match token {
            "(" => depth += 1,
            ")" => depth = depth.checked_sub(1).ok_or("closes a parenthesis that was not opened")?,
            _ => {}
        }
        let after = rest.get(token.len()..).unwrap_or_default();
        fits(token, first, previous, after, &is_field)?;
        previous = Some(first);
        rest = after;
    }
    if depth == 0 { Ok(()) } else { Err("leaves a parenthesis open".to_owned()) }
}

/// The token at the beginning of `rest`.
fn token(rest: &str, first: char) -> Result<&str, String> {
    let length = match first {
        '\'' | '"' => quoted(rest, first)?,
        _ if first.is_ascii_alphabetic() || first == '_' => span(rest, |c| c.is_ascii_alphanumeric() || c == '_'),
        _ if first.is_ascii_digit() => span(rest, |c| c.is_ascii_digit() || c == '.'),
        _ if first.is_ascii_whitespace() => span(rest, |c| c.is_ascii_whitespace()),
        '(' | ')' | ',' | '[' | ']' => 1,
        ':' if rest.starts_with("::") => 2,
        _ if "+-*/<>=~!@#%^&|?".contains(first) => span(rest, |c| "+-*/<>=~!@#%^&|?".contains(c)),
        other => return Err(format!("must not hold '{other}'")),
    };
    Ok(rest.get(..length).unwrap_or(rest))
}

fn span(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The length of a quoted token. A doubled quote is part of it.
fn quoted(text: &str, quote: char) -> Result<usize, String> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((index, character)) = characters.next() {
        if character == '\\' || character == '\0' {
            return Err("must not hold a backslash".to_owned());
        }
        if character == quote {
            if characters.peek().is_some_and(|(_, next)| *next == quote) {
                characters.next();
            } else {
                return Ok(index + 1);
            }
        }
    }
    Err("leaves a quotation open".to_owned())
}

fn fits(token: &str, first: char, previous: Option<char>, after: &str, is_field: &impl Fn(&str) -> bool) -> Result<(), String> {
    let follows_a_word = previous.is_some_and(|before| before.is_ascii_alphanumeric() || "_&'\"".contains(before));
    match first {
        // A letter before a quote would change how PostgreSQL reads what is in it.
        '\'' | '"' if follows_a_word => Err("must have a space before a quotation".to_owned()),
        '"' => {
            let name = token.trim_matches('"');
            if is_field(name) && !follows(after, '(') { Ok(()) } else { Err(format!("'{name}' is no field")) }
        }
        _ if first.is_ascii_alphabetic() || first == '_' => word(&token.to_ascii_lowercase(), follows(after, '('), is_field),
        _ if token.contains("--") || token.contains("/*") => Err("must not hold a comment".to_owned()),
        _ => Ok(()),
    }
}

fn follows(after: &str, expected: char) -> bool {
    after.trim_start().starts_with(expected)
}

fn word(word: &str, is_called: bool, is_field: &impl Fn(&str) -> bool) -> Result<(), String> {
    if is_called {
        let known = FUNCTIONS.contains(&word) || BEFORE_PARENTHESES.contains(&word) || TYPES.contains(&word);
        return if known {
            Ok(())
        } else {
            Err(format!("calls '{word}', which is none of the functions that an expression may call"))
        };
    }
    if RESERVED.contains(&word) {
        return Err(format!("must not use '{word}'; write a field of that name in double quotes"));
    }
    if KEYWORDS.contains(&word) || TYPES.contains(&word) || is_field(word) {
        return Ok(());
    }
    Err(format!("'{word}' is neither a field nor a word that an expression may use"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(expression: &str) -> Option<String> {
        let fields = ["age", "name", "e", "user", "select", "start", "tags"];
        check(expression, |name| fields.contains(&name)).err()
    }

    #[test]
    fn conditions_over_fields_are_taken() {
        for good in [
            "age >= 0",
            "age >= 0 and age < 150",
            "lower(name) <> ''",
            "name ~ '^[a-z]+$'",
            "char_length(trim(name)) between 1 and 80",
            "age is null or (name = 'it''s' and cardinality(tags) > 0)",
            "name in ('a', 'b')",
            "\"user\" is not null",
            "start::date <= '2026-01-01'::date",
            "extract(year from start) > 2000",
            "case when age > 1 then true else false end",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
    }

    #[test]
    fn what_could_do_more_than_compare_is_refused() {
        for bad in [
            "",
            "true); drop table x; (",
            "true) or (true",
            "pg_sleep(10) is null",
            "pg_catalog.pg_sleep(1) is null",
            "query_to_xml('select 1', true, true, '') is null",
            "(select 1) = 1",
            "exists (select 1)",
            "set_config('a', 'b', false) = ''",
            "age > 0 -- x",
            "age > 0 /* x */",
            "age > 0 +-- x\n",
            "name = e'\\' || pg_sleep(1) --'",
            "name = e'x'",
            "name = U&'x'",
            "name = $$x$$",
            "name = 'x",
            "name = '\\'",
            "other = 1",
            "\"other\" = 1",
            "user = 'x'",
            "name(1)",
            "\"name\"(1)",
            "age > 0;",
            "name = 'a''b' 'c",
            "'a'::regclass is null",
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
