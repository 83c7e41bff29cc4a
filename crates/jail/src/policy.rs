//! What a child may do. Plain data; [`crate::spawn`] puts it into force.

use std::{path::PathBuf, sync::Arc};

use crate::{AddressGuard, Egress, Resolver, SystemResolver};

/// What a child may do.
#[derive(Clone)]
pub struct Policy {
    /// The account to run as, for a caller that is root. Two children that share one can send each other signals only if the
    /// kernel is too old for scoped Landlock rules (before 6.12), but they always share the limit on tasks.
    pub account: Option<Account>,
    /// Files and folders (with all below) that may be read. Whatever is in no list is refused. Every path must exist.
    /// Programs also need what [`crate::system_files`] names.
    pub readable: Vec<PathBuf>,
    /// Files and folders that may be read, written, created and removed.
    pub writable: Vec<PathBuf>,
    /// Programs that may be executed, above all the one that is started.
    pub executable: Vec<PathBuf>,
    pub limits: Limits,
    pub network: Network,
}

/// An account of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// How much a child may use. `None` leaves what the caller itself has. Core dumps are always off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of private writable memory that may be mapped. A backstop: JavaScript engines map far more than they use (an
    /// idle Bun 6 GiB, though it makes do with 300 MiB), so what a program really holds is watched with
    /// [`crate::resident_memory`].
    pub data: Option<u64>,
    /// Threads and processes. In force where the child has an account or a user namespace of its own, because the kernel
    /// counts everything that an account runs.
    pub tasks: Option<u64>,
    pub open_files: Option<u64>,
    /// Bytes of the largest file that may be written.
    pub file_size: Option<u64>,
    /// Whether the child may start processes of its own. Threads are always possible.
    pub processes: bool,
    /// How far the child gives way to others when the processor is short: 0 (as the caller) to 19 (takes what is left).
    /// Where the kernel groups by session, this weighs the child as a whole, however many threads it runs.
    pub niceness: u8,
}

/// Whom a child may talk to.
#[derive(Clone)]
pub struct Network {
    pub egress: Arc<dyn Egress>,
    pub guard: Arc<AddressGuard>,
    pub resolver: Arc<dyn Resolver>,
}

impl Network {
    /// A network where names are looked up the way this machine does it.
    pub fn new(egress: Arc<dyn Egress>, guard: Arc<AddressGuard>) -> Self {
        Self { egress, guard, resolver: Arc::new(SystemResolver) }
    }
}

/// What nearly every program needs of the system. Only paths that exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemFiles {
    /// Shared libraries, certificates, time zones, sources of randomness.
    pub readable: Vec<PathBuf>,
    /// `/dev/null`.
    pub writable: Vec<PathBuf>,
    /// The dynamic loaders.
    pub executable: Vec<PathBuf>,
}
