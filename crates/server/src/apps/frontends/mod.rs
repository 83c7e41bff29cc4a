//! Frontends: the files of an app that its users' browsers load, below `/apps/{app_id}/`.
//!
//! They are in the database like archives (ADR 3), replaced as a whole, and public: whoever loads them still has to log in before
//! the API answers. What a browser may do with them is said in headers (ADR 58).

mod content;
mod routes;
mod service;
mod store;

pub use routes::router;
pub use service::{Cached, weight};
