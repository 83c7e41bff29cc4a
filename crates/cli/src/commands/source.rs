//! What `weft deploy` is given: a project's folder, its archive, or the address of one.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use weft_catalog::{Folder, LARGEST_ARCHIVE, check};

use crate::download::{address, download};
use crate::error::{CliError, Result};

/// A project's folder, for as long as this lives.
pub struct Source {
    folder: PathBuf,
    unpacked: Option<TempDir>,
}

impl Source {
    /// Finds, and unpacks, what is to be deployed. What comes from an address has to have the digest that whoever gave the address
    /// gave with it.
    pub async fn open(given: &str, sha256: Option<&str>) -> Result<Self> {
        let archive = match address(given) {
            Some(url) => {
                let wanted = sha256.ok_or_else(|| {
                    CliError::usage("an archive from elsewhere needs its digest, so that it is the one that was meant")
                        .with_hint("weft deploy <address> --sha256 <64 hexadecimal digits>")
                })?;
                let (archive, _) = download(&url, LARGEST_ARCHIVE).await?;
                verify(given, &archive, wanted)?;
                archive
            }
            None if Path::new(given).is_file() => {
                let archive = fs::read(given).map_err(|error| CliError::usage(format!("cannot read {given}: {error}")))?;
                sha256.map(|wanted| verify(given, &archive, wanted)).transpose()?;
                archive
            }
            None if sha256.is_some() => return Err(CliError::usage("--sha256 is for archives, and this is a folder")),
            None => return Ok(Self { folder: given.into(), unpacked: None }),
        };
        let files = Folder::unpack(&archive).map_err(|error| CliError::failed(format!("{given}: the archive: {error}")))?;
        let unwritable = |error: std::io::Error| CliError::failed(format!("cannot unpack {given}: {error}"));
        let unpacked = tempfile::tempdir().map_err(unwritable)?;
        files.write(unpacked.path()).map_err(unwritable)?;
        Ok(Self { folder: unpacked.path().to_owned(), unpacked: Some(unpacked) })
    }

    /// Whether it was packed by somebody else: nothing of it is carried out here.
    pub const fn is_archive(&self) -> bool {
        self.unpacked.is_some()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn verify(given: &str, archive: &[u8], sha256: &str) -> Result<()> {
    check(archive, sha256).map_err(|refused| CliError::failed(format!("{given}: {refused}")))
}
