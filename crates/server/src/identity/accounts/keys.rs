//! Keys of service accounts, and tokens in exchange for them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Duration;
use sha2::{Digest, Sha256};
use weft_model::{CredentialId, PermissionSet, Principal, Secret, TenantId, UserId, scope};

use super::{
    service::Error,
    store::{self, Key, NewKey, ShownKey},
    token::MachineToken,
};
use crate::{
    audit::{Action, Event},
    identity::{roles, service::Identity},
};

/// How a key begins, so that people and scanners of repositories know one when they see it.
const MARK: &str = "wsk_";
/// How many characters of a key may be shown to tell keys apart.
const PREFIX: usize = 12;
/// Days that a key is good for when nobody says, at least and at most.
const DAYS: (i64, i64, i64) = (90, 1, 365);
/// Enough to replace keys without a gap in many places.
const MOST_KEYS: usize = 20;
/// How exactly the last use of a key is noted.
const USE_NOTED: Duration = Duration::hours(1);

impl Identity {
    /// Makes a key and returns it together with the only sight of its secret.
    pub async fn create_key(
        &self,
        by: &Principal,
        account: UserId,
        name: &str,
        days: Option<i64>,
    ) -> Result<(Key, Secret<String>), Error> {
        if name.trim().is_empty() || name.chars().count() > 100 {
            return Err(Error::InvalidKeyName);
        }
        let (default, least, most) = DAYS;
        let now = self.clock.now();
        let secret = new_secret();
        let key = Key {
            id: CredentialId::generate(now),
            name: name.trim().to_owned(),
            prefix: secret.expose().get(..PREFIX).unwrap_or_default().to_owned(),
            created_at: now,
            expires_at: now + Duration::days(days.unwrap_or(default).clamp(least, most)),
            last_used_at: None,
        };
        let mut transaction = self.pool.begin().await?;
        self.lock_account(&mut transaction, &by.tenant, account).await?;
        let held = roles::store::effective(&mut transaction, &by.tenant, account).await?;
        if let Some(key) = by.permissions.exceeded_by(&held.permissions.into_iter().collect()) {
            return Err(Error::Exceeds(key.to_owned()));
        }
        if store::list_keys(&mut transaction, &by.tenant, account).await?.len() >= MOST_KEYS {
            return Err(Error::TooManyKeys(MOST_KEYS));
        }
        let new = NewKey { key: &key, digest: &digest(secret.expose()), by: by.id };
        store::insert_key(&mut transaction, (&by.tenant, account), new).await?;
        let event = Event::by(by, Action::CredentialCreated).on("service_account", account);
        let event = event.with("credential", key.id.to_string()).with("prefix", key.prefix.clone());
        self.commit(transaction, event.with("expiresAt", key.expires_at.to_rfc3339())).await?;
        tracing::info!(account.id = %account, credential.id = %key.id, "identity.create_key");
        Ok((key, secret))
    }

    pub async fn keys(&self, tenant: &TenantId, account: UserId) -> Result<Vec<Key>, Error> {
        self.account(tenant, account).await?;
        Ok(store::list_keys(&mut *self.pool.acquire().await?, tenant, account).await?)
    }

    /// Revokes a key, and with it every token that was made with it.
    pub async fn revoke_key(&self, by: &Principal, account: UserId, id: CredentialId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        self.lock_account(&mut transaction, &by.tenant, account).await?;
        if !store::delete_key(&mut transaction, (&by.tenant, account), id).await? {
            return Err(Error::UnknownKey);
        }
        tracing::info!(account.id = %account, credential.id = %id, "identity.revoke_key");
        let event = Event::by(by, Action::CredentialRevoked).on("service_account", account);
        Ok(self.commit(transaction, event.with("credential", id.to_string())).await?)
    }

    /// A token in exchange for a key. With scopes it is narrowed to them, and the account has to hold each.
    pub async fn issue_token(&self, client: &str, key: &Secret<String>, scopes: Option<&str>) -> Result<MachineToken, Error> {
        let mut connection = self.pool.acquire().await?;
        let now = self.clock.now();
        let shown = store::find_key(&mut connection, &digest(key.expose()), now).await?;
        let Some(shown) = shown.filter(|shown| client.parse() == Ok(shown.account.id)) else {
            drop(connection);
            // Neither client nor key is known, and either may be a secret in the wrong place.
            self.audit.notice(Event::new(&TenantId::default_tenant(), Action::TokenRefused)).await;
            return Err(Error::InvalidClient);
        };
        let scope = match scopes.map(str::trim).filter(|scopes| !scopes.is_empty()) {
            None => None,
            Some(scopes) => Some(self.held_scopes(&mut connection, &shown, scopes).await?),
        };
        let token = self.machine_token(&shown, scope)?;
        if shown.last_used_at.is_none_or(|at| now - at >= USE_NOTED) {
            store::update_last_used(&mut connection, shown.id, now).await?;
        }
        // Waiting for room among the events must not keep their writer from a connection.
        drop(connection);
        let issued = Event::new(&shown.tenant, Action::TokenIssued).on("service_account", shown.account.id);
        self.audit.notice(issued.with("credential", shown.id.to_string())).await;
        Ok(token)
    }

    /// The scopes as a token carries them: in order, each once, all of them held.
    async fn held_scopes(&self, connection: &mut sqlx::PgConnection, shown: &ShownKey, scopes: &str) -> Result<String, Error> {
        let granted = roles::store::effective(connection, &shown.tenant, shown.account.id).await?;
        let held: PermissionSet = granted.permissions.into_iter().collect();
        let mut wanted: Vec<&str> = scopes.split(' ').filter(|scope| !scope.is_empty()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for scope in &wanted {
            if !held.allows(scope::key(scope)?) {
                return Err(Error::ScopeNotHeld((*scope).to_owned()));
            }
        }
        Ok(wanted.join(" "))
    }
}

fn new_secret() -> Secret<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes);
    Secret::new(format!("{MARK}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

fn digest(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}
