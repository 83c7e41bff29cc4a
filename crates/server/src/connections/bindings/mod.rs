//! Bindings: which integrations an app uses, and with which connection. Somebody's own, or for everybody who uses the app.

mod routes;
mod service;
mod store;

pub use routes::router;
