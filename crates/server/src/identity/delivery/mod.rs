//! How whoever signed on in a browser gets tokens: as the answer itself, as a nonce in the address they are sent on to, which
//! is exchanged once within seconds, or, for older clients, as tokens in that address.
//!
//! Knows nothing of how somebody proved who they are.

mod routes;
mod service;
pub mod store;

pub use routes::{Tokens, private, respond, router};
pub use service::{Delivered, Delivery, Destination};
