//! Serves a child's connections: decides, looks names up, connects, and puts the connected socket in the child's place.
//!
//! Works on copies of what the child asks, and never lets a call of the child proceed by itself: the kernel would read the
//! child's memory again, which may have changed. Whatever is not understood is refused. If the broker ends, calls that ask
//! it fail.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, socket, socketpair},
};
use tokio::{
    io::unix::AsyncFd,
    net::UnixDatagram,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    connect,
    dns::{Query, Reply},
    listener::{Listener, Question, Waiting},
    names::Names,
    process::{self, Descriptor, Destination, Kind},
};
use crate::{Network, Refusal};

const DNS_PORT: u16 = 53;
/// Lookups that a child may have open at a time.
const LOOKUPS: usize = 256;
const LOOKUP_PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;
const LONGEST_QUERY: usize = 1232;
/// Where glibc looks for a name cache before it asks the DNS. Every program does, so it is not worth a report.
const NAME_CACHE: &str = "/var/run/nscd/socket";

/// Serves one child until it ends or this is dropped.
#[derive(Debug)]
pub struct Broker {
    task: JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Broker {
    pub(super) fn serve(listener: Listener, network: Network) -> io::Result<Self> {
        let listener = listener.watched()?;
        let names = Mutex::new(Names::default());
        let desk = Arc::new(Desk { listener, network, names, lookups: Arc::new(Semaphore::new(LOOKUPS)) });
        Ok(Self { task: tokio::spawn(desk.run()) })
    }
}

/// What the answers to one child have in common.
struct Desk {
    listener: AsyncFd<Listener>,
    network: Network,
    names: Mutex<Names>,
    lookups: Arc<Semaphore>,
}

impl Desk {
    async fn run(self: Arc<Self>) {
        let mut answers = JoinSet::new();
        if let Err(error) = self.answer_all(&mut answers).await {
            tracing::error!(%error, "a jailed process is cut off from the network");
        }
    }

    /// Takes questions in until no process is left that could ask.
    async fn answer_all(self: &Arc<Self>, answers: &mut JoinSet<()>) -> io::Result<()> {
        loop {
            let mut ready = self.listener.readable().await?;
            match self.listener().waiting(Duration::ZERO)? {
                Waiting::Question => {
                    if let Some(question) = self.listener().receive()? {
                        let desk = Arc::clone(self);
                        answers.spawn(async move { desk.answer(question).await });
                    }
                }
                Waiting::Nothing => ready.clear_ready(),
                Waiting::Over => return Ok(()),
            }
            while answers.try_join_next().is_some() {}
        }
    }

    fn listener(&self) -> &Listener {
        self.listener.get_ref()
    }

    async fn answer(self: Arc<Self>, question: Question) {
        let outcome = match i64::from(question.call) {
            libc::SYS_socket => match self.give_stand_in(&question) {
                // Giving has answered already.
                Ok(()) => return,
                failed => failed,
            },
            libc::SYS_connect => self.connect(&question).await,
            _ => Err(Errno::EACCES),
        };
        self.listener().answer(&question, outcome);
    }

    /// In place of a UDP socket the child gets one that carries packets too, but to nowhere else than its other end, whatever
    /// address is written on them.
    fn give_stand_in(&self, question: &Question) -> Result<(), Errno> {
        let [_, kind, ..] = question.arguments;
        let has = |flag: i32| kind & u64::from(flag.unsigned_abs()) != 0;
        let flags = if has(libc::SOCK_NONBLOCK) { SockFlag::SOCK_NONBLOCK } else { SockFlag::empty() };
        let stand_in = socket(AddressFamily::Unix, SockType::SeqPacket, flags | SockFlag::SOCK_CLOEXEC, None)?;
        self.listener().give(question, stand_in.as_fd(), close_flag(has(libc::SOCK_CLOEXEC)))
    }

    async fn connect(self: &Arc<Self>, question: &Question) -> Result<(), Errno> {
        let [number, location, length, ..] = question.arguments;
        let destination = process::destination(question.thread, location, length)?;
        let descriptor = process::descriptor(question.thread, number)?;
        if !self.listener().is_valid(question) {
            return Err(Errno::EACCES);
        }
        match (descriptor.kind, destination) {
            (Kind::Tcp, Destination::Internet(address)) => self.connect_tcp(question, descriptor, address).await,
            (Kind::Packets, Destination::Internet(address)) if address.port() == DNS_PORT => {
                self.connect_dns(question, descriptor)
            }
            (Kind::Packets, Destination::Internet(address)) => {
                Err(self.refuse(&address.ip().to_string(), address.port(), Refusal::Datagram))
            }
            (_, Destination::Local(path)) if path == NAME_CACHE => Err(Errno::ENOENT),
            (_, Destination::Local(path)) => Err(self.refuse(&path, 0, Refusal::LocalSocket)),
            _ => Err(self.refuse("", 0, Refusal::Kind)),
        }
    }

