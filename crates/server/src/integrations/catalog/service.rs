//! Deploying and removing bundled integrations.

use std::{collections::BTreeSet, sync::Arc};

use weft_catalog::Bundled;
use weft_model::{AppId, Principal, manifest::AppKind};

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

/// A bundled integration, as a tenant sees it.
pub struct Offer {
    pub bundled: &'static Bundled,
    /// The version of the manifest that is installed, if one is.
    pub installed: Option<String>,
}

/// Every bundled integration.
pub async fn list(node: &Node, by: &Principal) -> Result<Vec<Offer>, Error> {
    let installed = node.apps.list(&by.tenant, Some(AppKind::Integration), |app| (app.id, app.version)).await?;
    let version = |id: &str| installed.iter().find(|(other, _)| other == id).map(|(_, version)| version.clone());
    Ok(weft_catalog::all().map(|(id, bundled)| Offer { bundled, installed: version(id) }).collect())
}

/// Deploys a bundled integration, or deploys it again. It goes on when whoever asked for it goes away.
pub async fn deploy(node: &Arc<Node>, by: Arc<Principal>, id: &AppId, consent: Consent) -> Result<Option<i32>, Error> {
    let bundled = weft_catalog::find(id.as_str()).ok_or_else(|| Error::NotInCatalog(id.clone()))?;
    let archive = bundled.archive().map_err(apps::Error::Files)?;
    let (shared, id) = (Arc::clone(node), id.clone());
    outlive(&node.background, async move {
        let deployed = shared.apps.deploy_bundled(&by, &id, (bundled.document.clone(), archive), consent).await?;
        settle(&shared, &id);
        Ok(deployed)
    })
    .await
}

/// Removes an integration with all that it was given: its configuration too, as far as no other integration uses it.
pub async fn remove(node: &Arc<Node>, by: Arc<Principal>, id: &AppId) -> Result<(), Error> {
    weft_catalog::find(id.as_str()).ok_or_else(|| Error::NotInCatalog(id.clone()))?;
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
