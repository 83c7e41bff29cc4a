//! Further configurations of an integration, by name: several OAuth clients at one vendor, for example one for each region.
//!
//! What a named configuration does not say is taken from the integration's own. Connections name the one they were made with, and
//! calls with them use it. The values are sealed in the row of the configuration.

use serde_json::{Map, Value};
use weft_model::{AppId, ConfigurationId, Fault, Principal, TenantId};
use weft_vault::Sealed;

use super::{
    service::{Error, Integrations, faults, typed},
    store::{self, Named},
};
use crate::audit::{self, Action, Event};

/// The longest label, in characters.
const LABEL: usize = 100;

impl Integrations {
    /// The named configurations of an integration, without their values.
    pub async fn named(
        &self,
        by: &Principal,
        id: &AppId,
        after: Option<ConfigurationId>,
        limit: i64,
    ) -> Result<Vec<Named>, Error> {
        self.get(&by.tenant, id).await?;
        Ok(store::list_named(&mut *self.pool.acquire().await?, (&by.tenant, id), after, limit).await?)
    }

    /// Adds a named configuration.
    pub async fn add_named(
        &self,
        by: &Principal,
        id: &AppId,
        label: &str,
        values: Map<String, Value>,
    ) -> Result<ConfigurationId, Error> {
        let app = self.get(&by.tenant, id).await?;
        let (label, values) = (label.trim(), typed(&app.manifest, values));
        let mut found = faults(&app.manifest, &values);
        if label.is_empty() || label.chars().count() > LABEL || label.chars().any(char::is_control) {
            found.push(Fault::new("$.label", format!("is 1 to {LABEL} characters, without control characters")));
        }
        if values.is_empty() {
            found.push(Fault::new("$.credentials", "has no field, so it would say nothing"));
        }
        if !found.is_empty() {
            return Err(Error::Invalid(found));
        }
        let now = self.clock.now();
        let named = ConfigurationId::generate(now);
        let fields: Vec<_> = values.keys().cloned().collect();
        let bytes = serde_json::to_vec(&values).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let sealed = self.vault.seal(&by.tenant, &place(&named.to_string()), &bytes)?;
        let mut transaction = self.pool.begin().await?;
        let row = (named, label, by.id);
        if !store::insert_named(&mut transaction, (&by.tenant, id), row, &sealed, now).await? {
            return Err(Error::LabelTaken(label.to_owned()));
        }
        let event = Event::by(by, Action::ConfigurationSaved).on("integration", id).with("fields", fields).with("label", label);
        audit::record(&mut transaction, &event, now).await?;
        transaction.commit().await?;
        Ok(named)
    }

    /// Removes a named configuration that no connection uses.
    pub async fn remove_named(&self, by: &Principal, id: &AppId, named: ConfigurationId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        let whose = (&by.tenant, id);
        if store::lock_named(&mut transaction, whose, named).await?.is_none() {
            return Err(Error::UnknownConfiguration(named));
        }
        let used = store::count_uses(&mut transaction, named).await?;
        if used > 0 {
            return Err(Error::ConfigurationInUse(used));
        }
        store::delete_named(&mut transaction, whose, named).await?;
        let event = Event::by(by, Action::ConfigurationDeleted).on("integration", id).with("configuration", named.to_string());
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        transaction.commit().await?;
        self.forget();
        Ok(())
    }

    /// What a named configuration says.
    pub(super) async fn named_values(
        &self,
        connection: &mut sqlx::PgConnection,
        (tenant, id): (&TenantId, &AppId),
        named: ConfigurationId,
    ) -> Result<Map<String, Value>, Error> {
        let found = store::find_named(connection, (tenant, id), named).await?;
        let (key_version, sealed) = found.ok_or(Error::UnknownConfiguration(named))?;
        let bytes = self.vault.open_sealed(tenant, &place(&named.to_string()), key_version, &Sealed(sealed))?;
        Ok(serde_json::from_slice(&bytes).map_err(|error| sqlx::Error::Decode(error.into()))?)
    }
}

fn place(named: &str) -> [&str; 2] {
    ["configuration", named]
}
