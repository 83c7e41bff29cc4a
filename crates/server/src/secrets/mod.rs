//! The vault as the product uses it: sealed values per tenant, scope and name, and the data keys they are sealed with.
//!
//! Values go in over the API and never come out of it; they leave only towards an executor. A master key that does not open
//! the stored data keys stops the server from starting.

mod mask;
mod routes;
mod service;
mod store;

pub use mask::Masks;
pub use routes::router;
pub use service::{Error, Scope, Vault};
pub use weft_vault::Sealed;
