//! The one body that every error has, and the closed list of codes.
//!
//! Services return errors without HTTP words; `From` implementations beside the slices' routes turn them into a [`Problem`].
//! The body satisfies RFC 9457 and carries `error`, `code` and `traceId` besides. What went wrong inside the server never
//! reaches it: a cause is logged once, here, and the caller gets the trace id to quote.

use std::{fmt::Display, time::Duration};

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use weft_model::{Fault, RunId, fault, scope};

use super::trace;
use crate::db;

macro_rules! codes {
    // A token, not a literal: the description of the API does not see through the latter.
    ($($name:ident $word:tt $status:ident $title:literal),* $(,)?) => {
        /// Every error code there is. Each has a page in `docs/errors`, which the build includes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
        pub enum Code { $(#[doc = $title] #[serde(rename = $word)] $name),* }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// The page that explains the code, as Markdown.
            pub const fn page(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("../../../../docs/errors/", $word, ".md"))),* }
            }
        }
    };
}

codes! {
    InvalidRequest "invalid_request" BAD_REQUEST "The request is not understood",
    ValidationFailed "validation_failed" BAD_REQUEST "The document breaks its rules",
    LastAdministrator "last_administrator" BAD_REQUEST "The last administrator must stay",
    ProviderInUse "provider_in_use" BAD_REQUEST "Users sign on through the provider",
    InvalidArchive "invalid_archive" BAD_REQUEST "The archive cannot be deployed",
    Unauthenticated "unauthenticated" UNAUTHORIZED "Who is calling is not known",
    SignOnFailed "sign_on_failed" UNAUTHORIZED "The sign-on did not succeed",
    Forbidden "forbidden" FORBIDDEN "The caller lacks the permission",
    TenantMismatch "tenant_mismatch" FORBIDDEN "The request names another tenant than the token",
    NotAdmitted "not_admitted" FORBIDDEN "The account may not come in",
    NotFound "not_found" NOT_FOUND "There is no such thing",
    UnknownAction "unknown_action" NOT_FOUND "The integration has no such action",
    UnknownMethod "unknown_method" NOT_FOUND "The backend has no such method",
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The path does not take this method",
    Conflict "conflict" CONFLICT "The state of things does not allow it",
    NotConfigured "not_configured" CONFLICT "The integration is not configured yet",
    NotConnected "not_connected" CONFLICT "The caller is not connected to the integration",
    NotDeployed "not_deployed" CONFLICT "The app has no backend yet",
    DataLoss "data_loss" CONFLICT "Data would be lost",
    IdempotencyInProgress "idempotency_in_progress" CONFLICT "The same request is still running",
    PreconditionFailed "precondition_failed" PRECONDITION_FAILED "The record was changed meanwhile",
    PayloadTooLarge "payload_too_large" PAYLOAD_TOO_LARGE "The body is too large",
    RangeNotSatisfiable "range_not_satisfiable" RANGE_NOT_SATISFIABLE "The file has no such part",
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body has the wrong type",
    IdempotencyMismatch "idempotency_mismatch" UNPROCESSABLE_ENTITY "The key was used for another request",
    ActionRejected "action_rejected" UNPROCESSABLE_ENTITY "The vendor refuses the request",
    DeployFailed "deploy_failed" UNPROCESSABLE_ENTITY "The new version does not start",
    VendorAuth "vendor_auth" FAILED_DEPENDENCY "The vendor refuses the credential",
    ReconnectRequired "reconnect_required" FAILED_DEPENDENCY "The connection does not work any more",
    ConnectFailed "connect_failed" FAILED_DEPENDENCY "The vendor did not let the connection be made",
    RateLimited "rate_limited" TOO_MANY_REQUESTS "Too many requests",
    Internal "internal" INTERNAL_SERVER_ERROR "A fault in the server",
    ActionFailed "action_failed" BAD_GATEWAY "The backend failed",
    OutputInvalid "output_invalid" BAD_GATEWAY "The backend's answer breaks its own schema",
    VendorUnavailable "vendor_unavailable" BAD_GATEWAY "The vendor cannot be reached",
    StartFailed "start_failed" SERVICE_UNAVAILABLE "The backend does not come up",
    WorkerNotRunning "worker_not_running" SERVICE_UNAVAILABLE "The backend is not running",
    WorkerBusy "worker_busy" SERVICE_UNAVAILABLE "The backend has too many calls",
    Unavailable "unavailable" SERVICE_UNAVAILABLE "The server cannot work right now",
    Timeout "timeout" GATEWAY_TIMEOUT "The backend took too long",
    StorageFull "storage_full" INSUFFICIENT_STORAGE "The server's disk is full",
}

/// An error on its way to the caller.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    message: String,
    faults: Vec<Fault>,
    retry_after: Option<Duration>,
    run: Option<RunId>,
    vendor_code: Option<String>,
    access: Option<Box<Access>>,
}

/// What few problems say besides: who is calling, with what, and how often.
#[derive(Debug, Default)]
struct Access {
    requires: Vec<String>,
    oauth: Option<&'static str>,
    reconnect_url: Option<String>,
    challenge: Option<&'static str>,
    headers: HeaderMap,
}

