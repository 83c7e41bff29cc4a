//! Installing, deploying, running and calling apps.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tokio::sync::{Mutex, broadcast};
use tokio_util::task::TaskTracker;
use weft_model::{
    AppId, DeploymentId, Fault, Manifest, Principal, TenantId,
    manifest::{self, AppKind, Effect},
    schema::Schema,
};
use weft_workers::{Call, CallError, Host, LogLine, StartError, Status, WorkerReport};

use super::{
    archive,
    backend::{Backend, CallContext},
    dependencies,
    dev::{Developed, Purpose},
    permissions::permissions,
    store::{self, Deployment, Listed, NewDeployment},
};
use crate::{
    clock::Clock,
    db::{
        cache::Cache,
        notify::{self, Change},
    },
    host::Accounts,
    identity::roles,
    secrets::{self, Scope, Vault},
    webhooks,
};

/// How long an action may take when its manifest says nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Apps that a node remembers.
const REMEMBERED_APPS: u64 = 5_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the manifest has {} fault{}", .0.len(), if .0.len() == 1 { "" } else { "s" })]
    InvalidManifest(Vec<Fault>),
    #[error("the app id '{0}' is taken on this server: choose another")]
    IdTaken(AppId),
    #[error("app '{0}' is there already, and only its administrators may replace it")]
    NotYours(AppId),
    #[error("app '{0}'")]
    Unknown(AppId),
    #[error("app '{0}' has no backend yet: deploy one with `weft deploy` or POST /api/v1/apps/{0}/deploy")]
    NotDeployed(AppId),
    #[error("the worker of app '{0}' was stopped: start it with POST /api/v1/apps/{0}/worker/start")]
    Stopped(AppId),
    #[error(transparent)]
    Archive(#[from] archive::Error),
    #[error(transparent)]
    Dependencies(#[from] dependencies::Error),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("cannot keep the app's files: {0}")]
    Files(#[from] std::io::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// An installed app, ready to be called.
#[derive(Debug)]
pub struct App {
    pub id: AppId,
    pub tenant: TenantId,
    pub manifest: Manifest,
    pub deployment: Option<Deployment>,
    pub worker_enabled: bool,
    pub actions: HashMap<String, Action>,
}

/// An action with its schemas compiled.
#[derive(Debug)]
pub struct Action {
    pub permission: String,
    pub input: Option<Schema>,
    pub output: Option<Schema>,
    pub timeout: Duration,
    /// Its start has to be on disk before it begins.
    pub destructive: bool,
}

/// The machine that backends run on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Unpacked deployments, a folder per app.
    pub apps: PathBuf,
    /// Downloaded packages.
    pub package_cache: PathBuf,
    /// A private scratch folder per app.
    pub scratch: PathBuf,
    pub bun: PathBuf,
    pub accounts: Option<Accounts>,
}

/// One call of a backend's method.
pub struct CallRequest {
    pub method: String,
    pub params: Box<RawValue>,
    pub caller: Option<Box<RawValue>>,
    pub context: CallContext,
    pub timeout: Duration,
}

/// Installed apps and their workers.
pub struct Apps {
    pub(super) pool: PgPool,
    clock: Clock,
    pub(super) vault: Arc<Vault>,
    pub(super) machine: Machine,
    workers: Arc<Host<Backend>>,
    pub(super) background: TaskTracker,
    remembered: Cache<AppId, Arc<App>>,
    /// One at a time per app: unpacking, starting.
    starting: dashmap::DashMap<AppId, Arc<Mutex<()>>>,
    developed: Developed,
}

impl Apps {
    pub fn new(
        (pool, clock): (PgPool, Clock),
        vault: Arc<Vault>,
        machine: Machine,
        workers: Arc<Host<Backend>>,
        background: TaskTracker,
    ) -> Self {
        let (remembered, starting) = (Cache::new(REMEMBERED_APPS), dashmap::DashMap::new());
        let developed = Developed::default();
        Self { pool, clock, vault, machine, workers, background, remembered, starting, developed }
    }

    pub fn forget(&self) {
        self.remembered.clear();
    }

    /// Installs an app, or replaces its manifest: permissions, webhooks and roles follow in the same transaction.
    pub async fn install(&self, by: &Principal, document: Value) -> Result<AppId, Error> {
        let manifest = Manifest::parse(document).map_err(Error::InvalidManifest)?;
        let content = &manifest.content;
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        if !may_replace(by, &content.app_id) && store::find(&mut transaction, &content.app_id).await?.is_some() {
            return Err(Error::NotYours(content.app_id.clone()));
        }
        if !store::upsert(&mut transaction, &by.tenant, (content, &manifest.document), by.id, now).await? {
            return Err(Error::IdTaken(content.app_id.clone()));
        }
        roles::declare_app(&mut transaction, by, &content.app_id, &permissions(&manifest), now).await?;
        webhooks::declare(&mut transaction, &self.vault, (&by.tenant, &content.app_id), &content.webhooks, now).await?;
        self.commit(transaction, &content.app_id).await?;
        tracing::info!(app.id = %content.app_id, app.version = content.version, "app.install");
        Ok(manifest.content.app_id)
    }

    /// The app of that id, if it belongs to the tenant.
    pub async fn get(&self, tenant: &TenantId, id: &AppId) -> Result<Arc<App>, Error> {
        let app = self.load(id).await?;
        if app.tenant == *tenant { Ok(app) } else { Err(Error::Unknown(id.clone())) }
    }

    async fn load(&self, id: &AppId) -> Result<Arc<App>, Error> {
        self.remembered
            .get_or_load(id, async {
                let stored = store::find(&mut *self.pool.acquire().await?, id).await?;
                stored.ok_or_else(|| Error::Unknown(id.clone())).and_then(|stored| compile(id, stored)).map(Arc::new)
            })
            .await
    }

    pub async fn list(&self, tenant: &TenantId, kind: Option<AppKind>) -> Result<Vec<Listed>, Error> {
        Ok(store::list(&mut *self.pool.acquire().await?, tenant, kind.map(AppKind::as_str)).await?)
    }

    /// Removes an app with its worker, secrets, permissions, roles, webhooks and files. Removing what is not there is no mistake.
    pub async fn uninstall(&self, tenant: &TenantId, id: &AppId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        webhooks::remove(&mut transaction, &self.vault, (tenant, id)).await?;
        if !store::delete(&mut transaction, tenant, id).await? {
            return Ok(());
        }
        for scope in [Scope::App(id.clone()), Scope::Integration(id.clone())] {
            self.vault.delete_scope(&mut transaction, tenant, &scope).await?;
        }
        roles::remove_app(&mut transaction, tenant, id).await?;
        self.commit(transaction, id).await?;
        self.developed.forget(id);
        self.workers.remove(id.as_str()).await;
        for folder in [self.machine.apps.join(id.as_str()), self.machine.scratch.join(id.as_str())] {
            let _ = tokio::fs::remove_dir_all(folder).await;
        }
        tracing::info!(app.id = %id, "app.uninstall");
        Ok(())
    }

    /// Unpacks an archive, installs its dependencies, starts it and, once it is ready, lets it serve. Until then, and when it
    /// fails, what served before goes on.
    pub async fn deploy(&self, by: &Principal, id: &AppId, archive: Vec<u8>, purpose: Purpose) -> Result<Deployment, Error> {
        let starting = self.starting_lock(id);
        let _one_at_a_time = starting.lock().await;
        let app = self.get(&by.tenant, id).await?;
        let now = self.clock.now();
        let deployment_id = DeploymentId::generate(now);
        let archive: Arc<[u8]> = archive.into();
        let previous = app.deployment.as_ref().map(|deployment| self.folder(id, deployment.id));
        let entry_point = self.unpack((id, deployment_id), Arc::clone(&archive), previous).await?;
        let deployment = Deployment { id: deployment_id, entry_point };
        let started = async { Ok::<_, Error>(self.workers.start(self.spec(&app, &deployment, purpose).await?).await?) };
        let mut result = started.await;
        if result.is_ok() {
            result = self.record(by, (id, &deployment), &archive, now).await;
            if result.is_err() {
                self.serve_again(&app).await;
            }
        }
        if let Err(error) = result {
            let _ = tokio::fs::remove_dir_all(self.folder(id, deployment_id)).await;
            return Err(error);
        }
        self.developed.record(id, deployment_id, purpose);
        let previous = app.deployment.as_ref().map(|deployment| deployment.id);
        let kept: Vec<_> = previous.into_iter().chain([deployment_id]).collect();
        self.remove_old_folders(id, &kept).await;
        tracing::info!(app.id = %id, deployment.id = %deployment_id, "app.deploy");
        Ok(deployment)
    }

    async fn record(
        &self,
        by: &Principal,
        (id, deployment): (&AppId, &Deployment),
        archive: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let digest = Sha256::digest(archive);
        let mut transaction = self.pool.begin().await?;
        let new = NewDeployment { deployment, archive, digest: &digest, by: by.id };
        store::insert_deployment(&mut transaction, &by.tenant, id, new, now).await?;
        self.commit(transaction, id).await
    }

    /// Brings back what served before, when a new version runs that could not be recorded.
    async fn serve_again(&self, app: &App) {
        let Some(deployment) = app.deployment.as_ref().filter(|_| app.worker_enabled) else {
            return self.workers.stop(app.id.as_str()).await;
        };
        let restored = async { Ok::<_, Error>(self.workers.start(self.spec(app, deployment, Purpose::Serve).await?).await?) };
        if let Err(error) = restored.await {
            tracing::warn!(app.id = %app.id, %error, "the version before does not serve again");
        }
    }

    /// Calls a method of an app's backend, starting the process if it does not run.
    pub async fn call(&self, app: &Arc<App>, request: CallRequest) -> Result<Box<RawValue>, Error> {
        // A backend that never got this far may have left a crashed worker behind, which is not to be woken.
        to_run(app)?;
        let call = |request: &CallRequest| Call {
            method: request.method.clone(),
            params: request.params.clone(),
            caller: request.caller.clone(),
            context: Arc::new(request.context.clone()),
            timeout: request.timeout,
            nested: request.context.depth > 0,
        };
        match self.workers.call(app.id.as_str(), call(&request)).await {
            Err(CallError::NotRunning { .. }) => {
                self.ensure_started(app).await?;
                Ok(self.workers.call(app.id.as_str(), call(&request)).await?)
            }
            other => Ok(other?),
        }
    }

    /// Starts the worker of an app that is deployed and not stopped on purpose.
    pub async fn ensure_started(&self, app: &App) -> Result<(), Error> {
        let deployment = to_run(app)?;
        let starting = self.starting_lock(&app.id);
        let _one_at_a_time = starting.lock().await;
        self.fetch(&app.id, deployment).await?;
        let purpose = self.developed.purpose(&app.id, deployment.id);
        Ok(self.workers.ensure_started(self.spec(app, deployment, purpose).await?).await?)
    }

    /// Starts a worker by hand; a running one is left alone.
    pub async fn start_worker(&self, tenant: &TenantId, id: &AppId) -> Result<(), Error> {
        self.get(tenant, id).await?;
        self.enable_worker(tenant, id, true).await?;
        let app = self.get(tenant, id).await?;
        self.ensure_started(&app).await
    }

    /// Stops a worker; it stays stopped until somebody starts it or deploys.
    pub async fn stop_worker(&self, tenant: &TenantId, id: &AppId) -> Result<(), Error> {
        self.get(tenant, id).await?;
        self.enable_worker(tenant, id, false).await?;
        self.workers.stop(id.as_str()).await;
        Ok(())
    }

    async fn enable_worker(&self, tenant: &TenantId, id: &AppId, enabled: bool) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        store::set_worker_enabled(&mut transaction, tenant, id, enabled).await?;
        self.commit(transaction, id).await
    }

    pub async fn worker_status(&self, tenant: &TenantId, id: &AppId) -> Result<Status, Error> {
        self.get(tenant, id).await?;
        Ok(self.workers.status(id.as_str()).unwrap_or(Status::Stopped))
    }

    /// The workers of a tenant's apps that this node has started since it came up.
    pub async fn worker_reports(&self, tenant: &TenantId) -> Result<BTreeMap<AppId, WorkerReport>, Error> {
        let mut reports = BTreeMap::new();
        for (id, report) in self.workers.reports() {
            let Ok(id) = id.parse::<AppId>() else { continue };
            match self.get(tenant, &id).await {
                Ok(_) => _ = reports.insert(id, report),
                Err(Error::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(reports)
    }

    pub fn running_workers(&self) -> usize {
        self.workers.statuses().into_values().filter(|status| *status == Status::Running).count()
    }

    pub async fn logs(&self, tenant: &TenantId, id: &AppId) -> Result<broadcast::Receiver<LogLine>, Error> {
        self.get(tenant, id).await?;
        Ok(self.workers.logs(id.as_str()))
    }

    /// Starts a worker again in the background, so that it sees changed secrets. One that keeps crashing may lack just those.
    pub fn restart(self: &Arc<Self>, id: &AppId) {
        if matches!(self.workers.status(id.as_str()), Some(Status::Running | Status::Starting | Status::Crashed)) {
            self.replace_worker(id);
        }
    }

    /// Brings this node's worker in line with what another node deployed or stopped.
    pub fn follow(self: &Arc<Self>, id: &AppId) {
        let (apps, id) = (Arc::clone(self), id.clone());
        if self.workers.status(id.as_str()).is_none() {
            return;
        }
        self.background.spawn(async move {
            match apps.load(&id).await {
                Ok(app) if !app.worker_enabled => apps.workers.stop(id.as_str()).await,
                Ok(app) if apps.sleeps(&app) || apps.serves(&app) => {}
                Ok(_) => apps.replace_worker(&id),
                Err(Error::Unknown(_)) => apps.workers.remove(id.as_str()).await,
                Err(error) => tracing::warn!(app.id = %id, %error, "cannot follow a change of the app"),
            }
        });
    }

    /// The same for every worker, after a time in which changes may have been missed.
    pub fn follow_all(self: &Arc<Self>) {
        for id in self.workers.statuses().into_keys() {
            if let Ok(id) = id.parse() {
                self.follow(&id);
            }
        }
    }

    /// Whether the worker does not run and need not before somebody calls it.
    fn sleeps(&self, app: &App) -> bool {
        self.workers.status(app.id.as_str()) == Some(Status::Stopped) && !app.manifest.content.keeps_running()
    }

    /// Whether this node has the app's current deployment unpacked, which it does before it starts it.
    fn serves(&self, app: &App) -> bool {
        app.deployment.as_ref().is_some_and(|deployment| self.folder(&app.id, deployment.id).is_dir())
    }

    fn replace_worker(self: &Arc<Self>, id: &AppId) {
        let (apps, id) = (Arc::clone(self), id.clone());
        self.background.spawn(async move {
            let replaced = async {
                let app = apps.load(&id).await?;
                let Some(deployment) = &app.deployment else { return Ok(()) };
                let starting = apps.starting_lock(&id);
                let _one_at_a_time = starting.lock().await;
                apps.fetch(&id, deployment).await?;
                let purpose = apps.developed.purpose(&id, deployment.id);
                Ok::<_, Error>(apps.workers.start(apps.spec(&app, deployment, purpose).await?).await?)
            };
            if let Err(error) = replaced.await {
                tracing::warn!(app.id = %id, %error, "cannot start the worker again");
            }
        });
    }

    /// Starts the workers that run even when nobody calls them, a few at a time. All others start with their first call.
    pub async fn start_kept(&self) {
        let ids = async { store::list_kept(&mut *self.pool.acquire().await?).await };
        let ids = match ids.await {
            Ok(ids) => ids,
            Err(error) => return tracing::warn!(%error, "cannot list the apps to start"),
        };
        let starts = ids.into_iter().filter_map(|id| id.parse::<AppId>().ok()).map(|id| async move {
            let started = async { self.ensure_started(self.load(&id).await?.as_ref()).await };
            if let Err(error) = started.await {
                tracing::warn!(app.id = %id, %error, "the worker does not start");
            }
        });
        futures::StreamExt::for_each_concurrent(futures::stream::iter(starts), 4, |start| start).await;
    }

    /// Lets calls in flight finish and ends every worker.
    pub async fn stop_all(&self) {
        self.workers.stop_all().await;
    }

    async fn commit(&self, mut transaction: sqlx::Transaction<'_, sqlx::Postgres>, id: &AppId) -> Result<(), Error> {
        notify::announce(&mut transaction, &Change::App(id.clone())).await?;
        notify::announce(&mut transaction, &Change::Identity).await?;
        transaction.commit().await?;
        self.forget();
        Ok(())
    }

    fn starting_lock(&self, id: &AppId) -> Arc<Mutex<()>> {
        Arc::clone(&self.starting.entry(id.clone()).or_default())
    }
}

/// Installing anew needs less than replacing: whoever installs an app comes to administer it.
fn may_replace(by: &Principal, id: &AppId) -> bool {
    by.permissions.allows("admin:apps.install") || by.permissions.allows(&format!("app:{id}:*"))
}

/// The deployment to run, unless there is none or somebody stopped it.
fn to_run(app: &App) -> Result<&Deployment, Error> {
    let deployment = app.deployment.as_ref().ok_or_else(|| Error::NotDeployed(app.id.clone()))?;
    if app.worker_enabled { Ok(deployment) } else { Err(Error::Stopped(app.id.clone())) }
}

fn compile(id: &AppId, stored: store::StoredApp) -> Result<App, Error> {
    let manifest = Manifest::parse(stored.manifest).map_err(Error::InvalidManifest)?;
    let actions = manifest.content.actions.iter().map(|action| (action.id.clone(), compile_action(id, action))).collect();
    let tenant = TenantId::try_from(stored.tenant).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let (deployment, worker_enabled) = (stored.deployment, stored.worker_enabled);
    Ok(App { id: id.clone(), tenant, manifest, deployment, worker_enabled, actions })
}

fn compile_action(app: &AppId, action: &manifest::Action) -> Action {
    // Schemas were compiled when the manifest was parsed, so a failure here cannot happen; an action without schema is the safe reading.
    let schema = |document: &Option<Value>| document.as_ref().and_then(|document| Schema::compile(document).ok());
    Action {
        permission: format!("integration:{app}:{}", action.id),
        input: schema(&action.input_schema),
        output: schema(&action.output_schema),
        timeout: action.timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs_f64),
        destructive: action.effect == Some(Effect::Destructive),
    }
}
