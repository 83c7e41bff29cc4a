//! The workers of this node: calling them, starting what somebody needs, and following what other nodes did.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use weft_model::{AppId, DeploymentId, TenantId};
use weft_workers::{Call, CallError, LogLine, Status, WorkerReport};

use super::{
    dev::Purpose,
    service::{App, Apps, CallRequest, Error},
    store::{self, Deployment},
};
use crate::secrets::Masks;

/// What a worker was started with, as far as it can be out of date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    deployment: DeploymentId,
    manifest: [u8; 32],
}

impl Running {
    fn of(app: &App, deployment: DeploymentId) -> Self {
        Self { deployment, manifest: Sha256::digest(app.manifest.document.to_string()).into() }
    }
}

impl Apps {
    /// Calls a method of an app's backend, starting the process if it does not run.
    pub async fn call(&self, app: &Arc<App>, request: &CallRequest) -> Result<Box<RawValue>, Error> {
        // A backend that never got this far may have left a crashed worker behind, which is not to be woken.
        to_run(app)?;
        let call = Call {
            method: &request.method,
            job: request.job,
            params: &request.params,
            caller: request.caller.as_deref(),
            context: &request.context,
            timeout: request.timeout,
            nested: request.context.depth > 0,
        };
        match self.workers.call(app.id.as_str(), &call).await {
            Err(CallError::NotRunning { .. }) => {
                Box::pin(self.ensure_started(app)).await?;
                Ok(Box::pin(self.workers.call(app.id.as_str(), &call)).await?)
            }
            other => Ok(other?),
        }
    }

    /// Starts the worker of an app that is deployed and not stopped on purpose.
    pub async fn ensure_started(&self, app: &App) -> Result<(), Error> {
        let starting = self.starting_lock(&app.id);
        let _one_at_a_time = starting.lock().await;
        // Meanwhile another version may serve.
        let app = self.load(&app.id).await?;
        let deployment = to_run(&app)?;
        if matches!(self.workers.status(app.id.as_str()), Some(Status::Running | Status::Starting)) {
            return Ok(());
        }
        let started = async {
            self.fetch(&app.id, deployment).await?;
            self.start(&app, deployment, self.developed.purpose(&app.id, deployment.id)).await?;
            self.note_jobs(&app.id, deployment).await;
            Ok(())
        };
        started.await.map_err(|cause| Error::NotComingUp { app: app.id.clone(), cause: Box::new(cause) })
    }

