//! Preparing the checked queries: a scratch database, migrated, against which the macros describe every statement.

use std::{collections::BTreeSet, ffi::OsString, fs, path::Path, process::Command};

use anyhow::Context;
use weft_postgres::{Binaries, Cluster, Settings};

/// Writes `.sqlx`, one file per query, so that the product builds without a database.
pub fn write(root: &Path) -> anyhow::Result<()> {
    let target = root.join(".sqlx");
    let fresh = tempfile::tempdir()?;
    prepare(root, fresh.path())?;
    // Only now: a statement that does not pass leaves what was there.
    fs::remove_dir_all(&target)?;
    fs::create_dir(&target)?;
    for name in names(fresh.path()) {
        fs::copy(fresh.path().join(&name), target.join(&name))?;
    }
    println!("{} queries in {}", names(&target).len(), target.display());
    Ok(())
}

/// A line when `.sqlx` is not what would be written.
pub fn stale(root: &Path) -> anyhow::Result<Vec<String>> {
    let fresh = tempfile::tempdir()?;
    prepare(root, fresh.path())?;
    let same = names(fresh.path()) == names(&root.join(".sqlx"));
    let problem = ".sqlx is stale: run `cargo run -p weft-xtask -- sqlx` and commit the result";
    Ok(if same { Vec::new() } else { vec![problem.to_owned()] })
}

/// The names of prepared queries. Each is a digest of its statement.
fn names(folder: &Path) -> BTreeSet<OsString> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

fn prepare(root: &Path, target: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = tempfile::Builder::new().prefix("weft-sqlx-").tempdir()?;
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    let binaries = Binaries::find(&[root.join("runtime")])?;
    let cluster = runtime.block_on(Cluster::start(Settings::new(folder.path().to_owned(), binaries)))?;
    let url = cluster.connection().url();
    let described = runtime.block_on(migrate(root, &url)).and_then(|()| describe(root, target, &url));
    runtime.block_on(cluster.stop())?;
    described
}

/// Reads the folder now rather than when this was compiled, so that a new migration does not need the queries that need it.
async fn migrate(root: &Path, url: &str) -> anyhow::Result<()> {
    let pool = sqlx::PgPool::connect(url).await?;
    sqlx::migrate::Migrator::new(root.join("migrations")).await?.run(&pool).await?;
    pool.close().await;
    Ok(())
}

fn describe(root: &Path, target: &Path, url: &str) -> anyhow::Result<()> {
    fs::create_dir_all(target)?;
    // The macros run while a crate is compiled, so those with queries have to be compiled anew.
    for main in ["crates/queue/src/lib.rs", "crates/server/src/lib.rs"] {
        fs::File::options().append(true).open(root.join(main))?.set_modified(now())?;
    }
    let status = Command::new(env!("CARGO"))
        .args(["check", "--package", "weft-server"])
        .current_dir(root)
        .env("DATABASE_URL", url)
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", target)
        .status()
        .context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "the queries do not fit the migrations");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a file's modification time is the real time")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
