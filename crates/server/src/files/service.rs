//! Taking files in, handing them out, and removing them.

use std::{net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::TimeDelta;
use futures::{Stream, StreamExt, stream::BoxStream};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_model::{AppId, FileId, Principal, TenantId, UserId};

use super::{
    content::{self, HEAD},
    pieces::{Extent, Seal, Sealing, opened},
    storage::{Storage, Writing},
    store::{self, Completed, File},
    tickets::Issued,
};
use crate::{
    audit,
    clock::Clock,
    secrets::{self, Vault},
};

/// After how long an upload that is not complete is taken for one that broke off.
const BROKEN_OFF: TimeDelta = TimeDelta::hours(24);
/// How often a node tidies up at least.
const TIDY: Duration = Duration::from_secs(30);
/// Objects that are removed in one go.
const REMAINS: i64 = 100;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("app '{0}'")]
    UnknownApp(AppId),
    #[error("file {0}")]
    Unknown(FileId),
    #[error("the address is not known, was used before, or its time is over")]
    UnknownTicket,
    #[error("the file is empty")]
    Empty,
    #[error("the file has {0} bytes, so there is no such part of it")]
    Beyond(u64),
    #[error("the file has more than {0} bytes")]
    TooLarge(u64),
    #[error("the files of this tenant would have more than {0} bytes together (setting files.tenant_mib): delete some")]
    QuotaReached(u64),
    #[error("the upload broke off: {0}")]
    Interrupted(String),
    #[error("the store of files: {0}")]
    Store(#[from] Box<object_store::Error>),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

/// What files may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of all files of a tenant, if that is limited.
    pub tenant: Option<u64>,
}

/// A file that somebody wants to store.
#[derive(Debug)]
pub struct NewFile {
    pub name: String,
    /// What it is said to be.
    pub content_type: Option<String>,
    pub by: Option<UserId>,
    /// Bytes that it may have, where that is less than any file may have.
    pub most: Option<u64>,
}

/// What came in for a file, and lies in the store.
#[derive(Debug)]
pub struct Arrived {
    id: FileId,
    object: String,
    pub completed: Completed,
}

/// The files of all apps and buckets.
pub struct Files {
    pub(super) pool: PgPool,
    pub(super) clock: Clock,
    vault: Arc<Vault>,
    storage: Storage,
    pub limits: Limits,
    /// Where workers on this machine upload to: a door of this server that leads to nothing else.
    door: SocketAddr,
    /// Files may have gone whose content is still there.
    freed: Notify,
}

/// What comes in, piece by piece.
pub type Incoming<'a> = BoxStream<'a, Result<Bytes, Error>>;

impl Files {
    pub fn new(
        (pool, clock): (PgPool, Clock),
        vault: Arc<Vault>,
        (storage, limits): (Storage, Limits),
        door: SocketAddr,
    ) -> Self {
        Self { pool, clock, vault, storage, limits, door, freed: Notify::new() }
    }

    /// The address of an upload as workers on this machine reach it.
    pub fn door_url(&self, issued: &Issued) -> String {
        format!("http://{}/api/v1/storage/upload/{}", self.door, issued.nonce)
    }

    /// Stores a file as it comes. It is there when this returns, or not at all.
    pub async fn store(&self, (tenant, app): (&TenantId, &AppId), new: NewFile, content: Incoming<'_>) -> Result<File, Error> {
        let arrived = self.take_in((tenant, Some(app)), new, content).await?;
        let stored = self.complete_alone(tenant, &arrived).await;
        if stored.is_err() {
            self.discard(tenant, &arrived).await;
        }
        stored
    }

    async fn complete_alone(&self, tenant: &TenantId, arrived: &Arrived) -> Result<File, Error> {
        let mut transaction = self.pool.begin().await?;
        let file = self.complete(&mut transaction, tenant, arrived).await?;
        transaction.commit().await?;
        Ok(file)
    }

