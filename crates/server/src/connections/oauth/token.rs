//! Connecting where the server gets tokens by itself: with what somebody enters, or after an app was installed at the vendor.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use weft_model::{
    Principal,
    manifest::{fields::names, token_auth::TokenAuth, user_auth::Way},
};

use super::{flow::Started, refresh::minted, store::Flow};
use crate::{
    apps::App,
    connections::{
        connect::{Kept, Made, Settled, fitting, owner_of},
        error::Error,
        service::{Connections, label, manage_keys, manages},
    },
};

impl Connections {
    /// Where somebody has to go, or what they have to enter. Where that is nothing, it is done.
    pub(super) async fn start_token(
        &self,
        (by, app): (&Principal, &Arc<App>),
        auth: &TokenAuth,
        (way, settled): (&Way, Settled),
    ) -> Result<Started, Error> {
        may_vouch(by, app, auth)?;
        if let Some(installation) = &auth.installation {
            let config = self.integrations.config_by(app, settled.origin.configuration).await?;
            let config: Map<String, Value> = serde_json::from_str(config.json().get()).unwrap_or_default();
            if names(&installation.url).iter().all(|name| config.contains_key(*name)) {
                return self.send_away((by, app), way, settled).await;
            }
        }
        if let Some(schema) = &auth.schema {
            return Ok(Started::Credentials { schema: schema.clone() });
        }
        let made = self.first_token((by, app.as_ref()), auth, settled, Map::new()).await?;
        Ok(Started::Connected(self.keep(by, app, made).await?))
    }

    /// Gets a token with what was entered, which proves it good.
    pub(in crate::connections) async fn first_token(
        &self,
        (by, app): (&Principal, &App),
        auth: &TokenAuth,
        settled: Settled,
        values: Map<String, Value>,
    ) -> Result<Made, Error> {
        may_vouch(by, app, auth)?;
        let mint = self.mint(app, auth, (&values, settled.origin.configuration)).await?;
        let tokens = mint.token().await??;
        let named = tokens.label.clone().or_else(|| mint.label()).and_then(|text| label(&text).ok());
        Ok(settled.made(named, minted(auth, tokens, values, self.clock.now())))
    }

    /// The vendor's page where the app is installed. It sends the state back with what it calls the installation.
    pub(super) async fn where_to_install(&self, app: &App, auth: &TokenAuth, flow: &Flow, state: &str) -> Result<String, Error> {
        let nothing = Map::new();
        let installation = auth.installation.as_ref().ok_or_else(|| Error::NothingToConnect(app.id.clone()))?;
        let mint = self.mint(app, auth, (&nothing, flow.origin.configuration)).await?;
        let mut url = mint.address(&installation.url, None)?;
        url.query_pairs_mut().append_pair("state", state);
        Ok(url.into())
    }

    /// Makes the connection of somebody who comes back from there.
    pub(super) async fn installed(
        &self,
        (by, app): (&Principal, &App),
        auth: &TokenAuth,
        flow: &Flow,
        query: &BTreeMap<String, String>,
    ) -> Result<Kept, Error> {
        let mut given = Map::new();
        for (name, parameter) in auth.installation.iter().flat_map(|installation| &installation.fields) {
            let text = query.get(parameter).filter(|text| !text.is_empty()).ok_or_else(|| Error::NotSent(parameter.clone()))?;
            given.insert(name.clone(), typed(auth, name, text));
        }
        let values = fitting(auth.schema.as_ref().unwrap_or(&Value::Bool(true)), given)?;
        let owner = owner_of(flow.shared, flow.user);
        let settled = Settled { owner, label: flow.label.clone(), again: flow.connection, origin: flow.origin.clone() };
        let made = self.first_token((by, app), auth, settled, values).await?;
        self.keep(by, app, made).await
    }
}

/// Where a secret of the configuration speaks for whatever somebody enters, entering is for those who look after the integration: anybody
/// else could name the account of others who trust this server.
fn may_vouch(by: &Principal, app: &App, auth: &TokenAuth) -> Result<(), Error> {
    if !auth.vouches(&app.manifest.content.config_fields()) || manages(by, &app.id) {
        return Ok(());
    }
    let [_, key] = manage_keys(&app.id);
    Err(Error::Denied(key))
}

/// A parameter as the schema has it.
fn typed(auth: &TokenAuth, name: &str, text: &str) -> Value {
    let kind = auth.schema.as_ref().and_then(|schema| schema["properties"][name]["type"].as_str());
    match kind {
        Some("integer" | "number") => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        _ => text.into(),
    }
}
