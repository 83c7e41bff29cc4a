//! Deploying an integration that comes with the server: the same way as any other, with an archive that nobody had to upload.

use serde_json::Value;
use weft_model::{AppId, Principal};

use super::{
    dev::Purpose,
    service::{Apps, Error},
    versions::Release,
};
use crate::data::Consent;

impl Apps {
    /// Installs a manifest and, where there is a backend, deploys it; gives back the number of its version.
    pub async fn deploy_bundled(
        &self,
        by: &Principal,
        id: &AppId,
        (manifest, archive): (Value, Option<Vec<u8>>),
        consent: Consent,
    ) -> Result<Option<i32>, Error> {
        let Some(archive) = archive else {
            self.install(by, manifest, consent).await?;
            return Ok(None);
        };
        let mut spool = self.receive().await?;
        spool.write(&archive).await?;
        let archive = spool.finish().await?;
        let release = Release { archive, manifest: Some(manifest), purpose: Purpose::Serve, consent };
        self.deploy(by, id, release).await.map(|version| Some(version.number))
    }
}
