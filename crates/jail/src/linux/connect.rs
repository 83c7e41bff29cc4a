//! Connections that the host makes on behalf of a child.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, connect, setsockopt, socket, sockopt},
};
use tokio::{net::TcpStream, time::timeout};

/// How long a child that waits for its connection is left waiting.
const PATIENCE: Duration = Duration::from_mins(1);

/// A socket on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) socket: OwnedFd,
    /// The connection is still being made.
    pub(super) pending: bool,
}

/// Begins a connection to the first address that does not fail at once.
pub(super) fn begin(addresses: &[SocketAddr]) -> Result<Attempt, Errno> {
    let mut failure = Errno::EHOSTUNREACH;
    for address in addresses {
        match attempt(*address) {
            Ok(attempt) => return Ok(attempt),
            Err(errno) => failure = errno,
        }
    }
    Err(failure)
}

/// Makes a connection to the first address that accepts one, for a child that waits. The socket waits from then on, too.
pub(super) async fn complete(addresses: &[SocketAddr]) -> Result<OwnedFd, Errno> {
    let mut failure = Errno::EHOSTUNREACH;
    for address in addresses {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return waiting(stream).map_err(|error| errno(&error)),
            Ok(Err(error)) => failure = errno(&error),
            Err(_) => failure = Errno::ETIMEDOUT,
        }
    }
    Err(failure)
}

fn waiting(stream: TcpStream) -> io::Result<OwnedFd> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn attempt(address: SocketAddr) -> Result<Attempt, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    // The options of the child's own socket are lost; this is the one that nearly every client sets.
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    let result = match address {
        SocketAddr::V4(address) => connect(socket.as_raw_fd(), &SockaddrIn::from(address)),
        SocketAddr::V6(address) => connect(socket.as_raw_fd(), &SockaddrIn6::from(address)),
    };
    match result {
        Ok(()) => Ok(Attempt { socket, pending: false }),
        Err(Errno::EINPROGRESS) => Ok(Attempt { socket, pending: true }),
        Err(errno) => Err(errno),
    }
}

/// Has calls on a socket return at once.
pub(super) fn never_wait(socket: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(socket.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(socket.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
