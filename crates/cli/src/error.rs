//! What can go wrong in a command, with the next step for the person.
//!
//! Knows nothing of the terminal: [`crate::output`] decides how an error is shown. Secrets never enter a message.

use std::io;

use serde::Deserialize;
use serde_json::{Value, json};

pub type Result<T> = std::result::Result<T, CliError>;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments cannot be acted on: exit code 2.
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    /// The work could not be done: exit code 1.
    #[error("{message}")]
    Failed { message: String, hint: Option<String> },
    /// The server refused and said why.
    #[error("{}", .0.headline())]
    Problem(Box<Problem>),
    #[error("no server answers at {url}")]
    NoServer { url: String, cause: String },
    #[error("not logged in to {url}")]
    NotLoggedIn { url: String },
    /// Standard output is gone.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: None }
    }

    /// Adds the next step to a usage error or a failure; other kinds know theirs.
    #[must_use]
    pub fn with_hint(self, next: impl Into<String>) -> Self {
        let hint = Some(next.into());
        match self {
            Self::Usage { message, .. } => Self::Usage { message, hint },
            Self::Failed { message, .. } => Self::Failed { message, hint },
            other => other,
        }
    }

    /// The process's exit code: 1 for a failure, 2 for misuse.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            _ => 1,
        }
    }

    /// True when the reader of our output went away, as in `weft runs | head`.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What the person can do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } | Self::Failed { hint, .. } => hint.clone(),
            Self::Problem(problem) => problem.next_step(),
            Self::NoServer { .. } => Some("start one with `weft serve` or point --url (or WEFT_URL) elsewhere".into()),
            Self::NotLoggedIn { url } => Some(format!("run `weft login {url}`, or set WEFT_TOKEN")),
            Self::Output(_) => None,
        }
    }

    /// The problem object that `--json` prints.
    pub fn to_json(&self) -> Value {
        if let Self::Problem(problem) = self {
            return problem.to_json();
        }
        let mut body = json!({ "error": self.to_string(), "code": self.code() });
        if let Some(hint) = self.hint() {
            body["hint"] = hint.into();
        }
        if let Self::NoServer { cause, .. } = self {
            body["cause"] = cause.as_str().into();
        }
        body
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Usage { .. } => "usage",
            Self::Failed { .. } => "failed",
            Self::Problem(_) => "problem",
            Self::NoServer { .. } => "no_server",
            Self::NotLoggedIn { .. } => "not_logged_in",
            Self::Output(_) => "output",
        }
    }
}

/// The server's error body.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    pub error: String,
    #[serde(default)]
    pub trace_id: Option<String>,
    #[serde(default)]
    pub errors: Vec<FieldError>,
    #[serde(default)]
    pub hint: Option<String>,
    /// HTTP status, from the response rather than the body.
    #[serde(skip)]
    pub status: u16,
    /// The run that failed, from the `x-weft-run-id` header.
    #[serde(skip)]
    pub run_id: Option<String>,
    #[serde(skip)]
    body: Value,
}

/// One wrong place of the request.
#[derive(Debug, Deserialize)]
pub struct FieldError {
    #[serde(default)]
    pub path: String,
    pub message: String,
}

impl Problem {
    /// Reads an error body; anything that is not one (a proxy's page) is reported by its status and first line.
    pub fn parse(status: reqwest::StatusCode, text: &str, run_id: Option<String>) -> Self {
        let body: Value = serde_json::from_str(text).unwrap_or_default();
        let parsed = Self::deserialize(&body).unwrap_or_else(|_| Self { error: foreign_body(status, text), ..Self::default() });
        Self { status: status.as_u16(), run_id, body, ..parsed }
    }

    /// Whether it is what something in front of Weft says of it, as a proxy does that finds nobody there.
    pub fn is_foreign(&self) -> bool {
        self.body.get("code").is_none()
    }

    /// What is wrong in one line: without the faults, which are listed below it.
    pub fn headline(&self) -> &str {
        let listed = self.errors.first().and_then(|first| self.error.find(&format!("{}: {}", first.path, first.message)));
        let end = listed.unwrap_or(self.error.len());
        self.error.get(..end).unwrap_or(&self.error).trim_end_matches([':', ' '])
    }

    fn next_step(&self) -> Option<String> {
        self.hint.clone().or_else(|| match self.status {
            403 => Some("ask an administrator for the permission; `weft whoami` shows who you are".into()),
            _ => None,
        })
    }

    fn to_json(&self) -> Value {
        let mut body = match &self.body {
            Value::Object(_) if self.body.get("error").is_some() => self.body.clone(),
            _ => json!({ "error": self.error }),
        };
        body["status"] = self.status.into();
        if let Some(run_id) = &self.run_id {
            body["runId"] = run_id.as_str().into();
        }
        if let Some(hint) = self.next_step() {
            body["hint"] = hint.into();
        }
        body
    }
}

fn foreign_body(status: reqwest::StatusCode, text: &str) -> String {
    let first_line: String =
        text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().chars().take(200).collect();
    if first_line.is_empty() {
        return format!("the server answered {status}");
    }
    format!("the server answered {status}: {first_line}")
}
