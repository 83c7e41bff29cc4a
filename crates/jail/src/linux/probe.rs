//! Finds out what works on this machine, by doing it once in a child that is thrown away. Versions are not asked: containers
//! forbid what their kernel could do.

use std::{io, os::fd::OwnedFd, os::unix::process::CommandExt, process::Command, sync::OnceLock, thread, time::Duration};

use libc::SECCOMP_RET_USER_NOTIF;
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt},
    sys::time::TimeVal,
    unistd::{getegid, geteuid, getpid},
};

use super::{
    child::{self, IdMaps, Steps},
    filter::{self, Connections},
    handover,
    listener::{Listener, Question, Waiting},
    process::{self, Destination, Kind},
    program::Program,
};
use crate::{Account, Limits, Missing, Part, Support};

const NOBODY: Account = Account { uid: 65_534, gid: 65_534 };
const PATIENCE: Duration = Duration::from_secs(5);
/// What the trial connects to. Nothing is sent there.
const TARGET: (u8, u16) = (1, 9);

static SUPPORT: OnceLock<Support> = OnceLock::new();

/// What this machine can do. The first call takes some milliseconds, in which it blocks.
pub fn support() -> &'static Support {
    SUPPORT.get_or_init(find_out)
}

fn find_out() -> Support {
    let mut missing = Missings(Vec::new());
    let account = geteuid().is_root().then_some(NOBODY);
    let landlock = missing.note(Part::Landlock, child::landlock_version());
    let own_account = match account {
        Some(account) => missing.note(Part::OwnAccount, trial(Some(account), || Ok(()))),
        None => missing.note(Part::OwnAccount, Err(io::Error::other("only root can start processes as another account"))),
    };
    let account = account.filter(|_| own_account.is_some());
    let resource_limits = missing.note(Part::ResourceLimits, trial(account, limits_trial()));
    let seccomp = missing.note(Part::Seccomp, trial(account, filter_trial()));
    let connect_broker = missing.note(Part::ConnectBroker, broker_trial(account, None));
    let inside = account.unwrap_or_else(caller);
    let namespaces = missing.note(Part::Namespaces, broker_trial(account, Some(inside.into())));
    Support {
        landlock,
        seccomp: seccomp.is_some(),
        connect_broker: connect_broker.is_some(),
        namespaces: namespaces.is_some(),
        own_account: own_account.is_some(),
        resource_limits: resource_limits.is_some(),
        missing: missing.0,
    }
}

struct Missings(Vec<Missing>);

impl Missings {
    fn note<T>(&mut self, part: Part, found: io::Result<T>) -> Option<T> {
        found.inspect_err(|error| self.0.push(Missing { part, reason: error.to_string() })).ok()
    }
}

fn caller() -> Account {
    Account { uid: geteuid().as_raw(), gid: getegid().as_raw() }
}

/// Runs a step in a child that never gets to be a program: when the step went well, the command is not found.
fn trial(account: Option<Account>, step: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> io::Result<()> {
    let mut command = Command::new("/proc/self/no-such-program");
    command.current_dir("/");
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    child::before_exec(&mut command, step);
    match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("a program was found where none can be")),
    }
}

fn nothing() -> Steps {
    Steps { parent: getpid(), limits: Limits::default(), namespaces: None, files: None, filter: None, host: None }
}

fn limits_trial() -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let limits = Limits { data: Some(1 << 40), tasks: None, open_files: Some(64), file_size: Some(1 << 40), ..Limits::default() };
    let steps = Steps { limits, ..nothing() };
    move || steps.take()
}

/// A filter, and a call that it must refuse.
fn filter_trial() -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let steps = Steps { filter: Some(Program::new(&filter::rules(Connections::Open, false))), ..nothing() };
    move || {
        steps.take()?;
        match nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS) {
            Err(Errno::EPERM) => Ok(()),
            _ => Err(Errno::ENOSYS.into()),
        }
    }
}

/// A connection that is brokered for real, up to the decision, which is no.
fn broker_trial(account: Option<Account>, namespaces: Option<IdMaps>) -> io::Result<()> {
    child::knows_verdict(SECCOMP_RET_USER_NOTIF)?;
    let (ours, theirs) = handover::pair()?;
    let filter = Some(Program::new(&filter::rules(Connections::Brokered, false)));
    let steps = Steps { namespaces, filter, host: Some(theirs), ..nothing() };
    thread::scope(|scope| {
        let host = scope.spawn(move || answer_trial(&ours));
        let child = trial(account, move || {
            // A program that was executed would be readable by its own account again; this copy is not.
            child::stay_readable()?;
            steps.take()?;
            connect_somewhere()
        });
        let host = host.join().unwrap_or_else(|_| Err(io::Error::other("the trial's host failed")));
        // A child that understood its answer leaves it to the host to say what was wrong.
        child.and(host)
    })
}

fn connect_somewhere() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let (host, port) = TARGET;
    let result = connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(127, 0, 0, host, port));
    if result == Err(Errno::ECANCELED) { Ok(()) } else { Err(Errno::ENOSYS.into()) }
}

fn answer_trial(ours: &OwnedFd) -> io::Result<()> {
    setsockopt(ours, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs().cast_signed(), 0))?;
    let listener = Listener::from(handover::receive(ours, MsgFlags::empty())?);
    if listener.waiting(PATIENCE)? != Waiting::Question {
        return Err(io::Error::other("a call that should ask the host did not"));
    }
    let question = listener.receive()?.ok_or_else(|| io::Error::other("a question was withdrawn"))?;
    let understood = understand(&question);
    listener.answer(&question, Err(Errno::ECANCELED));
    understood
}

/// Whether the host can see what the child wants, for which it needs the right to look into it.
fn understand(question: &Question) -> io::Result<()> {
    let hint =
        |errno: Errno| io::Error::other(format!("the memory of a child cannot be read: {errno} (is CAP_SYS_PTRACE missing?)"));
    let [number, location, length, ..] = question.arguments;
    let destination = process::destination(question.thread, location, length).map_err(hint)?;
    let descriptor = process::descriptor(question.thread, number).map_err(hint)?;
    let expected = Destination::Internet(([127, 0, 0, TARGET.0], TARGET.1).into());
    if destination == expected && descriptor.kind == Kind::Tcp {
        return Ok(());
    }
    Err(io::Error::other("a child's connection was not seen as it was made"))
}
