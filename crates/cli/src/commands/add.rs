//! `weft add piece`: makes a project of an npm package that follows the piece convention.
//!
//! The package's code has to be loaded to learn what its actions are. That happens in a jail without network, where the machine has
//! one, and nothing of it is called; install scripts are off.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tokio::process::Command as Process;
use weft_jail::{AddressGuard, Egress, Limits, Network, Policy, Refusal};

use super::init::{self, refuse_occupied, write};
use super::{Context, types};
use crate::error::{CliError, Result};
use crate::manifest::Manifest;
use crate::serve;

const ADAPTER: &str = include_str!("../../../../js/piece/piece.ts");
const DESCRIBE: &str = include_str!("../../../../js/piece/describe.ts");
/// Where the packages live whose names are given in short.
const SCOPE: &str = "@activepieces/piece-";
/// Loading a package is a matter of a second; one that never ends is given up on.
const PATIENCE: Duration = Duration::from_mins(1);
const OPEN_FILES: u64 = 8192;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an integration of a package for Activepieces
    Piece(Piece),
}

#[derive(Args)]
struct Piece {
    /// Package and version: slack, slack@0.17.9 or @scope/piece-name@1.0.0
    package: String,
    /// Folder to make; named after the package when absent
    folder: Option<PathBuf>,
    /// How users connect, where the piece offers several ways; what can be typed in when absent
    #[arg(long, value_enum)]
    auth: Option<Auth>,
    /// Folder with Bun, as for `weft serve`
    #[arg(long, env = "WEFT_RUNTIME_DIR", value_name = "FOLDER", hide = true)]
    runtime_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Auth {
    /// A single key or token
    Secret,
    /// User name and password
    Basic,
    /// Fields of the piece's own
    Custom,
    /// OAuth 2, with an app registered at the vendor
    Oauth2,
}

impl Auth {
    const fn type_name(self) -> &'static str {
        match self {
            Self::Secret => "SECRET_TEXT",
            Self::Basic => "BASIC_AUTH",
            Self::Custom => "CUSTOM_AUTH",
            Self::Oauth2 => "OAUTH2",
        }
    }
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    let Command::Piece(piece) = arguments.command;
    let (name, version) = package(&piece.package);
    let app_id = app_id(&name)?;
    let folder = piece.folder.clone().unwrap_or_else(|| PathBuf::from(&app_id));
    refuse_occupied(&folder)?;
    let bun = serve::find_bun(piece.runtime_dir.as_deref())?;
    write(&folder.join("package.json"), &pretty(&json!({ "name": app_id, "private": true, "type": "module" })))?;
    let wanted = version.map_or_else(|| name.clone(), |version| format!("{name}@{version}"));
    let described = async {
        install(&bun, &folder, &wanted).await?;
        describe(context, &bun, &folder, (&name, &app_id, piece.auth)).await
    };
    let manifest = described.await.inspect_err(|_| {
        // It was made here, and in the way of the next try.
        let _ = fs::remove_dir_all(&folder);
    })?;
    let actions = manifest.get("actions").and_then(Value::as_array).map_or(0, Vec::len);
    write(&folder.join("manifest.json"), &pretty(&manifest))?;
    let entry = format!(
        "// @ts-ignore: not every package brings types.\nimport * as piece from {};\nimport {{ servePiece }} from \"./piece\";\n\nservePiece(piece);\n",
        json!(name)
    );
    write(&folder.join("backend/index.ts"), &entry)?;
    write(&folder.join("backend/piece.ts"), ADAPTER)?;
    init::write_common(&folder)?;
    types::write(&folder, &Manifest::load(&folder)?.document)?;
    let shown = folder.display();
    context.output.show(&json!({ "appId": app_id, "folder": folder, "package": wanted, "actions": actions }), || {
        format!("Made {shown}, an integration with {actions} actions of {wanted}.")
    })?;
    context.output.note(&format!("\nNext:\n  weft deploy {shown}\n  weft connect {app_id}"));
    Ok(())
}

/// The full name of a package, and the version that was asked for.
fn package(given: &str) -> (String, Option<&str>) {
    let (name, version) = match given.rfind('@') {
        Some(at) if at > 0 => (given.get(..at).unwrap_or(given), given.get(at + 1..)),
        _ => (given, None),
    };
    let name = if name.contains('/') { name.to_owned() } else { format!("{SCOPE}{name}") };
    (name, version.filter(|version| !version.is_empty()))
}

/// `@activepieces/piece-telegram-bot` is called telegram_bot.
fn app_id(package: &str) -> Result<String> {
    let last = package.rsplit('/').next().unwrap_or(package);
    let name = last.strip_prefix("piece-").unwrap_or(last).replace(['-', '.'], "_").to_ascii_lowercase();
    init::check_name(&name)?;
    Ok(name)
}

