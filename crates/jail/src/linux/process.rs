//! Looking into a process that asks: its memory and its descriptors. What comes out is a copy; the process may change the
//! original at any time, so nothing is read twice and every decision is made on the copy.
//!
//! The numbers of threads are used again, so whoever asks checks afterwards that the question still stands.

use std::{
    ffi::CString,
    fs,
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::{Pid, SysconfVar, sysconf},
};

/// The largest address that any family has.
const LARGEST_ADDRESS: usize = 128;

/// Where a process wants to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    Internet(SocketAddr),
    /// The path, if it has one.
    Local(String),
    Other,
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    /// What the child gets in place of a UDP socket, or a local socket of its own: the two cannot be told apart, and need not be.
    Packets,
    Other,
}

/// A descriptor of the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor {
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) blocks: bool,
    pub(super) close_on_exec: bool,
}

/// Reads the address at `location` of the process's memory.
pub(super) fn destination(thread: i32, location: u64, length: u64) -> Result<Destination, Errno> {
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    if !(2..=LARGEST_ADDRESS).contains(&length) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; length];
    let base = usize::try_from(location).map_err(|_| Errno::EFAULT)?;
    let from = [RemoteIoVec { base, len: length }];
    let read = process_vm_readv(Pid::from_raw(thread), &mut [IoSliceMut::new(&mut bytes)], &from)?;
    if read == length { Ok(parse(&bytes)) } else { Err(Errno::EFAULT) }
}

fn parse(bytes: &[u8]) -> Destination {
    let internet = match i32::from(array(bytes, 0).map_or(0, u16::from_ne_bytes)) {
        libc::AF_INET => ipv4(bytes),
        libc::AF_INET6 => ipv6(bytes),
        libc::AF_UNIX => return Destination::Local(path(bytes.get(2..).unwrap_or_default())),
        _ => None,
    };
    internet.map_or(Destination::Other, |(address, port)| Destination::Internet(SocketAddr::new(address.to_canonical(), port)))
}

fn ipv4(bytes: &[u8]) -> Option<(IpAddr, u16)> {
    Some((Ipv4Addr::from(array::<4>(bytes, 4)?).into(), u16::from_be_bytes(array(bytes, 2)?)))
}

fn ipv6(bytes: &[u8]) -> Option<(IpAddr, u16)> {
    Some((Ipv6Addr::from(array::<16>(bytes, 8)?).into(), u16::from_be_bytes(array(bytes, 2)?)))
}

fn array<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..at + LENGTH)?.try_into().ok()
}

/// A path ends with a zero byte, and rubbish may follow. A name outside the file system starts with one, written as `@`.
fn path(bytes: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match bytes.split_first() {
        Some((0, name)) => format!("@{}", text(name)),
        _ => text(bytes.split(|&byte| byte == 0).next().unwrap_or_default()),
    }
}

/// Looks at a descriptor of the process.
pub(super) fn descriptor(thread: i32, number: u64) -> Result<Descriptor, Errno> {
    // The kernel, too, looks only at the low half.
    let number = u32::try_from(number & u64::from(u32::MAX)).map_err(|_| Errno::EBADF)?;
    let details = fs::read_to_string(format!("/proc/{thread}/fdinfo/{number}")).map_err(|_| Errno::EBADF)?;
    let flags = details.lines().find_map(|line| line.strip_prefix("flags:")).ok_or(Errno::EBADF)?;
    let flags = i32::from_str_radix(flags.trim(), 8).map_err(|_| Errno::EBADF)?;
    Ok(Descriptor {
        number,
        kind: kind(thread, number)?,
        blocks: flags & libc::O_NONBLOCK == 0,
        close_on_exec: flags & libc::O_CLOEXEC != 0,
    })
}

/// Sockets tell the name of their protocol as an extended attribute.
#[expect(unsafe_code, reason = "no safe wrapper")]
fn kind(thread: i32, number: u32) -> Result<Kind, Errno> {
    let path = CString::new(format!("/proc/{thread}/fd/{number}")).map_err(|_| Errno::EBADF)?;
    let mut name = [0_u8; 32];
    // SAFETY: both strings end with a zero, and the kernel writes at most `name.len()` bytes.
    let length = unsafe { libc::getxattr(path.as_ptr(), c"system.sockprotoname".as_ptr(), name.as_mut_ptr().cast(), name.len()) };
    let length = usize::try_from(Errno::result(length).map_err(|_| Errno::ENOTSOCK)?).unwrap_or(0);
    Ok(match name.get(..length).unwrap_or_default().trim_ascii_end() {
        b"TCP\0" | b"TCPv6\0" => Kind::Tcp,
        b"UNIX\0" => Kind::Packets,
        _ => Kind::Other,
    })
}

/// Bytes of memory that a process holds now; `None` once it is gone. Shared pages count in full.
pub fn resident_memory(process: u32) -> Option<u64> {
    let numbers = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: u64 = numbers.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    pages.checked_mul(page.try_into().ok()?)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd};

    use super::*;

    fn own() -> i32 {
        nix::unistd::gettid().as_raw()
    }

    fn look(file: &impl AsRawFd) -> Result<Descriptor, Errno> {
        descriptor(own(), u64::from(file.as_raw_fd().cast_unsigned()))
    }

    fn read(bytes: &[u8]) -> Result<Destination, Errno> {
        destination(own(), bytes.as_ptr() as u64, bytes.len() as u64)
    }

    fn address(family: i32, rest: &[u8]) -> Vec<u8> {
        let family = u16::try_from(family).unwrap().to_ne_bytes();
        [&family, rest].concat()
    }

    #[test]
    fn addresses_are_read_in_their_plain_form() {
        let v4 = address(libc::AF_INET, &[1, 187, 198, 18, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(&v4), Ok(Destination::Internet("198.18.0.1:443".parse().unwrap())));
        let mapped = [&[1, 187, 0, 0, 0, 0][..], &"::ffff:127.0.0.1".parse::<Ipv6Addr>().unwrap().octets(), &[0; 4]].concat();
        assert_eq!(read(&address(libc::AF_INET6, &mapped)), Ok(Destination::Internet("127.0.0.1:443".parse().unwrap())));
        let local = address(libc::AF_UNIX, b"/run/db.sock\0rubbish");
        assert_eq!(read(&local), Ok(Destination::Local("/run/db.sock".to_owned())));
        assert_eq!(read(&address(libc::AF_UNSPEC, &[0; 14])), Ok(Destination::Other));
        assert_eq!(read(&address(libc::AF_INET, &[1])), Ok(Destination::Other));
    }

    #[test]
    fn an_address_of_nonsense_is_an_error() {
        assert_eq!(destination(own(), 0, 16), Err(Errno::EFAULT));
        assert_eq!(destination(own(), u64::MAX - 4, 16), Err(Errno::EFAULT));
        assert_eq!(read(&[0; 129]), Err(Errno::EINVAL));
        assert_eq!(read(&[0]), Err(Errno::EINVAL));
    }

    #[test]
    fn a_descriptor_tells_what_it_is() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let found = look(&socket).unwrap();
        assert_eq!((found.kind, found.blocks, found.close_on_exec), (Kind::Tcp, false, true));
        let local = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert_eq!(look(&local).unwrap().kind, Kind::Packets);
        let file = fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(look(&file).unwrap_err(), Errno::ENOTSOCK);
        assert_eq!(descriptor(own(), 1_000_000).unwrap_err(), Errno::EBADF);
    }

    #[test]
    fn the_memory_of_a_living_process_is_known() {
        assert!(resident_memory(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(resident_memory(u32::MAX), None);
    }
}
