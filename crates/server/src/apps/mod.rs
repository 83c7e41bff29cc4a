//! Apps: installing them from a manifest, deploying their backends, running and calling these.
//!
//! An integration is an app of type `integration`. The archive of a version is kept in the database; each node unpacks its
//! own copy into an immutable folder and switches over only after the new process is ready.

mod archive;
mod backend;
mod bundled;
mod dependencies;
mod dev;
mod files;
mod frontends;
mod permissions;
mod routes;
mod running;
mod service;
mod spool;
mod store;
mod versions;
mod workers;

pub use backend::{Backend, CallContext, Pinned};
pub use dependencies::{Installer, is_confined as installing_is_confined};
pub use dev::Refusal;
pub use routes::{raw_json, router};
pub use service::{Action, App, Apps, CallRequest, Error, Machine, TAKES_NO_JOBS};
pub use spool::tidy as tidy_uploads;
pub use store::Listed;
