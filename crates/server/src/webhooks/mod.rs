//! Inbound webhooks: a stable token URL for each one a manifest declares, and the way of a request to the backend.
//!
//! What arrives is on disk, sealed, before it is handed over, and is handed over again when the server dies before it answered.
//! The token is found by its digest; the URL is read back from the vault, so it survives redeployments and can be shown again.

mod deliver;
mod routes;
mod service;
mod store;

pub use deliver::repeat;
pub use routes::router;
pub use service::{Webhooks, declare, remove};
