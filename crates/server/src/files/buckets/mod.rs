//! Buckets: files of a tenant that belong to no app, in folders.
//!
//! An object is a folder or stands for a file; what the file holds is stored, sealed, counted and handed out as for any other. How it fails:
//! an upload whose object cannot be made leaves nothing.

mod names;
mod routes;
mod service;
mod store;
mod wire;

pub use routes::router;
