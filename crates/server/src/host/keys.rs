//! The two secrets that the server itself needs: from the environment, else made once and kept in the data directory.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use weft_model::Secret;
use weft_vault::MasterKey;

use crate::{config::Settings, identity::SigningKey};

/// Where the server's own keys are kept.
#[derive(Debug, Clone)]
pub struct Keys {
    folder: PathBuf,
}

/// The file of the master key, and its successor during a rotation.
pub struct MasterFile {
    current: PathBuf,
    next: PathBuf,
}

impl Keys {
    pub fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.to_owned() }
    }

    pub fn master_file(&self) -> MasterFile {
        MasterFile { current: self.folder.join("master.key"), next: self.folder.join("master.key.next") }
    }

    /// The master key, with the key that an interrupted rotation may have put in its place already.
    pub fn master(&self, settings: &Settings) -> anyhow::Result<(MasterKey, Option<MasterKey>)> {
        if let Some(text) = &settings.master_key {
            return Ok((MasterKey::from_hex(text.expose()).context("WEFT_MASTER_KEY")?, None));
        }
        let file = self.master_file();
        let text = read_or_create(&file.current, || MasterKey::generate().to_hex().to_string())?;
        let current = MasterKey::from_hex(text.expose()).with_context(|| file.current.display().to_string())?;
        let next = fs::read_to_string(&file.next).ok().and_then(|text| MasterKey::from_hex(&text).ok());
        Ok((current, next))
    }

    /// The key that signs session tokens.
    pub fn signing(&self, settings: &Settings) -> anyhow::Result<SigningKey> {
        if let Some(secret) = &settings.jwt_secret {
            return Ok(SigningKey::new(secret));
        }
        let path = self.folder.join("jwt.key");
        let secret = read_or_create(&path, || MasterKey::generate().to_hex().to_string())?;
        // With what a full disk may leave, an empty file, anybody could sign.
        ensure!(
            MasterKey::from_hex(secret.expose()).is_ok(),
            "{} does not hold 64 hexadecimal digits: restore it, or remove it to have another made, which ends all sessions",
            path.display()
        );
        Ok(SigningKey::new(&secret))
    }
}

impl MasterFile {
    /// Puts the new key on disk beside the current one, before the database changes over to it.
    pub fn stage(&self, key: &MasterKey) -> io::Result<()> {
        let _ = fs::remove_file(&self.next);
        write_private(&self.next, key.to_hex().as_str())
    }

    /// Makes the staged key the current one.
    pub fn promote(&self) -> io::Result<()> {
        fs::rename(&self.next, &self.current)?;
        sync_folder_of(&self.current)
    }
}

fn read_or_create(path: &Path, make: impl FnOnce() -> String) -> anyhow::Result<Secret<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Secret::new(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = make();
            write_private(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Secret::new(text))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    sync_folder_of(path)
}

/// Makes the name of a file survive a power failure, as `sync_all` does for its content.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
