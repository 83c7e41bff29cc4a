//! Binding an app to an integration, and letting it go.

use weft_model::{AppId, BindingId, ConnectionId, Principal};

use super::store::{self, Binding};
use crate::{
    audit::{self, Action, Event},
    connections::{
        error::Error,
        service::{Connections, manage_keys, manages},
    },
    db::notify,
};

/// Whom a binding is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BindingScope)]
pub enum Reach {
    /// Everybody who uses the app.
    #[default]
    App,
    /// Whoever makes it.
    User,
}

impl Connections {
    pub async fn bindings(
        &self,
        caller: &Principal,
        app: &AppId,
        after: Option<BindingId>,
        limit: i64,
    ) -> Result<Vec<Binding>, Error> {
        self.known_app(caller, app).await?;
        Ok(store::list(&mut *self.pool.acquire().await?, (&caller.tenant, app, caller.id), after, limit).await?)
    }

    pub async fn bind(
        &self,
        caller: &Principal,
        (app, integration): (&AppId, &AppId),
        reach: Reach,
        (bound, triggers): (Option<ConnectionId>, Vec<String>),
    ) -> Result<(), Error> {
        self.known_app(caller, app).await?;
        let known = self.integrations.get(&caller.tenant, integration).await?;
        let is_known = |name: &String| known.manifest.content.triggers.iter().any(|trigger| trigger.poll.name == *name);
        if let Some(name) = triggers.iter().find(|name| !is_known(name)) {
            return Err(Error::InvalidRequest(format!("integration '{integration}' has no trigger '{name}'")));
        }
        may_reach(caller, integration, reach)?;
        if reach == Reach::User && bound.is_none() {
            return Err(Error::InvalidRequest("a binding for yourself names a connectionId".to_owned()));
        }
        let (now, owner) = (self.clock.now(), (reach == Reach::User).then_some(caller.id));
        let mut transaction = self.pool.begin().await?;
        if let Some(id) = bound
            && !store::may_bind(&mut transaction, (&caller.tenant, integration, caller.id), owner, id).await?
        {
            return Err(Error::InvalidRequest("connection not found or not owned by you".to_owned()));
        }
        let id = BindingId::generate(now);
        store::upsert(&mut transaction, (&caller.tenant, app, integration), (owner, bound, &triggers), (id, caller.id), now)
            .await?;
        let event = Event::by(caller, Action::AppBound).on("app", app).with("integration", integration.as_str());
        audit::record(&mut transaction, &event.with("forEverybody", owner.is_none()), now).await?;
        let own = notify::transaction_id(&mut transaction).await?;
        transaction.commit().await?;
        self.forget_choices_after(&caller.tenant, own);
        Ok(())
    }

    /// Removing what is not there is no mistake.
    pub async fn unbind(&self, caller: &Principal, (app, integration): (&AppId, &AppId), reach: Reach) -> Result<(), Error> {
        self.known_app(caller, app).await?;
        may_reach(caller, integration, reach)?;
        let owner = (reach == Reach::User).then_some(caller.id);
        let mut transaction = self.pool.begin().await?;
        if store::delete(&mut transaction, (&caller.tenant, app, integration), owner).await? {
            let event = Event::by(caller, Action::AppUnbound).on("app", app).with("integration", integration.as_str());
            audit::record(&mut transaction, &event, self.clock.now()).await?;
        }
        let own = notify::transaction_id(&mut transaction).await?;
        transaction.commit().await?;
        self.forget_choices_after(&caller.tenant, own);
        Ok(())
    }
}

/// What everybody will act with is decided by who looks after the integration.
fn may_reach(caller: &Principal, integration: &AppId, reach: Reach) -> Result<(), Error> {
    if reach == Reach::User || manages(caller, integration) {
        return Ok(());
    }
    let [_, key] = manage_keys(integration);
    Err(Error::Denied(key))
}
