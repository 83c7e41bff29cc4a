//! The catalog: integrations that come with the server, and those of signed indexes, deployed and removed by name.
//!
//! Deploying one goes the way of every deployment; what is bundled is in `weft-catalog`.

mod indexes;
mod routes;
mod service;

pub use indexes::{Indexes, Source, Unread, UnreadIndex};
pub use routes::router;
