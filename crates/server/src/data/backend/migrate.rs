//! Migrations of apps: SQL files of a deployment, each once, in order, as a role that owns nothing but what they make.
//!
//! A file and the word that it was applied are one transaction, under a clock of the server's own. A file that was applied and is another now
//! is refused before anything runs.

use std::{ffi::OsStr, io, path::Path, time::Duration};

use sha2::{Digest, Sha256};
use weft_data::catalogue::SCHEMA_MARK;

use super::{Asker, BackendSql, Error, access::there_is, connections::Lease, identity::Identity, store};
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
pub async fn read(version: &Path) -> Result<Vec<Migration>, Failed> {
    let mut found = Vec::new();
    let mut folder = match tokio::fs::read_dir(version.join(FOLDER)).await {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error.into()),
    };
    while let Some(entry) = folder.next_entry().await? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension() != Some(OsStr::new("sql")) || !entry.file_type().await?.is_file() {
            continue;
        }
        if entry.metadata().await?.len() > LONGEST {
            return Err(Failed::TooLarge { file: name });
        }
        let Ok(text) = String::from_utf8(tokio::fs::read(entry.path()).await?) else {
            return Err(Failed::NotText { file: name });
        };
        let digest = Sha256::digest(&text).to_vec();
        found.push(Migration { file: name, text, digest });
    }
    found.sort_by(|left, right| left.file.cmp(&right.file));
    Ok(found)
}

/// Why migrations came to an end.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("migrations/{file} is larger than 1 MiB: split it")]
    TooLarge { file: String },
    #[error("migrations/{file} is no text in UTF-8")]
    NotText { file: String },
    #[error("migrations/{file} was applied and is another file now: put it back, and write a new one")]
    Changed { file: String },
    #[error("migrations/{file} took longer than {seconds} s (setting sql.migration_seconds): split it")]
    TooSlow { file: String, seconds: u64 },
    #[error("migrations/{file}: {cause}")]
    File { file: String, cause: Error },
    #[error(transparent)]
    Other(Error),
    #[error(transparent)]
    Files(#[from] io::Error),
}

impl Failed {
    fn of_file(file: &str, cause: Error, limit: Duration) -> Self {
        let file = file.to_owned();
        match cause {
            Error::TooSlow => Self::TooSlow { file, seconds: limit.as_secs() },
            cause => Self::File { file, cause },
        }
    }

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
        self.make_schema(asker).await.map_err(Failed::Other)?;
        // Held while the files run on another connection, so that one node at a time applies them and the app stays.
        let mut turn = self.pool().begin().await.map_err(database)?;
        there_is(&mut turn, app).await.map_err(Failed::Other)?;
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
            let failed = |cause| Failed::of_file(&migration.file, cause, self.limits.migration);
            self.apply(asker, migration).await.map_err(failed)?;
            applied.push(migration.file.clone());
        }
        turn.commit().await.map_err(database)?;
        Ok(applied)
    }

    /// Applies one file. Whatever goes wrong may have left the connection in the midst of something, so it is not used again.
    async fn apply(&self, asker: &Asker, migration: &Migration) -> Result<(), Error> {
        let (mut lease, identity) = self.begin_migration(asker).await?;
        match tokio::time::timeout(identity.patience(), run(&mut lease, &identity, migration)).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(Error::TooSlow),
        }
        lease.give_back().await;
        Ok(())
    }

    /// The schema of an app that keeps nothing but what its migrations make.
    async fn make_schema(&self, asker: &Asker) -> Result<(), Error> {
        let app = &asker.app;
        let mut transaction = self.pool().begin().await.map_err(Error::Database)?;
        there_is(&mut transaction, app).await?;
        let made = async {
            tables::lock_schema(&mut transaction, app).await?;
            let catalogue = tables::find_catalogue(&mut transaction, app).await?;
            if catalogue.is_foreign() || tables::is_searched(&mut transaction, app).await? {
                return Err(data::Error::Foreign(app.clone()));
            }
            if !catalogue.exists {
                tables::create_schema(&mut transaction, app, SCHEMA_MARK).await?;
            }
            Ok(transaction.commit().await?)
        };
        made.await?;
        // Whoever made it may have ended before it was opened.
        self.forget_schema(app);
        Ok(())
    }
}

async fn run(lease: &mut Lease, identity: &Identity, migration: &Migration) -> Result<(), Error> {
    let connection = lease.connection()?;
    store::tell(connection, identity.settings()).await.map_err(Error::of_statement)?;
    store::tell(connection, &migration.text).await.map_err(of_file)?;
    store::tell(connection, identity.settings()).await.map_err(Error::of_statement)?;
    store::note_migration(connection, &migration.file, &migration.digest).await.map_err(Error::of_statement)?;
    store::commit(connection).await.map_err(Error::of_statement)
}

/// PostgreSQL asks for rows, or sends some, where a client is expected at the other end.
fn of_file(error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::Protocol(_) => Error::Refused {
            message:
                "a migration has nobody to copy rows from or to: write `insert` in the place of `copy … from stdin`, and leave \
                      `copy … to stdout` out"
                    .to_owned(),
            code: "statement_not_allowed",
        },
        other => Error::of_statement(other),
    }
}
