//! The files of versions on this machine: unpacking, fetching from the database, removing, and what a worker is started with.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::TryStreamExt;
use weft_model::{AppId, DeploymentId};
use weft_workers::{Allows, WorkerSpec};

use super::{
    archive,
    dependencies::Known,
    dev::Purpose,
    service::{App, Apps, Error},
    spool::{Spool, Spooled},
    store::Deployment,
    versions::store,
};
use crate::secrets::Scope;

/// What came out of an archive.
pub(super) struct Unpacked {
    pub entry_point: String,
    /// The lockfile that had to be made.
    pub lockfile: Option<String>,
}

impl Apps {
    pub(super) fn folder(&self, app: &AppId, deployment: DeploymentId) -> PathBuf {
        self.machine.apps.join(app.as_str()).join(deployment.to_string())
    }

    /// Unpacks an archive beside its final folder and renames it when everything is in place: a folder that has its final name is
    /// complete and never changes. Dependencies that are those of the version before are taken from there.
    pub(super) async fn unpack(
        &self,
        (app, deployment): (&AppId, DeploymentId),
        archive: &Spooled,
        known: Known,
    ) -> Result<Unpacked, Error> {
        let folder = self.folder(app, deployment);
        let staged = folder.with_extension("new");
        let _ = tokio::fs::remove_dir_all(&staged).await;
        let result = self.prepare(app, archive, &staged, known).await;
        let result = match result {
            Ok(unpacked) => tokio::fs::rename(&staged, &folder).await.map(|()| unpacked).map_err(Error::from),
            Err(error) => Err(error),
        };
        if result.is_err() {
            let _ = tokio::fs::remove_dir_all(&staged).await;
        }
        result
    }

    async fn prepare(&self, app: &AppId, archive: &Spooled, staged: &Path, known: Known) -> Result<Unpacked, Error> {
        let (source, target) = (archive.path().to_owned(), staged.to_owned());
        let unpacking = tokio::task::spawn_blocking(move || archive::unpack(&source, &target));
        let entry_point = unpacking.await.map_err(std::io::Error::other)??;
        let lockfile = self.machine.installer.install(app, staged, known).await?;
        Ok(Unpacked { entry_point, lockfile })
    }

    /// Makes sure that a version is unpacked on this node.
    pub(super) async fn fetch(&self, app: &AppId, deployment: &Deployment) -> Result<(), Error> {
        if self.folder(app, deployment.id).is_dir() {
            return Ok(());
        }
        let (archive, lockfile) = self.download(app, deployment.id).await?;
        // What was accepted when it was deployed is not asked about again; without a lockfile, the archive has its own.
        let known = Known { previous: None, lockfile, accepted: true };
        self.unpack((app, deployment.id), &archive, known).await?;
        Ok(())
    }

    /// Brings an archive from the database onto this machine.
    async fn download(&self, app: &AppId, deployment: DeploymentId) -> Result<(Spooled, Option<String>), Error> {
        let mut connection = self.pool.acquire().await?;
        let lockfile = store::find_lockfile(&mut connection, deployment).await?;
        let mut spool = Spool::create(&self.machine.uploads).await?;
        let mut chunks = store::chunks(&mut connection, deployment);
        while let Some(chunk) = chunks.try_next().await? {
            spool.write(&chunk).await?;
        }
        if spool.size() == 0 {
            return Err(Error::NotDeployed(app.clone()));
        }
        Ok((spool.finish().await?, lockfile))
    }

    /// Removes the folders of versions that neither serve nor finish their last calls.
    pub(super) async fn remove_old_folders(&self, app: &AppId, kept: &[DeploymentId]) {
        let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
        let Ok(mut entries) = tokio::fs::read_dir(self.machine.apps.join(app.as_str())).await else { return };
        while let Ok(Some(entry)) = entries.next_entry().await {
            if !kept.iter().any(|name| entry.file_name().to_str() == Some(name)) {
                self.remove_folder(entry.path()).await;
            }
        }
    }

    /// Removes a folder. Its name goes at once, so that nobody takes it for a complete one; its many files go when there is time.
    pub(super) async fn remove_folder(&self, folder: PathBuf) {
        let doomed = folder.with_extension("old");
        if folder != doomed && tokio::fs::rename(&folder, &doomed).await.is_err() {
            return;
        }
        self.background.spawn(tokio::fs::remove_dir_all(doomed));
    }

    pub(super) async fn spec(&self, app: &App, deployment: &Deployment, purpose: Purpose) -> Result<WorkerSpec, Error> {
        let mut connection = self.pool.acquire().await?;
        let secrets = self.vault.read(&mut connection, &app.tenant, &Scope::App(app.id.clone())).await?;
        let credentials: BTreeMap<String, String> =
            secrets.into_iter().map(|(name, value)| (name, value.expose().clone())).collect();
        let content = &app.manifest.content;
        let manifest = serde_json::value::to_raw_value(&app.manifest.document).map_err(std::io::Error::other)?;
        Ok(WorkerSpec {
            app_id: app.id.shared(),
            directory: self.folder(&app.id, deployment.id),
            entry_point: PathBuf::from(&deployment.entry_point),
            scratch: Some(self.scratch(app).await?),
            account: self
                .machine
                .accounts
                .map(|accounts| accounts.worker(&app.id))
                .map(|account| weft_workers::Account { uid: account.uid, gid: account.gid }),
            egress: content.egress.clone().map(|hosts| -> Arc<Allows> {
                Arc::new(move |host, port| hosts.iter().any(|pattern| pattern.matches(host, port)))
            }),
            environment: credentials.clone().into_iter().collect(),
            credentials,
            manifest,
            run_on_start: true,
            dev: purpose == Purpose::Develop,
            memory_limit: content.limits.memory_mib.map(|mib| mib.saturating_mul(1024 * 1024)),
            keep_running: content.keeps_running(),
        })
    }

    /// The folder that a backend may write to. Its name tells tenants apart: an id that was given up may be taken by another one.
    async fn scratch(&self, app: &App) -> std::io::Result<PathBuf> {
        let folder = self.machine.scratch.join(format!("{}-{}", app.tenant, app.id));
        tokio::fs::create_dir_all(&folder).await?;
        tokio::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).await?;
        if let Some(account) = self.machine.accounts.map(|accounts| accounts.worker(&app.id)) {
            std::os::unix::fs::chown(&folder, Some(account.uid), Some(account.gid))?;
        }
        Ok(folder)
    }

    /// Removes everything that this node keeps of an app in files, whosever it was.
    pub(super) async fn remove_folders(&self, app: &AppId) {
        let _ = tokio::fs::remove_dir_all(self.machine.apps.join(app.as_str())).await;
        let Ok(mut entries) = tokio::fs::read_dir(&self.machine.scratch).await else { return };
        while let Ok(Some(entry)) = entries.next_entry().await {
            if entry.file_name().to_str().and_then(|name| name.split_once('-')).is_some_and(|(_, id)| id == app.as_str()) {
                let _ = tokio::fs::remove_dir_all(entry.path()).await;
            }
        }
    }
}
