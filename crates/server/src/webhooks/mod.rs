//! Inbound webhooks: a stable token URL for each one a manifest declares, and the way of a request to the backend.
//!
//! What arrives is on disk before the sender gets an answer. The token is found by its digest; the URL is read back from the
//! vault, so it survives redeployments and can be shown again.

mod routes;
mod service;
mod store;

pub use routes::router;
pub use service::{Webhooks, declare, remove};
