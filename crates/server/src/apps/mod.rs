//! Apps: installing them from a manifest, deploying their backends, running and calling these.
//!
//! An integration is an app of type `integration`. The archive of a deployment is kept in the database; each node unpacks its
//! own copy into an immutable folder and switches over only after the new process is ready.

mod archive;
mod backend;
mod dependencies;
mod dev;
mod files;
mod packages;
mod permissions;
mod routes;
mod service;
mod store;
mod workers;

pub use backend::{Backend, CallContext};
pub use routes::{raw_json, router};
pub use service::{Action, App, Apps, CallRequest, Error, Machine};
