//! Whom installing packages may talk to: the registry, the hosts that the operator added, and the proxies that he configured.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use url::Url;
use weft_jail::{AddressGuard, Egress, Network, Refusal};

use crate::config::{Packages, Place};

/// Refused hosts that an error names at most.
const NAMED: usize = 5;

/// One installation's way to the network.
#[derive(Debug)]
pub(super) struct Registry {
    places: Vec<Place>,
    refused: Mutex<BTreeSet<String>>,
}

impl Registry {
    pub(super) fn new(settings: &Packages, proxies: &[Url]) -> Self {
        let urls = std::iter::once(&settings.registry).chain(proxies).filter_map(Place::of);
        let mut places: Vec<Place> = urls.chain(settings.hosts.iter().cloned()).collect();
        // Programs know this one name without asking anybody.
        let this_machine: Vec<u16> = places.iter().filter(|place| place.host == "localhost").map(|place| place.port).collect();
        for (host, port) in this_machine.into_iter().flat_map(|port| [("127.0.0.1", port), ("::1", port)]) {
            places.push(Place { host: host.to_owned(), port });
        }
        Self { places, refused: Mutex::default() }
    }

    /// The network of the jail. Inward addresses are open to exactly the hosts that the operator named.
    pub(super) fn network(self: &Arc<Self>) -> Network {
        let hosts: Vec<String> = self.places.iter().map(|place| place.host.clone()).collect();
        // A name with letters that the guard does not know opens nothing, and public addresses need no opening.
        let guard = AddressGuard::new(&hosts).unwrap_or_default();
        Network::new(Arc::clone(self) as Arc<dyn Egress>, Arc::new(guard))
    }

    /// A sentence about the hosts that were refused; empty when there were none.
    pub(super) fn complaint(&self) -> String {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_empty() {
            return String::new();
        }
        let hosts: Vec<&str> = refused.iter().map(String::as_str).collect();
        format!(
            "\nInstalling packages may reach the package registry only, and was kept from {}. If that belongs to the registry, whoever \
             runs the server adds it to the setting packages.hosts.",
            hosts.join(", ")
        )
    }
}

impl Egress for Registry {
    fn allows(&self, host: &str, port: u16) -> bool {
        self.places.iter().any(|place| place.host == host && place.port == port)
    }

    fn allows_name(&self, host: &str) -> bool {
        self.places.iter().any(|place| place.host == host)
    }

    fn connected(&self, host: &str, port: u16) {
        tracing::debug!(server.address = host, server.port = port, "packages.connect");
    }

    fn refused(&self, host: &str, port: u16, why: Refusal) {
        tracing::warn!(server.address = host, server.port = port, %why, "installing packages was kept from a connection");
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < NAMED {
            refused.insert(format!("{host}:{port}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(url: &str, hosts: &[(&str, u16)], proxies: &[&str]) -> Arc<Registry> {
        let settings = Packages {
            registry: url.parse().expect("a URL"),
            hosts: hosts.iter().map(|&(host, port)| Place { host: host.to_owned(), port }).collect(),
            minimum_age: None,
            minimum_age_excludes: Vec::new(),
            memory: 0,
        };
        let proxies: Vec<Url> = proxies.iter().map(|url| url.parse().expect("a URL")).collect();
        Arc::new(Registry::new(&settings, &proxies))
    }

    #[test]
    fn the_registry_added_hosts_and_proxies_are_open_and_nothing_else() {
        let registry = registry("https://npm.test/path/", &[("cdn.test", 8443)], &["http://proxy.test:3128"]);
        for (host, port) in [("npm.test", 443), ("cdn.test", 8443), ("proxy.test", 3128)] {
            assert!(registry.allows(host, port) && registry.allows_name(host), "{host}");
        }
        for (host, port) in [("npm.test", 80), ("cdn.test", 443), ("evil.npm.test", 443), ("127.0.0.1", 443)] {
            assert!(!registry.allows(host, port), "{host}");
        }
        assert!(!registry.allows_name("evil.test"));
    }

    #[test]
    fn inward_addresses_are_open_to_what_was_named_only() {
        let inside = "10.0.0.7".parse().expect("an address");
        let network = registry("http://npm.internal:4873/", &[], &[]).network();
        assert!(network.guard.permits_host("npm.internal", inside) && !network.guard.permits_host("other.internal", inside));
        let network = registry("http://10.0.0.7:4873/", &[], &[]).network();
        assert!(network.guard.permits(inside) && !network.guard.permits("10.0.0.8".parse().expect("an address")));
        let local = registry("http://localhost:4873/", &[], &[]);
        assert!(local.allows("127.0.0.1", 4873) && !local.allows("127.0.0.1", 80));
    }

    #[test]
    fn refused_hosts_are_named_with_the_setting_that_opens_them() {
        let registry = registry("https://npm.test/", &[], &[]);
        assert_eq!(registry.complaint(), "");
        registry.refused("cdn.test", 443, Refusal::NotAllowed);
        let complaint = registry.complaint();
        assert!(complaint.contains("cdn.test:443") && complaint.contains("packages.hosts"), "{complaint}");
    }
}
