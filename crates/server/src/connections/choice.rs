//! Which connection a call uses.
//!
//! Decided once, at its beginning: what was named, else what the app is bound to, else a delegation that is good for something, else
//! the oldest of the caller's own that serves, else the tenant's. What somebody else's account is used for is admitted here too; a
//! call that was counted out is taken off when it goes out, so that what is answered without the vendor costs nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use weft_model::{AppId, ConnectionId, Principal, TenantId, UserId, connection::ConnectionStatus};

use super::{
    credential::{Connection, Credential},
    error::Error,
    service::{Connections, manages},
    store::{self, Candidate},
};
use crate::{
    apps::App,
    db::{cache::Cache, notify::TransactionId},
};

/// Choices that a node remembers.
const REMEMBERED: u64 = 50_000;
/// Changes of its own that a node knows again when it hears of them, and how late it may hear.
const OWN: (u64, Duration) = (10_000, Duration::from_mins(1));

/// A connection that was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// By the caller, who has to be entitled to it.
    Asked(ConnectionId),
    /// By the call that this one is part of, which was entitled to it.
    Inherited(ConnectionId),
}

/// What a call is about, as far as its connection depends on it.
pub struct Wish<'a> {
    pub principal: &'a Principal,
    pub app: &'a App,
    pub action: &'a str,
    /// The app on whose behalf the call is made.
    pub calling_app: Option<&'a AppId>,
    /// Whether that app itself makes the call. Else the caller only says so.
    pub attested: bool,
    pub chosen: Option<Chosen>,
}

/// What a call acts with.
#[derive(Debug, Clone)]
pub struct Account {
    pub credential: Arc<Credential>,
    /// The delegation that the call is taken off, where they are counted.
    counted: Option<Counted>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    delegation: ConnectionId,
    used_up: bool,
}

/// A choice, good until something changes in the tenant.
#[derive(Debug, Clone)]
struct Choice {
    connection: ConnectionId,
    owner: Option<UserId>,
    delegation: Option<Delegation>,
}

#[derive(Debug, Clone)]
struct Delegation {
    until: Option<DateTime<Utc>>,
    /// Whether it was over when it was chosen: then there is nothing else.
    over: bool,
    actions: Option<Arc<[String]>>,
    counted: Option<Counted>,
}

impl Choice {
    fn new(found: Candidate, now: DateTime<Utc>) -> Self {
        let delegation = found.delegation_id.map(|id| Delegation {
            until: found.delegated_until,
            over: found.delegated_until.is_some_and(|until| until <= now),
            actions: found.delegated_actions.map(Arc::from),
            counted: found.delegated_calls.map(|left| Counted { delegation: id.into(), used_up: left <= 0 }),
        });
        Self { connection: found.id.into(), owner: found.user_id.map(UserId::from), delegation }
    }

    /// Whether it was good when it was chosen and is not any more.
    fn has_run_out(&self, now: DateTime<Utc>) -> bool {
        self.delegation.as_ref().is_some_and(|terms| !terms.over && terms.until.is_some_and(|until| until <= now))
    }
}

/// Tenant and its generation, integration, caller, app.
type Key = (TenantId, u64, AppId, UserId, Option<AppId>);

/// The choices that a node remembers, each tenant's by itself: what changes in one costs the others nothing.
pub struct Choices {
    remembered: Cache<Key, Option<Arc<Choice>>>,
    generations: DashMap<TenantId, AtomicU64, ahash::RandomState>,
    /// Changes of this node's own whose word has not come back from the database yet.
    own: moka::sync::Cache<TransactionId, ()>,
}

impl Default for Choices {
    fn default() -> Self {
        let (count, longest) = OWN;
        let own = moka::sync::Cache::builder().max_capacity(count).time_to_live(longest).build();
        Self { remembered: Cache::new(REMEMBERED), generations: DashMap::default(), own }
    }
}

impl Choices {
    fn generation(&self, tenant: &TenantId) -> u64 {
        self.generations.get(tenant).map_or(0, |generation| generation.load(Ordering::SeqCst))
    }

    /// What was chosen before is not found any more, and ages out.
    pub fn forget(&self, tenant: &TenantId) {
        self.generations.entry(tenant.clone()).or_default().fetch_add(1, Ordering::SeqCst);
    }

