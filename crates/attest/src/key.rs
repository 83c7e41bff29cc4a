//! ES256 key pairs: made, kept as 32 bytes, published as JSON Web Keys, used for compact signatures.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use p256::{SecretKey, elliptic_curve::sec1::ToEncodedPoint, pkcs8::EncodePrivateKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes or a document that are no key of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no P-256 key for ES256, or its name is not its thumbprint")]
pub struct InvalidKey;

/// The signature does not vouch for the token: another key, algorithm or purpose, or changed bytes. Which one is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit")]
pub struct Refused;

/// The public half of a key as the world sees it (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    pub kty: String,
    pub crv: String,
    pub x: String,
    pub y: String,
    #[serde(rename = "use")]
    pub purpose: String,
    pub alg: String,
    /// The thumbprint of the key (RFC 7638).
    pub kid: String,
}

/// A key that signs.
pub struct SigningKey {
    secret: SecretKey,
    encoding: EncodingKey,
    public: PublicKey,
}

/// A key that checks signatures.
#[derive(Clone)]
pub struct PublicKey {
    jwk: Jwk,
    decoding: DecodingKey,
}

impl SigningKey {
    pub fn generate() -> Self {
        loop {
            let mut bytes = Zeroizing::new([0; 32]);
            rand::fill(bytes.as_mut_slice());
            // One number in four billion is no key.
            if let Ok(key) = Self::from_bytes(bytes.as_slice()) {
                return key;
            }
        }
    }

    /// The key that [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| InvalidKey)?;
        let secret = SecretKey::from_slice(bytes).map_err(|_| InvalidKey)?;
        let point = secret.public_key().to_encoded_point(false);
        let coordinate = |bytes: Option<&_>| bytes.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).ok_or(InvalidKey);
        let public = PublicKey::try_from(Jwk::new(coordinate(point.x())?, coordinate(point.y())?))?;
        let document = secret.to_pkcs8_der().map_err(|_| InvalidKey)?;
        let encoding = EncodingKey::from_ec_der(document.as_bytes());
        Ok(Self { secret, encoding, public })
    }

    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.secret.to_bytes().to_vec())
    }

    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A compact signature over `claims`, for the purpose that `kind` names.
    pub fn sign(&self, kind: &str, claims: &impl Serialize) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(kind.to_owned());
        header.kid = Some(self.public.id().to_owned());
        jsonwebtoken::encode(&header, claims, &self.encoding).expect("claims are JSON and the key is one for ES256")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public.id())
    }
}

impl PublicKey {
    /// The thumbprint, which is the key's name.
    pub fn id(&self) -> &str {
        &self.jwk.kid
    }

    pub const fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// The claims of a compact signature that this key made for the purpose `kind`.
    pub fn verify<T: DeserializeOwned>(&self, kind: &str, token: &str) -> Result<T, Refused> {
        let mut validation = Validation::new(Algorithm::ES256);
        // What the claims say is the caller's to judge, times included.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let data = jsonwebtoken::decode::<T>(token, &self.decoding, &validation).map_err(|_| Refused)?;
        let same_purpose = data.header.typ.as_deref() == Some(kind);
        let same_key = data.header.kid.as_deref() == Some(self.id());
        if same_purpose && same_key && data.header.crit.is_none() { Ok(data.claims) } else { Err(Refused) }
    }
}

/// From `<x>.<y>`, the coordinates as a JSON Web Key has them: short enough for a line of settings.
impl std::str::FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let (x, y) = text.split_once('.').ok_or(InvalidKey)?;
        Self::try_from(Jwk::new(x.to_owned(), y.to_owned()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.jwk.x, self.jwk.y)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", self.id())
    }
}

impl TryFrom<Jwk> for PublicKey {
    type Error = InvalidKey;

    fn try_from(jwk: Jwk) -> Result<Self, InvalidKey> {
        let expected = Jwk::new(jwk.x.clone(), jwk.y.clone());
        let coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 32).ok_or(InvalidKey);
        let point = [vec![4], coordinate(&jwk.x)?, coordinate(&jwk.y)?].concat();
        p256::PublicKey::from_sec1_bytes(&point).map_err(|_| InvalidKey)?;
        let decoding = DecodingKey::from_ec_components(&jwk.x, &jwk.y).map_err(|_| InvalidKey)?;
        if jwk == expected { Ok(Self { jwk, decoding }) } else { Err(InvalidKey) }
    }
}

