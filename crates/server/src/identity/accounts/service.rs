//! Creating, owning, switching off and removing service accounts.

use sqlx::PgConnection;
use weft_model::{Principal, TenantId, UserId, scope::InvalidScope};

use super::store::{self, Account};
use crate::{
    audit::{Action, Event},
    db::breaks,
    identity::{
        service::{Error as IdentityError, Identity},
        store::{self as users, User},
    },
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("slug must be 1 to 48 lower-case letters, digits, '_' and '-'")]
    InvalidSlug,
    #[error("service account '{0}' already exists")]
    Exists(String),
    #[error("service account")]
    Unknown,
    #[error("credential")]
    UnknownKey,
    #[error("new_owner must be a person who is a member of this tenant")]
    NoPerson,
    #[error("name must be 1 to 100 characters")]
    InvalidKeyName,
    #[error("a service account has at most {0} keys: revoke one first")]
    TooManyKeys(usize),
    #[error("you may hand out keys only to what you hold yourself, and this account may do more than you: it holds {0}")]
    Exceeds(String),
    #[error("no act-as delegation for {0}")]
    NoDelegation(UserId),
    #[error("act-as denied: {target} holds {key}, which you do not")]
    ActAsExceeds { target: UserId, key: String },
    #[error("the id or the key is not valid, the key was revoked or has expired, or the account is disabled")]
    InvalidClient,
    #[error(transparent)]
    Scope(#[from] InvalidScope),
    #[error("the account does not hold what scope '{0}' stands for")]
    ScopeNotHeld(String),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Identity(error.into())
    }
}

impl Identity {
    pub async fn accounts(&self, tenant: &TenantId) -> Result<Vec<Account>, Error> {
        Ok(store::list(&mut *self.pool.acquire().await?, tenant, None).await?)
    }

    pub async fn account(&self, tenant: &TenantId, id: UserId) -> Result<Account, Error> {
        store::list(&mut *self.pool.acquire().await?, tenant, Some(id)).await?.pop().ok_or(Error::Unknown)
    }

    /// Creates an account without any permission, owned by whoever creates it.
    pub async fn create_account(&self, by: &Principal, slug: &str, display_name: Option<String>) -> Result<Account, Error> {
        if !is_slug(slug) {
            return Err(Error::InvalidSlug);
        }
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        let owner = self.answerable(&mut transaction, by).await?;
        let user = User { id: UserId::generate(now), email: format!("sa+{slug}@localhost"), display_name, created_at: now };
        let account = Account { user, slug: slug.to_owned(), owner, disabled: false };
        store::insert(&mut transaction, &by.tenant, &account).await.map_err(|error| {
            if breaks(&error, "service_accounts_tenant_id_slug_key") { Error::Exists(slug.to_owned()) } else { error.into() }
        })?;
        let event = Event::by(by, Action::AccountCreated).on("service_account", account.user.id).with("slug", slug);
        self.commit(transaction, event).await?;
        tracing::info!(account.id = %account.user.id, "identity.create_account");
        Ok(account)
    }

    /// The person who answers for what a caller creates: itself, or the owner of the machine that calls.
    async fn answerable(&self, connection: &mut PgConnection, by: &Principal) -> Result<UserId, Error> {
        let machine = store::list(connection, &by.tenant, Some(by.id)).await?.pop();
        Ok(machine.map_or(by.id, |account| account.owner))
    }

    pub async fn delete_account(&self, by: &Principal, id: UserId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        self.lock_account(&mut transaction, &by.tenant, id).await?;
        store::delete(&mut transaction, id).await?;
        tracing::info!(account.id = %id, "identity.delete_account");
        Ok(self.commit(transaction, Event::by(by, Action::AccountDeleted).on("service_account", id)).await?)
    }

    /// Switches an account off, which ends its tokens, or on again.
    pub async fn set_account_disabled(&self, by: &Principal, id: UserId, disabled: bool) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        self.lock_account(&mut transaction, &by.tenant, id).await?;
        users::set_disabled(&mut transaction, &by.tenant, id, disabled.then(|| self.clock.now())).await?;
        tracing::info!(account.id = %id, disabled, "identity.set_account_disabled");
        let action = if disabled { Action::AccountDisabled } else { Action::AccountEnabled };
        Ok(self.commit(transaction, Event::by(by, action).on("service_account", id)).await?)
    }

    pub async fn transfer_account(&self, by: &Principal, id: UserId, owner: UserId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        self.lock_account(&mut transaction, &by.tenant, id).await?;
        users::find_user(&mut transaction, &by.tenant, owner).await?.ok_or(Error::NoPerson)?;
        store::update_owner(&mut transaction, &by.tenant, id, owner).await?;
        let event = Event::by(by, Action::AccountTransferred).on("service_account", id).with("owner", owner.to_string());
        Ok(self.commit(transaction, event).await?)
    }

    pub(super) async fn lock_account(&self, connection: &mut PgConnection, tenant: &TenantId, id: UserId) -> Result<(), Error> {
        if store::lock(connection, tenant, id).await? { Ok(()) } else { Err(Error::Unknown) }
    }
}

fn is_slug(text: &str) -> bool {
    (1..=48).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-')
}
