//! Making, replacing, withdrawing and using the keys.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::{DateTime, Duration, Utc};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, PgPool};
use weft_attest::{Jwk, KeySet, PublicKey, Refused, SigningKey};
use weft_model::TenantId;

use super::store::{self, StoredKey};
use crate::{
    clock::Clock,
    db::notify::{self, Change},
    secrets::{self, Vault},
};

/// How long a key signs before the next one takes over.
const LIFETIME: Duration = Duration::days(90);
/// How long a key is published before it signs: longer than anybody may remember the set of keys.
pub const PUBLISHED_AHEAD: Duration = Duration::minutes(10);
/// How long the set of keys may be remembered.
pub const REMEMBERED: Duration = Duration::minutes(5);
/// How long a key that no longer signs stays published: longer than any token lives.
const PUBLISHED_AFTER: Duration = Duration::hours(1);
/// An unknown key may be one that another node has just made: it is looked for, but not more often than this.
const LOOK_AGAIN: Duration = Duration::seconds(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error("a stored signing key is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// How a key is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// The new key is published now and signs in some minutes; tokens of the old one stay valid until they expire.
    InOrder,
    /// The new key signs at once, and nothing that older keys signed is accepted any more.
    Revoke,
}

struct Key {
    stored: StoredKey,
    public: PublicKey,
    signing: Option<SigningKey>,
}

impl Key {
    /// Whether tokens of this key are good at this time. It stops to sign when its successor begins, whether that was noted or not.
    fn is_published(&self, successor: Option<&Self>, now: DateTime<Utc>) -> bool {
        let retired_at = self.stored.retired_at.or(successor.map(|key| key.stored.signs_from));
        retired_at.is_none_or(|at| now < at + PUBLISHED_AFTER)
    }
}

/// Newest first.
type Ring = Arc<Vec<Key>>;

/// The keys of this server.
pub struct Authority {
    pool: PgPool,
    clock: Clock,
    vault: Arc<Vault>,
    ring: RwLock<Ring>,
    looked_at: Mutex<DateTime<Utc>>,
}

impl Authority {
    /// Loads the keys, making the first one.
    pub async fn open((pool, clock): (PgPool, Clock), vault: Arc<Vault>) -> Result<Self, Error> {
        let looked_at = Mutex::new(clock.now());
        let authority = Self { pool, clock, vault, ring: RwLock::default(), looked_at };
        authority.tidy().await?;
        Ok(authority)
    }

    /// Signs `claims` for the purpose `kind` with the key of the hour.
    pub fn sign(&self, kind: &str, claims: &impl Serialize) -> Result<String, Error> {
        let (ring, now) = (self.ring(), self.clock.now());
        let due = ring.iter().filter(|key| key.stored.signs_from <= now).find_map(|key| key.signing.as_ref());
        // The clock of the node that made the first key may be ahead of this one's.
        let key = due.or_else(|| ring.iter().rev().find_map(|key| key.signing.as_ref()));
        Ok(key.ok_or_else(|| Error::Damaged("there is none that signs".to_owned()))?.sign(kind, claims))
    }

    /// The claims of a token that this server signed for the purpose `kind`, with a key that is still good.
    pub async fn verify<T: DeserializeOwned>(&self, kind: &str, token: &str) -> Result<T, Error> {
        match self.key_set().verify(kind, token) {
            Err(Refused) if self.may_look_again() => {
                self.reload().await?;
                Ok(self.key_set().verify(kind, token)?)
            }
            result => Ok(result?),
        }
    }

    fn may_look_again(&self) -> bool {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let due = now - *looked_at >= LOOK_AGAIN;
        if due {
            *looked_at = now;
        }
        due
    }

    /// The keys to check tokens with, as the world sees them.
    pub fn key_set(&self) -> KeySet {
        let (ring, now) = (self.ring(), self.clock.now());
        // A key that was withdrawn is good for nothing, and nobody's successor.
        let good: Vec<_> = ring.iter().filter(|key| key.stored.revoked_at.is_none()).collect();
        let successors = std::iter::once(None).chain(good.iter().copied().map(Some));
        good.iter()
            .zip(successors)
            .filter(|(key, next)| key.is_published(*next, now))
            .map(|(key, _)| key.public.clone())
            .collect()
    }

    /// Every key there ever was: what old ones signed may still have to be checked.
    pub fn all_keys(&self) -> KeySet {
        self.ring().iter().map(|key| key.public.clone()).collect()
    }

    /// Every key there ever was with its life, newest first.
    pub fn keys(&self) -> Vec<(StoredKey, Jwk)> {
        self.ring().iter().map(|key| (key.stored.clone(), key.public.jwk().clone())).collect()
    }

    /// Replaces the key that signs. Returns the name of the new one; call [`Self::reload`] after the commit.
    pub async fn rotate(&self, connection: &mut PgConnection, rotation: Rotation) -> Result<String, Error> {
        store::lock(connection).await?;
        let now = self.clock.now();
        let id = match rotation {
            Rotation::InOrder => self.insert(connection, now + PUBLISHED_AHEAD).await?,
            Rotation::Revoke => {
                let id = self.insert(connection, now).await?;
                store::retire_others(connection, &id, now).await?;
                store::revoke_others(connection, &id, now).await?;
                id
            }
        };
        notify::announce(connection, &Change::SigningKeys).await?;
        Ok(id)
    }

    async fn insert(&self, connection: &mut PgConnection, signs_from: DateTime<Utc>) -> Result<String, Error> {
        let key = SigningKey::generate();
        let id = key.public().id().to_owned();
        let sealed = self.vault.seal(&TenantId::default_tenant(), &place(&id), &key.to_bytes())?;
        let public_key = serde_json::to_value(key.public().jwk()).map_err(|error| Error::Damaged(error.to_string()))?;
        let created_at = self.clock.now();
        let (sealed, retired_at, revoked_at) = (Some(sealed), None, None);
        let stored = StoredKey { id: id.clone(), public_key, sealed, created_at, signs_from, retired_at, revoked_at };
        store::insert(connection, &stored).await?;
        tracing::info!(key.id = id, signs_from = %signs_from, "authority.insert_key");
        Ok(id)
    }

    /// Makes the key that is due, takes the private half of those that no longer sign, and loads what there is. Run now and then.
    pub async fn tidy(&self) -> Result<(), Error> {
        if self.is_tidy() {
            return Ok(());
        }
        let mut transaction = self.pool.begin().await?;
        store::lock(&mut transaction).await?;
        let (stored, now) = (store::list(&mut transaction).await?, self.clock.now());
        match stored.iter().find(|key| key.sealed.is_some()) {
            None => _ = self.insert(&mut transaction, now).await?,
            Some(newest) if now >= newest.signs_from + LIFETIME => {
                self.insert(&mut transaction, now + PUBLISHED_AHEAD).await?;
            }
            Some(newest) if newest.signs_from <= now => {
                store::retire_others(&mut transaction, &newest.id, newest.signs_from).await?;
            }
            Some(_) => {}
        }
        notify::announce(&mut transaction, &Change::SigningKeys).await?;
        transaction.commit().await?;
        self.reload().await
    }

    /// Whether nothing is to be done, as far as this node knows.
    fn is_tidy(&self) -> bool {
        let (ring, now) = (self.ring(), self.clock.now());
        let signing: Vec<_> = ring.iter().filter(|key| key.signing.is_some()).map(|key| key.stored.signs_from).collect();
        match signing.as_slice() {
            [] => false,
            [only] => now < *only + LIFETIME,
            [newest, ..] => now < *newest,
        }
    }

    /// Loads the keys anew, because somebody changed them.
    pub async fn reload(&self) -> Result<(), Error> {
        let stored = store::list(&mut *self.pool.acquire().await?).await?;
        let ring = stored.into_iter().map(|stored| self.open_key(stored)).collect::<Result<Vec<_>, _>>()?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }

    fn open_key(&self, stored: StoredKey) -> Result<Key, Error> {
        let damaged = || Error::Damaged(stored.id.clone());
        let jwk: Jwk = serde_json::from_value(stored.public_key.clone()).map_err(|_| damaged())?;
        let public = PublicKey::try_from(jwk).map_err(|_| damaged())?;
        let signing = match &stored.sealed {
            None => None,
            Some((version, sealed)) => {
                let bytes = self.vault.open_sealed(&TenantId::default_tenant(), &place(&stored.id), *version, sealed)?;
                Some(SigningKey::from_bytes(&bytes).map_err(|_| damaged())?)
            }
        };
        Ok(Key { stored, public, signing })
    }

    fn ring(&self) -> Ring {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn place(id: &str) -> [&str; 2] {
    ["signing key", id]
}
