//! Which files a child may touch: the policy's lists as a Landlock ruleset.
//!
//! The ruleset is made in the caller, who may see folders that the child's account may not open, and taken on by the child.
//! Paths are opened here once: what a path leads to later does not matter.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
    path_beneath_rules,
};

use super::filter::Connections;
use crate::{Error, Policy, SystemFiles};

/// The newest interface whose rights are asked for; older kernels enforce what they know.
const NEWEST: ABI = ABI::V6;

const SYSTEM_READABLE: &[&str] = &[
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/sys/devices/system/cpu",
    "/proc/sys/vm/overcommit_memory",
    "/proc/meminfo",
];

const LOADERS: &[&str] =
    &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"];

/// What nearly every program needs of the system: libraries, certificates, time zones, randomness. Not `/etc/resolv.conf`:
/// without it, resolvers ask 127.0.0.1, which is where the broker answers.
pub fn system_files() -> SystemFiles {
    let existing = |paths: &[&str]| paths.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
    SystemFiles { readable: existing(SYSTEM_READABLE), writable: existing(&["/dev/null"]), executable: existing(LOADERS) }
}

/// The policy's lists as a ruleset that a child can take on.
pub(super) fn ruleset(policy: &Policy, connections: Connections) -> Result<OwnedFd, Error> {
    let paths = [&policy.readable, &policy.writable, &policy.executable];
    paths.iter().flat_map(|list| list.iter()).try_for_each(|path| check(path))?;
    let failed = |error: RulesetError| Error::Files(error.to_string());
    let descriptor: Option<OwnedFd> = build(policy, connections).map_err(failed)?.into();
    descriptor.ok_or_else(|| Error::Files("the kernel offers no Landlock".to_owned()))
}

fn build(policy: &Policy, connections: Connections) -> Result<RulesetCreated, RulesetError> {
    let rules = Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?;
    let rules = match connections {
        // A second lock behind the broker: without a rule for any port, the kernel itself refuses.
        Connections::Brokered => rules.handle_access(AccessNet::from_all(NEWEST))?,
        Connections::Open => rules,
    };
    rules
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(&policy.readable, read()))?
        .add_rules(path_beneath_rules(&policy.writable, write()))?
        .add_rules(path_beneath_rules(&policy.executable, AccessFs::Execute | AccessFs::ReadFile))
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// Everything but running what was written, and making devices.
fn write() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
}

fn check(path: &Path) -> Result<(), Error> {
    let found: io::Result<_> = path.metadata();
    found.map(|_| ()).map_err(|source| Error::Path { path: path.to_owned(), source })
}
