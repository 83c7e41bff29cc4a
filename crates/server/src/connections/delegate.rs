//! Leave to use somebody's connection, for an app or another member: for a time, for some actions, for a number of calls.

use weft_model::{AppId, ConnectionId, Principal};

use super::{
    error::Error,
    service::Connections,
    store::{self, Delegate, Terms},
};
use crate::{
    apps::App,
    audit::{self, Action, Event},
    db::notify,
    runs::PROXY,
};

/// Calls that a delegation may be limited to at most.
const MOST_CALLS: i64 = 1_000_000_000;

impl Connections {
    /// Delegates a connection of the caller's own, or the tenant's when it is named. What was delegated before is replaced.
    pub async fn delegate(
        &self,
        by: &Principal,
        app: &App,
        source: Option<ConnectionId>,
        to: Delegate,
        terms: Terms,
    ) -> Result<ConnectionId, Error> {
        self.check_terms(by, app, &to, &terms).await?;
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        let whose = (&by.tenant, &app.id, by.id);
        let found = store::find_delegable(&mut transaction, whose, source).await?;
        let source = match (found, source) {
            (Some(found), _) => found,
            (None, Some(id)) => return Err(Error::Unknown(id)),
            (None, None) => return Err(Error::NothingToDelegate),
        };
        let id = ConnectionId::generate(now);
        store::replace_delegation(&mut transaction, (&by.tenant, &app.id), (id, source, by.id), (&to, &terms), now).await?;
        let event = Event::by(by, Action::ConnectionDelegated).on("connection", source).with("delegation", id.to_string());
        let event = match &to {
            Delegate::App(agent) => event.with("app", agent.as_str()),
            Delegate::Member(user) => event.with("user", user.to_string()),
        };
        audit::record(&mut transaction, &event.with("integration", app.id.as_str()), now).await?;
        let own = notify::transaction_id(&mut transaction).await?;
        transaction.commit().await?;
        self.forget_choices_after(&by.tenant, own);
        Ok(id)
    }

    async fn check_terms(&self, by: &Principal, app: &App, to: &Delegate, terms: &Terms) -> Result<(), Error> {
        let invalid = |message: String| Err(Error::InvalidRequest(message));
        if terms.until.is_some_and(|until| until <= self.clock.now()) {
            return invalid("expires_at is in the past".to_owned());
        }
        if terms.calls.is_some_and(|calls| !(1..=MOST_CALLS).contains(&calls)) {
            return invalid(format!("max_calls is 1 to {MOST_CALLS}"));
        }
        // What is sent to the vendor directly has a name like an action.
        let known = |action: &&String| app.actions.contains_key(*action) || (*action == PROXY && app.manifest.recipes.is_some());
        if let Some(unknown) = terms.actions.iter().flatten().find(|action| !known(action)) {
            return invalid(format!("integration '{}' has no action '{unknown}'", app.id));
        }
        match to {
            Delegate::App(agent) => self.known_app(by, agent).await,
            Delegate::Member(user) if *user == by.id => invalid("what is yours you may use already".to_owned()),
            Delegate::Member(user) => {
                let member = store::is_member(&mut *self.pool.acquire().await?, &by.tenant, *user).await?;
                if member { Ok(()) } else { invalid(format!("user '{user}' is no member of this tenant")) }
            }
        }
    }

    /// Whether the tenant has such an app.
    pub(super) async fn known_app(&self, by: &Principal, app: &AppId) -> Result<(), Error> {
        Ok(self.integrations.apps().get(&by.tenant, app).await.map(|_| ())?)
    }
}
