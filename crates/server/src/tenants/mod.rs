//! Tenants: making them, switching them off and on, and deleting them for good.
//!
//! The tenant `default` is the server's own: it is there from the start, cannot be switched off or deleted, and its administrators
//! look after the others. Deleting begins with destroying the tenant's data keys, after which nothing that was sealed for it
//! can be read, by anybody; rows and files follow in the background, and go on after an interruption.

mod erase;
mod routes;
mod service;
mod store;

pub use routes::router;
pub use service::Tenants;
