//! Cookies that tie what ends at a callback to the browser that began it: whoever is lured into another one's callback has none.

use axum::http::{HeaderMap, header};
use url::Url;

use crate::identity::ticket;

/// What is tied to a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Login,
    Connect,
}

/// Seconds that a browser keeps it, from the latest that it began.
const MAX_AGE: u32 = 600;

/// The cookie's name. With the prefix no other host, not even a sibling, can set it; it needs TLS.
fn name(purpose: Purpose, public: &Url) -> &'static str {
    match (purpose, public.scheme()) {
        (Purpose::Login, "https") => "__Host-weft_login",
        (Purpose::Login, _) => "weft_login",
        (Purpose::Connect, "https") => "__Host-weft_connect",
        (Purpose::Connect, _) => "weft_connect",
    }
}

/// The browser's secret, when it sent one.
pub fn read(headers: &HeaderMap, purpose: Purpose, public: &Url) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(found, _)| *found == name(purpose, public))
        .map(|(_, value)| value.to_owned())
        .filter(|value| ticket::is_well_formed(value))
}

/// The header that gives it to the browser. `Lax`, because the provider sends the browser back from another site.
pub fn write(value: &str, purpose: Purpose, public: &Url) -> String {
    let secure = if public.scheme() == "https" { "; Secure" } else { "" };
    format!("{}={value}; Path=/; Max-Age={MAX_AGE}; HttpOnly; SameSite=Lax{secure}", name(purpose, public))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others_and_only_when_it_is_whole() {
        let (plain, tls) = (Url::parse("http://localhost:9100").expect("a URL"), Url::parse("https://weft.test").expect("a URL"));
        let value = ticket::generate();
        let headers = |line: String| HeaderMap::from_iter([(header::COOKIE, line.parse().expect("a header value"))]);
        let login = |line: String, public| read(&headers(line), Purpose::Login, public);
        assert_eq!(login(format!("a=b; weft_login={value}; c=d"), &plain), Some(value.clone()));
        assert_eq!(login(format!("__Host-weft_login={value}"), &tls), Some(value.clone()));
        assert_eq!(login(format!("weft_login={value}"), &tls), None);
        assert_eq!(login("weft_login=short".into(), &plain), None);
        assert_eq!(login(format!("weft_connect={value}"), &plain), None);
        assert!(write(&value, Purpose::Connect, &tls).ends_with("; HttpOnly; SameSite=Lax; Secure"));
    }
}
