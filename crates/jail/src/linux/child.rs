//! What the child does to itself between fork and exec. From here there is no way back: nothing that is given up can be
//! regained by what is executed.
//!
//! Runs in a copy of a process with many threads, so it must neither allocate nor lock: plain system calls only. Whatever
//! fails ends the child before it ran anything; the caller gets the error number.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use libc::{c_int, c_ulong};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sched::{CloneFlags, unshare},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        stat::Mode,
    },
    unistd::{Pid, getppid, setsid, write},
};

use super::{handover, program::Program};
use crate::{Account, Limits};

/// Read files and list folders, in the kernel's numbers.
const LANDLOCK_READ: u64 = 1 << 2 | 1 << 3;

/// What is to be done, with everything prepared that needs memory or other rights than the child's.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) parent: Pid,
    pub(super) limits: Limits,
    pub(super) namespaces: Option<IdMaps>,
    pub(super) files: Option<OwnedFd>,
    pub(super) filter: Option<Program>,
    /// Where the listener goes, if the filter asks for one.
    pub(super) host: Option<OwnedFd>,
}

/// The contents of `uid_map` and `gid_map`: the account is itself, and nobody else exists.
#[derive(Debug)]
pub(super) struct IdMaps {
    uid: Vec<u8>,
    gid: Vec<u8>,
}

impl From<Account> for IdMaps {
    fn from(Account { uid, gid }: Account) -> Self {
        Self { uid: format!("{uid} {uid} 1").into_bytes(), gid: format!("{gid} {gid} 1").into_bytes() }
    }
}

impl Steps {
    /// Puts the calling process into the jail.
    pub(super) fn take(&self) -> io::Result<()> {
        close_inherited()?;
        // Fails only for a process that leads a group already, which is as good.
        let _ = setsid();
        if let Some(maps) = &self.namespaces {
            enter_namespaces(maps)?;
        }
        drop_capabilities();
        limit(&self.limits)?;
        if self.limits.niceness > 0 {
            give_way(self.limits.niceness)?;
        }
        die_with(self.parent)?;
        set(libc::PR_SET_NO_NEW_PRIVS, 1)?;
        if let Some(rules) = &self.files {
            restrict_files(rules)?;
        }
        if let Some(program) = &self.filter {
            self.filter_calls(program)?;
        }
        // The steps before open files, and until the program is executed the descriptors of a busy starter count.
        lower(Resource::RLIMIT_NOFILE, self.limits.open_files)
    }

    /// The last step, because it forbids most of the others.
    fn filter_calls(&self, program: &Program) -> io::Result<()> {
        let Some(host) = &self.host else { return install(program, 0).map(|_| ()) };
        let listener = install_with_listener(program)?;
        handover::send(host, listener)?;
        Ok(nix::unistd::close(listener)?)
    }
}

/// Marks everything but the standard streams to be closed at exec, whoever opened it and forgot.
#[expect(unsafe_code, reason = "no safe wrapper")]
fn close_inherited() -> io::Result<()> {
    let rest: c_int = 3;
    // SAFETY: changes only flags of this process's descriptors, and only for the program that is executed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, rest, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match Errno::result(result) {
        // Before Linux 5.11. Rust's own descriptors are all marked already.
        Ok(_) | Err(Errno::ENOSYS | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// An empty network, and accounts that mean nothing outside.
fn enter_namespaces(maps: &IdMaps) -> io::Result<()> {
    stay_readable()?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fill(c"/proc/self/setgroups", b"deny")?;
    fill(c"/proc/self/uid_map", &maps.uid)?;
    fill(c"/proc/self/gid_map", &maps.gid)
}

/// After a change of account a process belongs to root, as far as /proc goes, until this says otherwise or it is executed.
pub(super) fn stay_readable() -> io::Result<()> {
    set(libc::PR_SET_DUMPABLE, 1)
}

fn fill(path: &CStr, content: &[u8]) -> io::Result<()> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(file, content)?;
    Ok(())
}

/// Keeps the capabilities that this process was given from the programs that it executes.
pub fn clear_ambient_capabilities() -> io::Result<()> {
    set(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong)
}

/// So that root without an account of its own to change to is executed without powers.
fn drop_capabilities() {
    let _ = clear_ambient_capabilities();
    // Ends at the first that the kernel does not know, or that this process may not drop because it does not have it.
    for capability in 0..64 {
        if set(libc::PR_CAPBSET_DROP, capability).is_err() {
            return;
        }
    }
}

fn limit(limits: &Limits) -> io::Result<()> {
    lower(Resource::RLIMIT_CORE, Some(0))?;
    lower(Resource::RLIMIT_DATA, limits.data)?;
    lower(Resource::RLIMIT_NPROC, limits.tasks)?;
    lower(Resource::RLIMIT_FSIZE, limits.file_size)
}

/// Lowers the process's share of the processor. Its session's is lowered by the caller: the kernel lets an account without
/// powers do that only ten times a second.
#[expect(unsafe_code, reason = "no safe wrapper")]
fn give_way(niceness: u8) -> io::Result<()> {
    // SAFETY: no memory is involved.
    match Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, c_int::from(niceness)) }) {
        // It gives way further already, because its starter does, and less would need powers.
        Ok(_) | Err(Errno::EACCES) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

/// Never raises a limit, which would need rights that the child may not have.
fn lower(resource: Resource, limit: Option<u64>) -> io::Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let (_, highest) = getrlimit(resource)?;
    let limit = limit.min(highest);
    Ok(setrlimit(resource, limit, limit)?)
}

