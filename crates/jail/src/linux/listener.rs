//! The kernel's end of the line over which a child asks: receiving questions, answering them, putting sockets in place.
//!
//! A question may be withdrawn at any moment (its process was killed); answers to it are then lost, which is what they
//! should be.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use libc::{seccomp_data, seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::io::{Interest, unix::AsyncFd};

mod calls {
    use super::{seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp};

    nix::ioctl_readwrite!(receive, b'!', 0, seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, seccomp_notif_resp);
    nix::ioctl_write_ptr!(is_valid, b'!', 2, u64);
    nix::ioctl_write_ptr!(add_fd, b'!', 3, seccomp_notif_addfd);
}

/// `SECCOMP_ADDFD_FLAG_SETFD` and `SECCOMP_ADDFD_FLAG_SEND`, as wide as the structure has them.
const AT_THAT_PLACE: u32 = 1;
const AND_ANSWER: u32 = 2;

/// The host's end of the line.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    id: u64,
    /// The thread that asks.
    pub(super) thread: i32,
    pub(super) call: i32,
    pub(super) arguments: [u64; 6],
}

/// What is there to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    Question,
    Nothing,
    /// No process is left that could ask.
    Over,
}

impl From<OwnedFd> for Listener {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Listener {
    /// Has tokio watch for questions.
    #[expect(unsafe_code, reason = "tokio cannot see that a descriptor stays open")]
    pub(super) fn watched(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the listener owns its descriptor, never replaces it, and closes it only when it is dropped.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// Whether there is a question; waits so long for one.
    pub(super) fn waiting(&self, patience: Duration) -> io::Result<Waiting> {
        let mut set = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut set, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX))?;
        let [polled] = set;
        let events = polled.revents().unwrap_or(PollFlags::empty());
        Ok(match events {
            events if events.contains(PollFlags::POLLIN) => Waiting::Question,
            events if events.is_empty() => Waiting::Nothing,
            _ => Waiting::Over,
        })
    }

    /// The next question; waits for one. `None` if it was withdrawn while it was fetched.
    #[expect(unsafe_code, reason = "the kernel fills a structure")]
    pub(super) fn receive(&self) -> io::Result<Option<Question>> {
        let data = seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
        // The kernel insists on a structure of zeros.
        let mut asked = seccomp_notif { id: 0, pid: 0, flags: 0, data };
        // SAFETY: the descriptor is a seccomp listener and the pointer leads to a structure of the size in the call's number.
        match unsafe { calls::receive(self.0.as_raw_fd(), &raw mut asked) } {
            Ok(_) => Ok(Some(Question {
                id: asked.id,
                thread: asked.pid.cast_signed(),
                call: asked.data.nr,
                arguments: asked.data.args,
            })),
            Err(Errno::ENOENT | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether the call still waits. What was read from the process before is then really from it, and not from another
    /// that took its number.
    #[expect(unsafe_code, reason = "the kernel reads a number")]
    pub(super) fn is_valid(&self, question: &Question) -> bool {
        // SAFETY: the descriptor is a seccomp listener, and the kernel only reads the number.
        unsafe { calls::is_valid(self.0.as_raw_fd(), &raw const question.id) }.is_ok()
    }

    /// Ends the call with an error, or with success for `Ok`.
    #[expect(unsafe_code, reason = "the kernel reads a structure")]
    pub(super) fn answer(&self, question: &Question, outcome: Result<(), Errno>) {
        let error = outcome.err().map_or(0, |errno| -(errno as i32));
        let mut answer = seccomp_notif_resp { id: question.id, val: 0, error, flags: 0 };
        // SAFETY: the descriptor is a seccomp listener and the pointer leads to a structure of the size in the call's number.
        let sent = unsafe { calls::send(self.0.as_raw_fd(), &raw mut answer) };
        if let Err(error) = sent
            && error != Errno::ENOENT
        {
            tracing::warn!(%error, "a jailed process got no answer");
        }
    }

    /// Puts a descriptor in the place of one that the process has.
    pub(super) fn replace(&self, question: &Question, place: u32, with: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
        self.add(question, (place, AT_THAT_PLACE), with, flags)
    }

    /// Gives the process a descriptor and ends the call with its number.
    pub(super) fn give(&self, question: &Question, descriptor: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
        self.add(question, (0, AND_ANSWER), descriptor, flags)
    }

    #[expect(unsafe_code, reason = "the kernel reads a structure")]
    fn add(&self, question: &Question, (place, how): (u32, u32), descriptor: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
        let srcfd = descriptor.as_raw_fd().cast_unsigned();
        let request = seccomp_notif_addfd { id: question.id, flags: how, srcfd, newfd: place, newfd_flags: flags };
        // SAFETY: the descriptor is a seccomp listener, the kernel only reads the structure, and `descriptor` is open.
        unsafe { calls::add_fd(self.0.as_raw_fd(), &raw const request) }.map(|_| ())
    }
}