    /// Starts a version beside whatever runs. When it is ready it takes over, and what ran before finishes its calls. The caller
    /// holds the app's lock.
    pub(super) async fn start(&self, app: &App, deployment: &Deployment, purpose: Purpose) -> Result<(), Error> {
        let spec = self.spec(app, deployment, purpose).await?;
        // What it prints as it dies may be its environment.
        let masks = Masks::new(spec.credentials.values().map(String::as_str));
        self.workers.start(spec).await.map_err(|error| masks.start_error(error))?;
        let before = self.running.insert(app.id.clone(), Running::of(app, deployment.id));
        let kept: Vec<_> = before.map(|running| running.deployment).into_iter().chain([deployment.id]).collect();
        self.remove_old_folders(&app.id, &kept).await;
        Ok(())
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

    /// What an app's worker is doing here, and the version that serves.
    pub async fn worker_status(&self, tenant: &TenantId, id: &AppId) -> Result<(Status, Option<(DeploymentId, Purpose)>), Error> {
        let app = self.get(tenant, id).await?;
        let serving = app.deployment.as_ref().map(|deployment| (deployment.id, self.developed.purpose(id, deployment.id)));
        Ok((self.workers.status(id.as_str()).unwrap_or(Status::Stopped), serving))
    }

    /// Notes whether a version has a handler for jobs, where it was deployed before anybody asked.
    async fn note_jobs(&self, id: &AppId, deployment: &Deployment) {
        let Some(takes_jobs) = self.workers.takes_jobs(id.as_str()).filter(|_| deployment.takes_jobs.is_none()) else { return };
        let noted = async {
            let mut transaction = self.pool.begin().await?;
            if store::set_takes_jobs(&mut transaction, deployment.id, takes_jobs).await? {
                self.commit(transaction, id).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = noted.await {
            tracing::warn!(app.id = %id, %error, "whether the app takes jobs is not noted");
        }
    }

    /// Whether it is known that the backend has no handler for work for later: by what its process said, on whichever node.
    pub fn takes_no_jobs(&self, app: &App) -> bool {
        let said = app.deployment.as_ref().and_then(|deployment| deployment.takes_jobs);
        said.or_else(|| self.workers.takes_jobs(app.id.as_str())) == Some(false)
    }

    /// Refuses work for later where it is known that the backend has no handler for it.
    pub fn ensure_takes_jobs(&self, app: &App) -> Result<(), Error> {
        if self.takes_no_jobs(app) { Err(Error::TakesNoJobs(app.id.clone())) } else { Ok(()) }
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

    pub async fn logs(&self, tenant: &TenantId, id: &AppId) -> Result<broadcast::Receiver<LogLine>, Error> {
        self.get(tenant, id).await?;
        Ok(self.workers.logs(id.as_str()))
    }

    /// Starts a worker again in the background, so that it sees changed secrets. One that keeps crashing may lack just those.
    pub fn restart(self: &Arc<Self>, id: &AppId) {
        if matches!(self.workers.status(id.as_str()), Some(Status::Running | Status::Starting | Status::Crashed)) {
            self.replace_worker(id, When::Always);
        }
    }

    /// Brings this node's worker in line with what was deployed, installed or stopped, here or on another node.
    pub fn follow(self: &Arc<Self>, id: &AppId) {
        let (apps, id) = (Arc::clone(self), id.clone());
        self.background.spawn(async move {
            match apps.load(&id).await {
                Err(Error::Unknown(_)) => apps.leave(&id).await,
                _ if apps.workers.status(id.as_str()).is_none() => {}
                Ok(app) if !app.worker_enabled => apps.workers.stop(id.as_str()).await,
                Ok(app) if apps.sleeps(&app) || apps.serves(&app) => {}
                Ok(_) => apps.replace_worker(&id, When::OutOfDate),
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

    /// Whether this node's worker was started with the version and the manifest that the app has now.
    fn serves(&self, app: &App) -> bool {
        let wanted = app.deployment.as_ref().map(|deployment| Running::of(app, deployment.id));
        self.running.get(&app.id).as_deref() == wanted.as_ref()
    }

    fn replace_worker(self: &Arc<Self>, id: &AppId, when: When) {
        let (apps, id) = (Arc::clone(self), id.clone());
        self.background.spawn(async move {
            let replaced = async {
                let starting = apps.starting_lock(&id);
                let _one_at_a_time = starting.lock().await;
                let app = apps.load(&id).await?;
                let Some(deployment) = app.deployment.as_ref().filter(|_| app.worker_enabled) else { return Ok(()) };
                if when == When::OutOfDate && apps.serves(&app) {
                    return Ok(());
                }
                apps.fetch(&id, deployment).await?;
                apps.start(&app, deployment, apps.developed.purpose(&id, deployment.id)).await?;
                apps.note_jobs(&id, deployment).await;
                Ok::<_, Error>(())
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
}

/// When a worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Unless it runs what it should by the time it is its turn.
    OutOfDate,
}

/// The deployment to run, unless there is none or somebody stopped it.
fn to_run(app: &App) -> Result<&Deployment, Error> {
    let deployment = app.deployment.as_ref().ok_or_else(|| Error::NotDeployed(app.id.clone()))?;
    if app.worker_enabled { Ok(deployment) } else { Err(Error::Stopped(app.id.clone())) }
}
