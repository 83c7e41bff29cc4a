//! One descriptor, passed from a child to the process that started it.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, socketpair},
};

/// A pair of connected sockets: the host's end and the child's.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Room for the header and one descriptor, aligned as the kernel wants it.
#[repr(C)]
struct Envelope {
    header: libc::cmsghdr,
    descriptor: libc::c_int,
    padding: libc::c_int,
}

/// Sends a descriptor. Allocates nothing, because it runs between fork and exec.
#[expect(unsafe_code, reason = "the safe wrapper allocates")]
pub(super) fn send(socket: &OwnedFd, descriptor: RawFd) -> io::Result<()> {
    let header_length = size_of::<libc::cmsghdr>() + size_of::<libc::c_int>();
    let header = libc::cmsghdr { cmsg_len: header_length as _, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
    let mut envelope = Envelope { header, descriptor, padding: 0 };
    let mut byte = [0_u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: the structure consists of numbers and pointers, for which zeros are a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut envelope).cast();
    message.msg_controllen = size_of::<Envelope>() as _;
    // SAFETY: all pointers lead to values that live until the call returns, with their true lengths.
    Errno::result(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })?;
    Ok(())
}

/// Takes a descriptor that was sent.
#[expect(unsafe_code, reason = "a descriptor arrives as a number")]
pub(super) fn receive(socket: &OwnedFd, flags: MsgFlags) -> io::Result<OwnedFd> {
    let mut byte = [0_u8];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let descriptors = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let descriptor = descriptors.ok_or(io::ErrorKind::UnexpectedEof)?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
