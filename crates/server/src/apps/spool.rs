//! Archives on this machine while they are worked on: files below the data directory that go when nobody needs them any more.
//!
//! What comes in over the network or out of the database passes through here piece by piece, so that no archive is ever in
//! memory as a whole. Knows nothing of what is in one.

use std::{io, path::Path};

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_blocking,
};

/// How much of an archive is in memory at a time when it is read again.
const PIECE: u64 = 1024 * 1024;

/// A file that is being written.
pub struct Spool {
    file: File,
    path: TempPath,
    digest: Sha256,
    size: u64,
}

/// A file that is complete. It is removed when this is dropped.
#[derive(Debug)]
pub struct Spooled {
    path: TempPath,
    digest: [u8; 32],
    size: u64,
}

impl Spool {
    pub async fn create(folder: &Path) -> io::Result<Self> {
        let folder = folder.to_owned();
        let made = spawn_blocking(move || NamedTempFile::new_in(folder)).await.map_err(io::Error::other)??;
        let (file, path) = made.into_parts();
        Ok(Self { file: File::from_std(file), path, digest: Sha256::new(), size: 0 })
    }

    pub async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.digest.update(piece);
        self.size += piece.len() as u64;
        self.file.write_all(piece).await
    }

    /// How many bytes were written.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub async fn finish(mut self) -> io::Result<Spooled> {
        self.file.flush().await?;
        Ok(Spooled { path: self.path, digest: self.digest.finalize().into(), size: self.size })
    }
}

impl Spooled {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The content in pieces, in order.
    pub async fn pieces(&self) -> io::Result<Pieces> {
        Ok(Pieces { file: File::open(&self.path).await? })
    }
}

/// Reads a file piece by piece.
pub struct Pieces {
    file: File,
}

impl Pieces {
    /// The next piece; nothing at the end.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut piece = Vec::new();
        (&mut self.file).take(PIECE).read_to_end(&mut piece).await?;
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// Removes what a server that died has left in its folder of uploads.
pub fn tidy(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Files of frontends that were being read.
        if entry.file_type()?.is_dir() { std::fs::remove_dir_all(entry.path())? } else { std::fs::remove_file(entry.path())? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spooled_file_is_read_again_in_pieces_and_gone_when_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::create(folder.path()).await.expect("made");
        for _ in 0..3 {
            spool.write(&vec![7; 600_000]).await.expect("written");
        }
        let spooled = spool.finish().await.expect("complete");
        assert_eq!((spooled.size(), spooled.digest()), (1_800_000, &Sha256::digest(vec![7; 1_800_000]).into()));
        let (mut pieces, mut sizes) = (spooled.pieces().await.expect("opened"), Vec::new());
        while let Some(piece) = pieces.next().await.expect("read") {
            sizes.push(piece.len());
        }
        assert_eq!(sizes, [1_048_576, 751_424]);
        drop((spooled, pieces));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[tokio::test]
    async fn what_was_left_behind_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("left"), "x").expect("written");
        tidy(folder.path()).expect("tidied");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
