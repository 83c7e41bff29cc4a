//! Creating the cluster, its user and its database; and a new password for one whose password file is lost.
//!
//! All work happens in a folder of its own that is renamed at the end, so an interruption leaves nothing that looks
//! like a cluster. The npm package has no client program: statements go through PostgreSQL's single-user mode.

use std::fs;
use std::path::Path;

use crate::binaries::Binaries;
use crate::error::{Context, Error};
use crate::layout::{self, Layout};
use crate::password::{self, HandOver};
use crate::process;

/// The cluster's superuser, and the name of the one database.
pub(crate) const NAME: &str = "weft";
const UNFINISHED: &str = "postgres.new";
/// From this version on, PostgreSQL carries a Unicode locale of its own.
const BUILTIN_LOCALE_SINCE: u32 = 17;

/// Makes a new cluster with the database and returns the password.
pub(crate) async fn initialise(layout: &Layout, binaries: &Binaries) -> Result<String, Error> {
    tracing::info!(path = %layout.cluster.display(), version = %binaries.version.text, "creating the database cluster");
    remove_unfinished(&layout.data_dir);
    let password = password::generate()?;
    password::store(&layout.password_file, &password)?;
    // An interrupted start may have left an initdb that still writes to its folder, so every attempt has its own.
    let suffix: String = password::generate()?.chars().take(8).collect();
    let unfinished = layout.data_dir.join(format!("{UNFINISHED}-{suffix}"));
    layout::create_private_dir(&unfinished, layout.account)?;
    run_initdb(layout, binaries, &unfinished, &password).await?;
    execute(layout, binaries, &unfinished, &format!("CREATE DATABASE {NAME}")).await?;
    fs::rename(&unfinished, &layout.cluster).context("finish the new cluster as", &layout.cluster)?;
    fs::File::open(&layout.data_dir).and_then(|dir| dir.sync_all()).context("write", &layout.data_dir)?;
    Ok(password)
}

/// The stored password. A lost one cannot be asked for, so it is replaced; PostgreSQL must not be running.
pub(crate) async fn password(layout: &Layout, binaries: &Binaries) -> Result<String, Error> {
    if let Some(password) = password::load(&layout.password_file)? {
        return Ok(password);
    }
    tracing::warn!(path = %layout.password_file.display(), "the password file is missing: setting a new password");
    let password = password::generate()?;
    let statement = format!("ALTER ROLE {NAME} PASSWORD '{password}'");
    execute(layout, binaries, &layout.cluster, &statement).await?;
    password::store(&layout.password_file, &password)?;
    Ok(password)
}

fn remove_unfinished(data_dir: &Path) {
    let Ok(entries) = fs::read_dir(data_dir) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "an unfinished cluster could not be removed");
        }
    }
}

async fn run_initdb(layout: &Layout, binaries: &Binaries, dir: &Path, password: &str) -> Result<(), Error> {
    let hand_over = HandOver::create(layout.data_dir.join("postgres.initdb-password"), password)?;
    layout::give_to(&hand_over.path, layout.account)?;
    let mut command = process::command(&binaries.program("initdb"), layout.account, &layout.log)?;
    command
        .arg("--pgdata")
        .arg(dir)
        .arg("--pwfile")
        .arg(&hand_over.path)
        .args(["--username", NAME, "--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums"])
        .args(locale(binaries.version.major))
        .stdout(layout.log.append()?);
    process::run(command, "initdb", "", &layout.log).await
}

/// Unicode-aware where every system of that kind has it, without depending on the host's language.
fn locale(major: u32) -> &'static [&'static str] {
    if major >= BUILTIN_LOCALE_SINCE {
        &["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    } else if cfg!(target_os = "linux") {
        &["--locale=C.UTF-8"]
    } else {
        &["--locale=C"]
    }
}

/// Runs one statement, which must not contain a line break, on a cluster that is not running.
async fn execute(layout: &Layout, binaries: &Binaries, dir: &Path, statement: &str) -> Result<(), Error> {
    let mut command = process::command(&binaries.program("postgres"), layout.account, &layout.log)?;
    command
        .args(["--single", "-D"])
        .arg(dir)
        // Without this a failed statement still ends in success, and its text would be logged.
        .args(["-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "postgres"]);
    process::run(command, "postgres --single", &format!("{statement}\n"), &layout.log).await
}
