//! Links that log in whoever opens them first: for inviting people and for letting them back in. The server sends no mail; who
//! makes a link passes it on.
//!
//! A link gives nothing that its maker does not have at the moment it is used, so nobody becomes more by opening an own link.

mod error;
mod routes;
mod service;
pub mod store;

pub use error::Error;
pub use routes::router;
pub use service::KEPT;
