//! ID tokens: the types, the check, and what is read out of them.

use chrono::{DateTime, Duration, Utc};
use openidconnect::{
    AdditionalClaims, ClaimsVerificationError, ClientId, EmptyExtraTokenFields, IdTokenFields, IdTokenVerifier, Nonce,
    NonceVerifier, SignatureVerificationError, StandardErrorResponse, StandardTokenResponse,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm as Algorithm, CoreProviderMetadata, CoreRevocableToken,
        CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How far the clocks of two servers may be apart.
const SKEW: Duration = Duration::seconds(60);

/// Signatures that are accepted. None at all is not among them, and neither is one made with a secret: the public key would
/// serve as that secret.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RsaSsaPkcs1V15Sha256,
    Algorithm::RsaSsaPkcs1V15Sha384,
    Algorithm::RsaSsaPkcs1V15Sha512,
    Algorithm::RsaSsaPssSha256,
    Algorithm::RsaSsaPssSha384,
    Algorithm::RsaSsaPssSha512,
    Algorithm::EcdsaP256Sha256,
    Algorithm::EcdsaP384Sha384,
    Algorithm::EdDsa,
];

/// All claims that the standard does not name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OtherClaims(Map<String, Value>);

impl AdditionalClaims for OtherClaims {}

pub type IdToken = openidconnect::IdToken<OtherClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, Algorithm>;
pub type Claims = openidconnect::IdTokenClaims<OtherClaims, CoreGenderClaim>;
pub type UserInfo = openidconnect::UserInfoClaims<OtherClaims, CoreGenderClaim>;
pub type TokenResponse = StandardTokenResponse<
    IdTokenFields<OtherClaims, EmptyExtraTokenFields, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, Algorithm>,
    CoreTokenType,
>;
/// The library's client with our claims and the endpoints that discovery finds.
pub type Client = openidconnect::Client<
    OtherClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    TokenResponse,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    openidconnect::EndpointSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointMaybeSet,
    openidconnect::EndpointMaybeSet,
>;

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Perhaps it was made with a key that is newer than those we know.
    #[error("its signature fits no key of the provider")]
    Key,
    #[error("{0}")]
    Other(String),
}

/// The claims of a token that this issuer made for this client, that is valid now, and that answers `nonce` if there is one.
pub fn check<'a>(
    token: &'a IdToken,
    published: &CoreProviderMetadata,
    client: &str,
    nonce: Option<&Nonce>,
    now: DateTime<Utc>,
) -> Result<&'a Claims, Refused> {
    let client = ClientId::new(client.to_owned());
    // Never as a confidential client: then the library would accept signatures made with the client's secret.
    let verifier = IdTokenVerifier::new_public_client(client.clone(), published.issuer().clone(), published.jwks().clone())
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || now - SKEW)
        .set_issue_time_verifier_fn(move |issued| {
            if issued <= now + SKEW { Ok(()) } else { Err(format!("it is from the future ({issued}, and now is {now})")) }
        })
        // Judged below, together with the authorized party.
        .set_other_audience_verifier_fn(|_| true);
    let answers = |given: Option<&Nonce>| nonce.map_or(Ok(()), |expected| expected.verify(given));
    let claims = token.claims(&verifier, answers).map_err(refused)?;
    match claims.authorized_party() {
        Some(party) if *party != client => Err(Refused::Other("it was made for another client".into())),
        None if claims.audiences().len() > 1 => {
            Err(Refused::Other("it is for several clients and does not say who asked".into()))
        }
        _ if claims.subject().is_empty() || claims.subject().len() > 255 => {
            Err(Refused::Other("its subject is empty or too long".into()))
        }
        _ => Ok(claims),
    }
}

fn refused(error: ClaimsVerificationError) -> Refused {
    use SignatureVerificationError::{AmbiguousKeyId, CryptoError, NoMatchingKey};
    match error {
        ClaimsVerificationError::SignatureVerification(AmbiguousKeyId(_) | CryptoError(_) | NoMatchingKey) => Refused::Key,
        ClaimsVerificationError::SignatureVerification(cause) => Refused::Other(cause.to_string()),
        other => Refused::Other(other.to_string()),
    }
}

/// What a provider says about somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    pub subject: String,
    pub email: Option<String>,
    pub email_verified: bool,
    pub name: Option<String>,
    /// What the role claim holds.
    pub roles: Vec<String>,
}

impl Person {
    /// The same with what it lacks taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let (email, email_verified) =
            if self.email.is_some() { (self.email, self.email_verified) } else { (other.email, other.email_verified) };
        let roles = if self.roles.is_empty() { other.roles } else { self.roles };
        Self { subject: self.subject, email, email_verified, name: self.name.or(other.name), roles }
    }
}

/// The library gives both kinds of claims the same methods, and no trait for them.
macro_rules! readable {
    ($($name:ident: $claims:ty),* $(,)?) => {
        impl Person {$(
            pub fn $name(claims: &$claims, role_claim: Option<&str>) -> Self {
                let name = claims.name().and_then(|names| names.get(None).or_else(|| names.iter().next().map(|(_, name)| name)));
                let name = name.map(|name| name.as_str()).or_else(|| claims.preferred_username().map(|name| name.as_str()));
                Self {
                    subject: claims.subject().to_string(),
                    email: claims.email().map(|email| email.trim().to_owned()).filter(|email| !email.is_empty()),
                    email_verified: claims.email_verified().unwrap_or(false),
                    name: name.map(|name| name.trim().chars().take(255).collect()).filter(|name: &String| !name.is_empty()),
                    roles: role_claim.map(|claim| texts(find(&claims.additional_claims().0, claim))).unwrap_or_default(),
                }
            }
        )*}
    };
}

readable! {
    from_token: Claims,
    from_user_info: UserInfo,
}

/// A claim by its name, or by the names on the way to it, joined by dots (`realm_access.roles`).
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let mut steps = name.split('.');
    claims.get(name).or_else(|| {
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    })
}

/// A text, or the texts of an array.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_role_claim_is_a_text_or_an_array_at_the_top_or_below() {
        let claims = json!({
            "role": "editor",
            "groups": ["a", 1, "b"],
            "realm_access": { "roles": ["c"] },
            "https://example.com/roles": ["d"],
            "empty": null,
        });
        let claims = claims.as_object().expect("an object");
        for (name, expected) in [
            ("role", &["editor"][..]),
            ("groups", &["a", "b"]),
            ("realm_access.roles", &["c"]),
            ("https://example.com/roles", &["d"]),
            ("realm_access", &[]),
            ("empty", &[]),
            ("absent.at.all", &[]),
        ] {
            assert_eq!(texts(find(claims, name)), expected, "{name}");
        }
    }
}
