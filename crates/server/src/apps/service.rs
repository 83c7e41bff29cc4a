//! Installed apps: what is known of one, installing it from a manifest, removing it.

use std::{borrow::Cow, collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use weft_model::{
    AppId, Fault, Manifest, Principal, TenantId,
    contract::Entity,
    manifest::{self, AppKind, Content, Effect},
    schema::LazySchema,
};
use weft_workers::{CallError, Host, Job, StartError};

use super::{
    archive,
    backend::{Backend, CallContext},
    dependencies::{self, Installer},
    dev::Developed,
    frontends,
    permissions::permissions,
    running::Running,
    store::{self, Deployment, Listed},
};
use crate::{
    audit::{self, Event},
    clock::Clock,
    connections,
    data::{self, BackendSql, Consent},
    db::{
        cache::Cache,
        notify::{self, Change},
    },
    hooks,
    host::Accounts,
    identity::roles,
    jobs, polls,
    secrets::{self, Scope, Vault},
    webhooks,
};

/// How long an action may take when its manifest says nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// What is said with what leads to jobs that nobody would do.
pub const TAKES_NO_JOBS: &str =
    "The app's backend has no `onJob`, so what comes of this goes to the dead letters: give it one and deploy it.";
/// Apps that a node remembers.
const REMEMBERED_APPS: u64 = 5_000;
/// What a node remembers of frontends, in bytes.
const FRONTEND_BYTES: u64 = 64 * 1024 * 1024;

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
    #[error(
        "the backend of app '{0}' has no `onJob`, so nobody would do the job: give it one (`serve({{ async onJob(payload) {{ … }} }})`) and \
         deploy it"
    )]
    TakesNoJobs(AppId),
    #[error(transparent)]
    Archive(#[from] archive::Error),
    #[error(transparent)]
    Dependencies(#[from] dependencies::Error),
    #[error("{0}")]
    Start(#[from] StartError),
    /// Somebody needs the backend, and it cannot be had.
    #[error("the backend of app '{app}' does not come up: {cause}")]
    NotComingUp { app: AppId, cause: Box<Error> },
    #[error("version {number} of app '{app}'")]
    UnknownVersion { app: AppId, number: i32 },
    #[error("the code of version {number} of app '{app}' is not kept any more (setting deployments.kept): deploy it again")]
    VersionGone { app: AppId, number: i32 },
    #[error("app '{0}' has no earlier version whose code is kept, so there is nothing to go back to")]
    NothingBefore(AppId),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("cannot keep the app's files: {0}")]
    Files(#[from] std::io::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Data(#[from] data::Error),
    #[error(transparent)]
    Migration(#[from] data::MigrationFailed),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// An installed app, ready to be called.
#[derive(Debug)]
pub struct App {
    pub id: AppId,
    pub tenant: TenantId,
    pub manifest: Manifest,
    /// Of the manifest: what was made of another one is not taken for what belongs to this.
    pub fingerprint: [u8; 32],
    pub deployment: Option<Deployment>,
    pub worker_enabled: bool,
    pub actions: HashMap<String, Action>,
    /// The entities that it keeps, by name.
    pub entities: HashMap<String, weft_data::Entity>,
}

/// What a call of an action needs.
#[derive(Debug)]
pub struct Action {
    pub permission: String,
    pub input: Option<LazySchema>,
    pub output: Option<LazySchema>,
    pub timeout: Duration,
    /// Its start has to be on disk before it begins.
    pub destructive: bool,
    /// How long an answer may be given again.
    pub cached: Option<Duration>,
    /// How the server carries it out by itself; without one it goes to the backend.
    pub recipe: Option<Arc<weft_recipe::Action>>,
}

/// The machine that backends run on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Unpacked versions, a folder per app.
    pub apps: PathBuf,
    /// Archives on their way in or out of the database.
    pub uploads: PathBuf,
    /// A private scratch folder per app.
    pub scratch: PathBuf,
    pub installer: Installer,
    pub accounts: Option<Accounts>,
    /// Versions of an app whose archives are kept.
    pub versions_kept: u32,
}

/// One call of a backend's method.
pub struct CallRequest {
    pub method: Cow<'static, str>,
    /// The job that it is an attempt at, if it is one.
    pub job: Option<Job>,
    pub params: Box<RawValue>,
    pub caller: Option<Box<RawValue>>,
    pub context: Arc<CallContext>,
    pub timeout: Duration,
}

/// Installed apps and their workers.
pub struct Apps {
    pub(super) pool: PgPool,
    pub(super) clock: Clock,
    pub(super) vault: Arc<Vault>,
    pub(super) sql: Arc<BackendSql>,
    pub(super) machine: Machine,
    pub(super) workers: Arc<Host<Backend>>,
    pub(super) background: TaskTracker,
    remembered: Cache<AppId, Arc<App>>,
    /// Files of frontends, by app and path.
    pub(super) frontends: Cache<(AppId, String), frontends::Cached>,
    /// One at a time per app: unpacking, starting.
    pub(super) starting: dashmap::DashMap<AppId, Arc<Mutex<()>>>,
    /// What this node's workers were last started with.
    pub(super) running: dashmap::DashMap<AppId, Running>,
    pub(super) developed: Developed,
}

impl Apps {
    pub fn new(
        (pool, clock): (PgPool, Clock),
        (vault, sql): (Arc<Vault>, Arc<BackendSql>),
        machine: Machine,
        workers: Arc<Host<Backend>>,
        background: TaskTracker,
    ) -> Self {
        let (starting, running) = (dashmap::DashMap::new(), dashmap::DashMap::new());
        let (remembered, developed) = (Cache::new(REMEMBERED_APPS), Developed::default());
        let frontends = Cache::weighted(FRONTEND_BYTES, |(_, path): &(AppId, String), file| frontends::weight(path, file));
        Self { pool, clock, vault, sql, machine, workers, background, remembered, frontends, starting, running, developed }
    }

    pub fn forget(&self) {
        self.remembered.clear();
    }

    /// The frontend of an app may be another now, or not be served any more.
    pub fn forget_frontend(&self, app: &AppId) {
        let app = app.clone();
        self.frontends.remove_where(move |(of, _)| *of == app);
    }

    pub fn forget_frontends(&self) {
        self.frontends.clear();
    }

    /// Installs an app, or replaces its manifest: tables, permissions, crons, webhooks and roles follow in the same transaction.
    pub async fn install(&self, by: &Principal, document: Value, loss: Consent) -> Result<Manifest, Error> {
        let manifest = Manifest::parse(document).map_err(Error::InvalidManifest)?;
        let content = &manifest.content;
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        if !may_replace(by, &content.app_id)
            && let Some(other) = store::find(&mut transaction, &content.app_id).await?
        {
            let id = content.app_id.clone();
            return Err(if other.tenant == by.tenant.as_str() { Error::NotYours(id) } else { Error::IdTaken(id) });
        }
        self.store_manifest(&mut transaction, by, &manifest, loss).await?;
        roles::assign_app(&mut transaction, by, &content.app_id, now).await?;
        let event =
            Event::by(by, audit::Action::AppInstalled).on("app", &content.app_id).with("version", content.version.clone());
        audit::record(&mut transaction, &event, now).await?;
        self.commit(transaction, &content.app_id).await?;
        tracing::info!(app.id = %content.app_id, app.version = content.version, "app.install");
        Ok(manifest)
    }

    /// Stores a manifest with what follows from it: permissions, crons, webhooks and tables.
    pub(super) async fn store_manifest(
        &self,
        connection: &mut PgConnection,
        by: &Principal,
        manifest: &Manifest,
        loss: Consent,
    ) -> Result<(), Error> {
        let (content, now) = (&manifest.content, self.clock.now());
        if !store::upsert(connection, &by.tenant, (content, &manifest.document), by.id, now).await? {
            return Err(Error::IdTaken(content.app_id.clone()));
        }
        roles::declare_app(connection, &by.tenant, &content.app_id, &permissions(manifest)).await?;
        jobs::declare_crons(connection, by, &content.app_id, &content.crons, now).await?;
        webhooks::declare(connection, &self.vault, (&by.tenant, &content.app_id), &content.webhooks, now).await?;
        data::apply(connection, &content.app_id, &content.data_contract, loss).await?;
        self.declare_trigger(connection, by, content).await?;
        connections::declare_ways(connection, (&by.tenant, &content.app_id), content, now).await?;
        Ok(polls::declare(connection, by, content, now).await?)
    }

    /// Makes the hooks that a manifest declares on another app's records. What cannot be had is a fault of the manifest.
    async fn declare_trigger(&self, connection: &mut PgConnection, by: &Principal, content: &Content) -> Result<(), Error> {
        if let Some(trigger) = &content.trigger {
            let fault =
                |member: &str, message: String| Error::InvalidManifest(vec![Fault::new(format!("$.trigger{member}"), message)]);
            let has = |entity: &Entity| entity.entity_name == trigger.entity;
            let there = if trigger.app_id == content.app_id {
                content.data_contract.iter().any(has)
            } else {
                match self.get(&by.tenant, &trigger.app_id).await {
                    Ok(other) => other.entities.contains_key(&trigger.entity),
                    Err(Error::Unknown(id)) => return Err(fault(".appId", format!("there is no app '{id}': install it first"))),
                    Err(error) => return Err(error),
                }
            };
            if !there {
                return Err(fault(".entity", format!("'{}' is no entity of '{}'", trigger.entity, trigger.app_id)));
            }
            let key = format!("app:{}:{}.read", trigger.app_id, trigger.entity);
            if trigger.app_id != content.app_id && !by.permissions.allows(&key) {
                return Err(fault("", format!("whoever installs it needs the permission {key}")));
            }
        }
        Ok(hooks::declare(connection, by, &content.app_id, content.trigger.as_ref(), self.clock.now()).await?)
    }

    /// What installing a manifest would change in the tables of its app.
    pub async fn verify(&self, by: &Principal, document: Value) -> Result<weft_data::Plan, Error> {
        let manifest = Manifest::parse(document).map_err(Error::InvalidManifest)?;
        let (content, mut connection) = (&manifest.content, self.pool.acquire().await?);
        if let Some(app) = store::find(&mut connection, &content.app_id).await?
            && app.tenant != by.tenant.as_str()
        {
            return Err(Error::IdTaken(content.app_id.clone()));
        }
        Ok(data::plan(&mut connection, &content.app_id, &content.data_contract).await?)
    }

    /// Makes the tables of apps that were installed by a server that did not make any. What cannot be had is told and left.
    pub async fn make_missing_tables(&self) -> Result<(), Error> {
        let mut connection = self.pool.acquire().await?;
        for (id, document) in store::list_without_tables(&mut connection).await? {
            let made = async {
                let manifest = Manifest::parse(document).map_err(Error::InvalidManifest)?;
                let mut transaction = self.pool.begin().await?;
                let content = &manifest.content;
                data::apply(&mut transaction, &content.app_id, &content.data_contract, Consent::Withheld).await?;
                Ok::<_, Error>(transaction.commit().await?)
            };
            if let Err(error) = made.await {
                tracing::warn!(app.id = id, %error, "the tables of an app cannot be made");
            }
        }
        Ok(())
    }

    /// The app of that id, if it belongs to the tenant.
    pub async fn get(&self, tenant: &TenantId, id: &AppId) -> Result<Arc<App>, Error> {
        let app = self.load(id).await?;
        if app.tenant == *tenant { Ok(app) } else { Err(Error::Unknown(id.clone())) }
    }

    pub(super) async fn load(&self, id: &AppId) -> Result<Arc<App>, Error> {
        self.remembered
            .get_or_load(id, || async {
                let stored = store::find(&mut *self.pool.acquire().await?, id).await?;
                stored.ok_or_else(|| Error::Unknown(id.clone())).and_then(|stored| compile(id, stored)).map(Arc::new)
            })
            .await
    }

    /// The apps of a tenant; with a kind of identity, those that keep things of that kind.
    pub async fn list_ids(&self, tenant: &TenantId, identity: Option<&str>) -> Result<Vec<AppId>, Error> {
        let ids = store::list_ids(&mut *self.pool.acquire().await?, tenant, identity).await?;
        Ok(ids.into_iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// What `read` makes of each installed app.
    pub async fn list<T: Send>(
        &self,
        tenant: &TenantId,
        kind: Option<AppKind>,
        read: impl FnMut(Listed) -> T + Send,
    ) -> Result<Vec<T>, Error> {
        Ok(store::list(&mut *self.pool.acquire().await?, tenant, kind.map(AppKind::as_str), read).await?)
    }

    /// What uninstalling an app would remove, in words; nothing when there is no such app.
    pub async fn removal(&self, tenant: &TenantId, id: &AppId) -> Result<Vec<String>, Error> {
        let app = match self.get(tenant, id).await {
            Ok(app) => app,
            Err(Error::Unknown(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let tables = data::tables(&mut *self.pool.acquire().await?, id).await?;
        let table = |(name, filled): (String, bool)| {
            if filled { format!("the table '{name}' with its records") } else { format!("the table '{name}', which is empty") }
        };
        let mut parts: Vec<_> = tables.into_iter().map(table).collect();
        if app.deployment.is_some() {
            parts.push("the backend, its process, files and earlier versions".to_owned());
        }
        let webhooks = app.manifest.content.webhooks.iter();
        parts.extend(webhooks.map(|webhook| format!("the address of the webhook '{}'", webhook.name)));
        if app.manifest.content.user_auth.is_some() {
            parts.push("the connections to it, with their credentials".to_owned());
        }
        parts.push("its jobs, crons, syncs and triggers".to_owned());
        parts.push("its secrets and configuration".to_owned());
        parts.push("its permission keys and roles".to_owned());
        Ok(parts)
    }

    /// Removes an app with its worker, tables, secrets, permissions, roles, webhooks, jobs, crons and files. Removing what is not
    /// there is no mistake. Nobody is named where a whole tenant goes.
    pub async fn uninstall(&self, tenant: &TenantId, by: Option<&Principal>, id: &AppId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        webhooks::remove(&mut transaction, &self.vault, (tenant, id)).await?;
        hooks::undeclare(&mut transaction, tenant, id).await?;
        if !store::delete(&mut transaction, tenant, id).await? {
            return Ok(());
        }
        // After its crons have gone: whoever was just firing one has committed its job by now.
        jobs::remove(&mut transaction, tenant, id).await?;
        polls::remove(&mut transaction, tenant, id).await?;
        for scope in [Scope::App(id.clone()), Scope::Integration(id.clone())] {
            self.vault.delete_scope(&mut transaction, tenant, &scope).await?;
        }
        roles::remove_app(&mut transaction, tenant, id).await?;
        data::remove(&mut transaction, id).await?;
        if let Some(by) = by {
            let event = Event::by(by, audit::Action::AppUninstalled).on("app", id);
            audit::record(&mut transaction, &event, self.clock.now()).await?;
        }
        self.commit(transaction, id).await?;
        self.remove_from_node(id).await;
        tracing::info!(app.id = %id, "app.uninstall");
        Ok(())
    }

    /// Ends the worker of an app that is gone and removes its files.
    async fn remove_from_node(&self, id: &AppId) {
        self.developed.forget(id);
        self.running.remove(id);
        self.workers.remove(id.as_str()).await;
        self.machine.installer.forget(id).await;
        self.remove_folders(id).await;
    }

    /// The same for an app that another node removed, unless somebody has installed one of that id meanwhile.
    pub(super) async fn leave(&self, id: &AppId) {
        let starting = self.starting_lock(id);
        let _not_while_deploying = starting.lock().await;
        if matches!(self.load(id).await, Err(Error::Unknown(_))) {
            self.remove_from_node(id).await;
        }
    }

    /// Tells every node that the apps of a tenant may or may not run from the commit of this transaction on.
    pub async fn announce_all(&self, connection: &mut sqlx::PgConnection, tenant: &TenantId) -> Result<(), Error> {
        for id in store::list_ids(connection, tenant, None).await?.into_iter().filter_map(|id| id.parse().ok()) {
            notify::announce(connection, &Change::App(id)).await?;
        }
        Ok(())
    }

    pub(super) async fn commit(&self, mut transaction: sqlx::Transaction<'_, sqlx::Postgres>, id: &AppId) -> Result<(), Error> {
        notify::announce(&mut transaction, &Change::App(id.clone())).await?;
        notify::announce(&mut transaction, &Change::Identity).await?;
        transaction.commit().await?;
        // The notification may still be on its way.
        self.forget();
        self.forget_frontend(id);
        self.sql.forget(id);
        Ok(())
    }

    pub(super) fn starting_lock(&self, id: &AppId) -> Arc<Mutex<()>> {
        Arc::clone(&self.starting.entry(id.clone()).or_default())
    }
}

/// Installing anew needs less than replacing: whoever installs an app comes to administer it.
pub(super) fn may_replace(by: &Principal, id: &AppId) -> bool {
    by.permissions.allows("admin:apps.install") || by.permissions.allows(&format!("app:{id}:*"))
}

pub(super) fn compile(id: &AppId, stored: store::StoredApp) -> Result<App, Error> {
    let fingerprint = Sha256::digest(stored.manifest.to_string()).into();
    let manifest = Manifest::parse(stored.manifest).map_err(Error::InvalidManifest)?;
    let recipe = |action: &str| manifest.recipes.as_ref()?.action(action).map(Arc::clone);
    let compiled = |action: &manifest::Action| (action.id.clone(), compile_action(id, action, recipe(&action.id)));
    let actions = manifest.content.actions.iter().map(compiled).collect();
    let tenant = TenantId::try_from(stored.tenant).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let (deployment, worker_enabled) = (stored.deployment, stored.worker_enabled);
    let entities = manifest.content.data_contract.iter();
    let entities = entities.map(|entity| (entity.entity_name.clone(), weft_data::Entity::new(id.as_str(), entity.clone())));
    let entities = entities.collect();
    Ok(App { id: id.clone(), tenant, manifest, fingerprint, deployment, worker_enabled, actions, entities })
}

fn compile_action(app: &AppId, action: &manifest::Action, recipe: Option<Arc<weft_recipe::Action>>) -> Action {
    let schema = |document: &Option<Value>| document.clone().map(LazySchema::new);
    Action {
        permission: format!("integration:{app}:{}", action.id),
        input: schema(&action.input_schema),
        output: schema(&action.output_schema),
        timeout: action.timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs_f64),
        destructive: action.effect == Some(Effect::Destructive),
        cached: action.cache_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        recipe,
    }
}
