//! Declaring endpoints and receiving requests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinHandle;
use weft_model::{AppId, DeliveryId, EndpointId, RunId, Secret, TenantId, manifest::Webhook};

use super::store::{self, Delivery, Endpoint, NewEndpoint, Target};
use crate::{
    clock::Clock,
    db::{
        cache::Cache,
        group::{Groups, NotWritten, Pace},
    },
    secrets::{self, Scope, Vault},
};

/// How many characters of a token may be shown to tell endpoints apart.
const PREFIX: usize = 12;
/// Endpoints that a node remembers.
const REMEMBERED: u64 = 20_000;
const PACE: Pace = Pace { capacity: 4096, gather: Duration::ZERO };

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no webhook has this token")]
    UnknownToken,
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A request as it came in.
pub struct Incoming {
    /// Lower-case names; headers that are no text are left out, and so are those that carry credentials of a proxy.
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
}

/// A request that is on disk and on its way to the backend.
pub struct Accepted {
    pub target: Arc<Target>,
    pub tenant: TenantId,
    pub app: AppId,
    pub run: RunId,
}

/// Inbound webhooks.
pub struct Webhooks {
    pool: PgPool,
    clock: Clock,
    vault: Arc<Vault>,
    targets: Cache<Vec<u8>, Arc<Target>>,
    deliveries: Groups<Delivery, ()>,
}

impl Webhooks {
    /// Starts the writer of deliveries. It ends, everything written, when this is dropped.
    pub fn start((pool, clock): (PgPool, Clock), vault: Arc<Vault>) -> (Self, JoinHandle<()>) {
        let source = pool.clone();
        let (deliveries, writing) = Groups::start(PACE, move |group: Vec<Delivery>| {
            let pool = source.clone();
            async move {
                store::insert_deliveries(&mut *pool.acquire().await?, &group).await?;
                Ok(vec![(); group.len()])
            }
        });
        (Self { pool, clock, vault, targets: Cache::new(REMEMBERED), deliveries }, writing)
    }

    pub fn forget(&self) {
        self.targets.clear();
    }

    /// Finds the endpoint of a token and puts the request on disk.
    pub async fn accept(&self, token: &str, incoming: &Incoming) -> Result<Accepted, Error> {
        let digest = Sha256::digest(token.as_bytes()).to_vec();
        let target = self
            .targets
            .get_or_load(&digest, async {
                let target = store::find_target(&mut *self.pool.acquire().await?, &digest).await?;
                target.map(Arc::new).ok_or(Error::UnknownToken)
            })
            .await?;
        let now = self.clock.now();
        let name = |error: weft_model::id::InvalidName| sqlx::Error::Decode(error.into());
        let tenant = TenantId::try_from(target.tenant.clone()).map_err(name)?;
        let app = AppId::try_from(target.app.clone()).map_err(name)?;
        let delivery = Delivery {
            id: DeliveryId::generate(now),
            tenant: tenant.clone(),
            endpoint: target.endpoint,
            app: app.clone(),
            run: RunId::generate(now),
            headers: kept_headers(&incoming.headers),
            body: incoming.body.to_vec(),
            received_at: now,
        };
        let run = delivery.run;
        self.deliveries.write(delivery).await?;
        Ok(Accepted { target, tenant, app, run })
    }

    /// Forgets deliveries older than `kept`. Run now and then.
    pub async fn tidy(&self, kept: chrono::Duration) -> sqlx::Result<()> {
        let mut connection = self.pool.acquire().await?;
        while store::delete_older(&mut connection, DeliveryId::floor(self.clock.now() - kept)).await? > 0 {}
        Ok(())
    }

    /// The endpoints of an app, each with its token.
    pub async fn list(&self, tenant: &TenantId, app: &AppId) -> Result<Vec<(Endpoint, Secret<String>)>, Error> {
        let mut connection = self.pool.acquire().await?;
        let mut tokens = self.vault.read(&mut connection, tenant, &Scope::Webhook).await?;
        let endpoints = store::list(&mut connection, tenant, app).await?;
        let with_token = |endpoint: Endpoint| tokens.remove(&endpoint.id.to_string()).map(|token| (endpoint, token));
        Ok(endpoints.into_iter().filter_map(with_token).collect())
    }
}

/// The headers as they are stored: without the sender's credentials, which only the backend gets.
fn kept_headers(headers: &BTreeMap<String, String>) -> Value {
    let kept = headers.iter().filter(|(name, _)| name.as_str() != "authorization");
    Value::Object(kept.map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect())
}

/// Makes the endpoints of an app those that its manifest declares. Those that stay keep their token.
pub async fn declare(
    connection: &mut PgConnection,
    vault: &Vault,
    (tenant, app): (&TenantId, &AppId),
    webhooks: &[Webhook],
    now: DateTime<Utc>,
) -> Result<(), secrets::Error> {
    let existing = store::list(connection, tenant, app).await?;
    for endpoint in &existing {
        match webhooks.iter().find(|webhook| webhook.name == endpoint.name) {
            Some(webhook) => store::update_method(connection, tenant, endpoint.id, &webhook.method).await?,
            None => delete(connection, vault, tenant, endpoint.id).await?,
        }
    }
    for webhook in webhooks.iter().filter(|webhook| existing.iter().all(|endpoint| endpoint.name != webhook.name)) {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes);
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let id = EndpointId::generate(now);
        let token_prefix = token.get(..PREFIX).unwrap_or_default();
        let new = NewEndpoint { id, webhook, token_digest: &Sha256::digest(token.as_bytes()), token_prefix };
        store::insert(connection, (tenant, app), new, now).await?;
        vault.set(connection, (tenant, &Scope::Webhook), &id.to_string(), &Secret::new(token.clone()), None).await?;
    }
    Ok(())
}

/// Removes the endpoints of an app.
pub async fn remove(
    connection: &mut PgConnection,
    vault: &Vault,
    (tenant, app): (&TenantId, &AppId),
) -> Result<(), secrets::Error> {
    for endpoint in store::list(connection, tenant, app).await? {
        delete(connection, vault, tenant, endpoint.id).await?;
    }
    Ok(())
}

async fn delete(connection: &mut PgConnection, vault: &Vault, tenant: &TenantId, id: EndpointId) -> Result<(), secrets::Error> {
    store::delete(connection, tenant, id).await?;
    vault.delete(connection, tenant, &Scope::Webhook, &id.to_string()).await?;
    Ok(())
}
