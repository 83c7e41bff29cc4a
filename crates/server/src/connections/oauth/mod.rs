//! OAuth 2: leading people to a vendor and back, renewing tokens, taking them back.
//!
//! One token is renewed by one node at a time, whoever asks and however many: the database holds the lease. What is about to be
//! done is written before the vendor is asked, and the answer right after, so that a renewal that broke off is known as one.

mod client;
mod flow;
mod refresh;
mod revoke;
mod store;

pub use flow::{Connected, Returned, Started};
pub use refresh::{answers_expired, says_expired};
pub use revoke::Revocation;
