//! Systems without a jail: commands run as they are, and [`support`] says so.

use std::io;

use tokio::process::Command;

use crate::{Error, Jailed, Missing, Part, Policy, Support, SystemFiles};

static NOTHING: std::sync::LazyLock<Support> = std::sync::LazyLock::new(nothing);

/// Serves the child's connections; there are none to serve here.
#[derive(Debug)]
pub struct Broker(());

/// What this machine can do: nothing.
pub fn support() -> &'static Support {
    &NOTHING
}

fn nothing() -> Support {
    use Part::{ConnectBroker, Landlock, Namespaces, OwnAccount, ResourceLimits, Seccomp};
    let parts = [Landlock, Seccomp, ConnectBroker, Namespaces, OwnAccount, ResourceLimits];
    let reason = || format!("the jail needs Linux, this is {}", std::env::consts::OS);
    Support {
        landlock: None,
        seccomp: false,
        connect_broker: false,
        namespaces: false,
        own_account: false,
        resource_limits: false,
        missing: parts.map(|part| Missing { part, reason: reason() }).to_vec(),
    }
}

/// Starts the command without any confinement.
#[expect(clippy::unused_async, reason = "the same signature as on Linux, where it awaits")]
pub async fn spawn(mut command: Command, _policy: Policy) -> Result<Jailed, Error> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let child = command.spawn().map_err(|source| Error::Spawn { program, source })?;
    Ok(Jailed { child, broker: None })
}

/// Nothing is known here of what programs need.
pub fn system_files() -> SystemFiles {
    SystemFiles::default()
}

/// There are none.
pub fn clear_ambient_capabilities() -> io::Result<()> {
    Ok(())
}

/// Not built for this system.
pub fn real_time(_thread: u32, _priority: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing to take back.
pub fn ordinary(_thread: u32, _niceness: Option<u8>) -> io::Result<()> {
    Ok(())
}

/// Unknown here.
pub fn resident_memory(_process: u32) -> Option<u64> {
    None
}
