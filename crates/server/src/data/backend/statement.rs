//! One statement of a backend, from its text and parameters to rows.
//!
//! It is prepared by name: PostgreSQL's grammar lets only statements be prepared that read or change rows, and only one at a time. Then it
//! is executed with its parameters as literals without a type, so that PostgreSQL reads each as what the statement needs.

use futures::TryStreamExt;
use serde::Serialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Column, Either, Executor, PgConnection, Row};
use weft_data::sql::literal;

use super::{Error, rows, store};

const MOST_ROWS: usize = 1000;
const LARGEST: usize = 8 * 1024 * 1024;
const MOST_PARAMETERS: usize = 1000;
const KINDS: [&str; 7] = ["select", "insert", "update", "delete", "merge", "values", "with"];

/// What a statement answered.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    row_count: u64,
}

/// Runs one statement in the transaction that is open.
pub async fn run(connection: &mut PgConnection, text: &str, parameters: &[Value]) -> Result<Answer, Error> {
    if text.contains('\0') {
        return Err(Error::Invalid("the statement holds the character U+0000".to_owned()));
    }
    if parameters.len() > MOST_PARAMETERS {
        return Err(Error::Invalid(format!("a statement takes at most {MOST_PARAMETERS} parameters")));
    }
    store::prepare(connection, text).await.map_err(|error| not_prepared(error, text))?;
    let arguments = arguments(connection, parameters).await?;
    let answer = execute(connection, store::execution(&arguments)).await?;
    store::forget_statement(connection).await.map_err(Error::of_statement)?;
    Ok(answer)
}

async fn execute(connection: &mut PgConnection, statement: String) -> Result<Answer, Error> {
    let (mut answer, mut bytes) = (Answer::default(), 0);
    let mut stream = connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(statement)));
    while let Some(part) = stream.try_next().await.map_err(Error::of_statement)? {
        let row = match part {
            Either::Left(done) => {
                answer.row_count += done.rows_affected();
                continue;
            }
            Either::Right(row) => row,
        };
        if answer.rows.len() == MOST_ROWS {
            return Err(Error::TooManyRows);
        }
        if answer.columns.is_empty() {
            answer.columns = row.columns().iter().map(|column| column.name().to_owned()).collect();
        }
        let (values, size) = rows::values(&row).map_err(Error::Database)?;
        bytes += size;
        if bytes > LARGEST {
            return Err(Error::TooLarge);
        }
        answer.rows.push(values);
    }
    Ok(answer)
}

/// The parameters as a list of literals in brackets; nothing where there are none.
async fn arguments(connection: &mut PgConnection, parameters: &[Value]) -> Result<String, Error> {
    if parameters.is_empty() {
        return Ok(String::new());
    }
    let types = if parameters.iter().any(Value::is_array) { types(connection).await? } else { Vec::new() };
    let mut literals = Vec::with_capacity(parameters.len());
    for (index, parameter) in parameters.iter().enumerate() {
        let is_list = types.get(index).is_some_and(|name| name.ends_with("[]"));
        let text = match parameter {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Array(items) if is_list => Some(rows::list(items)),
            other => Some(other.to_string()),
        };
        if text.as_deref().is_some_and(|text| text.contains('\0')) {
            return Err(Error::Invalid(format!("param ${}: holds the character U+0000", index + 1)));
        }
        literals.push(text.map_or_else(|| "null".to_owned(), |text| literal(&text)));
    }
    Ok(format!("({})", literals.join(", ")))
}

/// What PostgreSQL makes of the parameters: a list of JSON may be meant as an array or as a document.
async fn types(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let text = store::find_parameter_types(connection).await.map_err(Error::of_statement)?;
    Ok(rows::items(&text).into_iter().flatten().collect())
}

/// Says which statements there are, where PostgreSQL sees only a word that it did not expect.
fn not_prepared(error: sqlx::Error, text: &str) -> Error {
    let is_syntax = error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "42601");
    let word: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    if is_syntax && !word.is_empty() && !KINDS.contains(&word.to_lowercase().as_str()) {
        let message =
            format!("statement not allowed: {}; there are select, insert, update, delete, merge and values", word.to_uppercase());
        return Error::Refused { message, code: "statement_not_allowed" };
    }
    Error::of_statement(error)
}
