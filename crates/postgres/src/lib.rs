//! A supervisor for one private PostgreSQL cluster.
//!
//! [`Cluster::start`] turns a data directory into a running database: it creates the cluster on first use, takes over
//! one that a killed server left behind, and returns once connections are accepted on a unix socket that only the
//! server's own account can reach. [`Cluster::stop`] shuts it down.
//!
//! It must not know about tenants, HTTP, migrations or tables, and it contains no PostgreSQL client. Two supervisors on
//! one data directory must be ruled out by the caller. Every failure is an [`Error`] that says what to do next.

mod account;
mod binaries;
mod cluster;
mod connection;
mod error;
mod initialise;
mod layout;
mod log;
mod password;
mod postmaster;
mod process;
mod reach;

pub use account::Account;
pub use binaries::{Binaries, Version};
pub use cluster::{Cluster, Settings};
pub use connection::Connection;
pub use error::Error;
pub use reach::reachable_copy;
