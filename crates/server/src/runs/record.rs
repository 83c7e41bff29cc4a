//! A run while it is being made: begun, then finished one way or the other.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use weft_model::{
    AppId, ConnectionId, Principal, RunId, TenantId,
    run::{ErrorCategory, RunKind, RunStatus},
};
use weft_workers::{Category, Failure};

use crate::http::trace::TraceId;

/// What a run's row holds.
#[derive(Debug, Clone)]
pub struct Record {
    pub id: RunId,
    pub tenant: TenantId,
    pub kind: RunKind,
    pub provider: AppId,
    pub action: String,
    pub app: Option<AppId>,
    pub principal: Option<Arc<Principal>>,
    pub parent: Option<RunId>,
    pub trace: TraceId,
    pub started_at: DateTime<Utc>,
    /// The same moment for measuring: the clock may jump.
    pub begun: Instant,
    pub input_bytes: usize,
    pub attempts: i32,
    pub contacts: Contacts,
    /// The account at the vendor that it was made with.
    pub connection: Option<ConnectionId>,
    /// Whether its start was sent to the database: then its end changes a row instead of adding one.
    pub announced: bool,
    pub end: Option<End>,
}

/// Hosts that one run may have on record; a handler that contacts more has lost its way.
const MOST_CONTACTS: usize = 50;

/// The hosts that a backend connected to while a run was its only call, as `host:port`. Shared with the call in flight.
#[derive(Debug, Clone, Default)]
pub struct Contacts(Arc<Mutex<Vec<String>>>);

impl Contacts {
    pub fn add(&self, host: &str, port: u16) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{host}:{port}");
        if hosts.len() < MOST_CONTACTS && !hosts.contains(&name) {
            hosts.push(name);
        }
    }

    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct End {
    pub at: DateTime<Utc>,
    pub took: Duration,
    pub result: Result<usize, Failed>,
}

/// Why a run failed.
#[derive(Debug, Clone)]
pub struct Failed {
    pub code: String,
    pub category: ErrorCategory,
    pub message: String,
}

impl Record {
    /// A run that begins now. What else is known of it, whoever begins it adds.
    pub fn begin(
        (kind, action): (RunKind, &str),
        (tenant, provider): (&TenantId, &AppId),
        trace: TraceId,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            id: RunId::generate(now),
            tenant: tenant.clone(),
            kind,
            provider: provider.clone(),
            action: action.to_owned(),
            app: None,
            principal: None,
            parent: None,
            trace,
            started_at: now,
            begun: Instant::now(),
            input_bytes: 0,
            attempts: 1,
            contacts: Contacts::default(),
            connection: None,
            announced: false,
            end: None,
        }
    }

    pub fn status(&self) -> RunStatus {
        match &self.end {
            None => RunStatus::Running,
            Some(End { result: Ok(_), .. }) => RunStatus::Succeeded,
            Some(End { result: Err(_), .. }) => RunStatus::Failed,
        }
    }

    /// `provider.action`, the name under which people know the operation.
    pub fn operation(&self) -> String {
        format!("{}.{}", self.provider, self.action)
    }

    /// With its end. It never ends before it began, even when the clock was set back meanwhile.
    #[must_use]
    pub fn finished(mut self, now: DateTime<Utc>, result: Result<usize, Failed>) -> Self {
        let took = self.begun.elapsed();
        self.end = Some(End { at: now.max(self.started_at + took), took, result });
        self
    }
}

impl Failed {
    pub fn new(code: &str, category: ErrorCategory, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), category, message: message.into() }
    }
}

impl From<&Failure> for Failed {
    fn from(failure: &Failure) -> Self {
        let code = failure.code.clone().unwrap_or_else(|| "error".to_owned());
        Self { code, category: category(failure.category), message: failure.message.clone() }
    }
}

pub fn category(category: Category) -> ErrorCategory {
    match category {
        Category::Transient => ErrorCategory::Transient,
        Category::RateLimited => ErrorCategory::RateLimited,
        Category::Auth => ErrorCategory::Auth,
        Category::Validation => ErrorCategory::Validation,
        Category::Poison => ErrorCategory::Poison,
    }
}
