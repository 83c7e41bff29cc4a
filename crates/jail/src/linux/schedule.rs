//! Who goes first when processors are short.

use std::io;

use libc::{c_int, id_t, pid_t};
use nix::errno::Errno;

/// Gives a thread real-time priority, 1 to 99: it goes before every thread without one, at once and for as long as it likes. What it
/// starts has none.
pub fn real_time(thread: u32, priority: u8) -> io::Result<()> {
    schedule(thread, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, c_int::from(priority))
}

/// Takes real-time priority from a thread; it gives way to others as far as `niceness` says, 0 to 19, or as before.
#[expect(unsafe_code, reason = "no safe wrapper")]
pub fn ordinary(thread: u32, niceness: Option<u8>) -> io::Result<()> {
    // The flag stays: to clear it takes a privilege that who may raise itself need not have, and for others it has no meaning.
    schedule(thread, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0)?;
    if let Some(niceness) = niceness {
        // SAFETY: numbers only. Linux takes the number of a thread, whatever POSIX says.
        Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, thread as id_t, c_int::from(niceness)) })?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "no safe wrapper")]
fn schedule(thread: u32, policy: c_int, priority: c_int) -> io::Result<()> {
    let thread = pid_t::try_from(thread).map_err(|_| Errno::ESRCH)?;
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters live until the call returns, and the kernel only reads them.
    Errno::result(unsafe { libc::sched_setscheduler(thread, policy, &raw const parameters) })?;
    Ok(())
}
