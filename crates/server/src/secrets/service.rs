//! Sealing, opening, listing and deleting; loading and re-wrapping the keys.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, RwLock},
};

use sqlx::{PgConnection, PgPool};
use tokio::sync::Mutex;
use weft_model::{AppId, Secret, TenantId, UserId};
use weft_vault::{DataKey, MasterKey, Place, Sealed};

use super::store::{self, StoredSecret, WrappedKey};
use crate::{
    audit::{self, Event},
    clock::Clock,
    db::notify::{self, Change},
    host::MasterFile,
};

/// How many versions of a value are kept, the current one included.
const KEPT_VERSIONS: i32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the master key (id {given}) does not open this database's vault, which was sealed with the key {expected}. \
         Start with that key in WEFT_MASTER_KEY, or with the data directory whose master.key file holds it. \
         Without it the stored secrets cannot be read by anybody."
    )]
    WrongMasterKey { given: String, expected: String },
    #[error("the stored value of '{name}' does not open: it was changed or moved in the database")]
    Damaged { name: String },
    #[error("tenant '{0}' has no data key in the vault")]
    NoKey(TenantId),
    #[error("the master key was replaced on another node: start this one again with the new key")]
    StaleMasterKey,
    #[error("secret '{0}'")]
    Unknown(String),
    #[error("{0}")]
    InvalidName(&'static str),
    #[error("{0}")]
    InvalidValue(&'static str),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What a group of secrets belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Shared by the integrations of a tenant.
    Platform,
    /// One app's own: handed to its backend when it starts.
    App(AppId),
    /// What an integration's `__bind` handler adds to its configuration.
    Integration(AppId),
    /// Tokens of inbound webhook URLs, by endpoint.
    Webhook,
    /// A single sign-on provider's: the client secret.
    Oidc(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => formatter.write_str("platform"),
            Self::App(app) => write!(formatter, "app:{app}"),
            Self::Integration(app) => write!(formatter, "integration:{app}"),
            Self::Webhook => formatter.write_str("webhook"),
            Self::Oidc(provider) => write!(formatter, "oidc:{provider}"),
        }
    }
}

type Ring = HashMap<TenantId, BTreeMap<i32, Arc<DataKey>>>;

/// The vault of a node: the keys in memory, the values in the database.
pub struct Vault {
    pub(super) pool: PgPool,
    clock: Clock,
    master: RwLock<Arc<MasterKey>>,
    ring: RwLock<Ring>,
    /// Held by the one rotation that runs on this node: the key file has room for one successor.
    rotating: Mutex<()>,
}

impl Vault {
    /// Unwraps every data key, making the first one of a tenant that has none.
    pub async fn open(pool: PgPool, clock: Clock, master: MasterKey) -> Result<Self, Error> {
        let mut transaction = pool.begin().await?;
        let mut stored = store::lock_keys(&mut transaction).await?;
        if stored.is_empty() {
            let first = wrap(&master, TenantId::default_tenant().as_str(), 1, &DataKey::generate());
            if store::insert_key(&mut transaction, &first, clock.now()).await? {
                tracing::info!(key.id = master.id(), "vault.create");
            }
            stored = store::lock_keys(&mut transaction).await?;
        }
        let ring = unwrap_all(&master, &stored)?;
        transaction.commit().await?;
        Ok(Self { pool, clock, master: RwLock::new(Arc::new(master)), ring: RwLock::new(ring), rotating: Mutex::default() })
    }

    /// Wraps every data key with another master key. Values stay as they are, so nothing stops meanwhile.
    /// `file`, when the key lives in one, holds the new key beside the old before the change is committed, and alone after it.
    pub async fn rotate(&self, new: MasterKey, file: Option<&MasterFile>, event: &Event) -> Result<String, RotationFailed> {
        let _turn = self.rotating.lock().await;
        let old = self.master();
        let mut transaction = self.pool.begin().await.map_err(Error::from)?;
        let stored = store::lock_keys(&mut transaction).await.map_err(Error::from)?;
        for key in &stored {
            let data_key = unwrap(&old, key)?;
            store::update_key(&mut transaction, &wrap(&new, &key.tenant, key.version, &data_key)).await.map_err(Error::from)?;
        }
        audit::record(&mut transaction, event, self.clock.now()).await.map_err(Error::from)?;
        file.map_or(Ok(()), |file| file.stage(&new))?;
        notify::announce(&mut transaction, &Change::Vault).await.map_err(Error::from)?;
        transaction.commit().await.map_err(Error::from)?;
        let id = new.id();
        tracing::info!(from = old.id(), to = id, keys = stored.len(), "vault.rotate");
        *self.master.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(new);
        file.map_or(Ok(()), MasterFile::promote)?;
        Ok(id)
    }

