//! Confines a child process on Linux: what it can read, write and execute, how much it may use, and whom it may talk to.
//!
//! It knows nothing of what the child is for. Whoever calls it names folders, limits and an [`Egress`] that decides about
//! outbound connections; [`spawn`] starts the command inside the jail and serves its connections until it ends.
//!
//! Parts that this machine cannot offer are left out, and [`support`] says which and why: a caller that must not run
//! without one asks there first. On other systems than Linux nothing is available. A part that should work and fails at
//! start fails the start; a broker that goes away leaves the child without network rather than with too much of it.

mod address;
mod egress;
mod error;
mod policy;
mod support;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as platform;
#[cfg(target_os = "linux")]
use linux as platform;

pub use address::{AddressGuard, BadRule};
pub use egress::{Egress, Refusal, Resolver, Resolving, SystemResolver};
pub use error::Error;
pub use platform::{Broker, clear_ambient_capabilities, ordinary, real_time, resident_memory, spawn, support, system_files};
pub use policy::{Account, Limits, Network, Policy, SystemFiles};
pub use support::{Missing, Part, Support};

/// A confined process.
#[derive(Debug)]
pub struct Jailed {
    pub child: tokio::process::Child,
    /// Serves the child's connections for as long as it is kept: without it, every connection of the child fails.
    pub broker: Option<Broker>,
}
