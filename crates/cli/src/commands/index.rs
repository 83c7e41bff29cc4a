//! `weft catalog key` and `weft catalog index`: offering integrations to servers that trust one's key.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::{Duration, Utc};
use clap::Args;
use serde_json::json;
use weft_attest::SigningKey;
use weft_catalog::{Folder, Index, Listed, Package, grade};

use super::Context;
use crate::error::{CliError, Result};
use crate::output::printable;

/// How the index is called in its folder.
const FILE: &str = "index.jws";

#[derive(Args)]
pub struct Key {
    /// File for the key; whoever can read it can offer integrations in your name
    file: PathBuf,
}

#[derive(Args)]
pub struct Publish {
    /// Folders of the integrations
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// The key that `weft catalog key` made
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Folder for the index and the archives, to be served as it is
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Whose integrations these are
    #[arg(long, default_value = "Integrations")]
    name: String,
    /// How long servers take the index; make a new one before
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

/// Makes a key and shows its public half.
pub fn key(context: &Context, arguments: &Key) -> Result<()> {
    let (key, file) = (SigningKey::generate(), &arguments.file);
    let digits = hex::encode(key.to_bytes().as_slice());
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    created.and_then(|mut file| writeln!(file, "{digits}")).map_err(|error| unwritable(file, &error))?;
    let public = key.public().to_string();
    context.output.show(&json!({ "file": file, "publicKey": public }), || {
        let settings = format!("[[catalog]]\nurl = \"https://…/{FILE}\"\nkey = \"{public}\"");
        format!(
            "{} holds the key: keep it to yourself.\nServers that are to trust it have in their settings:\n\n{settings}",
            file.display()
        )
    })?;
    context.output.note(&format!("Next: weft catalog index <folders> --key {} --out <folder>", file.display()));
    Ok(())
}

/// Packs integrations and lists them in a signed index.
#[expect(clippy::disallowed_methods, reason = "the date of an index is that of the day on which it is made")]
pub fn publish(context: &Context, arguments: &Publish) -> Result<()> {
    let key = read_key(&arguments.key)?;
    fs::create_dir_all(&arguments.out).map_err(|error| unwritable(&arguments.out, &error))?;
    let mut integrations = Vec::new();
    for folder in &arguments.folders {
        let package = sound(folder)?;
        let (id, version) = (package.content.app_id.to_string(), &package.content.version);
        if integrations.iter().any(|listed: &Listed| listed.id() == Some(&id)) {
            return Err(CliError::usage(format!("{}: '{id}' is in another of the folders, too", folder.display())));
        }
        let archive = package.whole().map_err(|error| CliError::failed(format!("cannot pack {}: {error}", folder.display())))?;
        let file = format!("{id}-{version}.tar.gz");
        let path = arguments.out.join(&file);
        fs::write(&path, &archive).map_err(|error| unwritable(&path, &error))?;
        integrations.push(Listed::new(&package, &file, &archive));
    }
    let issued_at = Utc::now();
    let expires_at = issued_at + Duration::days(arguments.days.into());
    let index = Index { name: arguments.name.clone(), issued_at, expires_at, integrations };
    let path = arguments.out.join(FILE);
    fs::write(&path, index.sign(&key)).map_err(|error| unwritable(&path, &error))?;
    let listed: Vec<_> =
        index.integrations.iter().map(|one| json!({ "id": one.id(), "file": one.url, "sha256": one.sha256 })).collect();
    let result = json!({ "index": path, "expiresAt": expires_at, "publicKey": key.public().to_string(), "integrations": listed });
    context.output.show(&result, || {
        let line = |one: &Listed| format!("  {}  sha256 {}", printable(&one.url), one.sha256);
        let lines = index.integrations.iter().map(line).collect::<Vec<_>>().join("\n");
        format!("{}, good until {}:\n{lines}", path.display(), expires_at.format("%Y-%m-%d"))
    })
}

/// The integration in a folder, if it passes as one of a catalog has to.
fn sound(folder: &Path) -> Result<Package> {
    let unreadable = |error: io::Error| CliError::usage(format!("cannot read {}: {error}", folder.display()));
    let files = Folder::read(folder).map_err(unreadable)?;
    let name = folder.canonicalize().map_err(unreadable)?;
    let report = grade(&name.file_name().unwrap_or_default().to_string_lossy(), &files);
    match Package::of(files).filter(|_| report.passes()) {
        Some(package) => Ok(package),
        None => Err(CliError::failed(format!("{} does not pass", folder.display()))
            .with_hint(format!("weft catalog test {} says why", folder.display()))),
    }
}

fn read_key(file: &Path) -> Result<SigningKey> {
    let text = fs::read_to_string(file).map_err(|error| {
        CliError::usage(format!("cannot read {}: {error}", file.display()))
            .with_hint(format!("make one: weft catalog key {}", file.display()))
    })?;
    let key = hex::decode(text.trim()).ok().and_then(|bytes| SigningKey::from_bytes(&bytes).ok());
    key.ok_or_else(|| CliError::usage(format!("{} is no key as `weft catalog key` makes it", file.display())))
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format!("cannot write {}: {error}", path.display()))
}
