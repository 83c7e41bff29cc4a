//! Versions of apps: putting a new one into service, listing them, going back to an earlier one.
//!
//! A version is the archive that was deployed, the manifest that was installed then, and the lockfile of its packages. One of
//! them serves. It is replaced only by one whose process is ready, in one transaction with what goes with it.

mod routes;
mod service;
pub mod store;
pub mod upload;
mod warnings;

pub use routes::router;
pub use service::Release;
pub use warnings::of as warnings_of;
