//! Who may come in and what they may do: people and machines, memberships of tenants, passwords, sessions, tokens, roles.
//!
//! Every request is authenticated against a live session or key: ending one, switching off or deleting a user, a machine or a tenant
//! and changing a role act at once, on every node. What a caller may do is cached and dropped by notification.

mod accounts;
mod members;
mod password;
pub mod roles;
mod routes;
mod service;
mod sessions;
pub(crate) mod store;
mod token;

pub use members::{Added, NewMember};
pub use routes::router;
pub use service::{Error, Identity};
pub use token::SigningKey;
