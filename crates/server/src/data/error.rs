//! What can be wrong with a request for data, and what PostgreSQL says of it in the terms of whoever asked.

use sqlx::postgres::PgDatabaseError;
use weft_data::Plan;
use weft_model::{AppId, Fault};

use crate::apps;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("entity '{entity}' not found in app '{app}'")]
    UnknownEntity { app: String, entity: String },
    #[error("record '{0}' not found")]
    UnknownRecord(String),
    #[error("invalid UUID: '{0}'")]
    InvalidId(String),
    #[error("the request has {} fault{}", .0.len(), if .0.len() == 1 { "" } else { "s" })]
    Invalid(Vec<Fault>),
    /// Other records do not allow it.
    #[error("{0}")]
    Conflict(String),
    #[error("record '{0}' is not as it was any more: read it again and decide anew")]
    Changed(String),
    #[error("permission denied")]
    Denied(String),
    /// The tables were changed while a request was on its way to them.
    #[error("the app is being changed at this moment: try again")]
    Moved,
    /// A lock that somebody else holds was waited for long enough.
    #[error("others are changing the same at this moment: try again")]
    Busy,
    #[error("the records took longer than 8 s: ask for fewer, or declare an index")]
    TooSlow,
    #[error("the new data contract loses data")]
    Loss(Plan),
    #[error("the new data contract cannot take effect")]
    Impossible(Vec<Fault>),
    #[error("the database has a schema '{0}' that belongs to no app: choose another app id")]
    Foreign(AppId),
    #[error(transparent)]
    App(Box<apps::Error>),
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<Vec<Fault>> for Error {
    fn from(faults: Vec<Fault>) -> Self {
        Self::Invalid(faults)
    }
}

impl From<sqlx::Error> for Error {
    /// Mistakes of the caller that only the database can see.
    fn from(error: sqlx::Error) -> Self {
        let Some(cause) = error.as_database_error().and_then(|cause| cause.try_downcast_ref::<PgDatabaseError>()) else {
            return Self::Database(error);
        };
        let fault = |place: Option<&str>, message: String| {
            Self::Invalid(vec![Fault::new(place.map_or_else(|| "$".to_owned(), |column| format!("$.{column}")), message)])
        };
        match cause.code() {
            "23505" => Self::Conflict(format!("such a record is there already: {}", detail(cause))),
            // The second is of references that restrict, since PostgreSQL 18.
            "23503" | "23001" => Self::Conflict(format!("foreign key constraint violated: {}", detail(cause))),
            "23502" => fault(cause.column(), "is required".to_owned()),
            "23514" => fault(None, format!("breaks the check '{}'", cause.constraint().unwrap_or_default())),
            "21000" => Self::Conflict("the same record is there twice in one request".to_owned()),
            // Undefined column, table, schema, a type or unique index that is another now; a statement prepared before the change.
            "42703" | "42P01" | "3F000" | "0A000" | "42883" | "42804" | "42P10" => Self::Moved,
            "55P03" | "40P01" | "40001" => Self::Busy,
            "57014" => Self::TooSlow,
            // What cannot be stored has a message of its own.
            "22021" | "22P05" => Self::Database(error),
            // Values that do not fit, and more of something than PostgreSQL takes.
            code if code.starts_with("22") || code.starts_with("54") => fault(None, cause.message().to_owned()),
            _ => Self::Database(error),
        }
    }
}

fn detail(cause: &PgDatabaseError) -> String {
    cause.detail().unwrap_or_else(|| cause.message()).to_owned()
}
