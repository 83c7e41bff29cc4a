//! What the parts of a sign-on share.

use std::sync::Arc;

use openidconnect::{AuthType, ClientId, ClientSecret, RedirectUrl, core::CoreClientAuthMethod};
use sqlx::PgConnection;
use url::Url;
use weft_model::{Secret, TenantId};

use super::{
    Error,
    discovery::{Discovery, NoDiscovery, Published},
    provider::Provider,
    store,
    token::Client,
};
use crate::{
    clock::Clock,
    http::outbound::Outbound,
    identity::Identity,
    secrets::{Scope, Vault},
};

/// The name of a provider's secret in its scope.
pub(super) const CLIENT_SECRET: &str = "client_secret";

/// Single sign-on.
pub struct Oidc {
    pub(super) identity: Arc<Identity>,
    pub(super) vault: Arc<Vault>,
    pub(super) discovery: Discovery,
    pub(super) public_url: Url,
}

impl Oidc {
    pub fn new(identity: Arc<Identity>, vault: Arc<Vault>, (outbound, clock): (Arc<Outbound>, Clock), public_url: Url) -> Self {
        Self { identity, vault, discovery: Discovery::new(outbound, clock), public_url }
    }

    /// The base of this server's addresses, as browsers know it.
    pub fn public_url(&self) -> &Url {
        &self.public_url
    }

    /// Removes logins that nobody finished in time. Run now and then.
    pub async fn tidy(&self) -> Result<(), Error> {
        store::delete_expired(&mut *self.identity.pool.acquire().await?, self.identity.clock.now()).await?;
        Ok(())
    }

    /// A provider that may be used.
    pub(super) async fn enabled(&self, connection: &mut PgConnection, tenant: &TenantId, id: &str) -> Result<Provider, Error> {
        let found = store::find(connection, tenant, id).await?;
        found.filter(|provider| provider.enabled).ok_or_else(|| Error::Unknown(id.to_owned()))
    }

    pub(super) async fn published(&self, provider: &Provider) -> Result<Published, Error> {
        self.discovery
            .find(&provider.issuer_url)
            .await
            .map_err(|cause: NoDiscovery| Error::Unreachable { provider: provider.id.clone(), cause: cause.to_string() })
    }

    pub(super) async fn secret(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        provider: &Provider,
    ) -> Result<Option<Secret<String>>, Error> {
        Ok(self.vault.read(connection, tenant, &scope(&provider.id)).await?.remove(CLIENT_SECRET))
    }

    /// The library's client for a provider.
    pub(super) fn client(
        &self,
        provider: &Provider,
        published: &Published,
        secret: Option<&Secret<String>>,
    ) -> Result<Client, Error> {
        let callback = format!("{}/api/v1/auth/oidc/callback", self.public_url.as_str().trim_end_matches('/'));
        let redirect = RedirectUrl::new(callback).map_err(|_| Error::InvalidRedirect)?;
        let id = ClientId::new(provider.client_id.clone());
        let secret = secret.map(|secret| ClientSecret::new(secret.expose().clone()));
        let client =
            openidconnect::Client::from_provider_metadata(published.as_ref().clone(), id, secret).set_redirect_uri(redirect);
        // Basic authentication is what the standard assumes of a provider that does not say what it takes.
        let methods = published.token_endpoint_auth_methods_supported();
        let in_body = methods.is_some_and(|methods| {
            methods.contains(&CoreClientAuthMethod::ClientSecretPost)
                && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
        });
        Ok(client.set_auth_type(if in_body { AuthType::RequestBody } else { AuthType::BasicAuth }))
    }
}

/// Where a provider's secret is.
pub(super) fn scope(provider: &str) -> Scope {
    Scope::Oidc(provider.to_owned())
}
