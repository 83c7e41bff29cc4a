//! Integrations: which there are, their configuration, and the HTTP face of calling their actions.
//!
//! The secret fields of a configuration live in the vault, the others in a table; both reach the backend with each call and
//! are remembered by the node until they change.

mod catalog;
mod named;
mod proxy;
mod routes;
mod service;
mod store;
mod ways;

pub use catalog::{Indexes, Source};
pub use routes::router;
pub use service::{Config, Error, Integrations};
pub use ways::{OfferedWay, offered as offered_ways};