    /// Makes the first data key of a new tenant. It can be used once the transaction is committed and [`Self::reload`] has run.
    pub async fn create_tenant(&self, connection: &mut PgConnection, tenant: &TenantId) -> Result<(), Error> {
        let master = self.master();
        // Whoever wrapped a key with a replaced master key would make one that nobody can ever open.
        if store::lock_keys(connection).await?.iter().any(|key| key.master_key_id != master.id()) {
            return Err(Error::StaleMasterKey);
        }
        store::insert_key(connection, &wrap(&master, tenant.as_str(), 1, &DataKey::generate()), self.clock.now()).await?;
        Ok(notify::announce(connection, &Change::Vault).await?)
    }

    /// Destroys the data keys of a tenant and with them all that was ever sealed for it. Call [`Self::reload`] after the commit.
    pub async fn shred_tenant(&self, connection: &mut PgConnection, tenant: &TenantId) -> Result<(), Error> {
        store::delete_tenant(connection, tenant).await?;
        Ok(notify::announce(connection, &Change::Vault).await?)
    }

    /// Brings the keys in memory in line with those in the database: new tenants come, deleted ones go.
    pub async fn reload(&self) -> Result<(), Error> {
        let stored = store::list_keys(&mut *self.pool.acquire().await?).await?;
        let master = self.master();
        let known = self.ring.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut ring = Ring::new();
        for key in stored {
            let tenant = TenantId::try_from(key.tenant.clone()).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let remembered = known.get(&tenant).and_then(|keys| keys.get(&key.version)).map(Arc::clone);
            let data_key = remembered.map_or_else(|| unwrap(&master, &key).map(Arc::new), Ok)?;
            ring.entry(tenant).or_default().insert(key.version, data_key);
        }
        *self.ring.write().unwrap_or_else(std::sync::PoisonError::into_inner) = ring;
        Ok(())
    }

    /// Leaves no trace of removed keys in the table's files. Not to be called within a transaction.
    pub async fn scrub_keys(&self) -> Result<(), Error> {
        Ok(store::rewrite_keys(&mut *self.pool.acquire().await?).await?)
    }

