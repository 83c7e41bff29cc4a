//! Where a request comes from: the other end of the connection, or what a trusted reverse proxy says it was.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{Extensions, HeaderMap, request::Parts},
};
use ipnet::IpNet;

use crate::{identity::ClientNetwork, node::Node};

impl FromRequestParts<Arc<Node>> for ClientNetwork {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Infallible> {
        let address = client(&node.settings.trusted_proxies, &parts.extensions, &parts.headers);
        Ok(Self(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))))
    }
}

/// The address of whoever sent a request.
pub fn client(trusted: &[IpNet], extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip().to_canonical();
    Some(behind(trusted, peer, headers))
}

/// The nearest address that no trusted proxy has. What stands left of it in the header is the client's own word.
fn behind(trusted: &[IpNet], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let mut nearest = peer;
    let lines = headers.get_all("x-forwarded-for").iter().rev().filter_map(|line| line.to_str().ok());
    for hop in lines.flat_map(|line| line.rsplit(',')) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        nearest = address.to_canonical();
        if !is_trusted(&nearest) {
            break;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let trusted: Vec<_> = trusted.iter().map(|network| network.parse().expect("a network")).collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().expect("a header value"));
        }
        ClientNetwork(behind(&trusted, peer.parse().expect("an address"), &headers)).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = &["10.0.0.0/8"][..];
        for (trusted, peer, forwarded, expected) in [
            (&[][..], "192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            (proxies, "192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            (proxies, "10.0.0.1", &[], "10.0.0.1"),
            (proxies, "10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            (proxies, "10.0.0.1", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            (proxies, "10.0.0.1", &["1.1.1.1", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            (proxies, "10.0.0.1", &["1.1.1.1, rubbish"], "10.0.0.1"),
            (proxies, "10.0.0.1", &["10.0.0.3"], "10.0.0.3"),
            (proxies, "10.0.0.1", &["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        ] {
            assert_eq!(found(trusted, peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }
}
