//! Migrations of apps: SQL files of a deployment, each once, in order, as a role that owns nothing but what they make.
//!
//! A file and the word that it was applied are one transaction. A file that was applied and is another now is refused before anything runs.

use std::{ffi::OsStr, path::Path};

use sha2::{Digest, Sha256};
use weft_data::catalogue::SCHEMA_MARK;

use super::{Asker, BackendSql, Error, store};
use crate::data::{self, store as tables};

const FOLDER: &str = "migrations";
/// The longest file.
const LONGEST: u64 = 1024 * 1024;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    pub file: String,
    text: String,
    digest: Vec<u8>,
}

/// The migrations in a version's folder, in the order of their names.
pub async fn read(version: &Path) -> std::io::Result<Vec<Migration>> {
    let mut found = Vec::new();
    let mut folder = match tokio::fs::read_dir(version.join(FOLDER)).await {
        Ok(folder) => folder,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    while let Some(entry) = folder.next_entry().await? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension() != Some(OsStr::new("sql")) || !entry.file_type().await?.is_file() {
            continue;
        }
        if entry.metadata().await?.len() > LONGEST {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{FOLDER}/{name} is larger than 1 MiB")));
        }
        let text = tokio::fs::read_to_string(entry.path()).await?;
        let digest = Sha256::digest(&text).to_vec();
        found.push(Migration { file: name, text, digest });
    }
    found.sort_by(|left, right| left.file.cmp(&right.file));
    Ok(found)
}

/// Why migrations came to an end.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("migrations/{file} was applied and is another file now: put it back, and write a new one")]
    Changed { file: String },
    #[error("migrations/{file}: {cause}")]
    File { file: String, cause: Error },
    #[error(transparent)]
    Other(Error),
}

impl Failed {
    /// The cause, when the database did not do its part: then it is nobody's migration that has to change.
    pub fn unavailable(self) -> Result<sqlx::Error, Self> {
        match self {
            Self::File { cause: Error::Database(cause), .. } | Self::Other(Error::Database(cause)) => Ok(cause),
            other => Err(other),
        }
    }
}

impl BackendSql {
    /// Applies what was not applied yet; says which files those were.
    pub async fn migrate(&self, asker: &Asker, migrations: &[Migration]) -> Result<Vec<String>, Failed> {
        let database = |error| Failed::Other(Error::Database(error));
        if migrations.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(reason) = self.off() {
            return Err(Failed::Other(Error::Off(reason.to_owned())));
        }
        let app = &asker.app;
        self.make_schema(asker).await.map_err(|error| Failed::Other(error.into()))?;
        // Held while the files run on another connection, so that one node at a time applies them.
        let mut turn = self.pool().begin().await.map_err(database)?;
        store::lock_role(&mut turn, &format!("migrations of {app}")).await.map_err(database)?;
        let known = store::list_migrations(&mut turn, app).await.map_err(database)?;
        let mut due = Vec::new();
        for migration in migrations {
            match known.iter().find(|(file, _)| *file == migration.file) {
                None => due.push(migration),
                Some((_, digest)) if *digest == migration.digest => {}
                Some(_) => return Err(Failed::Changed { file: migration.file.clone() }),
            }
        }
        let mut applied = Vec::new();
        for migration in due {
            let file = || migration.file.clone();
            self.apply(asker, migration).await.map_err(|cause| Failed::File { file: file(), cause })?;
            applied.push(file());
        }
        turn.commit().await.map_err(database)?;
        Ok(applied)
    }

    async fn apply(&self, asker: &Asker, migration: &Migration) -> Result<(), Error> {
        let (mut lease, identity) = self.begin_migration(asker).await?;
        let work = async {
            let connection = lease.connection()?;
            store::tell(connection, identity.settings()).await.map_err(Error::of_statement)?;
            store::tell(connection, &migration.text).await.map_err(Error::of_statement)?;
            store::tell(connection, identity.settings()).await.map_err(Error::of_statement)?;
            store::note_migration(connection, &migration.file, &migration.digest).await.map_err(Error::of_statement)?;
            store::commit(connection).await.map_err(Error::of_statement)
        };
        let outcome = work.await;
        lease.give_back().await;
        outcome
    }

    /// The schema of an app that keeps nothing but what its migrations make.
    async fn make_schema(&self, asker: &Asker) -> Result<(), data::Error> {
        let app = &asker.app;
        let mut transaction = self.pool().begin().await?;
        tables::lock_schema(&mut transaction, app).await?;
        let catalogue = tables::find_catalogue(&mut transaction, app).await?;
        if catalogue.is_foreign() || tables::is_searched(&mut transaction, app).await? {
            return Err(data::Error::Foreign(app.clone()));
        }
        if !catalogue.exists {
            tables::create_schema(&mut transaction, app, SCHEMA_MARK).await?;
        }
        Ok(transaction.commit().await?)
    }
}
