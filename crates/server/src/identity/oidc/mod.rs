//! Single sign-on with OpenID Connect: who the providers are, sending a browser to one, and letting in whom it vouches for.
//!
//! The protocol is the library's (`openidconnect`); here is what it leaves open: which addresses may be asked (all go through
//! the guarded client), which keys and documents are remembered, which accounts somebody may become. An account is never taken
//! over by an e-mail address that the provider has not verified.

mod address;
mod discovery;
mod error;
mod flow;
mod people;
mod provider;
mod providers;
mod routes;
mod service;
mod store;
mod token;

pub use error::Error;
pub use routes::{OfTenant, Summary, router, summaries};
pub use service::Oidc;
