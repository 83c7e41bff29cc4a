//! The cluster's only password: random, and kept in a file that only the server's own user can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;

use crate::error::{Context, Error};

/// 256 random bits as hexadecimal digits.
pub(crate) fn generate() -> Result<String, Error> {
    let mut bytes = [0_u8; 32];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(io::Error::other)
        .context("make a password from", Path::new("the system's random numbers"))?;
    Ok(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(hex_digit).collect())
}

fn hex_digit(value: u8) -> Option<char> {
    char::from_digit(u32::from(value), 16)
}

/// The stored password, or none when there is no such file or an empty one.
pub(crate) fn load(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("read", path),
    }
}

/// Stores the password in one step: a reader sees the old one or the new one.
pub(crate) fn store(path: &Path, password: &str) -> Result<(), Error> {
    let unfinished = path.with_added_extension("new");
    write_private(&unfinished, password)?;
    fs::rename(&unfinished, path).context("create", path)
}

/// A file that hands the password to initdb. Gone when dropped.
pub(crate) struct HandOver {
    pub(crate) path: PathBuf,
}

impl HandOver {
    pub(crate) fn create(path: PathBuf, password: &str) -> Result<Self, Error> {
        write_private(&path, password)?;
        Ok(Self { path })
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a temporary password file could not be removed");
        }
    }
}

fn write_private(path: &Path, password: &str) -> Result<(), Error> {
    // A file left by an interrupted start may have another owner or mode, so it is not written over.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context("replace", path),
        _ => {}
    }
    create_private(path)
        .and_then(|mut file| {
            writeln!(file, "{password}")?;
            file.sync_all()
        })
        .context("write", path)
}

fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
