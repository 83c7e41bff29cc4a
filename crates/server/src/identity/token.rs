//! Session tokens: JSON Web Tokens signed with HMAC-SHA256, valid only while their session lives.

use chrono::{DateTime, Duration, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use weft_model::{Secret, SessionId, TenantId, UserId};

/// How long an access token is valid.
pub const ACCESS: Duration = Duration::minutes(15);
/// How long a session, and with it the refresh token, is valid.
pub const REFRESH: Duration = Duration::days(30);

/// The two uses a token may have. One never serves as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    Access,
    Refresh,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub sub: UserId,
    /// The user's e-mail address; empty in refresh tokens.
    pub email: String,
    #[serde(rename = "sid")]
    pub session: SessionId,
    #[serde(rename = "tenantId")]
    pub tenant: TenantId,
    #[serde(rename = "use")]
    pub purpose: Use,
    pub iat: i64,
    pub exp: i64,
}

/// What kind of token a text may be, by the algorithm that its header names. The header is not trusted: it only says which of the
/// two checks to make, and each check takes one algorithm and one kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A person's login, signed with this server's own secret.
    Session,
    /// A token of a service account, signed with a published key.
    Machine,
}

pub fn family(token: &str) -> Result<Family, Refused> {
    match jsonwebtoken::decode_header(token).map_err(|_| Refused::Invalid)?.alg {
        Algorithm::HS256 => Ok(Family::Session),
        Algorithm::ES256 => Ok(Family::Machine),
        _ => Err(Refused::Invalid),
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the token is not valid")]
    Invalid,
    #[error("the token has expired")]
    Expired,
    #[error("the token is of the wrong kind")]
    WrongUse,
}

/// The key that signs and checks session tokens.
pub struct SigningKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl SigningKey {
    /// A key from its secret: 64 hexadecimal digits, used as text.
    pub fn new(secret: &Secret<String>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Expiry is checked against the injected clock, below.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let bytes = secret.expose().as_bytes();
        Self { encoding: EncodingKey::from_secret(bytes), decoding: DecodingKey::from_secret(bytes), validation }
    }

    pub fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .expect("claims are JSON and HMAC takes any key")
    }

    pub fn check(&self, token: &str, purpose: Use, now: DateTime<Utc>) -> Result<Claims, Refused> {
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).map_err(|_| Refused::Invalid)?.claims;
        if claims.purpose != purpose {
            return Err(Refused::WrongUse);
        }
        claims.still_valid(now).map(|()| claims)
    }
}

impl Claims {
    /// Whether their time is not over.
    pub fn still_valid(&self, now: DateTime<Utc>) -> Result<(), Refused> {
        if self.exp <= now.timestamp() { Err(Refused::Expired) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn key(secret: &str) -> SigningKey {
        SigningKey::new(&Secret::new(secret.to_owned()))
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a valid time")
    }

    fn claims(purpose: Use) -> Claims {
        Claims {
            sub: UserId::generate(at(1000)),
            email: "a@example.com".into(),
            session: SessionId::generate(at(1000)),
            tenant: TenantId::default_tenant(),
            purpose,
            iat: 1000,
            exp: 1900,
        }
    }

    #[test]
    fn a_token_is_valid_until_its_time_for_its_use_and_its_key() {
        let (key, other) = (key("one"), key("two"));
        let access = claims(Use::Access);
        let token = key.sign(&access);
        assert_eq!(key.check(&token, Use::Access, at(1899)), Ok(access));
        assert_eq!(key.check(&token, Use::Access, at(1900)), Err(Refused::Expired));
        assert_eq!(key.check(&token, Use::Refresh, at(1000)), Err(Refused::WrongUse));
        assert_eq!(other.check(&token, Use::Access, at(1000)), Err(Refused::Invalid));
    }

    #[test]
    fn another_algorithm_or_none_is_refused() {
        let claims = claims(Use::Access);
        let key_text = b"one";
        let longer =
            jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &EncodingKey::from_secret(key_text)).expect("signed");
        assert_eq!(key("one").check(&longer, Use::Access, at(1000)), Err(Refused::Invalid));
        // {"alg":"none"} with the same claims and no signature.
        let body = key("one").sign(&claims).split('.').nth(1).expect("three parts").to_owned();
        assert_eq!(key("one").check(&format!("eyJhbGciOiJub25lIn0.{body}."), Use::Access, at(1000)), Err(Refused::Invalid));
    }

    #[test]
    fn a_token_that_lacks_a_claim_or_has_it_wrong_is_refused() {
        let full = serde_json::to_value(claims(Use::Access)).expect("JSON");
        let signed = |claims: &Value| {
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(b"one")).expect("signed")
        };
        assert!(key("one").check(&signed(&full), Use::Access, at(1000)).is_ok());
        for name in full.as_object().expect("an object").keys() {
            for wrong in [None, Some(json!(null)), Some(json!([]))] {
                let mut changed = full.clone();
                let members = changed.as_object_mut().expect("an object");
                match &wrong {
                    Some(wrong) => members.insert(name.clone(), wrong.clone()),
                    None => members.remove(name),
                };
                assert_eq!(
                    key("one").check(&signed(&changed), Use::Access, at(1000)),
                    Err(Refused::Invalid),
                    "{name}: {wrong:?}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn a_token_that_was_changed_anywhere_is_refused(position in 0_usize..10_000, replacement in "[A-Za-z0-9_.=-]") {
            let token = key("one").sign(&claims(Use::Access));
            let position = position % token.len();
            let mut changed = token.clone();
            changed.replace_range(position..=position, &replacement);
            let checked = key("one").check(&changed, Use::Access, at(1000));
            prop_assert!(changed == token || checked == Err(Refused::Invalid), "{changed}: {checked:?}");
        }

        #[test]
        fn whatever_is_shown_as_a_token_is_refused_and_nothing_breaks(text in ".{0,200}", parts in "[A-Za-z0-9_-]{0,40}[.][A-Za-z0-9_-]{0,40}[.][A-Za-z0-9_-]{0,40}") {
            for text in [text, parts] {
                prop_assert_eq!(family(&text), Err(Refused::Invalid));
                prop_assert_eq!(key("one").check(&text, Use::Access, at(1000)), Err(Refused::Invalid));
            }
        }
    }
}