    /// Takes in what a file of an app, or of a bucket, is to hold. It is no file before it is completed; discard it otherwise.
    pub async fn take_in(
        &self,
        (tenant, app): (&TenantId, Option<&AppId>),
        new: NewFile,
        content: Incoming<'_>,
    ) -> Result<Arrived, Error> {
        let now = self.clock.now();
        let id = FileId::generate(now);
        let name = content::name(Some(&new.name));
        let mut connection = self.pool.acquire().await?;
        if let Some(most) = self.limits.tenant
            && store::find_usage(&mut connection, tenant).await? >= bytes(most)
        {
            return Err(Error::QuotaReached(most));
        }
        let object = store::insert(&mut connection, (tenant, app), (id, &name), new.by, now).await?;
        drop(connection);
        let seal = Seal { vault: Arc::clone(&self.vault), tenant: tenant.clone(), file: id };
        let most = new.most.unwrap_or(u64::MAX).min(self.limits.file);
        let mut writing = self.storage.write(&object);
        let received = match receive(&mut writing, Sealing::new(seal), content, most).await {
            Ok(received) => writing.finish().await.map(|()| received),
            Err(error) => {
                writing.abort().await;
                Err(error)
            }
        };
        match received {
            Ok(received) => Ok(Arrived { id, object, completed: received.completed(new.content_type.as_deref()) }),
            Err(error) => {
                self.forget(tenant, (id, &object)).await;
                Err(error)
            }
        }
    }

    /// Removes what came in and became no file.
    pub async fn discard(&self, tenant: &TenantId, arrived: &Arrived) {
        self.forget(tenant, (arrived.id, &arrived.object)).await;
    }

    async fn forget(&self, tenant: &TenantId, (id, object): (FileId, &str)) {
        // Its object, if there is one, follows by the trigger. What fails here is tidied up later.
        if let Ok(mut connection) = self.pool.acquire().await {
            let _ = store::delete(&mut connection, tenant, id).await;
        }
        // The row may have gone before there was an object.
        let _ = self.storage.delete(object).await;
    }

    /// Makes a file of what came in, as a part of the caller's transaction.
    pub async fn complete(&self, connection: &mut PgConnection, tenant: &TenantId, arrived: &Arrived) -> Result<File, Error> {
        let most = self.limits.tenant.unwrap_or(u64::MAX);
        // First the file and then what the tenant has, as when files go.
        let file = store::complete(connection, arrived.id, &arrived.completed, self.clock.now()).await?;
        let file = file.ok_or_else(|| Error::Interrupted("the app was removed meanwhile".to_owned()))?;
        if !store::add_usage(connection, tenant, arrived.completed.size, bytes(most)).await? {
            return Err(Error::QuotaReached(most));
        }
        metrics::counter!("weft_files_stored_total").increment(1);
        Ok(file)
    }

    /// A file that belongs to no app.
    pub async fn find_own(&self, tenant: &TenantId, id: FileId) -> Result<Option<File>, Error> {
        Ok(store::find_own(&mut *self.pool.acquire().await?, tenant, id).await?)
    }

    /// What a file holds, or a part of it, as it is read.
    pub async fn read(
        &self,
        tenant: &TenantId,
        file: &File,
        part: Option<Range<u64>>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let seal = Seal { vault: Arc::clone(&self.vault), tenant: tenant.clone(), file: file.id.into() };
        let extent = part.map_or_else(|| Extent::whole(file.bytes()), |part| Extent::part(file.bytes(), part));
        let source = self.storage.read(&file.object, extent.sealed()).await?;
        Ok(opened(seal, file.key_version.unwrap_or_default(), &extent, source))
    }

    pub async fn find(&self, (tenant, app): (&TenantId, &AppId), id: FileId) -> Result<File, Error> {
        store::find(&mut *self.pool.acquire().await?, (tenant, app), id).await?.ok_or(Error::Unknown(id))
    }

    /// Files of an app, newest first.
    pub async fn list(&self, (tenant, app): (&TenantId, &AppId), before: Option<Uuid>, most: i64) -> Result<Vec<File>, Error> {
        Ok(store::list(&mut *self.pool.acquire().await?, (tenant, app), before, most).await?)
    }

