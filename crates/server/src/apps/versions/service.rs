//! Putting a version into service: a new one, or an earlier one again.
//!
//! Both go the same way. Everything is put in place first, then the process starts beside the one that serves, and only when
//! it is ready does it become the version that serves, in the database and for calls. Whatever fails on the way leaves the
//! version before as it was.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::Value;
use weft_model::{AppId, DeploymentId, Fault, Manifest, Principal, TenantId};
use weft_workers::Status;

use super::{
    store::{self, Listed, New},
    warnings,
};
use crate::{
    apps::{
        dependencies::Known,
        dev::Purpose,
        service::{App, Apps, Error, compile, may_replace},
        spool::{Spool, Spooled},
        store::{Deployment, StoredApp},
    },
    audit::{self, Action, Event},
    data::{self, Asker, Consent},
    http::trace,
    identity::roles,
};

/// Deployments under way are finished, or failed, long before.
const ABANDONED: TimeDelta = TimeDelta::hours(1);

/// An archive that was uploaded.
pub type Archive = Spooled;

/// The version that serves now.
#[derive(Debug)]
pub struct Activated {
    pub number: i32,
    pub deployment: Deployment,
    /// That of its manifest.
    pub manifest_version: String,
    /// The files of migrations that were applied on the way.
    pub migrations: Vec<String>,
    /// What nothing will come of.
    pub warnings: Vec<String>,
}

/// What somebody deploys.
#[derive(Debug)]
pub struct Release {
    pub archive: Archive,
    /// Installed with it; without one, what is installed stays.
    pub manifest: Option<Value>,
    pub purpose: Purpose,
    /// Whether a manifest may lose data.
    pub consent: Consent,
}

/// What is to serve next.
struct Next<'a> {
    app: &'a App,
    deployment: &'a Deployment,
    purpose: Purpose,
    manifest: Manifests,
    consent: Consent,
}

/// What becomes of the installed manifest when a version takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manifests {
    Stays,
    /// The version brings its own.
    Installed,
    /// The one that the version was deployed with comes back.
    Restored,
}

impl Apps {
    /// A file for an archive that comes in.
    pub async fn receive(&self) -> Result<Spool, Error> {
        Ok(Spool::create(&self.machine.uploads).await?)
    }

    /// Unpacks an archive, installs its dependencies, stores it, starts it and, once it is ready, lets it serve.
    pub async fn deploy(&self, by: &Principal, id: &AppId, release: Release) -> Result<Activated, Error> {
        let starting = self.starting_lock(id);
        let _one_at_a_time = starting.lock().await;
        let app = self.to_deploy(by, id, &release).await?;
        let deployment_id = DeploymentId::generate(self.clock.now());
        let deployed = self.deploy_as(by, &app, deployment_id, release).await;
        match &deployed {
            Ok(version) => tracing::info!(app.id = %id, deployment.id = %deployment_id, version = version.number, "app.deploy"),
            Err(_) => self.discard(id, deployment_id).await,
        }
        deployed
    }

    /// The app as it is before the deployment. One that brings its manifest is installed if it is new.
    async fn to_deploy(&self, by: &Principal, id: &AppId, release: &Release) -> Result<Arc<App>, Error> {
        let Some(document) = &release.manifest else { return self.get(&by.tenant, id).await };
        let manifest = Manifest::parse(document.clone()).map_err(Error::InvalidManifest)?;
        if manifest.content.app_id != *id {
            let fault = format!("is '{}', but the archive goes to '{id}'", manifest.content.app_id);
            return Err(Error::InvalidManifest(vec![Fault::new("$.appId", fault)]));
        }
        match self.get(&by.tenant, id).await {
            Err(Error::Unknown(_)) => {
                self.install(by, document.clone(), release.consent).await?;
                self.get(&by.tenant, id).await
            }
            Ok(_) if !may_replace(by, id) => Err(Error::NotYours(id.clone())),
            Ok(app) => {
                // What nobody has agreed to lose is said before anything is unpacked.
                let mut connection = self.pool.acquire().await?;
                let plan = data::plan(&mut connection, id, &manifest.content.data_contract).await?;
                data::admissible(&plan, release.consent)?;
                Ok(app)
            }
            other => other,
        }
    }