/// The body of every error.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemBody {
    /// What is wrong and what to do, in words for a person. At the token endpoints: the code that RFC 6749 has for it.
    pub error: String,
    /// The words for a person, at the token endpoints only.
    #[serde(rename = "error_description", skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
    pub code: Code,
    /// Names this request in the server's logs and traces.
    pub trace_id: String,
    /// Each fault of the document that was sent, when that is the problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
    /// The run that failed, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The vendor's own name for the error, for example `channel_not_found`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_code: Option<String>,
    /// The permission keys of which one would have been enough, when that is the problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Where to begin to connect, with POST, when that would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnect_url: Option<String>,
    /// Where the code is explained.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    /// The same text as `error`, under its standard name.
    pub detail: String,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, faults: Vec::new(), retry_after: None, run: None, vendor_code: None, access: None }
    }

    /// A fault in the server: the cause goes to the log, not to the caller.
    pub fn internal(cause: impl Display) -> Self {
        tracing::error!(error = %cause, "request failed inside the server");
        Self::new(Code::Internal, "Something went wrong inside the server. Quote the traceId to whoever runs it.")
    }

    /// A fault of the server's files, of which a full disk is the one that people can mend.
    pub fn files(cause: std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        if matches!(cause.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            Self::storage_full(&cause)
        } else {
            Self::internal(cause)
        }
    }

    fn storage_full(cause: &impl Display) -> Self {
        tracing::error!(error = %cause, "the disk is full");
        Self::new(Code::StorageFull, "The server's disk is full, so nothing was changed. Whoever runs it has to make room.")
    }

    pub fn code(&self) -> Code {
        self.code
    }

    pub fn not_found(what: impl Display) -> Self {
        Self::new(Code::NotFound, format!("{what} not found"))
    }

    /// What is wrong and what to do, in words for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A document that breaks its rules, with all that is wrong with it.
    pub fn invalid(message: &str, faults: Vec<Fault>) -> Self {
        Self::new(Code::ValidationFailed, format!("{message}: {}", fault::listed(&faults))).with_faults(faults)
    }

    #[must_use]
    pub fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    #[must_use]
    pub fn with_retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    #[must_use]
    pub fn with_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    #[must_use]
    pub fn with_vendor_code(mut self, code: Option<String>) -> Self {
        self.vendor_code = code;
        self
    }

    /// Names the permission keys of which one would have been enough.
    #[must_use]
    pub fn requiring(mut self, keys: Vec<String>) -> Self {
        self.access.get_or_insert_default().requires = keys;
        self
    }

    /// Where connecting begins, which would help.
    #[must_use]
    pub fn with_reconnect_url(mut self, url: String) -> Self {
        self.access.get_or_insert_default().reconnect_url = Some(url);
        self
    }

    /// Gives the body the fields of RFC 6749 too.
    #[must_use]
    pub fn with_oauth(mut self, code: &'static str) -> Self {
        self.access.get_or_insert_default().oauth = Some(code);
        self
    }

    /// Says more in headers.
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.access.get_or_insert_default().headers = headers;
        self
    }

    /// How to authenticate here, where it is not by a bearer token.
    #[must_use]
    pub fn with_challenge(mut self, challenge: &'static str) -> Self {
        self.access.get_or_insert_default().challenge = Some(challenge);
        self
    }
}

impl Access {
    /// What RFC 6750 wants said to a caller that is not let in.
    fn challenge(&self, status: StatusCode) -> Option<HeaderValue> {
        match (status, self.requires.first()) {
            (StatusCode::UNAUTHORIZED, _) => Some(HeaderValue::from_static(self.challenge.unwrap_or("Bearer"))),
            (StatusCode::FORBIDDEN, Some(key)) => {
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scope::of(key));
                HeaderValue::from_str(&challenge).ok()
            }
            _ => None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let access = self.access.unwrap_or_default();
        let challenge = access.challenge(status);
        let error = access.oauth.map_or_else(|| self.message.clone(), str::to_owned);
        let body = ProblemBody {
            detail: self.message.clone(),
            error,
            error_description: access.oauth.map(|_| self.message),
            code: self.code,
            trace_id: trace::current().to_string(),
            errors: self.faults,
            run_id: self.run,
            vendor_code: self.vendor_code,
            requires: access.requires,
            reconnect_url: access.reconnect_url,
            kind: format!("/docs/errors/{}", self.code.as_str()),
            title: self.code.title(),
            status: status.as_u16(),
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.extend(access.headers);
        // Clients of OAuth know this type only.
        let kind = if access.oauth.is_some() { "application/json" } else { "application/problem+json" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(delay) = self.retry_after {
            // Rounded up: a caller that waits exactly this long must not come too early.
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(run) = self.run {
            super::run_header(headers, run);
        }
        response
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if db::holds_nul(&error) {
            return Self::new(Code::InvalidRequest, "A text in the request holds the character U+0000, which cannot be stored.");
        }
        if db::has_code(&error, &["23503", "23001"]) {
            return Self::new(Code::Conflict, "Something else still refers to it, for example a record of an app.");
        }
        if db::has_code(&error, &["53100"]) {
            return Self::storage_full(&error);
        }
        if !is_away(&error) {
            return Self::internal(error);
        }
        tracing::warn!(%error, "the database does not answer");
        Self::new(Code::Unavailable, "The database does not answer. Try again in a moment.")
            .with_retry_after(Some(Duration::from_secs(1)))
    }
}

/// Whether the database is out of reach, starting, stopping, or has too much to do: all of that passes.
fn is_away(error: &sqlx::Error) -> bool {
    use sqlx::Error::{Database, Io, PoolClosed, PoolTimedOut, Protocol, WorkerCrashed};
    match error {
        // A connection that breaks in the middle of an answer is a fault of the protocol.
        Io(_) | PoolTimedOut | PoolClosed | WorkerCrashed | Protocol(_) => true,
        // Classes: connection exception, insufficient resources, operator intervention; and what asks to be tried again.
        Database(cause) => cause.code().is_some_and(|code| {
            ["08", "53", "57P"].iter().any(|class| code.starts_with(class)) || ["40001", "40P01"].contains(&&*code)
        }),
        _ => false,
    }
}