    fn master(&self) -> Arc<MasterKey> {
        Arc::clone(&self.master.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Stores a value as the newest version of its name.
    pub async fn set(
        &self,
        connection: &mut PgConnection,
        (tenant, scope): (&TenantId, &Scope),
        name: &str,
        value: &Secret<String>,
        by: Option<UserId>,
    ) -> Result<(), Error> {
        let scope = scope.to_string();
        let version = store::next_version(connection, tenant, &scope, name).await?;
        let (key_version, key) = self.current_key(tenant)?;
        let sealed = key.seal(value.expose().as_bytes(), Place(&[tenant.as_str(), &scope, name, &version.to_string()]));
        let secret = StoredSecret { name: name.to_owned(), version, key_version, sealed };
        store::insert(connection, (tenant, &scope), &secret, by, self.clock.now()).await?;
        Ok(store::delete_old(connection, tenant, &scope, name, version - KEPT_VERSIONS + 1).await?)
    }

    /// The current values of a scope, by name.
    pub async fn read(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        scope: &Scope,
    ) -> Result<BTreeMap<String, Secret<String>>, Error> {
        let scope = scope.to_string();
        let mut values = BTreeMap::new();
        for secret in store::list_current(connection, tenant, &scope).await? {
            let damaged = || Error::Damaged { name: secret.name.clone() };
            let key = self.key(tenant, secret.key_version)?;
            let place = [tenant.as_str(), &scope, &secret.name, &secret.version.to_string()];
            let bytes = key.open(&secret.sealed, Place(&place)).map_err(|_| damaged())?;
            let text = std::str::from_utf8(&bytes).map_err(|_| damaged())?.to_owned();
            values.insert(secret.name, Secret::new(text));
        }
        Ok(values)
    }

    pub async fn names(&self, connection: &mut PgConnection, tenant: &TenantId, scope: &Scope) -> Result<Vec<String>, Error> {
        Ok(store::list_names(connection, tenant, &scope.to_string()).await?)
    }

    /// Scopes that begin like this, each with a name in it.
    pub async fn scoped_names(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        beginning: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        Ok(store::list_scoped_names(connection, tenant, beginning).await?)
    }

    /// Whether there was such a secret.
    pub async fn delete(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        scope: &Scope,
        name: &str,
    ) -> Result<bool, Error> {
        Ok(store::delete(connection, tenant, &scope.to_string(), name).await?)
    }

    pub async fn delete_scope(&self, connection: &mut PgConnection, tenant: &TenantId, scope: &Scope) -> Result<(), Error> {
        Ok(store::delete_scope(connection, tenant, &scope.to_string()).await?)
    }

    /// Seals bytes that another slice stores itself. Returns the version of the key with them.
    pub fn seal(&self, tenant: &TenantId, place: &[&str], bytes: &[u8]) -> Result<(i32, Sealed), Error> {
        let (version, key) = self.current_key(tenant)?;
        Ok((version, key.seal(bytes, Place(&within(tenant, place)))))
    }

    /// Opens what [`Self::seal`] made.
    pub fn open_sealed(&self, tenant: &TenantId, place: &[&str], key_version: i32, sealed: &Sealed) -> Result<Vec<u8>, Error> {
        let key = self.key(tenant, key_version)?;
        let bytes = key.open(sealed, Place(&within(tenant, place))).map_err(|_| Error::Damaged { name: place.join(" ") })?;
        Ok(bytes.to_vec())
    }

    fn current_key(&self, tenant: &TenantId) -> Result<(i32, Arc<DataKey>), Error> {
        let ring = self.ring.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let newest = ring.get(tenant).and_then(|keys| keys.last_key_value());
        newest.map(|(version, key)| (*version, Arc::clone(key))).ok_or_else(|| Error::NoKey(tenant.clone()))
    }

    fn key(&self, tenant: &TenantId, version: i32) -> Result<Arc<DataKey>, Error> {
        let ring = self.ring.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        ring.get(tenant).and_then(|keys| keys.get(&version)).map(Arc::clone).ok_or_else(|| Error::NoKey(tenant.clone()))
    }
}

/// Why the master key was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum RotationFailed {
    #[error(transparent)]
    Vault(#[from] Error),
    #[error("the new master key could not be stored: {0}")]
    NotKept(#[from] std::io::Error),
}

fn within<'a>(tenant: &'a TenantId, place: &[&'a str]) -> Vec<&'a str> {
    [&[tenant.as_str()], place].concat()
}

fn wrap(master: &MasterKey, tenant: &str, version: i32, key: &DataKey) -> WrappedKey {
    let wrapped = master.wrap(key, Place(&["data key", tenant, &version.to_string()]));
    WrappedKey { tenant: tenant.to_owned(), version, master_key_id: master.id(), wrapped }
}

fn unwrap(master: &MasterKey, key: &WrappedKey) -> Result<DataKey, Error> {
    master
        .unwrap(&key.wrapped, Place(&["data key", &key.tenant, &key.version.to_string()]))
        .map_err(|_| Error::WrongMasterKey { given: master.id(), expected: key.master_key_id.clone() })
}

fn unwrap_all(master: &MasterKey, stored: &[WrappedKey]) -> Result<Ring, Error> {
    let mut ring = Ring::new();
    for key in stored {
        let tenant = TenantId::try_from(key.tenant.clone()).map_err(|error| sqlx::Error::Decode(error.into()))?;
        ring.entry(tenant).or_default().insert(key.version, Arc::new(unwrap(master, key)?));
    }
    Ok(ring)
}
