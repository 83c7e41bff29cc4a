//! The hosts that a backend may contact, as its manifest names them.

use std::net::IpAddr;

use serde::Deserialize;

/// A host, all hosts below a domain (`*.example.com`) or every host (`*`), on one port or on any (`smtp.example.com:587`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// With the dot in front.
    Below(String),
    Exactly(String),
}

impl HostPattern {
    /// Whether a host (a lower-case name or an address) is meant. Without a port: whether any port of it is.
    pub fn matches(&self, host: &str, port: Option<u16>) -> bool {
        let port_fits = self.port.is_none() || port.is_none() || self.port == port;
        let host_fits = match &self.host {
            Host::Any => true,
            Host::Below(suffix) => host.strip_suffix(suffix.as_str()).is_some_and(|rest| !rest.is_empty()),
            Host::Exactly(name) => name == host,
        };
        port_fits && host_fits
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no host: write a name (api.example.com), *.example.com, an address or *, and a port behind a colon if only one is meant"
            )
        };
        let (host, port) = split_port(&text).ok_or_else(wrong)?;
        let host = parse_host(&host.to_ascii_lowercase()).ok_or_else(wrong)?;
        Ok(Self { host, port })
    }
}

/// An IPv6 address with a port stands in brackets.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(port) => Some((address, Some(parse_port(port)?))),
            None => rest.is_empty().then_some((address, None)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, Some(parse_port(port)?))),
        _ => Some((text, None)),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

fn parse_host(text: &str) -> Option<Host> {
    if text == "*" {
        return Some(Host::Any);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Host::Exactly(address.to_canonical().to_string()));
    }
    match text.strip_prefix("*.") {
        Some(domain) => is_name(domain).then(|| Host::Below(format!(".{domain}"))),
        None => is_name(text).then(|| Host::Exactly(text.to_owned())),
    }
}

/// A mistyped address must not pass for a name, so the last label holds a letter.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(is_label) && last.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, host: &str, port: Option<u16>) -> bool {
        HostPattern::try_from(pattern.to_owned()).expect(pattern).matches(host, port)
    }

    #[test]
    fn a_pattern_means_what_it_says_and_nothing_beside_it() {
        for (pattern, host, port, expected) in [
            ("slack.com", "slack.com", Some(443), true),
            ("Slack.com", "slack.com", None, true),
            ("slack.com", "files.slack.com", Some(443), false),
            ("slack.com", "slack.com.evil.example", Some(443), false),
            ("*.slack.com", "files.slack.com", Some(443), true),
            ("*.slack.com", "a.b.slack.com", Some(443), true),
            ("*.slack.com", "slack.com", Some(443), false),
            ("*.slack.com", "evilslack.com", Some(443), false),
            ("smtp.example.com:587", "smtp.example.com", Some(587), true),
            ("smtp.example.com:587", "smtp.example.com", Some(25), false),
            ("smtp.example.com:587", "smtp.example.com", None, true),
            ("10.0.0.1:5432", "10.0.0.1", Some(5432), true),
            ("[2001:db8::1]:80", "2001:db8::1", Some(80), true),
            ("2001:DB8::1", "2001:db8::1", Some(80), true),
            ("*", "anything.example", Some(1), true),
            ("*:443", "anything.example", Some(80), false),
        ] {
            assert_eq!(matches(pattern, host, port), expected, "{pattern} and {host}:{port:?}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for wrong in [
            "",
            "https://slack.com",
            "slack.com/api",
            "slack.com:0",
            "slack.com:x",
            "a..b",
            "*.",
            "a.*.b",
            "127.0.0.1.5",
            "a b",
            "[::1",
            "[::1]x",
        ] {
            let error = HostPattern::try_from(wrong.to_owned()).expect_err(wrong);
            assert!(error.contains("api.example.com"), "{error}");
        }
    }
}
