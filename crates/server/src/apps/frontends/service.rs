//! Taking a frontend in and giving its files out.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use weft_model::{AppId, Principal};

use super::{
    content,
    store::{self, Stored},
};
use crate::{
    apps::{
        archive,
        service::{Apps, Error},
        spool::Spooled,
    },
    audit::{self, Action, Event},
};

/// The page that everything begins with.
const INDEX: &str = "index.html";
/// What a frontend may have in all.
const LARGEST: u64 = 64 * 1024 * 1024;
/// What one statement stores, apart from a file that is larger by itself.
const BATCH: usize = 4 * 1024 * 1024;
/// Shorter files are not worth compressing.
const WORTH_COMPRESSING: usize = 1024;

/// A file, ready to be sent.
#[derive(Debug)]
pub struct File {
    pub path: String,
    pub tag: String,
    pub body: Bytes,
    pub gzipped: Option<Bytes>,
}

/// What a node remembers: the file, or that there is none of that name.
pub type Cached = Option<Arc<File>>;

impl Apps {
    /// Replaces the frontend of an app by the files of an archive. Returns how many there are.
    pub async fn deploy_frontend(&self, by: &Principal, id: &AppId, archive: Spooled) -> Result<usize, Error> {
        self.get(&by.tenant, id).await?;
        let (uploads, digest) = (self.machine.uploads.clone(), *archive.digest());
        let read = tokio::task::spawn_blocking(move || read(archive.path(), &uploads));
        let files = read.await.map_err(io::Error::other)??;
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        store::replace(&mut transaction, id, &digest, by.id, now).await?;
        for batch in batches(&files) {
            store::insert_files(&mut transaction, id, batch).await?;
        }
        let event = Event::by(by, Action::FrontendDeployed).on("app", id).with("files", files.len());
        audit::record(&mut transaction, &event, now).await?;
        self.commit(transaction, id).await?;
        tracing::info!(app.id = %id, files = files.len(), "app.deploy_frontend");
        Ok(files.len())
    }

    /// The file that a path below an app's address stands for: itself, or the index for a page that the app's own script shows.
    pub async fn frontend_file(&self, app: &AppId, path: &str) -> Result<Cached, Error> {
        let named = if path.is_empty() { None } else { self.file(app, path).await? };
        match named {
            Some(file) => Ok(Some(file)),
            None if content::is_page(path) => self.file(app, INDEX).await,
            None => Ok(None),
        }
    }

    async fn file(&self, app: &AppId, path: &str) -> Result<Cached, Error> {
        let key = (app.clone(), path.to_owned());
        self.frontends
            .get_or_load(&key, || async {
                let found = store::find_file(&mut *self.pool.acquire().await?, app.as_str(), path).await?;
                Ok(found.map(|stored| {
                    let Stored { path, tag, body, gzipped } = stored;
                    Arc::new(File { path, tag, body: body.into(), gzipped: gzipped.map(Bytes::from) })
                }))
            })
            .await
    }
}

/// What a remembered file takes of the room for all of them.
pub fn weight(path: &str, file: &Cached) -> u32 {
    let bodies = file.as_ref().map_or(0, |file| file.body.len() + file.gzipped.as_ref().map_or(0, Bytes::len));
    u32::try_from(bodies + path.len() + 256).unwrap_or(u32::MAX)
}

/// The files in parts that a statement each can take.
fn batches(files: &[Stored]) -> impl Iterator<Item = &[Stored]> {
    let mut size = 0;
    files.chunk_by(move |file, next| {
        size += file.size();
        let fits = size + next.size() <= BATCH;
        if !fits {
            size = 0;
        }
        fits
    })
}

/// Unpacks an archive beside others and reads what is in it. Blocks.
fn read(archive: &Path, uploads: &Path) -> Result<Vec<Stored>, Error> {
    let folder = TempDir::new_in(uploads)?;
    archive::unpack_files(archive, folder.path())?;
    let mut files = Vec::new();
    let mut left = LARGEST;
    collect(folder.path(), "", &mut left, &mut files)?;
    if files.iter().any(|file| file.path == INDEX) { Ok(files) } else { Err(archive::Error::NoIndex.into()) }
}

fn collect(folder: &Path, prefix: &str, left: &mut u64, files: &mut Vec<Stored>) -> Result<(), Error> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{path}/"), left, files)?;
            continue;
        }
        let size = entry.metadata()?.len();
        *left = left.checked_sub(size).ok_or(archive::Error::TooLarge(LARGEST))?;
        let body = fs::read(entry.path())?;
        let tag = hex::encode(Sha256::digest(&body)).get(..32).unwrap_or_default().to_owned();
        let gzipped = gzipped(&path, &body)?;
        files.push(Stored { path, tag, body, gzipped });
    }
    Ok(())
}

/// The compressed body, where it is shorter.
fn gzipped(path: &str, body: &[u8]) -> io::Result<Option<Vec<u8>>> {
    if body.len() < WORTH_COMPRESSING || !content::is_compressible(path) {
        return Ok(None);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body)?;
    Ok(Some(encoder.finish()?).filter(|short| short.len() < body.len()))
}
