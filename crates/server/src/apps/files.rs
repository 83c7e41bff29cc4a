//! The files of deployments on this machine: unpacking, fetching from the database, removing, and what a worker is started with.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use weft_model::{AppId, DeploymentId};
use weft_workers::{Allows, WorkerSpec};

use super::{
    archive, dependencies,
    dev::Purpose,
    service::{App, Apps, Error},
    store::{self, Deployment},
};
use crate::secrets::Scope;

impl Apps {
    pub(super) fn folder(&self, app: &AppId, deployment: DeploymentId) -> PathBuf {
        self.machine.apps.join(app.as_str()).join(deployment.to_string())
    }

    /// Unpacks an archive beside its final folder and renames it when everything is in place. Dependencies that are those of the
    /// `previous` deployment's folder are taken from there.
    pub(super) async fn unpack(
        &self,
        (app, deployment): (&AppId, DeploymentId),
        archive: Arc<[u8]>,
        previous: Option<PathBuf>,
    ) -> Result<String, Error> {
        let folder = self.folder(app, deployment);
        let staged = folder.with_extension("new");
        let target = staged.clone();
        let _ = tokio::fs::remove_dir_all(&staged).await;
        let entry_point =
            tokio::task::spawn_blocking(move || archive::unpack(&archive, &target)).await.map_err(std::io::Error::other)??;
        let installer = self.machine.accounts.map(|accounts| accounts.installer);
        let installer =
            dependencies::Installer { bun: &self.machine.bun, cache: &self.machine.package_cache, account: installer };
        let result = installer.install(&staged, previous).await;
        if let Err(error) = result {
            let _ = tokio::fs::remove_dir_all(&staged).await;
            return Err(error.into());
        }
        tokio::fs::rename(&staged, &folder).await?;
        Ok(entry_point)
    }

    /// Makes sure that a deployment is unpacked on this node.
    pub(super) async fn fetch(&self, app: &AppId, deployment: &Deployment) -> Result<(), Error> {
        if self.folder(app, deployment.id).is_dir() {
            return Ok(());
        }
        let archive = store::find_archive(&mut *self.pool.acquire().await?, deployment.id).await?;
        let archive = archive.ok_or_else(|| Error::NotDeployed(app.clone()))?;
        self.unpack((app, deployment.id), archive.into(), None).await?;
        Ok(())
    }

    /// Removes the folders of deployments that neither serve nor finish their last calls.
    pub(super) async fn remove_old_folders(&self, app: &AppId, kept: &[DeploymentId]) {
        let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
        let Ok(mut entries) = tokio::fs::read_dir(self.machine.apps.join(app.as_str())).await else { return };
        while let Ok(Some(entry)) = entries.next_entry().await {
            if !kept.iter().any(|name| entry.file_name().to_str() == Some(name)) {
                // Packages are many files, and nobody has to wait for their removal.
                self.background.spawn(tokio::fs::remove_dir_all(entry.path()));
            }
        }
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
            scratch: Some(self.scratch(&app.id).await?),
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

    async fn scratch(&self, app: &AppId) -> std::io::Result<PathBuf> {
        let folder = self.machine.scratch.join(app.as_str());
        tokio::fs::create_dir_all(&folder).await?;
        tokio::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).await?;
        if let Some(account) = self.machine.accounts.map(|accounts| accounts.worker(app)) {
            std::os::unix::fs::chown(&folder, Some(account.uid), Some(account.gid))?;
        }
        Ok(folder)
    }
}
