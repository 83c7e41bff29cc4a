//! The database: running the embedded one, connecting, migrating, group commits, rows by COPY and invalidation between nodes.

pub mod cache;
pub mod copy;
pub mod embedded;
pub mod group;
pub mod notify;

use std::{str::FromStr, time::Duration};

use anyhow::Context;
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// Statements that a connection remembers how to run.
const PREPARED: usize = 500;

/// How long a statement on records waits for what others have locked, and how long it may take in all.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_STATEMENT: Duration = Duration::from_secs(8);

/// How long after its use a connection is taken to live.
const CERTAIN: Duration = Duration::from_secs(1);

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// Connection options from a URL. The URL itself never shows in an error: it holds the password.
pub fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    PgConnectOptions::from_str(url)
        .map_err(|_| anyhow::anyhow!("the database URL is not valid: expected postgres://user:password@host/database"))
}

/// Connects and brings the schema up to date. Migrations run once, under a lock that PostgreSQL holds.
pub async fn connect(options: PgConnectOptions, max_connections: u32) -> anyhow::Result<PgPool> {
    // Every entity of every app has statements of its own.
    let options = options.application_name("weft").statement_cache_capacity(PREPARED);
    let pool = match pool(max_connections).connect_with(options.clone()).await {
        Ok(pool) => pool,
        Err(error) => return Err(cause(error, &options).await).context("cannot connect to the database"),
    };
    let version =
        sqlx::query_scalar!("select current_setting('server_version_num')::int as \"version!\"").fetch_one(&pool).await?;
    anyhow::ensure!(version >= 150_000, "the database is PostgreSQL {}; Weft needs 15 or newer", version / 10_000);
    match MIGRATIONS.run(&pool).await {
        Err(MigrateError::VersionMissing(version)) => anyhow::bail!(
            "the database was used by a newer Weft: it has migration {version}, which this one does not know. Install that version again, \
             or restore a backup from before"
        ),
        done => done.context("cannot bring the database schema up to date")?,
    }
    Ok(pool)
}

/// Why nobody could be reached, where the pool only knows that it took too long.
async fn cause(error: sqlx::Error, options: &PgConnectOptions) -> sqlx::Error {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    let attempt = tokio::time::timeout(LONGEST_WAIT, PgConnection::connect_with(options)).await;
    attempt.ok().and_then(Result::err).unwrap_or(error)
}

/// Connections of their own for records of apps, on which neither locks nor statements last: what one app keeps locked or asks too much of
/// keeps nobody from the rest of the server. None is opened before it is needed.
pub fn records(options: PgConnectOptions, max_connections: u32) -> PgPool {
    let limits = [("lock_timeout", LONGEST_WAIT), ("statement_timeout", LONGEST_STATEMENT)];
    let limits = limits.map(|(setting, time)| (setting, time.as_millis().to_string()));
    let options = options.application_name("weft-records").statement_cache_capacity(PREPARED).options(limits);
    pool(max_connections).connect_lazy_with(options)
}

/// A connection that was used just now is taken without asking the database whether it lives: that would double the way of every short
/// statement. One that broke meanwhile fails what is done with it, and is not used again.
fn pool(max_connections: u32) -> PgPoolOptions {
    let options = PgPoolOptions::new().max_connections(max_connections).acquire_timeout(Duration::from_secs(5));
    options.test_before_acquire(false).before_acquire(|connection, past| {
        Box::pin(async move {
            if past.idle_for >= CERTAIN {
                connection.ping().await?;
            }
            Ok(true)
        })
    })
}

/// Whether a statement failed because of this rule of a table.
pub fn breaks(error: &sqlx::Error, constraint: &str) -> bool {
    matches!(error, sqlx::Error::Database(cause) if cause.constraint() == Some(constraint))
}

/// Whether PostgreSQL refused a text, plain or within JSON, for the one character that it cannot store.
pub fn holds_nul(error: &sqlx::Error) -> bool {
    has_code(error, &["22021", "22P05"])
}

/// Whether PostgreSQL refused a statement with one of these codes.
pub fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| codes.contains(&&*code))
}
