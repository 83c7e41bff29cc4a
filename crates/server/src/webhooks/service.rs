//! Declaring endpoints, and keeping the requests that arrive at them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinHandle;
use uuid::Uuid;
use weft_model::{AppId, DeliveryId, EndpointId, RunId, Secret, TenantId, manifest::Webhook};

use super::store::{self, Delivery, Endpoint, NewEndpoint, Target, Unanswered};
use crate::{
    clock::Clock,
    db::{
        cache::Cache,
        group::{Groups, NotWritten, Pace},
    },
    runs::{self, Record},
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
    Run(#[from] runs::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A request as it came in.
#[derive(Serialize, Deserialize)]
pub struct Incoming {
    /// Lower-case names; headers that are no text are left out, and so are those that carry credentials of a proxy.
    pub headers: BTreeMap<String, String>,
    #[serde(skip)]
    pub body: Bytes,
}

/// Inbound webhooks.
pub struct Webhooks {
    pool: PgPool,
    clock: Clock,
    vault: Arc<Vault>,
    targets: Cache<Vec<u8>, Arc<Target>>,
    deliveries: Groups<(Delivery, Record), ()>,
}

impl Webhooks {
    /// Starts the writer of deliveries. It ends, everything written, when this is dropped.
    pub fn start((pool, clock): (PgPool, Clock), vault: Arc<Vault>, node: Uuid) -> (Self, JoinHandle<()>) {
        let source = pool.clone();
        let (deliveries, writing) = Groups::start(PACE, move |group: Vec<(Delivery, Record)>| {
            let pool = source.clone();
            async move {
                let (deliveries, starts): (Vec<_>, Vec<_>) = group.into_iter().unzip();
                let mut transaction = pool.begin().await?;
                store::insert_deliveries(&mut transaction, &deliveries).await?;
                runs::insert_starts(&mut transaction, node, &starts).await?;
                transaction.commit().await?;
                Ok(vec![(); deliveries.len()])
            }
        });
        (Self { pool, clock, vault, targets: Cache::new(REMEMBERED), deliveries }, writing)
    }

    /// Whether deliveries cannot be written.
    pub fn writes_fail(&self) -> bool {
        self.deliveries.fails()
    }

    pub fn forget(&self) {
        self.targets.clear();
    }

    /// The endpoint of a token.
    pub async fn find(&self, token: &str) -> Result<Arc<Target>, Error> {
        let digest = Sha256::digest(token.as_bytes()).to_vec();
        self.targets
            .get_or_load(&digest, || async {
                let target = store::find_target(&mut *self.pool.acquire().await?, &digest).await?;
                target.map(Arc::new).ok_or(Error::UnknownToken)
            })
            .await
    }

    /// Puts a request on disk, together with the start of its run.
    pub async fn keep(&self, target: &Target, incoming: &Incoming, record: Record) -> Result<(), Error> {
        let received_at = record.started_at;
        let place = place(&record.id.to_string());
        let delivery = Delivery {
            id: DeliveryId::generate(received_at),
            tenant: target.tenant.clone(),
            endpoint: target.endpoint,
            app: target.app.clone(),
            run: record.id,
            sealed: self.vault.seal(&target.tenant, &place.each_ref().map(String::as_str), &incoming.to_bytes()?)?,
            received_at,
        };
        Ok(self.deliveries.write((delivery, record)).await?)
    }

    /// The request of a run that this node took over from a dead one.
    pub async fn find_unanswered(&self, run: RunId) -> Result<Option<(Unanswered, Incoming)>, Error> {
        let Some(unanswered) = store::find_unanswered(&mut *self.pool.acquire().await?, run).await? else { return Ok(None) };
        let Delivery { tenant, sealed: (version, sealed), .. } = &unanswered.delivery;
        let place = place(&run.to_string());
        let bytes = self.vault.open_sealed(tenant, &place.each_ref().map(String::as_str), *version, sealed)?;
        Ok(Some((unanswered, Incoming::from_bytes(&bytes)?)))
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

/// Where a sealed request belongs.
fn place(run: &str) -> [String; 2] {
    ["webhook".to_owned(), run.to_owned()]
}

impl Incoming {
    /// One line of JSON, then the body as it is.
    fn to_bytes(&self) -> Result<Vec<u8>, sqlx::Error> {
        let mut bytes = serde_json::to_vec(self).map_err(|error| sqlx::Error::Encode(error.into()))?;
        bytes.reserve(self.body.len() + 1);
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, sqlx::Error> {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (line, body) = bytes.split_at(end);
        let mut incoming: Self = serde_json::from_slice(line).map_err(|error| sqlx::Error::Decode(error.into()))?;
        incoming.body = Bytes::copy_from_slice(body.get(1..).unwrap_or_default());
        Ok(incoming)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_request_comes_back_byte_for_byte() {
        let headers = BTreeMap::from([("x-text".to_owned(), "a\\nb \"quoted\"".to_owned())]);
        for body in [&b""[..], b"\n", b"{\"a\":\n1}\xff\0"] {
            let incoming = Incoming { headers: headers.clone(), body: Bytes::copy_from_slice(body) };
            let again = Incoming::from_bytes(&incoming.to_bytes().expect("bytes")).expect("the same type");
            assert_eq!((again.headers, again.body), (incoming.headers, incoming.body));
        }
    }
}
