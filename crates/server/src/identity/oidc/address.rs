//! Which addresses an issuer and a client of ours may have.

use url::{Host, Url};

use super::Error;

/// Whether an address stays on the machine of whoever opens it.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether what goes there cannot be read on the way.
pub fn is_secure(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

/// Where a client wants the browser to be sent after the login: to this server's own origin, or to a program on the machine of
/// whoever logs in. Absent or empty: nowhere.
pub fn redirect_uri(text: Option<&str>, public: &Url) -> Result<Option<Url>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let url = Url::parse(text).map_err(|_| Error::InvalidRedirect)?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return Err(Error::InvalidRedirect);
    }
    if is_loopback(&url) || url.origin() == public.origin() { Ok(Some(url)) } else { Err(Error::ForeignRedirect) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_sent_only_here_or_to_their_own_machine() {
        let public = Url::parse("https://weft.example.com/").expect("a URL");
        for good in [
            "https://weft.example.com/app?x=1",
            "https://weft.example.com:443/",
            "http://127.0.0.1:5000/callback",
            "http://127.9.9.9/",
            "http://localhost:3000",
            "http://[::1]:8080/",
        ] {
            assert!(redirect_uri(Some(good), &public).is_ok_and(|url| url.is_some()), "{good}");
        }
        for bad in [
            "https://evil.example.com/",
            "http://weft.example.com/",
            "https://weft.example.com:8443/",
            "https://weft.example.com.evil.test/",
            "https://weft.example.com@evil.test/",
            "https://user@weft.example.com/",
            "http://localhost.evil.test/",
            "http://127.0.0.1.evil.test/",
            "http://128.0.0.1/",
            "//weft.example.com/",
            "/app",
            "javascript:alert(1)",
            "tauri://localhost/",
        ] {
            assert!(redirect_uri(Some(bad), &public).is_err(), "{bad}");
        }
        assert!(redirect_uri(None, &public).is_ok_and(|url| url.is_none()));
        assert!(redirect_uri(Some(""), &public).is_ok_and(|url| url.is_none()));
    }

    #[test]
    fn only_https_and_this_machine_are_secure() {
        for (url, secure) in [
            ("https://a.test", true),
            ("http://localhost:1", true),
            ("http://127.0.0.1", true),
            ("http://a.test", false),
            ("ftp://localhost", false),
        ] {
            assert_eq!(is_secure(&Url::parse(url).expect("a URL")), secure, "{url}");
        }
    }
}