    async fn connect_tcp(&self, question: &Question, descriptor: Descriptor, address: SocketAddr) -> Result<(), Errno> {
        let port = address.port();
        let Some(host) = self.host(address.ip()) else {
            return Err(self.refuse(&address.ip().to_string(), port, Refusal::Unknown));
        };
        if !self.network.egress.allows(&host.name, port) {
            return Err(self.refuse(&host.name, port, Refusal::NotAllowed));
        }
        let addresses = match host.address {
            Some(address) => vec![address],
            None => self.lookup(&host.name).await,
        };
        let addresses = if self.network.egress.opens(&host.name, port) {
            addresses
        } else {
            self.permitted(&host.name, &addresses).map_err(|why| self.refuse(&host.name, port, why))?
        };
        let addresses: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        let pending = self.put_in_place(question, descriptor, &addresses).await?;
        self.network.egress.connected(&host.name, port);
        if pending { Err(Errno::EINPROGRESS) } else { Ok(()) }
    }

    /// Whom an address stands for.
    fn host(&self, address: IpAddr) -> Option<Host> {
        match Names::covers(address) {
            Some(stand_in) => self.names().name(stand_in).map(|name| Host { name: name.to_string(), address: None }),
            None => Some(Host { name: address.to_string(), address: Some(address) }),
        }
    }

    /// The addresses of a host that may be contacted, IPv4 first.
    fn permitted(&self, host: &str, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, Refusal> {
        let guard = &self.network.guard;
        let is_open = |address: &IpAddr| guard.permits_host(host, *address);
        let mut open: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).filter(is_open).collect();
        open.sort_by_key(IpAddr::is_ipv6);
        open.truncate(ADDRESSES);
        match (open.is_empty(), addresses.first()) {
            (false, _) => Ok(open),
            (true, Some(address)) => Err(Refusal::Inward(*address)),
            (true, None) => Err(Refusal::Unresolved),
        }
    }

    /// Puts a connected socket, or for a child that does not wait one on its way, in the place of the child's. Tells
    /// whether it is still on its way.
    async fn put_in_place(&self, question: &Question, descriptor: Descriptor, to: &[SocketAddr]) -> Result<bool, Errno> {
        let (socket, pending) = if descriptor.blocks {
            (connect::complete(to).await?, false)
        } else {
            let attempt = connect::begin(to)?;
            (attempt.socket, attempt.pending)
        };
        self.listener().replace(question, descriptor.number, socket.as_fd(), close_flag(descriptor.close_on_exec))?;
        Ok(pending)
    }

    /// Connects the child to the host's own answers about names.
    fn connect_dns(self: &Arc<Self>, question: &Question, descriptor: Descriptor) -> Result<(), Errno> {
        let permit = Arc::clone(&self.lookups).try_acquire_owned().map_err(|_| Errno::EAGAIN)?;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        if !descriptor.blocks {
            connect::never_wait(&theirs)?;
        }
        // A packet socket behaves like a datagram socket once it is connected, as far as sending and receiving go.
        let ours = std::os::unix::net::UnixDatagram::from(ours);
        ours.set_nonblocking(true).map_err(|_| Errno::EIO)?;
        let ours = UnixDatagram::from_std(ours).map_err(|_| Errno::EMFILE)?;
        tokio::spawn(Arc::clone(self).answer_lookups(ours, permit));
        self.listener().replace(question, descriptor.number, theirs.as_fd(), close_flag(descriptor.close_on_exec))
    }

    /// Answers until the child closes its end.
    async fn answer_lookups(self: Arc<Self>, socket: UnixDatagram, _permit: OwnedSemaphorePermit) {
        let mut message = [0; LONGEST_QUERY];
        while let Ok(length @ 1..) = socket.recv(&mut message).await {
            let Some(query) = message.get(..length).and_then(Query::read) else { continue };
            let reply = self.reply(&query).await;
            if socket.send(&query.answer(reply)).await.is_err() {
                return;
            }
        }
    }

    /// Every name gets an address that stands for it, unless the host may look it up and finds that there is none: that a
    /// name is not allowed shows when the child connects, when it can be reported with its port.
    async fn reply(&self, query: &Query<'_>) -> Reply {
        if !query.asks_for_address() {
            return Reply::Nothing;
        }
        let stand_in = self.names().address(&query.name);
        if self.network.egress.allows_name(&query.name) && self.lookup(&query.name).await.is_empty() {
            return Reply::NoSuchName;
        }
        Reply::Address(stand_in)
    }

    /// The real addresses of a name; none if it has none or the lookup failed.
    async fn lookup(&self, name: &str) -> Vec<IpAddr> {
        let known = self.names().found(name);
        if let Some(addresses) = known {
            return addresses;
        }
        let found = match timeout(LOOKUP_PATIENCE, self.network.resolver.resolve(name)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                tracing::debug!(host = name, %error, "a name could not be looked up");
                return Vec::new();
            }
            Err(_) => return Vec::new(),
        };
        self.names().note(name, found.clone());
        found
    }

    fn refuse(&self, host: &str, port: u16, why: Refusal) -> Errno {
        self.network.egress.refused(host, port, why);
        if why == Refusal::Unresolved { Errno::EHOSTUNREACH } else { Errno::EACCES }
    }

    /// A book that was left in the middle of a change holds at worst a name without its address, which is asked for again.
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom a child wants to contact: a name, or an address that it wrote itself.
struct Host {
    name: String,
    address: Option<IpAddr>,
}

fn close_flag(close: bool) -> u32 {
    if close { libc::O_CLOEXEC.unsigned_abs() } else { 0 }
}
