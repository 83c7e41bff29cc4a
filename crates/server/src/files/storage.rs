//! Where objects lie: a folder, or a bucket of something that speaks S3. Knows nothing of files.

use std::{io::SeekFrom, ops::Range, os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt, RetryConfig, aws::AmazonS3Builder, buffered::BufWriter,
    local::LocalFileSystem, path::Path,
};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use url::Url;
use weft_jail::{AddressGuard, SystemResolver};
use weft_model::Secret;

use super::{s3::Way, service::Error};
use crate::http::outbound::Outbound;

/// Bytes that are sent to the store at once.
const PART: usize = 8 * 1024 * 1024;
/// Bytes that are read of a file at once.
const READ: usize = 256 * 1024;
/// Parts on their way at once, per upload.
const PARTS: usize = 2;

/// Who waits for an answer waits no longer than this for the store to come back.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() }
}

/// Which store it is.
#[derive(Debug, Clone)]
pub enum Target {
    /// Absent: a folder of the data directory.
    Folder(Option<PathBuf>),
    S3 {
        endpoint: Option<Url>,
        region: String,
        bucket: String,
        prefix: String,
        key: String,
        secret: Secret<String>,
    },
}

/// A store of objects.
#[derive(Debug, Clone)]
pub struct Storage {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Storage {
    /// Opens a store. Nothing is asked of it yet. `folder` is where files lie when nothing else is said.
    pub fn open(target: &Target, folder: PathBuf) -> anyhow::Result<Self> {
        match target {
            Target::Folder(named) => {
                let folder = named.clone().unwrap_or(folder);
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
                let objects = LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true).with_automatic_cleanup(true);
                Ok(Self { objects: Arc::new(objects), prefix: Path::default() })
            }
            Target::S3 { endpoint, region, bucket, prefix, key, secret } => {
                // The operator has named it, so it may be on this machine or in this network: it, and nothing else.
                let host = endpoint.as_ref().and_then(Url::host_str).map(str::to_owned);
                let guard = AddressGuard::new(&Vec::from_iter(host))?;
                let way = Way(Arc::new(Outbound::new(Arc::new(guard), SystemResolver)?));
                let mut builder = AmazonS3Builder::new()
                    .with_region(region)
                    .with_bucket_name(bucket)
                    .with_access_key_id(key)
                    .with_secret_access_key(secret.expose())
                    .with_retry(retries())
                    .with_http_connector(way);
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/')).with_allow_http(true);
                }
                Ok(Self { objects: Arc::new(builder.build()?), prefix: Path::parse(prefix)? })
            }
        }
    }

    fn path(&self, object: &str) -> Path {
        self.prefix.parts().chain(Path::from(object).parts().map(|part| part.as_ref().to_owned().into())).collect()
    }

    /// Begins an object. It is there when [`Writing::finish`] has returned, or not at all.
    pub fn write(&self, object: &str) -> Writing {
        let writer = BufWriter::with_capacity(Arc::clone(&self.objects), self.path(object), PART).with_max_concurrency(PARTS);
        Writing(writer)
    }

    /// Bytes of an object, as they come. What is behind its end is left out.
    pub async fn read(&self, object: &str, bytes: Range<u64>) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let length = bytes.end - bytes.start;
        let options = GetOptions { range: Some(bytes.into()), ..GetOptions::default() };
        let found = self.objects.get_opts(&self.path(object), options).await?;
        Ok(match found.payload {
            // Its own stream never ends for a file that was cut off meanwhile, and takes 8 KiB at a time.
            GetResultPayload::File(file, _) => {
                let failed = |error: std::io::Error| object_store::Error::Generic { store: "files", source: error.into() };
                let mut file = tokio::fs::File::from_std(file);
                file.seek(SeekFrom::Start(found.range.start)).await.map_err(failed)?;
                let pieces = ReaderStream::with_capacity(file.take(length), READ);
                pieces.map_err(move |error| failed(error).into()).boxed()
            }
            GetResultPayload::Stream(pieces) => pieces.map_err(Error::from).boxed(),
        })
    }

    /// Removes an object. One that is not there is removed already.
    pub async fn delete(&self, object: &str) -> Result<(), Error> {
        match self.objects.delete(&self.path(object)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// An object that is being written.
pub struct Writing(BufWriter);

impl Writing {
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        Ok(self.0.put(piece).await?)
    }

    pub async fn finish(mut self) -> Result<(), Error> {
        self.0.shutdown().await.map_err(|error| {
            let error = error.downcast::<object_store::Error>();
            error.unwrap_or_else(|error| object_store::Error::Generic { store: "files", source: error.into() }).into()
        })
    }

    /// Leaves nothing behind, as far as that is possible.
    pub async fn abort(mut self) {
        // Fails when nothing was sent yet, or the store is away; then it is tidied up later.
        let _ = self.0.abort().await;
    }
}
