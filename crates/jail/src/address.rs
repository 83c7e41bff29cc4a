//! Which addresses on the network may be contacted: the public ones, and those that an operator opened.
//!
//! Pure. Knows nothing of names being looked up; whoever connects asks about each address it is about to use, and pins it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 ranges that are not the public internet (IANA's special-purpose registry), and one cloud's metadata service that
/// lives on an address which looks public.
const CLOSED_V4: [(Ipv4Addr, u8); 17] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The only block of IPv6 from which public addresses are given out.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What inside that block is not public: Teredo and other protocol assignments, documentation, 6to4.
const CLOSED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Tells public addresses from inward ones. Refuses private, loopback, link-local, shared (CGNAT), metadata, documentation,
/// multicast and translated (NAT64, 6to4, Teredo) addresses, unless the allow list opens them. An IPv4 address that is
/// written as IPv6 (`::ffff:127.0.0.1`) is judged as what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressGuard {
    networks: Vec<IpNet>,
    hosts: Vec<String>,
}

/// An entry of an allow list that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" opens nothing: write an address (127.0.0.1), a network (10.1.0.0/16) or a host name (crm.internal)")]
pub struct BadRule(pub String);

impl AddressGuard {
    /// A guard that also lets through what `allow` names: addresses, networks in CIDR form, and host names. A host name
    /// opens whatever address that name has, so it is meant for names that the operator controls.
    pub fn new(allow: &[String]) -> Result<Self, BadRule> {
        let mut guard = Self::default();
        for rule in allow.iter().map(|rule| rule.trim()).filter(|rule| !rule.is_empty()) {
            match network(rule) {
                Some(network) => guard.networks.push(network),
                None if is_host_name(rule) => guard.hosts.push(normal_name(rule)),
                None => return Err(BadRule(rule.to_owned())),
            }
        }
        Ok(guard)
    }

    /// Whether an address may be contacted.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether an address that a host name was looked up to may be contacted.
    pub fn permits_host(&self, host: &str, address: IpAddr) -> bool {
        self.permits(address) || self.opens_name(host)
    }

    /// Whether the allow list names this host, or a network that holds it if it is an address.
    pub fn opens(&self, host: &str) -> bool {
        match host.parse::<IpAddr>() {
            Ok(address) => self.networks.iter().any(|network| network.contains(&address.to_canonical())),
            Err(_) => self.opens_name(host),
        }
    }

    fn opens_name(&self, host: &str) -> bool {
        !self.hosts.is_empty() && self.hosts.contains(&normal_name(host))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !CLOSED_V4.iter().any(|&(base, bits)| in_v4(base, bits, address)),
        IpAddr::V6(address) => {
            in_v6(GLOBAL_V6.0, GLOBAL_V6.1, address) && !CLOSED_V6.iter().any(|&(base, bits)| in_v6(base, bits, address))
        }
    }
}

fn in_v4(base: Ipv4Addr, bits: u8, address: Ipv4Addr) -> bool {
    Ipv4Net::new_assert(base, bits).contains(&address)
}

fn in_v6(base: Ipv6Addr, bits: u8, address: Ipv6Addr) -> bool {
    Ipv6Net::new_assert(base, bits).contains(&address)
}

fn network(rule: &str) -> Option<IpNet> {
    let bare = rule.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address.to_canonical())),
        Err(_) => rule.parse::<IpNet>().ok().map(|network| network.trunc()),
    }
}

/// Letters, digits, hyphens and dots, and at least one letter: a mistyped address must not pass for a name.
fn is_host_name(rule: &str) -> bool {
    rule.chars().any(|letter| letter.is_ascii_alphabetic())
        && rule.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_'))
}

fn normal_name(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guard(allow: &[&str]) -> AddressGuard {
        AddressGuard::new(&allow.iter().map(|&rule| rule.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn public_addresses_pass() {
        for address in ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.1", "192.0.1.1", "223.255.255.255", "2606:4700::1111"] {
            assert!(guard(&[]).permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn inward_addresses_are_refused() {
        let inward = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in inward {
            assert!(!guard(&[]).permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_allow_list_opens_what_it_names_and_no_more() {
        let guard = guard(&["127.0.0.1", "10.1.0.0/16", " ", "[::1]", "CRM.internal"]);
        for open in ["127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3", "::1"] {
            assert!(guard.permits(open.parse().unwrap()), "{open}");
        }
        for closed in ["127.0.0.2", "10.2.0.1", "192.168.0.1"] {
            assert!(!guard.permits(closed.parse().unwrap()), "{closed}");
        }
        let inside = "192.168.0.1".parse().unwrap();
        assert!(guard.permits_host("crm.INTERNAL.", inside));
        assert!(!guard.permits_host("evil.crm.internal", inside));
    }

    #[test]
    fn nonsense_in_the_allow_list_is_an_error() {
        for rule in ["10.0.0.0/33", "10.0.0", "https://a.test/", "*", "a b"] {
            assert_eq!(AddressGuard::new(&[rule.to_owned()]), Err(BadRule(rule.to_owned())));
        }
    }

    #[test]
    fn what_the_allow_list_names_is_told_from_what_is_public() {
        let guard = guard(&["127.0.0.0/8", "crm.internal"]);
        for (host, opened) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("CRM.internal.", true),
            ("8.8.8.8", false),
            ("10.0.0.1", false),
            ("example.com", false),
        ] {
            assert_eq!(guard.opens(host), opened, "{host}");
        }
    }

    proptest! {
        #[test]
        fn every_way_of_writing_an_ipv4_address_is_judged_alike(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let guard = AddressGuard::default();
            prop_assert_eq!(guard.permits(address.into()), guard.permits(address.to_ipv6_mapped().into()));
        }

        #[test]
        fn what_the_standard_library_calls_inward_is_refused(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let inward = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast()
                || address.is_broadcast() || address.is_documentation() || address.is_unspecified();
            prop_assert!(!inward || !AddressGuard::default().permits(address.into()));
        }

        #[test]
        fn only_global_unicast_ipv6_passes(bits: u128) {
            let address = Ipv6Addr::from(bits);
            let mapped = address.to_ipv4_mapped().is_some();
            prop_assert!(mapped || address.segments()[0] >> 13 == 1 || !AddressGuard::default().permits(address.into()));
        }
    }
}
