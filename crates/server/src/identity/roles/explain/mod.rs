//! Why somebody may or may not do something: which role, inherited through which, assigned by whom, by which delegation.

mod routes;
mod service;

pub use routes::router;
