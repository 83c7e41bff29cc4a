//! The deploy archive: which files of a project belong in it, and a gzip-compressed tar that is the same every time.
//!
//! Planning refuses what the server could not unpack faithfully (symbolic links, sockets, names that are not UTF-8);
//! packing reads the files. Knows nothing of HTTP.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::{CliError, Result};
use crate::manifest::Manifest;

/// The project's folder whose content becomes the archive's root.
pub const BACKEND: &str = "backend";
/// What an integration may keep beside the manifest: its dependencies.
pub const PACKAGE: &str = "package.json";
pub const LOCKFILES: [&str; 2] = ["bun.lock", "package-lock.json"];

/// Files by their name in the archive, in the archive's order.
#[derive(Debug)]
pub struct Plan {
    files: BTreeMap<String, PathBuf>,
}

impl Plan {
    /// Chooses the files of the project in `folder`; `None` when it has no backend.
    pub fn of(folder: &Path, manifest: &Manifest) -> Result<Option<Self>> {
        let backend = folder.join(BACKEND);
        let Some(metadata) = look(&backend)? else { return Ok(None) };
        if !metadata.is_dir() {
            return Err(CliError::failed(format!("{} is not a folder", backend.display())));
        }
        let mut plan = Self { files: BTreeMap::new() };
        plan.add_folder(&backend, "")?;
        plan.add_package(folder, manifest)?;
        plan.add_icon(folder, manifest)?;
        if plan.files.is_empty() {
            return Err(
                CliError::failed(format!("{} holds nothing to deploy", backend.display())).with_hint("put an index.ts there")
            );
        }
        Ok(Some(plan))
    }

    /// Every file below `folder`, just as it is; `None` when there is no such folder.
    pub fn of_folder(folder: &Path) -> Result<Option<Self>> {
        let is_folder = look(folder)?.is_some_and(|metadata| metadata.is_dir());
        let mut plan = Self { files: BTreeMap::new() };
        if is_folder {
            plan.add_folder(folder, "")?;
        }
        Ok(Some(plan).filter(|plan| !plan.files.is_empty()))
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Reads and compresses the files.
    pub fn pack(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, source) in &self.files {
            append(&mut archive, name, source)
                .map_err(|error| CliError::failed(format!("cannot pack {}: {error}", source.display())))?;
        }
        let finish = archive.into_inner().and_then(GzEncoder::finish);
        finish.map_err(|error| CliError::failed(format!("cannot finish the archive: {error}")))
    }

    fn add_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let unreadable = |error: io::Error| CliError::failed(format!("cannot read {}: {error}", folder.display()));
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| refused(&path, "its name is not UTF-8"))?;
            if is_excluded(name) {
                continue;
            }
            let name = format!("{prefix}{name}");
            match look(&path)? {
                Some(metadata) if metadata.is_dir() => self.add_folder(&path, &format!("{name}/"))?,
                Some(metadata) => self.add_file(name, path, &metadata)?,
                None => {}
            }
        }
        Ok(())
    }

    /// An integration may keep its dependencies beside the manifest.
    fn add_package(&mut self, folder: &Path, manifest: &Manifest) -> Result<()> {
        if !manifest.is_integration() || self.files.contains_key(PACKAGE) {
            return Ok(());
        }
        for name in [PACKAGE].into_iter().chain(LOCKFILES) {
            self.add_optional(folder, name)?;
        }
        Ok(())
    }

    fn add_icon(&mut self, folder: &Path, manifest: &Manifest) -> Result<()> {
        let Some(icon) = manifest.icon.as_deref() else { return Ok(()) };
        let name = inside(icon)
            .ok_or_else(|| CliError::usage(format!("manifest.json: icon {icon:?} must be a path inside the project")))?;
        if !self.add_optional(folder, &name)? {
            return Err(CliError::usage(format!("manifest.json: the icon {} does not exist", folder.join(icon).display())));
        }
        Ok(())
    }

    /// Adds a file of the project unless the backend has one of that name; false when neither exists.
    fn add_optional(&mut self, folder: &Path, name: &str) -> Result<bool> {
        if self.files.contains_key(name) {
            return Ok(true);
        }
        let path = folder.join(name);
        let Some(metadata) = look(&path)? else { return Ok(false) };
        self.add_file(name.to_owned(), path, &metadata)?;
        Ok(true)
    }

    fn add_file(&mut self, name: String, path: PathBuf, metadata: &Metadata) -> Result<()> {
        if metadata.is_symlink() {
            return Err(refused(&path, "it is a symbolic link"));
        }
        if !metadata.is_file() {
            return Err(refused(&path, "it is not a regular file"));
        }
        self.files.insert(name, path);
        Ok(())
    }
}

/// The path without `.` parts; `None` when it is empty, absolute or climbs.
fn inside(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn is_excluded(name: &str) -> bool {
    matches!(name, "node_modules" | ".git") || name.starts_with(".env") || name.ends_with(".test.ts")
}

fn look(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(CliError::failed(format!("cannot read {}: {error}", path.display()))),
    }
}

fn refused(path: &Path, reason: &str) -> CliError {
    CliError::failed(format!("{} cannot be deployed: {reason}", path.display()))
        .with_hint("replace it by a regular file, or remove it")
}

fn append(archive: &mut tar::Builder<GzEncoder<Vec<u8>>>, name: &str, source: &Path) -> io::Result<()> {
    let content = fs::read(source)?;
    let executable = fs::metadata(source)?.permissions().mode() & 0o111 != 0;
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len()).map_err(io::Error::other)?);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, name, content.as_slice())
}
