//! The cookie that ties a login to the browser that began it: whoever is lured into another one's callback does not have it.

use axum::http::{HeaderMap, header};
use url::Url;

use crate::identity::ticket;

/// Seconds that a browser keeps it, from the latest login that it began.
const MAX_AGE: u32 = 600;

/// The cookie's name. With the prefix no other host, not even a sibling, can set it; it needs TLS.
fn name(public: &Url) -> &'static str {
    if public.scheme() == "https" { "__Host-weft_login" } else { "weft_login" }
}

/// The browser's secret, when it sent one.
pub fn read(headers: &HeaderMap, public: &Url) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(found, _)| *found == name(public))
        .map(|(_, value)| value.to_owned())
        .filter(|value| ticket::is_well_formed(value))
}

/// The header that gives it to the browser. `Lax`, because the provider sends the browser back from another site.
pub fn write(value: &str, public: &Url) -> String {
    let secure = if public.scheme() == "https" { "; Secure" } else { "" };
    format!("{}={value}; Path=/; Max-Age={MAX_AGE}; HttpOnly; SameSite=Lax{secure}", name(public))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others_and_only_when_it_is_whole() {
        let (plain, tls) = (Url::parse("http://localhost:9100").expect("a URL"), Url::parse("https://weft.test").expect("a URL"));
        let value = ticket::generate();
        let headers = |line: String| HeaderMap::from_iter([(header::COOKIE, line.parse().expect("a header value"))]);
        assert_eq!(read(&headers(format!("a=b; weft_login={value}; c=d")), &plain), Some(value.clone()));
        assert_eq!(read(&headers(format!("__Host-weft_login={value}")), &tls), Some(value.clone()));
        assert_eq!(read(&headers(format!("weft_login={value}")), &tls), None);
        assert_eq!(read(&headers("weft_login=short".into()), &plain), None);
        assert!(write(&value, &tls).ends_with("; HttpOnly; SameSite=Lax; Secure"));
    }
}
