//! Connections: with which account at the vendor a call is made, and how that account got here.
//!
//! A connection belongs to a person, or to the whole tenant; a delegation leads to somebody else's. Which one a call uses is
//! decided once, at its beginning ([`Connections::for_call`]), and travels with the call, never with a process: by the app's
//! binding, else a delegation, else the oldest of the caller's own. Choices and opened credentials are remembered by the node; the
//! database itself tells when they may not be any more. What is stored here is sealed and leaves only towards an executor.
//!
//! An integration may offer several ways to connect; `ways` knows by which one a connection was made, and all else goes by that.
//!
//! `oauth` leads people through OAuth 2, gets tokens with what they enter and keeps them fresh, `bindings` says which connection an app uses.

mod bindings;
mod check;
mod choice;
mod connect;
mod credential;
mod delegate;
mod delegations;
mod error;
mod oauth;
mod routes;
mod service;
mod store;
mod ways;

pub use choice::{Account, Chosen, Wish};
pub use credential::{Credential, Told};
pub use error::Error;
pub use oauth::{answers_expired, says_expired, status_expired};
pub use routes::router;
pub use service::{Connections, manages};
pub use ways::{declare as declare_ways, name_of as way_name, renews};
