//! `[packages]` and `[deployments]`: where backends' packages come from and how old they have to be, how many versions stay.

use std::time::Duration;

use serde::Deserialize;
use url::{Host, Url};

use super::Problems;

/// npm's own registry, when nothing else is named.
const DEFAULT_REGISTRY: &str = "https://registry.npmjs.org/";
/// The port of a host that is named without one.
const HTTPS: u16 = 443;
/// Less than this is not enough for the package manager itself.
const LEAST_MEMORY: u64 = 128;
const MIB: u64 = 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PackagesFile {
    registry: Option<String>,
    hosts: Option<Vec<String>>,
    minimum_age_hours: Option<f64>,
    minimum_age_excludes: Option<Vec<String>>,
    memory_mib: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeploymentsFile {
    kept: Option<u32>,
}

/// A host and a port on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A name in lower case, or an address; one of IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

/// Settings of packages that have been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Packages {
    pub registry: Url,
    /// What installing may reach besides the registry itself.
    pub hosts: Vec<Place>,
    /// `None`: packages of any age.
    pub minimum_age: Option<Duration>,
    /// Packages that may be younger.
    pub minimum_age_excludes: Vec<String>,
    /// Bytes that the package manager may use.
    pub memory: u64,
}

impl Place {
    /// Where a URL leads.
    pub fn of(url: &Url) -> Option<Self> {
        Some(Self { host: plain(&url.host()?.to_owned()), port: url.port_or_known_default()? })
    }

    /// Reads `host` or `host:port`.
    fn read(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()?),
            _ => (text, HTTPS),
        };
        Some(Self { host: plain(&Host::parse(host).ok()?), port })
    }
}

fn plain(host: &Host<String>) -> String {
    match host {
        Host::Domain(name) => name.to_ascii_lowercase(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    }
}

impl PackagesFile {
    /// The settings; what is wrong with them is added to `problems`.
    pub(super) fn check(self, default: Self, registry: Option<String>, problems: &mut Problems) -> Packages {
        let registry = registry.filter(|url| !url.is_empty()).or(self.registry).unwrap_or_else(|| DEFAULT_REGISTRY.to_owned());
        let registry = problems.http_url("packages.registry", &registry);
        let hours = self.minimum_age_hours.or(default.minimum_age_hours).unwrap_or(0.0);
        let minimum_age = Duration::try_from_secs_f64(hours * 3600.0);
        if minimum_age.is_err() {
            problems.add(format!("packages.minimum_age_hours: {hours} is no number of hours"));
        }
        let memory_mib = self.memory_mib.or(default.memory_mib).unwrap_or(LEAST_MEMORY);
        if memory_mib < LEAST_MEMORY {
            problems.add(format!(
                "packages.memory_mib: {memory_mib} is not enough for the package manager itself: at least {LEAST_MEMORY}"
            ));
        }
        let mut place = |text: String| {
            let place = Place::read(&text);
            if place.is_none() {
                problems.add(format!("packages.hosts: '{text}' is no host such as npm.example.com or npm.example.com:8443"));
            }
            place
        };
        Packages {
            hosts: self.hosts.or(default.hosts).unwrap_or_default().into_iter().filter_map(&mut place).collect(),
            registry: registry.unwrap_or_else(|| Url::parse(DEFAULT_REGISTRY).expect("the default registry is a URL")),
            minimum_age: minimum_age.ok().filter(|age| !age.is_zero()),
            minimum_age_excludes: self.minimum_age_excludes.or(default.minimum_age_excludes).unwrap_or_default(),
            memory: memory_mib.saturating_mul(MIB),
        }
    }
}

impl DeploymentsFile {
    /// How many versions of an app one can go back to.
    pub(super) fn check(&self, default: &Self, problems: &mut Problems) -> u32 {
        let kept = self.kept.or(default.kept).unwrap_or(1);
        if kept == 0 {
            problems.add("deployments.kept: the version that serves is always kept: at least 1".to_owned());
        }
        kept.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, registry: Option<&str>) -> (Packages, Vec<String>) {
        let default = PackagesFile { minimum_age_hours: Some(72.0), memory_mib: Some(512), ..PackagesFile::default() };
        let mut problems = Problems::default();
        let file = toml::from_str::<PackagesFile>(text).expect("TOML");
        (file.check(default, registry.map(str::to_owned), &mut problems), problems.0)
    }

    fn place(host: &str, port: u16) -> Place {
        Place { host: host.to_owned(), port }
    }

    #[test]
    fn hosts_are_read_with_and_without_port() {
        let (packages, problems) = check(r#"hosts = ["CDN.example.com", "cdn.test:8443", "[::1]:80", "10.0.0.1"]"#, None);
        let expected = [place("cdn.example.com", 443), place("cdn.test", 8443), place("::1", 80), place("10.0.0.1", 443)];
        assert_eq!((packages.hosts.as_slice(), problems.as_slice()), (expected.as_slice(), [].as_slice()));
        assert_eq!(Place::of(&packages.registry), Some(place("registry.npmjs.org", 443)));
    }

    #[test]
    fn the_environment_overrides_the_files_registry_and_zero_hours_mean_any_age() {
        let text = "registry = \"https://one.test/npm/\"\nminimum_age_hours = 0";
        let (packages, _) = check(text, Some("http://127.0.0.1:4873"));
        assert_eq!((Place::of(&packages.registry), packages.minimum_age), (Some(place("127.0.0.1", 4873)), None));
        assert_eq!(check(text, Some("")).0.registry.as_str(), "https://one.test/npm/");
        assert_eq!(check("", None).0.minimum_age, Some(Duration::from_hours(72)));
    }

    #[test]
    fn what_cannot_be_meant_is_a_problem_each() {
        let text = "registry = \"npm\"\nhosts = [\"a b\", \"https://x.test/\"]\nminimum_age_hours = -1\nmemory_mib = 1";
        let (_, problems) = check(text, None);
        assert_eq!(problems.len(), 5, "{problems:?}");
        let mut problems = Problems::default();
        assert_eq!(DeploymentsFile { kept: Some(0) }.check(&DeploymentsFile::default(), &mut problems), 1);
        assert_eq!(problems.0.len(), 1);
    }
}
