//! What the server signs under its own name, and how others check it: its ES256 keys, made, sealed, replaced and published.
//!
//! All nodes share the keys: they lie in the database, the private halves sealed by the vault. A new key is published some minutes
//! before it signs, and an old one stays published until the last token that it signed has expired. What is signed with them
//! is the business of others: tokens of machines, checkpoints of the audit log.

mod routes;
mod service;
mod store;

pub use routes::router;
pub use service::{Authority, Error};