    async fn deploy_as(
        &self,
        by: &Principal,
        before: &App,
        id: DeploymentId,
        Release { archive, manifest, purpose, consent }: Release,
    ) -> Result<Activated, Error> {
        let previous = before.deployment.as_ref().map(|deployment| self.folder(&before.id, deployment.id));
        let known = Known { previous, ..Known::default() };
        let unpacked = self.unpack((&before.id, id), &archive, known).await?;
        let deployment = Deployment { id, entry_point: unpacked.entry_point, takes_jobs: None };
        let (app, manifest) = match manifest {
            Some(manifest) => (&Self::with_manifest(before, manifest)?, Manifests::Installed),
            None => (before, Manifests::Stays),
        };
        self.store(by, app, (&deployment, &archive, purpose), unpacked.lockfile.as_deref()).await?;
        drop(archive);
        let migrations = self.migrate(by, &before.id, &deployment).await?;
        let next = Next { app, deployment: &deployment, purpose, manifest, consent };
        Ok(Activated { migrations, ..self.put_into_service(by, before, next).await? })
    }

    /// Applies the migrations of a version that were not applied yet, before its process starts. Each stays when something fails
    /// after it, so a migration has to suit the version before as well.
    async fn migrate(&self, by: &Principal, id: &AppId, deployment: &Deployment) -> Result<Vec<String>, Error> {
        let migrations = data::read_migrations(&self.folder(id, deployment.id)).await?;
        // As the app, and recorded for whoever deploys.
        let caller = Principal { permissions: data::app_itself(&by.tenant, id).permissions, ..by.clone() };
        let (caller, transactions) = (Arc::new(caller), Arc::default());
        let asker = Asker { app: id.clone(), caller, trace: trace::current(), hops: 0, transactions };
        Ok(self.sql.migrate(&asker, &migrations).await?)
    }

    /// An app as it would be with another manifest.
    fn with_manifest(app: &App, manifest: Value) -> Result<App, Error> {
        let tenant = app.tenant.to_string();
        compile(&app.id, StoredApp { tenant, manifest, deployment: None, worker_enabled: true })
    }

    /// Goes back, or forward, to a version that was deployed before; without a number, to the latest one before the one that
    /// serves. Its manifest comes back with it.
    pub async fn roll_back(&self, by: &Principal, id: &AppId, number: Option<i32>, consent: Consent) -> Result<Activated, Error> {
        let starting = self.starting_lock(id);
        let _one_at_a_time = starting.lock().await;
        let before = self.get(&by.tenant, id).await?;
        let found = store::find(&mut *self.pool.acquire().await?, (&by.tenant, id), number).await?;
        let version = found.ok_or_else(|| match number {
            Some(number) => Error::UnknownVersion { app: id.clone(), number },
            None => Error::NothingBefore(id.clone()),
        })?;
        let (number, deployment) = (version.number, version.deployment);
        if version.active {
            let manifest_version = before.manifest.content.version.clone();
            return Ok(Activated { number, deployment, manifest_version, migrations: Vec::new(), warnings: Vec::new() });
        }
        let manifest = version.manifest.ok_or_else(|| Error::VersionGone { app: id.clone(), number })?;
        let app = Self::with_manifest(&before, manifest)?;
        let contract = &app.manifest.content.data_contract;
        data::admissible(&data::plan(&mut *self.pool.acquire().await?, id, contract).await?, consent)?;
        self.fetch(id, &deployment).await?;
        let next = Next { app: &app, deployment: &deployment, purpose: Purpose::Serve, manifest: Manifests::Restored, consent };
        let activated = self.put_into_service(by, &before, next).await?;
        tracing::info!(app.id = %id, deployment.id = %deployment.id, version = number, "app.rollback");
        Ok(activated)
    }

    /// Versions that have served, newest first.
    pub async fn versions(&self, tenant: &TenantId, id: &AppId, before: Option<i32>, limit: i64) -> Result<Vec<Listed>, Error> {
        self.get(tenant, id).await?;
        Ok(store::list(&mut *self.pool.acquire().await?, (tenant, id), before, limit).await?)
    }

