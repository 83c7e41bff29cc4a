//! Addresses that let somebody upload or download one file, once, without a token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::Stream;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use weft_model::{AppId, FileId, Principal, TenantId, UserId};

use super::{
    content,
    service::{Error, Files, Incoming, NewFile},
    store::{self, File, Ticket},
};

/// How long an address for an upload is good.
const UPLOAD: TimeDelta = TimeDelta::seconds(60);
/// How long an address for a download is good.
const DOWNLOAD: TimeDelta = TimeDelta::seconds(300);

/// What a worker wants to upload, as its prelude says it.
#[derive(Debug, Deserialize)]
pub struct WorkerUpload {
    pub name: String,
    #[serde(default)]
    pub content_type: Option<String>,
    /// 0: not known.
    #[serde(default)]
    pub size: u64,
}

/// What is unguessable in an address, and until when it is good.
#[derive(Debug)]
pub struct Issued {
    pub nonce: String,
    pub expires_at: DateTime<Utc>,
}

impl Files {
    /// An address to upload one file to, of `size` bytes at most, if that is known.
    pub async fn allow_upload(
        &self,
        (tenant, app): (&TenantId, &AppId),
        wanted: WorkerUpload,
        to: Option<UserId>,
    ) -> Result<Issued, Error> {
        if wanted.size > self.limits.file {
            return Err(Error::TooLarge(self.limits.file));
        }
        let ticket = Ticket {
            tenant_id: tenant.to_string(),
            app_id: app.to_string(),
            file_id: None,
            name: Some(content::name(Some(&wanted.name))),
            content_type: wanted.content_type.map(|said| said.chars().filter(|character| *character != '\0').take(127).collect()),
            most: i64::try_from(wanted.size).ok().filter(|size| *size > 0),
            issued_to: to.map(UserId::as_uuid),
        };
        self.issue(&ticket, UPLOAD).await
    }

    /// An address to download a file from.
    pub async fn allow_download(&self, caller: &Principal, app: &AppId, id: FileId) -> Result<Issued, Error> {
        let file = self.find((&caller.tenant, app), id).await?;
        let ticket = Ticket {
            tenant_id: caller.tenant.to_string(),
            app_id: app.to_string(),
            file_id: Some(file.id),
            name: None,
            content_type: None,
            most: None,
            issued_to: Some(caller.id.as_uuid()),
        };
        self.issue(&ticket, DOWNLOAD).await
    }

    async fn issue(&self, ticket: &Ticket, lifetime: TimeDelta) -> Result<Issued, Error> {
        let nonce = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let expires_at = self.clock.now() + lifetime;
        store::insert_ticket(&mut *self.pool.acquire().await?, &digest(&nonce), ticket, expires_at).await?;
        Ok(Issued { nonce, expires_at })
    }

    /// Stores what comes to an address, which ends by this whatever becomes of it.
    pub async fn store_once(&self, nonce: &str, content: Incoming<'_>) -> Result<File, Error> {
        let (ticket, tenant, app) = self.take(nonce, true).await?;
        let new = NewFile {
            name: ticket.name.unwrap_or_default(),
            content_type: ticket.content_type,
            by: ticket.issued_to.map(UserId::from),
            most: ticket.most.and_then(|most| u64::try_from(most).ok()),
        };
        self.store((&tenant, &app), new, content).await
    }

    /// The file of an address, which ends by this.
    pub async fn read_once(&self, nonce: &str) -> Result<(File, impl Stream<Item = Result<Bytes, Error>> + Send + use<>), Error> {
        let (ticket, tenant, app) = self.take(nonce, false).await?;
        let id = ticket.file_id.map(FileId::from).ok_or(Error::UnknownTicket)?;
        let file = self.find((&tenant, &app), id).await?;
        let content = self.read(&tenant, &file, None).await?;
        Ok((file, content))
    }

    async fn take(&self, nonce: &str, is_upload: bool) -> Result<(Ticket, TenantId, AppId), Error> {
        let mut connection = self.pool.acquire().await?;
        let ticket = store::take_ticket(&mut connection, &digest(nonce), is_upload, self.clock.now()).await?;
        let ticket = ticket.ok_or(Error::UnknownTicket)?;
        match (ticket.tenant_id.parse(), ticket.app_id.parse()) {
            (Ok(tenant), Ok(app)) => Ok((ticket, tenant, app)),
            _ => Err(Error::UnknownTicket),
        }
    }
}

fn digest(nonce: &str) -> Vec<u8> {
    Sha256::digest(nonce.as_bytes()).to_vec()
}
