//! Deploying and removing integrations of the catalog.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::Value;
use url::Url;
use weft_model::{
    AppId, Principal,
    manifest::{AppKind, Content},
};

use super::indexes::{Read, UnreadIndex};
use crate::{
    apps,
    audit::{self, Action, Event},
    background::outlive,
    data::Consent,
    db::notify::{self, Change},
    integrations::Error,
    node::Node,
    secrets::Scope,
};

/// An integration of the catalog, as a tenant sees it.
pub struct Offer {
    pub document: Value,
    pub content: Content,
    /// Where it is listed; nothing for what comes with the server.
    pub index: Option<Origin>,
    /// The version of the manifest that is installed, if one is.
    pub installed: Option<String>,
}

/// The index that lists an integration.
pub struct Origin {
    pub url: Url,
    pub read_at: DateTime<Utc>,
    /// Why it could not be read again since.
    pub fault: Option<String>,
}

/// How long the first list after the start waits for indexes.
const FIRST: Duration = Duration::from_secs(2);
/// How long a deployment waits for the indexes to be read once; what an index lists goes before what comes with the server.
const ALL: Duration = Duration::from_secs(12);

/// Every integration that can be deployed, by id; what an index lists goes before what comes with the server. By what is known of indexes.
pub async fn list(node: &Node, by: &Principal) -> Result<Vec<Offer>, Error> {
    let installed = node.apps.list(&by.tenant, Some(AppKind::Integration), |app| (app.id, app.version)).await?;
    let version = |id: &str| installed.iter().find(|(other, _)| other == id).map(|(_, version)| version.clone());
    let bundled =
        weft_catalog::all().map(|(id, package)| (id.to_owned(), (package.document.clone(), package.content.clone(), None)));
    let mut offers: BTreeMap<_, _> = bundled.collect();
    node.catalog.begun(FIRST).await;
    // The first index that lists an id counts, so it comes last.
    for Read { source, index, at, fault } in node.catalog.known().0.into_iter().rev() {
        for listed in &index.integrations {
            match Content::from_stored(listed.manifest.clone()) {
                Ok(content) => {
                    let origin = Origin { url: source.url.clone(), read_at: at, fault: fault.as_ref().map(ToString::to_string) };
                    let offer = (listed.manifest.clone(), content, Some(origin));
                    offers.insert(offer.1.app_id.to_string(), offer);
                }
                Err(error) => tracing::warn!(index = %source.url, id = listed.id(), %error, "catalog.index: no manifest"),
            }
        }
    }
    let offer = |(id, (document, content, index)): (String, (Value, Content, Option<Origin>))| Offer {
        document,
        content,
        index,
        installed: version(&id),
    };
    Ok(offers.into_iter().map(offer).collect())
}

/// What has to be deployed: the manifest, and the archive of a backend.
type Deployment = (Value, Option<Vec<u8>>);

/// The integration of an index, else the one that comes with the server.
async fn find(node: &Node, id: &AppId) -> Result<Deployment, Error> {
    let (known, unknown) = indexes(node, id).await;
    let listed = known.iter().find_map(|read| Some((read, read.index.find(id.as_str())?)));
    if let Some((Read { source, .. }, listed)) = listed {
        let unread = |cause| absent(id, vec![UnreadIndex { index: source.url.clone(), cause }]);
        let package = node.catalog.open(source, listed).await.map_err(unread)?;
        let archive = package.archive().map_err(apps::Error::Files)?;
        return Ok((package.document, archive));
    }
    match weft_catalog::find(id.as_str()) {
        Some(bundled) => Ok((bundled.document.clone(), bundled.archive().map_err(apps::Error::Files)?)),
        None => Err(absent(id, unknown)),
    }
}

