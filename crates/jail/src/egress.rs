//! The caller's side of outbound connections: who decides about them, and who looks names up.

use std::{future::Future, io, net::IpAddr, pin::Pin};

/// Decides about outbound connections and is told about each. Called in the process that starts the child, from its tokio
/// runtime, so it must not block.
pub trait Egress: Send + Sync {
    /// Whether the child may contact `host` (a lower-case name, or an address if the child connects to one) on `port`.
    /// The addresses behind a name are judged apart, by the policy's [`crate::AddressGuard`].
    fn allows(&self, host: &str, port: u16) -> bool;

    /// Whether `host` on `port` may be contacted wherever it is, the addresses behind it left unjudged.
    fn opens(&self, host: &str, port: u16) -> bool {
        let _ = (host, port);
        false
    }

    /// Whether any port of `host` may be contacted. Only then is a name looked up before the child connects: a lookup of a
    /// name that is not allowed could itself carry data out.
    fn allows_name(&self, host: &str) -> bool;

    /// A connection was handed to the child. It may still be under way.
    fn connected(&self, host: &str, port: u16);

    /// The child was kept from connecting.
    fn refused(&self, host: &str, port: u16, why: Refusal);
}

/// Why the child was kept from connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("the host is not one that this program may contact")]
    NotAllowed,
    #[error("the host is at the address {0}, which is not on the public internet")]
    Inward(IpAddr),
    #[error("the name has no address")]
    Unresolved,
    #[error("the address was not given out for a name, or so long ago that it was forgotten")]
    Unknown,
    #[error("datagrams are only for looking names up")]
    Datagram,
    #[error("sockets in the file system are closed to this program")]
    LocalSocket,
    #[error("this kind of socket or address is closed to this program")]
    Kind,
}

/// A lookup under way.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Looks names up on behalf of the child.
pub trait Resolver: Send + Sync {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a>;
}

/// The resolver of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()) })
    }
}
