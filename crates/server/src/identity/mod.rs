//! Who may come in and what they may do: people and machines, memberships of tenants, sessions, tokens, roles; passwords, single
//! sign-on (`oidc`) and links (`links`) as ways to come in, and `delivery` of tokens to browsers, which the last two share.
//!
//! Every request is authenticated against a live session or key: ending one, switching off or deleting a user, a machine or a tenant
//! and changing a role act at once, on every node. What a caller may do is cached and dropped by notification.

mod accounts;
pub(crate) mod cookie;
mod delivery;
mod links;
mod members;
mod network;
mod oidc;
mod password;
pub mod roles;
mod routes;
mod service;
mod sessions;
pub(crate) mod store;
mod throttle;
pub(crate) mod ticket;
mod token;

pub use members::{Added, NewMember};
pub use network::ClientNetwork;
pub use oidc::Oidc;
pub use routes::router;
pub use service::{Error, Identity, Policy};
pub use token::SigningKey;
