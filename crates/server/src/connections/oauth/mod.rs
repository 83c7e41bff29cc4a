//! Tokens of vendors: leading people there and back by OAuth 2 and 1.0a, getting tokens with what people enter, renewing them, taking them back.
//!
//! One token is renewed by one node at a time, whoever asks and however many: the database holds the lease. What is about to be
//! done is written before the vendor is asked, and the answer right after, so that a renewal that broke off is known as one.

mod assertion;
mod client;
mod flow;
mod mint;
mod oauth1;
mod refresh;
mod revoke;
mod store;
mod token;

pub use flow::{CALLBACK, Connected, Pending, Returned, Started};
pub use refresh::{answers_expired, says_expired, status_expired};
pub use revoke::Revocation;
