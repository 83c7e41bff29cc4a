//! The tables of an app, brought to what its manifest declares.

mod routes;
mod service;

pub use routes::router;
pub use service::{Consent, admissible, apply, plan, remove, tables};
