//! The map from apps to their workers, and the public face of the crate.

use crate::{
    Call, CallError, HostSettings, Level, LogLine, Offer, Platform, StartError, Status, WorkerReport, WorkerSpec,
    app::{App, Command},
    logs::Journal,
    process::Shared,
};
use ahash::RandomState;
use dashmap::DashMap;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{sync::broadcast, task::JoinSet};

/// Runs the workers of all apps. Cheap to share; needs a tokio runtime with time and IO enabled. When the host is dropped its
/// processes are killed; [`Host::stop_all`] ends them gently.
pub struct Host<P: Platform> {
    shared: Arc<Shared<P>>,
    apps: DashMap<Arc<str>, Arc<App<P>>, RandomState>,
    /// Apart from `apps`, because a log can be followed before its app was ever started.
    journals: DashMap<Arc<str>, Arc<Journal<P>>>,
}

impl<P: Platform> Host<P> {
    pub fn new(settings: HostSettings, platform: Arc<P>) -> Arc<Self> {
        Arc::new(Self { shared: Arc::new(Shared { settings, platform }), apps: DashMap::default(), journals: DashMap::new() })
    }

    /// Deploys a version: starts its process, waits until it is ready, and only then sends it the new calls; the process before
    /// it finishes its own and is stopped. If the new one does not come up, the old one keeps serving.
    pub async fn start(&self, spec: WorkerSpec) -> Result<(), StartError> {
        let app = self.app(&spec.app_id);
        app.ask(|done| Command::Deploy(Arc::new(spec), done)).await.unwrap_or(Err(StartError::HostGone))
    }

    /// Like [`Self::start`], but does nothing if a process of the app is running.
    pub async fn ensure_started(&self, spec: WorkerSpec) -> Result<(), StartError> {
        let app = self.app(&spec.app_id);
        app.ask(|done| Command::Ensure(Arc::new(spec), done)).await.unwrap_or(Err(StartError::HostGone))
    }

    /// Refuses new calls, lets those in flight finish, and ends the process; a stopped app stays stopped until it is started.
    /// An app that was never started is stopped already.
    pub async fn stop(&self, app: &str) {
        if let Some(app) = self.find(app) {
            app.ask(Command::Stop).await;
        }
    }

    /// Stops all apps at the same time.
    pub async fn stop_all(&self) {
        let mut stops = JoinSet::new();
        for entry in &self.apps {
            let app = Arc::clone(entry.value());
            stops.spawn(async move { app.ask(Command::Stop).await });
        }
        while stops.join_next().await.is_some() {}
    }

    /// Stops an app and forgets it and its log, for an app that is uninstalled.
    pub async fn remove(&self, app: &str) {
        self.stop(app).await;
        self.apps.remove(app);
        self.journals.remove(app);
    }

    /// What the app's worker is doing; nothing if it was never started.
    #[must_use]
    pub fn status(&self, app: &str) -> Option<Status> {
        self.find(app).map(|app| app.status())
    }

    /// Whether the app's backend has a handler for jobs; nothing if it does not run, or has not said so.
    #[must_use]
    pub fn takes_jobs(&self, app: &str) -> Option<bool> {
        self.find(app)?.takes_jobs()
    }

    /// What the app's backend has handlers for; nothing if it does not run.
    #[must_use]
    pub fn offer(&self, app: &str) -> Option<Offer> {
        self.find(app)?.offer()
    }

    /// The status of every app that was ever started.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<Arc<str>, Status> {
        self.apps.iter().map(|entry| (Arc::clone(entry.key()), entry.value().status())).collect()
    }

    /// How the worker of every app is that was ever started.
    #[must_use]
    pub fn reports(&self) -> BTreeMap<Arc<str>, WorkerReport> {
        self.apps.iter().map(|entry| (Arc::clone(entry.key()), entry.value().report())).collect()
    }

    /// Calls a handler of the app. A call that arrives while the process starts waits for it; a crashed app gets one more try; one
    /// that finds too many others before it is refused.
    /// Dropping the future gives the call up.
    pub async fn call(&self, app: &str, call: &Call<'_, P::Context>) -> Result<Box<RawValue>, CallError> {
        let app = self.find(app).ok_or_else(|| CallError::NotRunning { app: app.into() })?;
        app.call(call).await
    }

    /// The app's log from now on, across restarts and deployments. A receiver that lags behind by more than 256 lines loses the
    /// oldest.
    #[must_use]
    pub fn logs(&self, app: &str) -> broadcast::Receiver<LogLine> {
        self.journal(app).subscribe()
    }

    /// Says something in the app's log that its process does not know of.
    pub fn tell(&self, app: &str, level: Level, message: &str) {
        self.journal(app).write(level, message, None);
    }

    fn find(&self, app: &str) -> Option<Arc<App<P>>> {
        self.apps.get(app).map(|entry| Arc::clone(entry.value()))
    }

    fn app(&self, id: &Arc<str>) -> Arc<App<P>> {
        let new = || Arc::new(App::new(Arc::clone(id), Arc::clone(&self.shared), self.journal(id)));
        Arc::clone(&self.apps.entry(Arc::clone(id)).or_insert_with(new))
    }

    fn journal(&self, app: &str) -> Arc<Journal<P>> {
        let id: Arc<str> = app.into();
        let new = || Arc::new(Journal::new(Arc::clone(&id), Arc::clone(&self.shared.platform), &self.shared.settings.limits));
        Arc::clone(&self.journals.entry(Arc::clone(&id)).or_insert_with(new))
    }
}
