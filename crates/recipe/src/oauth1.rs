//! Signatures of OAuth 1.0a (RFC 5849), section 3: over the method, the address, and the parameters of query, form and protocol.
//!
//! Pure: chance and time are given. Written here because the crates for it know HMAC-SHA1 only, on an older `hmac`; it is some dozen
//! lines on this workspace's own libraries, and other implementations check it in tests.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::Sha256;
use url::{Url, form_urlencoded};

/// What stays as it is (RFC 5849, section 3.6).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How a request is signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignatureMethod {
    #[default]
    #[serde(rename = "HMAC-SHA1")]
    HmacSha1,
    #[serde(rename = "HMAC-SHA256")]
    HmacSha256,
    /// Both secrets as they are, for connections that nobody else can read.
    #[serde(rename = "PLAINTEXT")]
    Plaintext,
}

/// What makes a request differ from every other one.
#[derive(Debug, Clone)]
pub struct Once {
    pub nonce: String,
    /// Seconds of the epoch.
    pub timestamp: i64,
}

/// A token with its secret.
#[derive(Clone)]
pub struct Token {
    pub token: String,
    pub secret: String,
}

/// Signs requests as one client, with one token or without. It holds secrets and shows nothing of itself.
#[derive(Clone)]
pub struct Signer {
    pub method: SignatureMethod,
    pub consumer_key: String,
    pub consumer_secret: String,
    pub token: Option<Token>,
    pub realm: Option<String>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").field("method", &self.method).finish_non_exhaustive()
    }
}

impl SignatureMethod {
    const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "HMAC-SHA1",
            Self::HmacSha256 => "HMAC-SHA256",
            Self::Plaintext => "PLAINTEXT",
        }
    }
}

impl Signer {
    /// The value of the header `Authorization`. `form`: the parameters of a body that is a form; `more`: those of the protocol that only
    /// some requests have.
    pub fn authorization(
        &self,
        (method, url): (&Method, &Url),
        form: &[(String, String)],
        more: &[(&str, &str)],
        once: &Once,
    ) -> String {
        let timestamp = once.timestamp.to_string();
        let mut protocol = vec![
            ("oauth_consumer_key", self.consumer_key.as_str()),
            ("oauth_nonce", &once.nonce),
            ("oauth_signature_method", self.method.as_str()),
            ("oauth_timestamp", &timestamp),
            ("oauth_version", "1.0"),
        ];
        protocol.extend(self.token.as_ref().map(|token| ("oauth_token", token.token.as_str())));
        protocol.extend(more);
        let signature = self.signature((method, url), form, &protocol);
        protocol.push(("oauth_signature", &signature));
        let realm = self.realm.as_ref().map(|realm| format!("realm=\"{}\"", encoded(realm)));
        let rest = protocol.iter().map(|(name, value)| format!("{name}=\"{}\"", encoded(value)));
        format!("OAuth {}", realm.into_iter().chain(rest).collect::<Vec<_>>().join(", "))
    }

    fn signature(&self, request: (&Method, &Url), form: &[(String, String)], protocol: &[(&str, &str)]) -> String {
        let secret = self.token.as_ref().map(|token| token.secret.as_str()).unwrap_or_default();
        let key = format!("{}&{}", encoded(&self.consumer_secret), encoded(secret));
        match self.method {
            SignatureMethod::Plaintext => key,
            SignatureMethod::HmacSha1 => {
                let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("a key of any length will do");
                mac.update(base_string(request, form, protocol).as_bytes());
                STANDARD.encode(mac.finalize().into_bytes())
            }
            SignatureMethod::HmacSha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length will do");
                mac.update(base_string(request, form, protocol).as_bytes());
                STANDARD.encode(mac.finalize().into_bytes())
            }
        }
    }

    /// What must not show anywhere.
    pub fn secrets(&self) -> Vec<String> {
        let token = self.token.iter().map(|token| token.secret.clone());
        [self.consumer_secret.clone()].into_iter().chain(token).filter(|secret| !secret.is_empty()).collect()
    }
}