    /// Removes a file; its content follows soon.
    pub async fn delete(&self, caller: &Principal, app: &AppId, id: FileId) -> Result<(), Error> {
        self.find((&caller.tenant, app), id).await?;
        let mut transaction = self.pool.begin().await?;
        let (name, size) = store::delete(&mut transaction, &caller.tenant, id).await?.ok_or(Error::Unknown(id))?;
        let event = audit::Event::by(caller, audit::Action::FileDeleted).on("file", id);
        let event = event.with("app", app.to_string()).with("name", name).with("size", size);
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        transaction.commit().await?;
        self.wake();
        Ok(())
    }

    /// Files may have gone: what they held goes soon.
    pub fn wake(&self) {
        self.freed.notify_one();
    }

    /// Tidies up now and then, and as soon as files went, until the node stops.
    pub async fn keep_tidy(&self, stopping: &CancellationToken) {
        let mut ticks = tokio::time::interval(TIDY);
        loop {
            tokio::select! { () = stopping.cancelled() => return, _ = ticks.tick() => {} () = self.freed.notified() => {} }
            if let Err(error) = self.tidy().await {
                tracing::warn!(%error, "cannot tidy up files");
            }
        }
    }

    /// Removes what broke off, what nobody refers to any more, and addresses whose time is over.
    async fn tidy(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let mut connection = self.pool.acquire().await?;
        while store::delete_unfinished(&mut connection, now - BROKEN_OFF).await? > 0 {}
        while store::delete_expired_tickets(&mut connection, now).await? > 0 {}
        drop(connection);
        while self.remove_remains().await? {}
        Ok(())
    }

    /// Removes a batch of objects whose files are gone. Whether there may be more. Two nodes may be at the same ones: to remove what
    /// is not there is no mistake, and no connection waits for the store.
    async fn remove_remains(&self) -> Result<bool, Error> {
        let objects = store::list_remains(&mut *self.pool.acquire().await?, REMAINS).await?;
        let (mut gone, mut failed) = (Vec::with_capacity(objects.len()), None);
        for object in &objects {
            match self.storage.delete(object).await {
                Ok(()) => gone.push(object.clone()),
                // The store may be away; what could be removed is removed all the same.
                Err(error) => {
                    failed = Some((object, error));
                    break;
                }
            }
        }
        let mut connection = self.pool.acquire().await?;
        store::delete_remains(&mut connection, &gone).await?;
        let Some((object, error)) = failed else { return Ok(objects.len() >= usize::try_from(REMAINS).unwrap_or(0)) };
        // It goes to the end, so that one which cannot be removed keeps none of the others.
        store::put_off(&mut connection, object, self.clock.now()).await?;
        Err(error)
    }
}

/// What has come in.
struct Received {
    head: Vec<u8>,
    size: u64,
    digest: Sha256,
    key_version: i32,
}

impl Received {
    fn completed(self, said: Option<&str>) -> Completed {
        Completed {
            content_type: content::kind(&self.head, said),
            size: bytes(self.size),
            digest: self.digest.finalize().to_vec(),
            key_version: self.key_version,
        }
    }
}

async fn receive(writing: &mut Writing, mut sealing: Sealing, mut content: Incoming<'_>, most: u64) -> Result<Received, Error> {
    let (mut head, mut size, mut digest) = (Vec::new(), 0_u64, Sha256::new());
    while let Some(chunk) = content.next().await {
        let chunk = chunk?;
        size += chunk.len() as u64;
        if size > most {
            return Err(Error::TooLarge(most));
        }
        let wanted = HEAD.saturating_sub(head.len()).min(chunk.len());
        head.extend_from_slice(chunk.get(..wanted).unwrap_or_default());
        digest.update(&chunk);
        let mut piece = sealing.push(&chunk)?;
        while let Some(full) = piece {
            writing.write(full).await?;
            piece = sealing.push(&[])?;
        }
    }
    if size == 0 {
        return Err(Error::Empty);
    }
    writing.write(sealing.finish()?).await?;
    Ok(Received { head, size, digest, key_version: sealing.version.unwrap_or_default() })
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
