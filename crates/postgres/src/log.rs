//! The file that collects what PostgreSQL and initdb say.
//!
//! The server opens it and hands the open file to its children, so their account needs no right to the path.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error};

const ROTATE_ABOVE: u64 = 10 * 1024 * 1024;
const TAIL_BYTES: u64 = 8 * 1024;
const TAIL_LINES: usize = 20;

#[derive(Debug, Clone)]
pub(crate) struct Log {
    path: PathBuf,
}

impl Log {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets a large log aside as `<name>.1`, so that two files are the most there ever are.
    pub(crate) fn rotate(&self) -> Result<(), Error> {
        if self.length() <= ROTATE_ABOVE {
            return Ok(());
        }
        fs::rename(&self.path, self.path.with_added_extension("1")).context("set aside", &self.path)
    }

    pub(crate) fn append(&self) -> Result<File, Error> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path).context("open", &self.path)
    }

    /// The current end, from which a later [`Log::since`] reads.
    pub(crate) fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The last lines written after `start`; empty when the log cannot be read, because it only adorns another error.
    pub(crate) fn since(&self, start: u64) -> String {
        let text = self.read_end(start).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }

    fn read_end(&self, start: u64) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
