//! The catalog: integrations that come with the server, deployed and removed by name.
//!
//! Deploying one goes the way of every deployment; what is bundled is in `weft-catalog`.

mod routes;
mod service;

pub use routes::router;
