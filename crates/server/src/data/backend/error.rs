//! Why a backend does not get what it asked for, and how it is told.

use std::{borrow::Cow, time::Duration};

use sqlx::postgres::PgDatabaseError;
use weft_workers::{Category, Failure};

use crate::{apps, data, db};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Data(#[from] data::Error),
    #[error("this call has no user behind it, so it can neither use records nor run SQL: enqueue a job that acts for somebody")]
    NoCaller,
    #[error("{0}")]
    Invalid(String),
    #[error("SQL of backends is off on this server: {0}")]
    Off(String),
    #[error("rate limited (100 queries/s)")]
    RateLimited,
    #[error("backends have as many statements and transactions at work as this server takes: try again in a moment")]
    Full,
    #[error("a transaction is already open: one call has one at a time")]
    AlreadyOpen,
    #[error("no open transaction")]
    NotOpen,
    #[error("tx_id mismatch: this is not the open transaction")]
    OtherTransaction,
    #[error("the transaction is over: it may take {0} s at most")]
    Expired(u64),
    #[error("a statement of the transaction failed, so nothing of it was kept")]
    Spoiled,
    #[error("query returned more than 1000 rows; add LIMIT or paginate")]
    TooManyRows,
    #[error("query returned more than 8 MiB; select less")]
    TooLarge,
    #[error("the statement took longer than 8 s")]
    TooSlow,
    /// What PostgreSQL says of a statement.
    #[error("{message}")]
    Refused { message: String, code: &'static str },
    #[error("the database does not answer: {0}")]
    Database(sqlx::Error),
}

impl Error {
    /// Whether something may still run on the connection, so that it has to be ended and not used again.
    pub const fn leaves_work(&self) -> bool {
        matches!(self, Self::TooSlow | Self::TooLarge | Self::TooManyRows | Self::Database(_))
    }

    /// What PostgreSQL says of a statement of the backend's own.
    pub fn of_statement(error: sqlx::Error) -> Self {
        let Some(cause) = error.as_database_error().and_then(|cause| cause.try_downcast_ref::<PgDatabaseError>()) else {
            return Self::Database(error);
        };
        let code = match cause.code() {
            "57014" => return Self::TooSlow,
            "57P01" | "57P02" | "57P03" | "53300" => return Self::Database(error),
            "42501" => "forbidden",
            "25P02" => return Self::Spoiled,
            "40001" | "40P01" | "55P03" => "serialization_failure",
            code if code.starts_with("23") => "conflict",
            _ => "invalid_sql",
        };
        let detail = [cause.detail(), cause.hint()].into_iter().flatten();
        let message = std::iter::once(cause.message()).chain(detail).collect::<Vec<_>>().join("; ");
        Self::Refused { message, code }
    }

    /// As it travels to the backend. What only the server is to know is logged here and not told.
    pub fn into_failure(self) -> Failure {
        let (code, category): (Cow<'static, str>, _) = match &self {
            Self::Data(error) => return of_data(error),
            Self::NoCaller => ("no_caller".into(), Category::Validation),
            Self::Invalid(_) => ("invalid_params".into(), Category::Validation),
            Self::Off(_) => ("sql_off".into(), Category::Validation),
            Self::RateLimited => ("rate_limited".into(), Category::RateLimited),
            Self::Full => ("busy".into(), Category::Transient),
            Self::AlreadyOpen | Self::NotOpen | Self::OtherTransaction | Self::Expired(_) | Self::Spoiled => {
                ("transaction".into(), Category::Validation)
            }
            Self::TooManyRows | Self::TooLarge => ("too_large".into(), Category::Validation),
            Self::TooSlow => ("timeout".into(), Category::Validation),
            Self::Refused { code: "serialization_failure", .. } => ("serialization_failure".into(), Category::Transient),
            Self::Refused { code, .. } => ((*code).into(), Category::Validation),
            Self::Database(cause) => {
                tracing::warn!(error = %cause, "the database did not do what a backend asked for");
                return unavailable();
            }
        };
        let mut failure = Failure::new(self.to_string()).with_code(code).with_category(category);
        if matches!(self, Self::RateLimited | Self::Full) {
            failure.retry_after = Some(Duration::from_secs(1));
        }
        failure
    }
}

/// The same as an HTTP caller is told, in a backend's terms.
fn of_data(error: &data::Error) -> Failure {
    use data::Error as E;
    let told = |code: &str| Failure::new(error.to_string()).with_code(code).with_category(Category::Validation);
    match error {
        E::UnknownEntity { .. } | E::UnknownRecord(_) => told("not_found"),
        E::InvalidId(_) => told("invalid_request"),
        E::Invalid(faults) | E::Impossible(faults) => {
            let list: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
            let mut failure = Failure::new(format!("{error}: {}", list.join("; ")));
            failure.details = serde_json::to_value(faults).ok();
            failure.with_code("validation_failed").with_category(Category::Validation)
        }
        E::Conflict(_) | E::Foreign(_) | E::Loss(_) => told("conflict"),
        E::Changed(_) => told("precondition_failed"),
        E::Busy => told("serialization_failure").with_category(Category::Transient),
        E::TooSlow => told("timeout"),
        E::Denied(key) => Failure::new(format!("the caller lacks the permission {key}"))
            .with_code("forbidden")
            .with_category(Category::Validation),
        E::Moved => told("unavailable").with_category(Category::Transient),
        E::App(cause) if matches!(**cause, apps::Error::Unknown(_)) => told("not_found"),
        E::Database(cause) if db::holds_nul(cause) => Failure::new("a text holds U+0000, which cannot be stored")
            .with_code("invalid_request")
            .with_category(Category::Validation),
        E::App(_) | E::Database(_) => {
            tracing::warn!(%error, "a backend's request for records failed");
            unavailable()
        }
    }
}

fn unavailable() -> Failure {
    let mut failure = Failure::new("the server cannot do it right now: try again in a moment");
    failure.retry_after = Some(Duration::from_secs(1));
    failure.with_code("unavailable").with_category(Category::Transient)
}