/// The parameters of a body, where its content type says that it is a form.
pub fn form(content_type: Option<&str>, body: &[u8]) -> Vec<(String, String)> {
    if !is_form(content_type) {
        return Vec::new();
    }
    form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// Whether a body of this type is a part of what is signed.
pub fn is_form(content_type: Option<&str>) -> bool {
    let kind = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// RFC 5849, section 3.4.1.
fn base_string((method, url): (&Method, &Url), form: &[(String, String)], protocol: &[(&str, &str)]) -> String {
    let query = url.query_pairs().map(|(name, value)| (encoded(&name), encoded(&value)));
    let form = form.iter().map(|(name, value)| (encoded(name), encoded(value)));
    let protocol = protocol.iter().map(|(name, value)| (encoded(name), encoded(value)));
    let mut parameters: Vec<_> = query.chain(form).chain(protocol).collect();
    parameters.sort_unstable();
    let parameters: Vec<_> = parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut address = url.clone();
    address.set_query(None);
    address.set_fragment(None);
    format!("{}&{}&{}", method.as_str(), encoded(address.as_str()), encoded(&parameters.join("&")))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(method: SignatureMethod, consumer: (&str, &str), token: (&str, &str)) -> Signer {
        Signer {
            method,
            consumer_key: consumer.0.to_owned(),
            consumer_secret: consumer.1.to_owned(),
            token: Some(Token { token: token.0.to_owned(), secret: token.1.to_owned() }),
            realm: None,
        }
    }

    fn url(text: &str) -> Url {
        text.parse().expect("an address")
    }

    /// RFC 5849, section 3.4.1.
    #[test]
    fn the_base_string_is_that_of_the_standard() {
        let protocol = [
            ("oauth_consumer_key", "9djdj82h48djs9d2"),
            ("oauth_token", "kkk9d7dh3k39sjv7"),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", "137131201"),
            ("oauth_nonce", "7d8f3e4a"),
        ];
        let form = form(Some("application/x-www-form-urlencoded; charset=utf-8"), b"c2&a3=2+q");
        let found =
            base_string((&Method::POST, &url("http://EXAMPLE.COM:80/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b")), &form, &protocol);
        let expected = "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D%26c2%3D%26\
            oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26oauth_timestamp%3D137131201%26\
            oauth_token%3Dkkk9d7dh3k39sjv7";
        assert_eq!(found, expected);
    }

    /// RFC 5849, section 1.2.
    #[test]
    fn the_photos_of_the_standard_are_signed_as_it_says() {
        let signer =
            signer(SignatureMethod::HmacSha1, ("dpf43f3p2l4k3l03", "kd94hf93k423kf44"), ("nnch734d00sl2jdk", "pfkkdhi9sl3r4s00"));
        let protocol = [
            ("oauth_consumer_key", "dpf43f3p2l4k3l03"),
            ("oauth_token", "nnch734d00sl2jdk"),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", "137131202"),
            ("oauth_nonce", "chapoH"),
        ];
        let photos = url("http://photos.example.net/photos?file=vacation.jpg&size=original");
        assert_eq!(signer.signature((&Method::GET, &photos), &[], &protocol), "MdpQcU8iPSUjWoN/UDMsK2sui9I=");
    }

    /// The example in Twitter's documentation of signatures.
    #[test]
    fn a_form_is_a_part_of_what_is_signed() {
        let signer = signer(
            SignatureMethod::HmacSha1,
            ("xvz1evFS4wEEPTGEFPHBog", "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw"),
            ("370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb", "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE"),
        );
        let once = Once { nonce: "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg".to_owned(), timestamp: 1_318_622_958 };
        let status = [("status".to_owned(), "Hello Ladies + Gentlemen, a signed OAuth request!".to_owned())];
        let address = url("https://api.twitter.com/1.1/statuses/update.json?include_entities=true");
        let header = signer.authorization((&Method::POST, &address), &status, &[], &once);
        assert!(header.starts_with("OAuth oauth_consumer_key=\"xvz1evFS4wEEPTGEFPHBog\", oauth_nonce="), "{header}");
        assert!(header.ends_with("oauth_signature=\"hCtSmYh%2BiHYCEqBWrE7C7hYmtUk%3D\""), "{header}");
    }

    #[test]
    fn plaintext_is_both_secrets() {
        let mut signer = signer(SignatureMethod::Plaintext, ("k", "a&b"), ("t", "c d"));
        let any = url("https://v.example/");
        assert_eq!(signer.signature((&Method::GET, &any), &[], &[]), "a%26b&c%20d");
        (signer.token, signer.realm) = (None, Some("Photos".to_owned()));
        let header = signer.authorization((&Method::GET, &any), &[], &[], &Once { nonce: "n".to_owned(), timestamp: 1 });
        assert!(header.starts_with("OAuth realm=\"Photos\", ") && header.ends_with("oauth_signature=\"a%2526b%26\""), "{header}");
    }
}