    /// The same for a change that this node has just committed.
    pub fn forget_after(&self, tenant: &TenantId, own: TransactionId) {
        self.own.insert(own, ());
        self.forget(tenant);
    }

    /// The database tells of a change. One of this node's own was heeded when it was committed: what was chosen since knows of it, and
    /// of all that was committed, and so is told, before it.
    pub fn hear(&self, tenant: &TenantId, by: Option<TransactionId>) {
        if by.is_none_or(|by| self.own.remove(&by).is_none()) {
            self.forget(tenant);
        }
    }

    pub fn clear(&self) {
        self.remembered.clear();
    }
}

impl Connections {
    /// What a call acts with. `None`: the integration knows no accounts, or does without one.
    pub async fn for_call(self: &Arc<Self>, wish: &Wish<'_>) -> Result<Option<Account>, Error> {
        let Some(auth) = &wish.app.manifest.content.user_auth else { return Ok(None) };
        let Some(choice) = self.choose(wish).await? else {
            let integration = wish.app.id.clone();
            let connect_url = self.connect_url(&integration, None);
            return if auth.required { Err(Error::NotConnected { integration, connect_url }) } else { Ok(None) };
        };
        if !matches!(wish.chosen, Some(Chosen::Inherited(_))) {
            self.admit(wish, &choice)?;
        }
        let connection = self.open(&wish.app.tenant, choice.connection).await?;
        let connection = self.serving(wish.app, connection).await?;
        let counted = choice.delegation.as_ref().and_then(|terms| terms.counted);
        Ok(Some(Account { credential: Arc::clone(&connection.credential), counted }))
    }

    /// Takes a call that goes out off what was delegated.
    pub async fn spend(&self, tenant: &TenantId, account: &Account) -> Result<(), Error> {
        let Some(Counted { delegation, used_up }) = account.counted else { return Ok(()) };
        if used_up {
            return Err(Error::DelegationUsedUp);
        }
        let left = store::take_call(&mut *self.pool.acquire().await?, tenant, delegation).await?;
        if left.is_none_or(|left| left == 0) {
            // Whoever comes next may have something else.
            self.forget_choices(tenant);
        }
        left.map(|_| ()).ok_or(Error::DelegationUsedUp)
    }

    /// What a connection holds now, for a call that was made with it: the token may have been renewed since.
    pub async fn current(self: &Arc<Self>, app: &App, id: ConnectionId) -> Result<Arc<Credential>, Error> {
        let connection = self.open(&app.tenant, id).await?;
        Ok(Arc::clone(&self.serving(app, connection).await?.credential))
    }

    async fn choose(&self, wish: &Wish<'_>) -> Result<Option<Arc<Choice>>, Error> {
        match wish.chosen {
            Some(Chosen::Inherited(id)) => Ok(Some(Arc::new(Choice { connection: id, owner: None, delegation: None }))),
            Some(Chosen::Asked(id)) => {
                let now = self.clock.now();
                // Boxed, like renewals: the future of every call would have room for it.
                let find = async { store::find_usable(&mut *self.pool.acquire().await?, whose(wish), Some(id), now).await };
                Ok(Some(Arc::new(Choice::new(Box::pin(find).await?.ok_or(Error::Unknown(id))?, now))))
            }
            None => {
                let key = self.key(wish);
                let choice = self.usual(&key, wish).await?;
                if choice.as_ref().is_some_and(|choice| choice.has_run_out(self.clock.now())) {
                    // Now there may be something else.
                    self.choices.remembered.remove(&key);
                    return self.usual(&key, wish).await;
                }
                Ok(choice)
            }
        }
    }

    fn key(&self, wish: &Wish<'_>) -> Key {
        let tenant = wish.app.tenant.clone();
        let generation = self.choices.generation(&tenant);
        (tenant, generation, wish.app.id.clone(), wish.principal.id, wish.calling_app.cloned())
    }

