//! Creating, switching off and on, and beginning to delete.

use std::sync::Arc;

use sqlx::PgPool;
use weft_model::{Principal, TenantId};

use super::store::{self, Tenant};
use crate::{
    apps::{self, Apps},
    audit::{self, Action, Event},
    clock::Clock,
    db::notify::{self, Change},
    identity::{self, Added, Identity, NewMember, roles},
    secrets::{self, Vault},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("tenant '{0}'")]
    Unknown(TenantId),
    #[error("tenant '{0}' already exists")]
    Exists(TenantId),
    #[error("a tenant needs a name of 1 to 200 characters")]
    InvalidName,
    #[error("the tenant 'default' is the server's own: it cannot be disabled or deleted")]
    Protected,
    #[error("tenant '{0}' is being deleted")]
    Deleting(TenantId),
    #[error("to delete the tenant and everything in it, for good, repeat its id as `confirm`: ?confirm={0}")]
    NotConfirmed(TenantId),
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Apps(#[from] apps::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The tenants of this server.
pub struct Tenants {
    pub(super) pool: PgPool,
    pub(super) clock: Clock,
    vault: Arc<Vault>,
    pub(super) apps: Arc<Apps>,
}

impl Tenants {
    pub fn new((pool, clock): (PgPool, Clock), vault: Arc<Vault>, apps: Arc<Apps>) -> Self {
        Self { pool, clock, vault, apps }
    }

    pub async fn list(&self) -> Result<Vec<Tenant>, Error> {
        Ok(store::list(&mut *self.pool.acquire().await?, None).await?)
    }

    pub async fn get(&self, id: &TenantId) -> Result<Tenant, Error> {
        store::list(&mut *self.pool.acquire().await?, Some(id)).await?.pop().ok_or_else(|| Error::Unknown(id.clone()))
    }

    /// Makes a tenant with its roles, its data key and its first administrator.
    pub async fn create(
        &self,
        identity: &Identity,
        by: &Principal,
        (id, name): (TenantId, String),
        mut administrator: NewMember,
    ) -> Result<(Tenant, Added), Error> {
        if name.trim().is_empty() || name.chars().count() > 200 {
            return Err(Error::InvalidName);
        }
        administrator.roles = vec![roles::ADMIN.to_owned()];
        let ready = identity.ready_member(administrator).await?;
        let name = name.trim().to_owned();
        let tenant = Tenant { id, name, created_at: self.clock.now(), disabled_at: None, deleted_at: None };
        let mut transaction = self.pool.begin().await?;
        if !store::insert(&mut transaction, &tenant, by.id).await? {
            return Err(Error::Exists(tenant.id));
        }
        self.vault.create_tenant(&mut transaction, &tenant.id).await?;
        let added = identity.add_member(&mut transaction, &tenant.id, ready, None).await?;
        let event = Event::by(by, Action::TenantCreated).on("tenant", &tenant.id);
        let event = event.with("administrator", added.user.email.clone());
        for chain in [&by.tenant, &tenant.id] {
            audit::record(&mut transaction, &event.clone().within(chain), self.clock.now()).await?;
        }
        notify::announce(&mut transaction, &Change::Identity).await?;
        transaction.commit().await?;
        self.vault.reload().await?;
        identity.forget();
        tracing::info!(tenant.id = %tenant.id, "tenant.create");
        Ok((tenant, added))
    }

    /// Switches a tenant off, which ends every request of its members and its workers, or on again.
    pub async fn set_disabled(&self, identity: &Identity, by: &Principal, id: &TenantId, disabled: bool) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        self.lock_changeable(&mut transaction, id).await?;
        store::update_disabled(&mut transaction, id, disabled.then(|| self.clock.now())).await?;
        let event = Event::by(by, if disabled { Action::TenantDisabled } else { Action::TenantEnabled }).on("tenant", id);
        for chain in [&by.tenant, id] {
            audit::record(&mut transaction, &event.clone().within(chain), self.clock.now()).await?;
        }
        self.commit(transaction, identity, id).await?;
        tracing::info!(tenant.id = %id, disabled, "tenant.set_disabled");
        Ok(())
    }

    /// Destroys the data keys of a tenant and lets nobody in any more. What is left goes with [`Self::erase`].
    pub async fn delete(&self, identity: &Identity, by: &Principal, id: &TenantId, confirm: Option<&str>) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        self.lock_changeable(&mut transaction, id).await?;
        if confirm != Some(id.as_str()) {
            return Err(Error::NotConfirmed(id.clone()));
        }
        store::update_deleted(&mut transaction, id, self.clock.now()).await?;
        self.vault.shred_tenant(&mut transaction, id).await?;
        // The tenant's own log goes with it. What ended it, and how it ended, stays in the log of the server's own tenant.
        let (events, hash) = audit::lock_end(&mut transaction, id).await?;
        let event = Event::by(by, Action::TenantDeleted).on("tenant", id);
        let event = event.with("auditEvents", events).with("auditHash", hash.to_string());
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        self.commit(transaction, identity, id).await?;
        self.vault.reload().await?;
        self.vault.scrub_keys().await?;
        tracing::info!(tenant.id = %id, "tenant.delete");
        Ok(())
    }

    async fn lock_changeable(&self, connection: &mut sqlx::PgConnection, id: &TenantId) -> Result<(), Error> {
        store::lock(connection, id).await?;
        let tenant = store::list(connection, Some(id)).await?.pop().ok_or_else(|| Error::Unknown(id.clone()))?;
        match tenant {
            tenant if tenant.id.is_default() => Err(Error::Protected),
            tenant if tenant.deleted_at.is_some() => Err(Error::Deleting(tenant.id)),
            _ => Ok(()),
        }
    }

    async fn commit(
        &self,
        mut transaction: sqlx::Transaction<'_, sqlx::Postgres>,
        identity: &Identity,
        id: &TenantId,
    ) -> Result<(), Error> {
        self.apps.announce_all(&mut transaction, id).await?;
        notify::announce(&mut transaction, &Change::Identity).await?;
        transaction.commit().await?;
        identity.forget();
        self.apps.forget();
        Ok(())
    }
}
