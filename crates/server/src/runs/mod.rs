//! Runs: the one pipeline through which everything is executed, and its history.
//!
//! [`invoke`] resolves an action, authorises the caller, checks the input, resolves the configuration, executes, checks the
//! output and records the run. Whoever adds a way to call an action adds a route, not a pipeline. Records are written in
//! groups within 50 ms; where a second effect would do harm (a destructive action, an idempotency key) the start is on disk
//! before the executor begins.

mod admission;
mod convention;
mod error;
mod idempotency;
mod invoke;
mod once;
mod prepared;
mod proxy;
mod recipe;
mod record;
mod routes;
mod service;
mod store;

pub use admission::{Admission, Sharing};
pub use convention::refusal;
pub use error::{Cause, Error};
pub use invoke::{Invocation, JobCall, Outcome, RpcCall, WebhookCall, call_job, call_rpc, call_webhook, finish, invoke};
pub use proxy::{Forwarded, PROXY, ProxyCall, proxy};
pub use record::{Contacts, Record};
pub use routes::{budget_headers, router};
pub use service::{Company, Runs, insert_starts};
