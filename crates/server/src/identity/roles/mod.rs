//! Roles: named sets of permissions that may inherit from one another, and who holds which.

mod explain;
mod routes;
mod service;
pub(crate) mod store;

pub use routes::router;
pub use service::{assign_app, declare_app, remove_app};

/// The role that may do everything. It cannot be changed or removed.
pub const ADMIN: &str = "admin";