    async fn usual(&self, key: &Key, wish: &Wish<'_>) -> Result<Option<Arc<Choice>>, Error> {
        let load = || async {
            let (mut connection, now) = (self.pool.acquire().await?, self.clock.now());
            let mut found = match wish.calling_app {
                Some(app) => store::find_bound(&mut connection, whose(wish).0, app).await?,
                None => None,
            };
            if found.is_none() {
                found = store::find_usable(&mut connection, whose(wish), None, now).await?;
            }
            Ok(found.map(|found| Arc::new(Choice::new(found, now))))
        };
        self.choices.remembered.get_or_load(key, load).await
    }

    /// Whether this call may be made with that connection.
    fn admit(&self, wish: &Wish<'_>, choice: &Choice) -> Result<(), Error> {
        // Through an app somebody comes to act with another's account. Who only says that an app calls has to be one who may use it.
        let anothers = choice.owner.is_some_and(|owner| owner != wish.principal.id);
        if anothers
            && !wish.attested
            && let Some(app) = wish.calling_app
        {
            let key = format!("app:{app}:invoke");
            if !wish.principal.permissions.allows(&key) && !manages(wish.principal, &wish.app.id) {
                return Err(Error::Denied(key));
            }
        }
        let Some(terms) = &choice.delegation else { return Ok(()) };
        if let Some(until) = terms.until.filter(|until| *until <= self.clock.now()) {
            return Err(Error::DelegationOver(until));
        }
        if let Some(actions) = terms.actions.as_ref().filter(|actions| !actions.iter().any(|action| action == wish.action)) {
            return Err(Error::ActionNotDelegated { action: wish.action.to_owned(), covered: actions.join(", ") });
        }
        Ok(())
    }

    /// The connection as it can be used now: with a token that is not over.
    async fn serving(self: &Arc<Self>, app: &App, connection: Arc<Connection>) -> Result<Arc<Connection>, Error> {
        if connection.integration != app.id {
            return Err(Error::Unknown(connection.id));
        }
        if connection.status != ConnectionStatus::Active {
            return Err(self.dead(&connection));
        }
        let way = self.way_of(app, &connection).await?;
        self.fresh(app, way, connection).await
    }
}

/// Whose connections a call may use, of which integration: the caller's, and those of the app that it is made for.
fn whose<'a>(wish: &'a Wish<'_>) -> (store::Whose<'a>, Option<&'a AppId>) {
    ((&wish.app.tenant, &wish.app.id, wish.principal.id), wish.calling_app)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::notify::Change;

    #[tokio::test]
    async fn a_choice_that_was_made_while_its_tenant_changed_is_not_found_again() {
        let choices = Choices::default();
        let (one, other): (TenantId, TenantId) = ("one".parse().expect("a name"), "other".parse().expect("a name"));
        let user = UserId::from_uuid(uuid::Uuid::nil());
        let integration: AppId = "mail".parse().expect("a name");
        let ask = async |tenant: &TenantId, loads: bool| {
            let key = (tenant.clone(), choices.generation(tenant), integration.clone(), user, None);
            let loaded = AtomicU64::new(0);
            let load = || async {
                loaded.fetch_add(1, Ordering::SeqCst);
                Ok::<_, ()>(None)
            };
            choices.remembered.get_or_load(&key, load).await.expect("loaded");
            assert_eq!(loaded.load(Ordering::SeqCst) == 1, loads);
        };
        ask(&one, true).await;
        ask(&other, true).await;
        ask(&one, false).await;
        choices.forget(&one);
        ask(&one, true).await;
        ask(&other, false).await;
    }

    #[test]
    fn the_word_of_a_change_of_ones_own_drops_the_choices_once_and_that_of_anothers_always() {
        let (choices, tenant) = (Choices::default(), TenantId::default_tenant());
        let change = |text: &str| match text.parse() {
            Ok(Change::Connections(_, Some(by))) => by,
            other => panic!("{other:?}"),
        };
        let (own, others) = (change("connections default 7"), change("connections default 8"));
        choices.forget_after(&tenant, own);
        let hears = |by: Option<TransactionId>| {
            let before = choices.generation(&tenant);
            choices.hear(&tenant, by);
            choices.generation(&tenant) != before
        };
        assert_eq!([hears(Some(own)), hears(Some(own)), hears(Some(others)), hears(None)], [false, true, true, true]);
    }
}
