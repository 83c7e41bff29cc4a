//! The login that `weft login` leaves for later commands: one JSON file, readable by its owner only.
//!
//! Looked for at WEFT_CONFIG, else `$XDG_CONFIG_HOME/weft/config.json`, else `~/.config/weft/config.json`. An absent
//! file means "not logged in"; an unreadable one is an error, never silently replaced.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{CliError, Result};

/// A session with one server. Deliberately without `Debug`: it holds tokens.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    pub url: String,
    pub access_token: String,
    pub refresh_token: String,
}

/// The file's place.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The store at `explicit`, else at the user's configuration folder.
    pub fn locate(explicit: Option<&Path>) -> Result<Self> {
        if let Some(path) = explicit {
            return Ok(Self { path: path.to_owned() });
        }
        let folder = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(".config")))
            .ok_or_else(|| {
                CliError::failed("there is no home folder to keep the login in").with_hint("set WEFT_CONFIG to a file path")
            })?;
        Ok(Self { path: folder.join("weft").join("config.json") })
    }

    /// The stored login, if any.
    pub fn load(&self) -> Result<Option<Login>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failure("read", &error)),
        };
        let login = serde_json::from_str(&text).map_err(|error| {
            CliError::failed(format!("{} is not a login file: {error}", self.path.display()))
                .with_hint("delete it and run `weft login`")
        })?;
        Ok(Some(login))
    }

    /// Replaces the stored login in one step.
    pub fn save(&self, login: &Login) -> Result<()> {
        self.write(login).map_err(|error| self.failure("write", &error))
    }

    /// Forgets the login; true when there was one.
    pub fn clear(&self) -> Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failure("delete", &error)),
        }
    }

    fn write(&self, login: &Login) -> std::io::Result<()> {
        let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // A temporary file is created with mode 0600, and the rename keeps it.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, login)?;
        file.write_all(b"\n")?;
        file.persist(&self.path)?;
        Ok(())
    }

    fn failure(&self, verb: &str, error: &std::io::Error) -> CliError {
        CliError::failed(format!("cannot {verb} the login file {}: {error}", self.path.display()))
    }
}
