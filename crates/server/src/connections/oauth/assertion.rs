//! Signing what a vendor takes for a token, or for the right to one (RFC 7519, RFC 7523).

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};
use weft_model::{
    Secret,
    manifest::{
        fields::{Missing, fill, fill_in, written},
        token_auth::{JwtAlgorithm, SignedJwt},
    },
};

/// A token is made out a moment ago: clocks of vendors differ, and many take nothing from the future.
const BACK: TimeDelta = TimeDelta::seconds(30);

/// Why nothing was signed.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsigned {
    Missing(Missing),
    /// The key is none that the algorithm signs with.
    Key(String),
}

impl From<Missing> for Unsigned {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

/// What is about to be signed. Signing takes a moment, so it is done apart from whoever waits for it.
pub struct Draft {
    header: Header,
    claims: Map<String, Value>,
    algorithm: JwtAlgorithm,
    key: Secret<String>,
}

impl Draft {
    pub fn new(jwt: &SignedJwt, field: &impl Fn(&str) -> Option<Value>, now: DateTime<Utc>) -> Result<Self, Unsigned> {
        let key = fill(&jwt.key, field)?.ok_or_else(|| Missing(jwt.key.trim_matches(['{', '}']).to_owned()))?;
        let mut header = Header::new(algorithm(jwt.algorithm));
        header.kid = jwt.key_id.as_deref().map(|template| fill(template, field)).transpose()?.flatten().map(|id| written(&id));
        let issued = (now - BACK).timestamp();
        let mut claims = Map::new();
        claims.insert("iat".to_owned(), issued.into());
        claims.insert("exp".to_owned(), (issued + i64::from(jwt.lifetime)).into());
        let own = fill_in(&Value::Object(jwt.claims.clone()), field)?;
        claims.extend(own.and_then(|own| own.as_object().cloned()).unwrap_or_default());
        Ok(Self { header, claims, algorithm: jwt.algorithm, key: Secret::new(written(&key)) })
    }

    pub fn sign(&self) -> Result<String, Unsigned> {
        let unfit = |_| {
            let kind = match self.algorithm {
                JwtAlgorithm::HS256 => "secret",
                JwtAlgorithm::RS256 | JwtAlgorithm::RS512 | JwtAlgorithm::PS256 => "private key in PEM",
                JwtAlgorithm::ES256 | JwtAlgorithm::ES384 | JwtAlgorithm::EdDSA => "private key in PEM (PKCS #8)",
            };
            Unsigned::Key(format!("is no {kind} that {:?} signs with", self.algorithm))
        };
        let key = encoding_key(self.algorithm, self.key.expose()).map_err(unfit)?;
        jsonwebtoken::encode(&self.header, &self.claims, &key).map_err(unfit)
    }
}

/// How long a token of this lifetime is good from now on.
pub fn lasts(jwt: &SignedJwt) -> TimeDelta {
    TimeDelta::seconds(jwt.lifetime.into()) - BACK
}

fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
        JwtAlgorithm::HS256 => Algorithm::HS256,
    }
}

fn encoding_key(algorithm: JwtAlgorithm, text: &str) -> Result<EncodingKey, jsonwebtoken::errors::Error> {
    // Keys that went through a form or an environment variable often have their line ends written out.
    let pem = Secret::new(text.trim().replace("\\n", "\n"));
    let pem = pem.expose().as_bytes();
    match algorithm {
        JwtAlgorithm::RS256 | JwtAlgorithm::RS512 | JwtAlgorithm::PS256 => EncodingKey::from_rsa_pem(pem),
        JwtAlgorithm::ES256 | JwtAlgorithm::ES384 => EncodingKey::from_ec_pem(pem),
        JwtAlgorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        JwtAlgorithm::HS256 => Ok(EncodingKey::from_secret(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::json;

    use super::*;

    const EC_KEY: &str = include_str!("../../../../testkit/keys/ec-private.pem");
    const EC_PUBLIC: &str = include_str!("../../../../testkit/keys/ec-public.pem");

    fn draft(jwt: Value, key: &str) -> Result<Draft, Unsigned> {
        let jwt: SignedJwt = serde_json::from_value(jwt).expect("a template");
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        Draft::new(&jwt, &|name| json!({ "key": key, "id": 7, "kid": "k1" }).get(name).cloned(), now)
    }

    #[test]
    fn what_is_signed_says_who_signed_when_and_with_which_key() {
        let jwt = json!({ "algorithm": "ES256", "key": "{key}", "keyId": "{kid}", "lifetime": 300, "claims": { "iss": "{id}", "sub": "{nobody}" } });
        let written_out = EC_KEY.replace('\n', "\\n");
        for key in [EC_KEY, &written_out] {
            let token = draft(jwt.clone(), key).and_then(|draft| draft.sign()).expect("signed");
            let mut validation = Validation::new(Algorithm::ES256);
            validation.validate_exp = false;
            let public = DecodingKey::from_ec_pem(EC_PUBLIC.as_bytes()).expect("a key");
            let found = jsonwebtoken::decode::<Value>(&token, &public, &validation).expect("the signature is right");
            assert_eq!(found.claims, json!({ "iss": 7, "iat": 1_799_999_970, "exp": 1_800_000_270 }));
            assert_eq!(found.header.kid.as_deref(), Some("k1"));
        }
    }

    #[test]
    fn a_key_that_is_none_is_named_and_not_shown() {
        let jwt = json!({ "algorithm": "RS256", "key": "{key}" });
        for key in ["hunter22", EC_KEY] {
            let unsigned = draft(jwt.clone(), key).and_then(|draft| draft.sign());
            assert_eq!(unsigned, Err(Unsigned::Key("is no private key in PEM that RS256 signs with".to_owned())));
        }
        let none = draft(json!({ "key": "{gone}" }), "x").map(|_| ());
        assert_eq!(none, Err(Unsigned::Missing(Missing("gone".to_owned()))));
    }
}
