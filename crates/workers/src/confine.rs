//! One process in a jail: what it may read, write and execute, how much it may use, and who decides about its connections.

use crate::{
    HostSettings, Platform, StartError, WorkerSpec,
    outbound::Outbound,
    spawn::{Spawned, command},
};
use std::{path::PathBuf, sync::Arc};
use weft_jail::{Jailed, Network, Policy, Support};

pub(crate) async fn spawn<P: Platform>(
    settings: &HostSettings,
    spec: &WorkerSpec,
    outbound: Outbound<P>,
) -> Result<Spawned, StartError> {
    let confinement = outbound.confinement();
    if confinement.required {
        demand(weft_jail::support())?;
    }
    let (guard, resolver) = (Arc::clone(&confinement.guard), Arc::clone(&confinement.resolver));
    let readable = confinement.readable.clone();
    let network = Network { egress: Arc::new(outbound), guard, resolver };
    let policy = policy(settings, spec, readable, network);
    let Jailed { child, broker } = weft_jail::spawn(command(settings, spec), policy).await?;
    Spawned::new(child, broker).map_err(|source| StartError::Spawn { program: settings.bun.clone(), source })
}

/// Refuses where a part of the jail is missing.
fn demand(support: &Support) -> Result<(), StartError> {
    if support.is_complete() {
        return Ok(());
    }
    let missing: Vec<_> = support.missing.iter().map(|missing| missing.reason.as_str()).collect();
    Err(StartError::NotConfined { missing: missing.join("; ") })
}

fn policy(settings: &HostSettings, spec: &WorkerSpec, shared: Vec<PathBuf>, network: Network) -> Policy {
    let system = weft_jail::system_files();
    let (mut readable, mut writable, mut executable) = (system.readable, system.writable, system.executable);
    readable.extend(shared);
    readable.push(spec.directory.clone());
    writable.extend(spec.scratch.clone());
    executable.push(settings.bun.clone());
    let limits = weft_jail::Limits {
        data: None,
        tasks: Some(settings.limits.threads),
        open_files: Some(settings.limits.open_files),
        file_size: Some(settings.limits.file_size),
        processes: false,
        niceness: settings.limits.niceness,
    };
    Policy { account: spec.account, readable, writable, executable, limits, network }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_jail::{Missing, Part};

    #[test]
    fn a_jail_with_a_part_missing_is_refused_with_the_reason() {
        let whole = Support {
            landlock: Some(6),
            seccomp: true,
            connect_broker: true,
            namespaces: false,
            own_account: false,
            resource_limits: true,
            missing: Vec::new(),
        };
        assert!(demand(&whole).is_ok(), "an account and a namespace of its own only harden it");
        let missing = vec![Missing { part: Part::Landlock, reason: "the kernel is too old".to_owned() }];
        let error = demand(&Support { landlock: None, missing, ..whole }).expect_err("refused").to_string();
        assert!(error.contains("the kernel is too old"), "{error}");
    }
}