impl Jwk {
    fn new(x: String, y: String) -> Self {
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#));
        let kid = URL_SAFE_NO_PAD.encode(thumbprint);
        let owned = str::to_owned;
        Self { kty: owned("EC"), crv: owned("P-256"), x, y, purpose: owned("sig"), alg: owned("ES256"), kid }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const KIND: &str = "test+jwt";

    #[test]
    fn a_signature_is_good_for_its_key_and_its_purpose_only() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let token = key.sign(KIND, &json!({ "sub": "a" }));
        assert_eq!(key.public().verify::<Value>(KIND, &token), Ok(json!({ "sub": "a" })));
        assert_eq!(key.public().verify::<Value>("other+jwt", &token), Err(Refused));
        assert_eq!(other.public().verify::<Value>(KIND, &token), Err(Refused));
    }

    #[test]
    fn a_key_survives_being_kept_and_published() {
        let key = SigningKey::generate();
        let again = SigningKey::from_bytes(&key.to_bytes()).expect("its own bytes");
        let published = serde_json::to_string(again.public().jwk()).expect("JSON");
        let jwk: Jwk = serde_json::from_str(&published).expect("its own document");
        let token = key.sign(KIND, &json!({}));
        assert!(PublicKey::try_from(jwk).expect("valid").verify::<Value>(KIND, &token).is_ok());
        let line: PublicKey = key.public().to_string().parse().expect("its own text");
        assert!(line.verify::<Value>(KIND, &token).is_ok());
        assert!("a.b".parse::<PublicKey>().is_err());
        assert!(!format!("{key:?}").contains(&URL_SAFE_NO_PAD.encode(key.to_bytes().as_slice())));
    }

    /// A key of RFC 7517 (A.1); its thumbprint was computed apart from this code, as RFC 7638 says.
    #[test]
    fn a_key_is_named_by_its_thumbprint_and_no_other_name_is_taken() {
        let published =
            Jwk::new("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4".into(), "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM".into());
        assert_eq!(published.kid, "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
        assert!(PublicKey::try_from(published).is_ok());
        let jwk = SigningKey::generate().public().jwk().clone();
        for change in [
            |jwk: &mut Jwk| jwk.kid = "mine".to_owned(),
            |jwk: &mut Jwk| jwk.alg = "none".to_owned(),
            |jwk: &mut Jwk| jwk.kty = "oct".to_owned(),
            |jwk: &mut Jwk| jwk.x = jwk.y.clone(),
            |jwk: &mut Jwk| jwk.y = "AA".to_owned(),
        ] {
            let mut changed = jwk.clone();
            change(&mut changed);
            assert_eq!(PublicKey::try_from(changed).map(|_| ()), Err(InvalidKey));
        }
        for bytes in [&[][..], &[0; 32], &[255; 32], &[1; 31]] {
            assert!(SigningKey::from_bytes(bytes).is_err());
        }
    }

    #[test]
    fn a_header_with_another_algorithm_does_not_choose_how_it_is_checked() {
        let key = SigningKey::generate();
        let body = key.sign(KIND, &json!({ "sub": "a" })).split('.').nth(1).expect("three parts").to_owned();
        let header = |alg: &str| {
            let header = json!({ "typ": KIND, "alg": alg, "kid": key.public().id() });
            URL_SAFE_NO_PAD.encode(header.to_string())
        };
        for alg in ["none", "None", "HS256", "ES384", "RS256"] {
            let unsigned = format!("{}.{body}.", header(alg));
            assert_eq!(key.public().verify::<Value>(KIND, &unsigned), Err(Refused), "{alg}");
        }
        // The published coordinates are no secret: an HMAC made with them must not pass.
        let mut forged = Header::new(Algorithm::HS256);
        forged.typ = Some(KIND.to_owned());
        forged.kid = Some(key.public().id().to_owned());
        for secret in [key.public().jwk().x.as_bytes(), serde_json::to_string(key.public().jwk()).expect("JSON").as_bytes()] {
            let token = jsonwebtoken::encode(&forged, &json!({ "sub": "a" }), &EncodingKey::from_secret(secret)).expect("signed");
            assert_eq!(key.public().verify::<Value>(KIND, &token), Err(Refused));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_token_that_was_changed_anywhere_is_refused(position in 0_usize..10_000, replacement in "[A-Za-z0-9_.=-]") {
            let key = SigningKey::from_bytes(&[7; 32]).expect("a key");
            let token = key.sign(KIND, &json!({ "sub": "somebody", "exp": 1 }));
            let position = position % token.len();
            let mut changed = token.clone();
            changed.replace_range(position..=position, &replacement);
            // The last character of a part carries bits that stand for nothing; a decoder refuses or ignores them.
            let claims = key.public().verify::<Value>(KIND, &changed);
            prop_assert!(changed == token || claims == Err(Refused), "{changed}: {claims:?}");
        }

        #[test]
        fn whatever_text_is_checked_it_is_refused_and_nothing_breaks(text in ".{0,200}") {
            let key = SigningKey::from_bytes(&[7; 32]).expect("a key");
            prop_assert_eq!(key.public().verify::<Value>(KIND, &text), Err(Refused));
        }
    }
}
