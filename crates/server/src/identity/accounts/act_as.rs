//! Acting as somebody else: a standing delegation, and a rule that is checked each time.
//!
//! Whoever acts must hold every permission of the one it acts as. So acting as an account never lets anybody do more than
//! they may do as themselves; it decides as whom a thing is done.

use std::sync::Arc;

use sqlx::PgConnection;
use weft_model::{Principal, UserId};

use super::{
    service::Error,
    store::{self, Delegation},
};
use crate::{
    audit::{Action, Event},
    identity::{
        service::{Error as IdentityError, Identity},
        store as users,
    },
};

impl Identity {
    /// Lets a person act as a service account.
    pub async fn grant_act_as(&self, by: &Principal, account: UserId, actor: UserId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        self.lock_account(&mut transaction, &by.tenant, account).await?;
        users::find_user(&mut transaction, &by.tenant, actor).await?.ok_or(IdentityError::UnknownUser)?;
        store::insert_delegation(&mut transaction, &by.tenant, (actor, account), by.id, self.clock.now()).await?;
        let event = Event::by(by, Action::ActAsGranted).on("service_account", account).with("actor", actor.to_string());
        Ok(self.commit(transaction, event).await?)
    }

    pub async fn revoke_act_as(&self, by: &Principal, account: UserId, actor: UserId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        self.lock_account(&mut transaction, &by.tenant, account).await?;
        if !store::delete_delegation(&mut transaction, &by.tenant, (actor, account)).await? {
            return Ok(());
        }
        let event = Event::by(by, Action::ActAsRevoked).on("service_account", account).with("actor", actor.to_string());
        Ok(self.commit(transaction, event).await?)
    }

    /// Who may act as an account.
    pub async fn actors(&self, by: &Principal, account: UserId) -> Result<Vec<Delegation>, Error> {
        self.account(&by.tenant, account).await?;
        Ok(store::list_delegations(&mut *self.pool.acquire().await?, &by.tenant, (None, Some(account))).await?)
    }

    /// The principal that `caller` becomes when it acts as `target`: the target with what it may do, narrowed to what the
    /// caller's own token allows, and gone when the caller's proof is.
    pub async fn act_as(&self, caller: &Arc<Principal>, target: UserId) -> Result<Arc<Principal>, Error> {
        if caller.id == target {
            return Ok(Arc::clone(caller));
        }
        self.act_as_on(&mut *self.pool.acquire().await?, caller, target).await
    }

    /// The same for whoever has a connection already: two at once could wait for each other.
    pub(in crate::identity) async fn act_as_on(
        &self,
        connection: &mut PgConnection,
        caller: &Arc<Principal>,
        target: UserId,
    ) -> Result<Arc<Principal>, Error> {
        let delegations = store::list_delegations(connection, &caller.tenant, (Some(caller.id), Some(target))).await?;
        let enabled = users::find_enabled_member(connection, &caller.tenant, target).await?;
        let (Some(_), Some((user, kind))) = (delegations.first(), enabled) else {
            return Err(Error::NoDelegation(target));
        };
        let principal = self.principal(connection, &caller.tenant, (user, &kind), caller.proof).await?;
        match caller.permissions.exceeded_by(&principal.permissions) {
            Some(key) => Err(Error::ActAsExceeds { target, key: key.to_owned() }),
            None => Ok(Arc::new(principal)),
        }
    }
}
