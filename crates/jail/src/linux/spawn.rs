//! Starting a command inside the jail.

use std::os::fd::OwnedFd;

use nix::{
    sys::socket::MsgFlags,
    unistd::{getegid, geteuid, getpid},
};
use tokio::process::{Child, Command};

use super::{
    broker::Broker,
    child::{self, Steps},
    files,
    filter::{self, Connections},
    handover, keeper,
    listener::Listener,
    probe::support,
    program::Program,
};
use crate::{Account, Error, Jailed, Limits, Network, Policy, Support};

/// Starts a command with as much of the jail as this machine has ([`support`]). The command leads a session and a process
/// group of its own, and is killed when this process ends.
///
/// Without [`Support::connect_broker`] the child connects to whatever it likes, past the policy's [`crate::Egress`]: whoever
/// cannot accept that refuses to start it.
///
/// The command must not set an account or a process group itself, and its program and working directory must be open to the
/// policy's account. The child's connections are served until it ends or [`Jailed::broker`] is dropped.
pub async fn spawn(mut command: Command, policy: Policy) -> Result<Jailed, Error> {
    let network = policy.network.clone();
    let (child, ours) = keeper::run(move || start(&mut command, &policy)).await.map_err(Error::Prepare)??;
    let broker = ours.map(|ours| serve(&ours, network)).transpose()?;
    Ok(Jailed { child, broker })
}

fn serve(ours: &OwnedFd, network: Network) -> Result<Broker, Error> {
    let listener = handover::receive(ours, MsgFlags::MSG_DONTWAIT).map_err(Error::Handover)?;
    Broker::serve(Listener::from(listener), network).map_err(Error::Handover)
}

/// Starts the child; hands back the socket that it sent its listener over.
fn start(command: &mut Command, policy: &Policy) -> Result<(Child, Option<OwnedFd>), Error> {
    let support = support();
    let account = policy.account.filter(|_| support.own_account);
    let (ours, theirs) = handover::pair().map_err(Error::Prepare)?;
    let (ours, theirs) = if support.connect_broker { (Some(ours), Some(theirs)) } else { (None, None) };
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    let steps = steps(policy, support, account, theirs)?;
    child::before_exec(command.as_std_mut(), move || steps.take());
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let child = command.spawn().map_err(|source| Error::Spawn { program, source })?;
    give_way(&child, policy.limits.niceness);
    Ok((child, ours))
}

/// Weighs the child's session, where the kernel groups by session (autogroup). Elsewhere its own niceness counts.
fn give_way(child: &Child, niceness: u8) {
    if let Some(process) = child.id().filter(|_| niceness > 0) {
        let _ = std::fs::write(format!("/proc/{process}/autogroup"), niceness.to_string());
    }
}

fn steps(policy: &Policy, support: &Support, account: Option<Account>, host: Option<OwnedFd>) -> Result<Steps, Error> {
    let connections = if host.is_some() { Connections::Brokered } else { Connections::Open };
    let rules = || Program::new(&filter::rules(connections, policy.limits.processes));
    // Without a broker, an empty network would be no network at all.
    let own_namespace = support.namespaces && host.is_some();
    let own_tasks = own_namespace || account.is_some();
    Ok(Steps {
        parent: getpid(),
        limits: Limits { tasks: policy.limits.tasks.filter(|_| own_tasks), ..policy.limits },
        namespaces: own_namespace.then(|| account.unwrap_or_else(own_account).into()),
        files: support.landlock.map(|_| files::ruleset(policy, connections)).transpose()?,
        filter: support.seccomp.then(rules),
        host,
    })
}

fn own_account() -> Account {
    Account { uid: geteuid().as_raw(), gid: getegid().as_raw() }
}
