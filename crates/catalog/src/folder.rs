//! The files of an integration, wherever they are.

use std::{collections::BTreeMap, fs, io, path::Path};

/// Folders that are no part of an integration.
const SKIPPED: [&str; 2] = ["node_modules", ".git"];

/// Contents by path within the integration, with slashes.
#[derive(Debug, Clone, Default)]
pub struct Folder(pub BTreeMap<String, Vec<u8>>);

impl Folder {
    /// Reads a folder. Links are left out.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        collect(folder, "", &mut files)?;
        Ok(Self(files))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        std::str::from_utf8(self.0.get(path)?).ok()
    }

    /// The files below a folder whose names end so.
    pub fn below<'a>(&'a self, folder: &'a str, end: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let fits = move |path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')) && path.ends_with(end);
        self.0.iter().filter(move |(path, _)| fits(path)).map(|(path, content)| (path.as_str(), content.as_slice()))
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name().to_string_lossy().into_owned(), entry.file_type()?);
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            collect(&entry.path(), &format!("{prefix}{name}/"), files)?;
        } else if kind.is_file() {
            files.insert(format!("{prefix}{name}"), fs::read(entry.path())?);
        }
    }
    Ok(())
}