async fn install(bun: &Path, folder: &Path, wanted: &str) -> Result<()> {
    let mut command = Process::new(bun);
    command.args(["add", "--exact", "--ignore-scripts", "--no-progress", "--no-summary", wanted]).current_dir(folder);
    let said = command.stdin(Stdio::null()).output().await.map_err(|error| cannot_run(bun, &error))?;
    if said.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    Err(CliError::failed(format!("{wanted} cannot be installed: {text}")).with_hint("check the name and the version on npm"))
}

/// The manifest of the installed package.
async fn describe(
    context: &Context,
    bun: &Path,
    folder: &Path,
    (name, app_id, auth): (&str, &str, Option<Auth>),
) -> Result<Value> {
    let helper = tempfile::Builder::new().prefix("weft-piece-").tempdir().map_err(|error| CliError::failed(error.to_string()))?;
    write(&helper.path().join("piece.ts"), ADAPTER)?;
    write(&helper.path().join("describe.ts"), DESCRIBE)?;
    let folder = fs::canonicalize(folder).map_err(|error| CliError::failed(format!("{}: {error}", folder.display())))?;
    let mut command = Process::new(bun);
    command.arg("run").arg(helper.path().join("describe.ts")).args([name, app_id]).args(auth.map(Auth::type_name));
    command.env_clear().env("HOME", helper.path()).env("TMPDIR", helper.path()).current_dir(&folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let jailed = if weft_jail::support().is_complete() {
        weft_jail::spawn(command, policy(bun, &folder, helper.path())?).await.map_err(|error| cannot_run(bun, &error))?
    } else {
        context.output.note("This machine has no jail: the package is loaded with your own rights.");
        weft_jail::Jailed { child: command.spawn().map_err(|error| cannot_run(bun, &error))?, broker: None }
    };
    let finished = tokio::time::timeout(PATIENCE, jailed.child.wait_with_output()).await;
    let said = finished
        .map_err(|_| CliError::failed(format!("{name} was not loaded within {} s", PATIENCE.as_secs())))?
        .map_err(|error| cannot_run(bun, &error))?;
    if !said.status.success() {
        let text = String::from_utf8_lossy(&said.stderr).trim().to_owned();
        return Err(CliError::failed(format!("{name} cannot be described: {text}")));
    }
    serde_json::from_slice(&said.stdout)
        .map_err(|error| CliError::failed(format!("{name} was described with something else: {error}")))
}

fn policy(bun: &Path, folder: &Path, helper: &Path) -> Result<Policy> {
    let system = weft_jail::system_files();
    let guard = AddressGuard::new(&[]).map_err(|error| CliError::failed(error.to_string()))?;
    Ok(Policy {
        account: None,
        readable: [system.readable, vec![folder.to_owned()]].concat(),
        writable: [system.writable, vec![helper.to_owned()]].concat(),
        executable: [system.executable, vec![bun.to_owned()]].concat(),
        limits: Limits { open_files: Some(OPEN_FILES), ..Limits::default() },
        network: Network::new(Arc::new(Nowhere), Arc::new(guard)),
    })
}

/// No host at all.
struct Nowhere;

impl Egress for Nowhere {
    fn allows(&self, _host: &str, _port: u16) -> bool {
        false
    }

    fn allows_name(&self, _host: &str) -> bool {
        false
    }

    fn connected(&self, _host: &str, _port: u16) {}

    fn refused(&self, _host: &str, _port: u16, _why: Refusal) {}
}

fn cannot_run(program: &Path, error: &impl std::fmt::Display) -> CliError {
    let name = program.file_name().and_then(OsStr::to_str).unwrap_or("bun");
    CliError::failed(format!("cannot run {name}: {error}"))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed_and_versions_are_kept() {
        assert_eq!(package("slack"), ("@activepieces/piece-slack".to_owned(), None));
        assert_eq!(package("slack@0.17.9"), ("@activepieces/piece-slack".to_owned(), Some("0.17.9")));
        assert_eq!(package("@own/piece-x"), ("@own/piece-x".to_owned(), None));
        assert_eq!(package("@own/piece-x@1.0.0"), ("@own/piece-x".to_owned(), Some("1.0.0")));
    }

    #[test]
    fn an_app_is_called_like_its_piece() {
        assert_eq!(app_id("@activepieces/piece-telegram-bot").expect("a name"), "telegram_bot");
        assert!(app_id("@own/piece-3d").is_err());
    }
}