/// The indexes as they are known; asked for anew where nothing that is known has the integration, because it may have been added just now.
async fn indexes(node: &Node, id: &AppId) -> (Vec<Read>, Vec<UnreadIndex>) {
    node.catalog.begun(ALL).await;
    let (known, unknown) = node.catalog.known();
    if weft_catalog::find(id.as_str()).is_some() || known.iter().any(|read| read.index.find(id.as_str()).is_some()) {
        return (known, unknown);
    }
    node.catalog.refresh().await;
    node.catalog.known()
}

/// Why there is no such integration: it may be in an index that could not be read.
fn absent(id: &AppId, unknown: Vec<UnreadIndex>) -> Error {
    match unknown.into_iter().next() {
        Some(cause) => Error::Unread { integration: id.clone(), cause: Box::new(cause) },
        None => Error::NotInCatalog(id.clone()),
    }
}

/// Deploys an integration of the catalog, or deploys it again. It goes on when whoever asked for it goes away.
pub async fn deploy(node: &Arc<Node>, by: Arc<Principal>, id: &AppId, consent: Consent) -> Result<Option<i32>, Error> {
    let deployment = find(node, id).await?;
    let (shared, id) = (Arc::clone(node), id.clone());
    outlive(&node.background, async move {
        let deployed = shared.apps.deploy_bundled(&by, &id, deployment, consent).await?;
        settle(&shared, &id);
        Ok(deployed)
    })
    .await
}

/// Removes an integration with all that it was given: its configuration too, as far as no other integration uses it.
pub async fn remove(node: &Arc<Node>, by: Arc<Principal>, id: &AppId) -> Result<(), Error> {
    if weft_catalog::find(id.as_str()).is_none() {
        let (known, unknown) = indexes(node, id).await;
        if !known.iter().any(|read| read.index.find(id.as_str()).is_some()) {
            return Err(absent(id, unknown));
        }
    }
    let (shared, id) = (Arc::clone(node), id.clone());
    outlive(&node.background, async move {
        let app = match shared.apps.get(&by.tenant, &id).await {
            Ok(app) if app.manifest.content.kind == AppKind::Integration => app,
            Ok(_) => return Err(Error::Unknown(id)),
            // Removing what is not there is no mistake.
            Err(apps::Error::Unknown(_)) => return Ok(()),
            Err(other) => return Err(other.into()),
        };
        let keys = own_secrets(&shared, &by, &app).await?;
        shared.apps.uninstall(&by.tenant, Some(&by), &id).await?;
        forget_secrets(&shared, &by, keys).await?;
        settle(&shared, &id);
        Ok(())
    })
    .await
}

/// The platform secrets that only this integration's configuration names.
async fn own_secrets(node: &Node, by: &Principal, app: &apps::App) -> Result<BTreeSet<String>, Error> {
    let own = app.manifest.content.config_fields().into_iter().filter_map(|field| field.platform_secret);
    let mut own: BTreeSet<String> = own.collect();
    let read = |other: apps::Listed| (other.id, weft_model::manifest::Content::from_stored(other.manifest));
    for (id, content) in node.apps.list(&by.tenant, None, read).await? {
        let content = content.map_err(|error| sqlx::Error::Decode(error.into()))?;
        if id != app.id.as_str() {
            content.config_fields().into_iter().filter_map(|field| field.platform_secret).for_each(|key| _ = own.remove(&key));
        }
    }
    Ok(own)
}

async fn forget_secrets(node: &Node, by: &Principal, keys: BTreeSet<String>) -> Result<(), Error> {
    let mut transaction = node.pool.begin().await?;
    for key in keys {
        node.vault.delete(&mut transaction, &by.tenant, &Scope::Platform, &key).await?;
        let event = Event::by(by, Action::SecretDeleted).on("secret", format!("{} {key}", Scope::Platform));
        audit::record(&mut transaction, &event, node.clock.now()).await?;
    }
    notify::announce(&mut transaction, &Change::Secrets).await?;
    Ok(transaction.commit().await?)
}

fn settle(node: &Arc<Node>, id: &AppId) {
    node.apply(&Change::App(id.clone()));
    node.apply(&Change::Secrets);
    node.identity.forget();
}
