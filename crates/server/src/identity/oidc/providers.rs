//! Setting providers up.

use url::Url;
use weft_model::{Fault, Principal, Secret, TenantId};

use super::{
    Error, Oidc, address,
    provider::Provider,
    service::{CLIENT_SECRET, scope},
    store,
};
use crate::{
    audit::{self, Action, Event},
    identity::roles,
};

/// Ids that would be taken for a part of the path.
const RESERVED: [&str; 3] = ["providers", "callback", "token-exchange"];

impl Oidc {
    pub async fn providers(&self, tenant: &TenantId) -> Result<Vec<Provider>, Error> {
        Ok(store::list(&mut *self.identity.pool.acquire().await?, tenant).await?)
    }

    pub async fn provider(&self, tenant: &TenantId, id: &str) -> Result<Provider, Error> {
        let found = store::find(&mut *self.identity.pool.acquire().await?, tenant, id).await?;
        found.ok_or_else(|| Error::Unknown(id.to_owned()))
    }

    /// Creates a provider or replaces it. Without a secret the stored one stays, an empty one removes it. The provider has to
    /// answer: what cannot be discovered is a typing mistake more often than not.
    pub async fn save(&self, by: &Principal, provider: Provider, secret: Option<Secret<String>>) -> Result<(), Error> {
        let known = roles::store::list(&mut *self.identity.pool.acquire().await?, &by.tenant).await?;
        let faults = faults(&provider, &known);
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        self.discovery.look(&provider.issuer_url).await.map_err(Error::NotDiscovered)?;
        let mut transaction = self.identity.pool.begin().await?;
        store::upsert(&mut transaction, &by.tenant, &provider, self.identity.clock.now()).await?;
        let scope = scope(&provider.id);
        match secret {
            Some(secret) if secret.expose().is_empty() => {
                self.vault.delete(&mut transaction, &by.tenant, &scope, CLIENT_SECRET).await?;
            }
            Some(secret) => {
                self.vault.set(&mut transaction, (&by.tenant, &scope), CLIENT_SECRET, &secret, Some(by.id)).await?;
            }
            None => {}
        }
        let event = Event::by(by, Action::ProviderSaved).on("provider", &provider.id);
        let event = event.with("issuer", provider.issuer_url.clone()).with("enabled", provider.enabled);
        audit::record(&mut transaction, &event, self.identity.clock.now()).await?;
        transaction.commit().await?;
        tracing::info!(provider = provider.id, by.id = %by.id, "oidc.save_provider");
        Ok(())
    }

    /// Deletes a provider. Users stay; those who are linked to it are unlinked, which has to be meant.
    pub async fn delete(&self, by: &Principal, id: &str, force: bool) -> Result<(), Error> {
        let mut transaction = self.identity.pool.begin().await?;
        let count = store::lock_and_count_links(&mut transaction, &by.tenant, id).await?;
        match count {
            None => return Err(Error::Unknown(id.to_owned())),
            Some(count) if count > 0 && !force => return Err(Error::InUse { provider: id.to_owned(), count }),
            Some(_) => {}
        }
        store::delete(&mut transaction, &by.tenant, id).await?;
        self.vault.delete_scope(&mut transaction, &by.tenant, &scope(id)).await?;
        let event = Event::by(by, Action::ProviderDeleted).on("provider", id);
        audit::record(&mut transaction, &event, self.identity.clock.now()).await?;
        transaction.commit().await?;
        tracing::info!(provider = id, by.id = %by.id, "oidc.delete_provider");
        Ok(())
    }
}

fn faults(provider: &Provider, known: &[roles::store::Role]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut check = |kept: bool, path: &str, message: &str| {
        if !kept {
            faults.push(Fault::new(path, message));
        }
    };
    let id = &provider.id;
    check(!id.is_empty(), "$.id", "id required");
    check(
        id.is_empty() || (is_identifier(id) && !RESERVED.contains(&id.as_str())),
        "$.id",
        "must be 1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or digit, and not a word of the API's paths",
    );
    check(!provider.display_name.trim().is_empty(), "$.displayName", "displayName required");
    check(!provider.issuer_url.is_empty(), "$.issuerUrl", "issuer_url required");
    let issuer =
        Url::parse(&provider.issuer_url).ok().filter(|url| url.has_host() && url.query().is_none() && url.fragment().is_none());
    check(provider.issuer_url.is_empty() || issuer.is_some(), "$.issuerUrl", "invalid issuer_url");
    check(issuer.is_none_or(|url| address::is_secure(&url)), "$.issuerUrl", "issuer_url must be HTTPS (except localhost)");
    check(!provider.client_id.is_empty(), "$.clientId", "client_id required");
    check(
        provider.scopes.iter().all(|scope| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic())),
        "$.scopes",
        "must be words without spaces",
    );
    check(known.iter().any(|role| role.name == provider.default_role), "$.defaultRole", "must be a role that exists");
    check(provider.role_claim.as_deref() != Some(""), "$.roleClaim", "must be the name of a claim, or absent");
    faults
}

fn is_identifier(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
