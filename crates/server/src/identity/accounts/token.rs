//! Access tokens of machines (RFC 9068): signed with a published key, so that other services can check them too.

use std::sync::Arc;

use chrono::Duration;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{CredentialId, TenantId, UserId};

use super::store::{self, ShownKey};
use crate::{
    authority,
    db::cache::Cache,
    identity::{
        service::{Error, Identity},
        store::User,
        token::Refused,
    },
};

/// How long a token is valid at most.
const LIFETIME: Duration = Duration::minutes(15);
/// The `typ` of an access token's header.
const KIND: &str = "at+jwt";

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    pub iss: String,
    pub aud: String,
    pub sub: UserId,
    pub client_id: UserId,
    #[serde(rename = "tenantId")]
    pub tenant: TenantId,
    /// The scopes that narrow the token; absent when it carries all that the account may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    pub jti: Uuid,
    /// The key that it was made with.
    #[serde(rename = "cid")]
    pub credential: CredentialId,
    pub iat: i64,
    pub exp: i64,
}

/// Tokens whose signature was checked before, by digest. Checking one costs more than all the rest of a short request.
pub type Verified = Cache<[u8; 32], Arc<AccessClaims>>;

/// A token with its seconds to live.
pub struct MachineToken {
    pub token: String,
    pub expires_in: i64,
    pub scope: Option<String>,
}

impl Identity {
    /// Signs a token for a key, narrowed to `scope`.
    pub(super) fn machine_token(&self, key: &ShownKey, scope: Option<String>) -> Result<MachineToken, Error> {
        let now = self.clock.now();
        let exp = (now + LIFETIME).min(key.expires_at).timestamp();
        let claims = AccessClaims {
            iss: self.issuer.clone(),
            aud: self.issuer.clone(),
            sub: key.account.id,
            client_id: key.account.id,
            tenant: key.tenant.clone(),
            scope: scope.clone(),
            jti: CredentialId::generate(now).as_uuid(),
            credential: key.id,
            iat: now.timestamp(),
            exp,
        };
        let token = self.authority.sign(KIND, &claims)?;
        Ok(MachineToken { token, expires_in: exp - claims.iat, scope })
    }

    /// The claims of a token of this server that has not expired.
    pub(in crate::identity) async fn check_machine_token(&self, token: &str) -> Result<Arc<AccessClaims>, Error> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let verify = async {
            let claims: AccessClaims = self.authority.verify(KIND, token).await.map_err(|error| match error {
                authority::Error::Refused(_) => Error::Token(Refused::Invalid),
                other => other.into(),
            })?;
            if claims.iss == self.issuer && claims.aud == self.issuer {
                Ok(Arc::new(claims))
            } else {
                Err(Error::Token(Refused::Invalid))
            }
        };
        let claims = self.verified.get_or_load(&digest, || verify).await?;
        if claims.exp <= self.clock.now().timestamp() {
            return Err(Refused::Expired.into());
        }
        Ok(claims)
    }

    /// The account of a token whose key is still good.
    pub(in crate::identity) async fn live_credential(
        &self,
        connection: &mut PgConnection,
        claims: &AccessClaims,
    ) -> Result<(User, String), Error> {
        let found = store::find_key_user(connection, (&claims.tenant, claims.sub), claims.credential, self.clock.now()).await?;
        found.ok_or(Error::CredentialEnded)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use weft_attest::{KeySet, SigningKey};

    use super::*;

    #[test]
    fn a_token_of_a_machine_that_lacks_a_claim_is_refused() {
        let now = chrono::DateTime::UNIX_EPOCH;
        let id = UserId::generate(now);
        let claims = AccessClaims {
            iss: "https://weft.example.com".to_owned(),
            aud: "https://weft.example.com".to_owned(),
            sub: id,
            client_id: id,
            tenant: TenantId::default_tenant(),
            scope: None,
            jti: id.as_uuid(),
            credential: CredentialId::generate(now),
            iat: 0,
            exp: 900,
        };
        let key = SigningKey::generate();
        let keys: KeySet = [key.public().clone()].into_iter().collect();
        assert_eq!(keys.verify::<AccessClaims>(KIND, &key.sign(KIND, &claims)), Ok(claims.clone()));
        let full = serde_json::to_value(&claims).expect("JSON");
        for name in full.as_object().expect("an object").keys() {
            let mut without: Value = full.clone();
            without.as_object_mut().expect("an object").remove(name);
            assert!(keys.verify::<AccessClaims>(KIND, &key.sign(KIND, &without)).is_err(), "{name}");
        }
    }
}