    /// Stores a version before it is started, so that a database that cannot take it is no reason to change what serves.
    async fn store(
        &self,
        by: &Principal,
        app: &App,
        (deployment, archive, purpose): (&Deployment, &Archive, Purpose),
        lockfile: Option<&str>,
    ) -> Result<(), Error> {
        let new = New {
            deployment,
            digest: archive.digest(),
            size: i64::try_from(archive.size()).unwrap_or(i64::MAX),
            manifest: &app.manifest.document,
            manifest_version: &app.manifest.content.version,
            lockfile,
            by: by.id,
            developed: purpose == Purpose::Develop,
        };
        let mut transaction = self.pool.begin().await?;
        store::insert(&mut transaction, (&by.tenant, &app.id), new, self.clock.now()).await?;
        let mut pieces = archive.pieces().await?;
        let mut number = 0;
        while let Some(piece) = pieces.next().await? {
            store::insert_chunk(&mut transaction, deployment.id, number, &piece).await?;
            number += 1;
        }
        Ok(transaction.commit().await?)
    }

    async fn put_into_service(&self, by: &Principal, before: &App, next: Next<'_>) -> Result<Activated, Error> {
        if let Err(error) = self.start(next.app, next.deployment, next.purpose).await {
            // Nothing ran here that could go on; the next call starts the version before.
            if self.workers.status(before.id.as_str()) == Some(Status::Crashed) {
                self.workers.stop(before.id.as_str()).await;
            }
            return Err(error);
        }
        match self.record(by, &next).await {
            Ok(number) => {
                self.developed.record(&before.id, next.deployment.id, next.purpose);
                let manifest_version = next.app.manifest.content.version.clone();
                let warnings = warnings::of(&next.app.manifest, self.workers.offer(before.id.as_str()).as_ref());
                Ok(Activated { number, deployment: next.deployment.clone(), manifest_version, migrations: Vec::new(), warnings })
            }
            Err(error) => {
                self.serve_again(before).await;
                Err(error)
            }
        }
    }

    /// Makes a version that runs the one that serves, everywhere.
    async fn record(&self, by: &Principal, next: &Next<'_>) -> Result<i32, Error> {
        let (id, now) = (&next.app.id, self.clock.now());
        let mut transaction = self.pool.begin().await?;
        if next.manifest != Manifests::Stays {
            self.store_manifest(&mut transaction, by, &next.app.manifest, next.consent).await?;
        }
        if next.manifest == Manifests::Installed {
            roles::assign_app(&mut transaction, by, id, now).await?;
        }
        let version = (next.deployment.id, self.workers.takes_jobs(id.as_str()));
        let number = store::activate(&mut transaction, (&by.tenant, id), version, by.id, now).await?;
        let number = number.ok_or_else(|| Error::Unknown(id.clone()))?;
        store::prune(&mut transaction, id, self.machine.versions_kept.into(), now - ABANDONED).await?;
        let action = if next.manifest == Manifests::Restored { Action::AppRolledBack } else { Action::AppDeployed };
        let event = Event::by(by, action).on("app", id).with("version", number);
        let event = event.with("deployment", next.deployment.id.to_string());
        audit::record(&mut transaction, &event, now).await?;
        self.commit(transaction, id).await?;
        Ok(number)
    }

    /// Brings back what served before, when another version runs that could not be recorded.
    async fn serve_again(&self, app: &App) {
        let Some(deployment) = app.deployment.as_ref().filter(|_| app.worker_enabled) else {
            return self.workers.stop(app.id.as_str()).await;
        };
        let restored = async {
            self.fetch(&app.id, deployment).await?;
            self.start(app, deployment, self.developed.purpose(&app.id, deployment.id)).await
        };
        if let Err(error) = restored.await {
            tracing::warn!(app.id = %app.id, %error, "the version before does not serve again");
        }
    }

    /// Removes what is left of a deployment that failed.
    async fn discard(&self, app: &AppId, deployment: DeploymentId) {
        self.remove_folder(self.folder(app, deployment)).await;
        let removed = async { store::delete(&mut *self.pool.acquire().await?, deployment).await };
        if let Err(error) = removed.await {
            tracing::warn!(app.id = %app, deployment.id = %deployment, %error, "a failed deployment stays in the database for now");
        }
    }
}