/// Has the kernel kill this process when the thread that started it ends. A parent that ended before is noticed here.
fn die_with(parent: Pid) -> io::Result<()> {
    set(libc::PR_SET_PDEATHSIG, libc::SIGKILL.unsigned_abs().into())?;
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

#[expect(unsafe_code, reason = "no safe wrapper for all of these options")]
fn set(option: c_int, value: c_ulong) -> io::Result<()> {
    let nothing: c_ulong = 0;
    // SAFETY: the options used here take a number, none an address.
    Errno::result(unsafe { libc::prctl(option, value, nothing, nothing, nothing) })?;
    Ok(())
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: c_int,
}

/// Takes the ruleset on, with the process's own folder in /proc added: only now is it known which that is.
#[expect(unsafe_code, reason = "no safe wrapper that does without memory")]
fn restrict_files(rules: &OwnedFd) -> io::Result<()> {
    const PATH_BENEATH: c_int = 1;
    let own = open(c"/proc/self", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let rule = PathBeneath { allowed: LANDLOCK_READ, parent: own.as_raw_fd() };
    let none: c_int = 0;
    // SAFETY: both descriptors are open, and the kernel only reads the structure, whose layout is that of version 1.
    Errno::result(unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), PATH_BENEATH, &raw const rule, none) })?;
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), none) })?;
    Ok(())
}

/// Installs the filter. A call that the host already looks at is then not interrupted by signals, which would make the
/// child ask again, unless the kernel is too old for that (before 5.19).
fn install_with_listener(program: &Program) -> io::Result<RawFd> {
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    match install(program, listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(program, listener),
        result => result,
    }
}

#[expect(unsafe_code, reason = "no safe wrapper")]
fn install(program: &Program, flags: c_ulong) -> io::Result<RawFd> {
    let code = program.instructions();
    let length = u16::try_from(code.len()).map_err(|_| Errno::E2BIG)?;
    let filter = libc::sock_fprog { len: length, filter: code.as_ptr().cast_mut() };
    // SAFETY: the structure leads to `length` instructions that outlive the call; the kernel copies and checks them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    Ok(RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?)
}

/// Whether the kernel knows what a filter wants to do.
#[expect(unsafe_code, reason = "no safe wrapper")]
pub(super) fn knows_verdict(verdict: u32) -> io::Result<()> {
    let flags: c_ulong = 0;
    // SAFETY: the kernel reads one number from the address.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, flags, &raw const verdict) })?;
    Ok(())
}

/// The version of the Landlock interface.
#[expect(unsafe_code, reason = "no safe wrapper")]
pub(super) fn landlock_version() -> io::Result<u32> {
    const VERSION: c_int = 1;
    let (nothing, size): (*const u8, usize) = (std::ptr::null(), 0);
    // SAFETY: with this flag the kernel looks at no memory.
    let version = Errno::result(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, size, VERSION) })?;
    u32::try_from(version).map_err(io::Error::other)
}

/// Has a command run `step` in its child before exec.
#[expect(unsafe_code, reason = "the standard library cannot check what a child does between fork and exec")]
pub(super) fn before_exec(command: &mut std::process::Command, step: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the steps of this crate make system calls and touch neither locks nor memory that would have to be allocated.
    unsafe { command.pre_exec(step) };
}
