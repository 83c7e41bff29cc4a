//! Who may come in and what they may do: users, passwords, sessions, roles.
//!
//! Every request is authenticated against a live session: ending a session, disabling or deleting a user and changing a role
//! act at once, on every node. What a caller may do is cached per session and dropped by notification.

mod accounts;
mod password;
pub mod roles;
mod routes;
mod service;
mod sessions;
mod store;
mod token;

pub use routes::router;
pub use service::{Error, Identity};
pub use token::SigningKey;
