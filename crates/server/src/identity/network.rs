//! Where somebody who logs in comes from, as far as counting attempts needs it.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// The address of a client. Shown as the network that one client has to itself: an IPv4 address, or the /64 that IPv6 gives to
/// a household or a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientNetwork(pub IpAddr);

impl ClientNetwork {
    /// Whether it says nothing about who asks: a program on this machine, or a proxy that is not named as trusted.
    pub fn is_local(self) -> bool {
        self.0.is_loopback()
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(formatter),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                write!(formatter, "{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        }
    }
}
