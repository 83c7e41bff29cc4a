//! The files of an integration, wherever they are.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Component, Path},
};

use flate2::read::GzDecoder;

/// Folders that are no part of an integration.
const SKIPPED: [&str; 2] = ["node_modules", ".git"];

/// Bytes that an archive of an integration may have, and unpack into.
pub const LARGEST_ARCHIVE: usize = 50 * 1024 * 1024;
const LARGEST_FOLDER: u64 = 128 * 1024 * 1024;
const MOST_FILES: usize = 5_000;
/// Bytes beside the contents: of names and paddings.
const DESCRIPTIONS: u64 = 16 * 1024 * 1024;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("it is no gzip-compressed tar: {0}")]
    Format(#[from] io::Error),
    #[error("'{0}' is no path within the integration")]
    Path(String),
    #[error("'{0}' is neither a file nor a folder")]
    Kind(String),
    #[error("it holds more than {MOST_FILES} files, or more than {} MiB", LARGEST_FOLDER / 1024 / 1024)]
    TooLarge,
}

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

    /// Reads a gzip-compressed tar of files and folders.
    pub fn unpack(archive: &[u8]) -> Result<Self, Unreadable> {
        let mut files = BTreeMap::new();
        let mut left = LARGEST_FOLDER;
        let mut tar = tar::Archive::new(GzDecoder::new(archive).take(LARGEST_FOLDER + DESCRIPTIONS));
        for entry in tar.entries()? {
            let mut entry = entry?;
            let path = inside(&entry.path()?)?;
            match entry.header().entry_type() {
                tar::EntryType::Directory => {}
                tar::EntryType::Regular if files.len() == MOST_FILES => return Err(Unreadable::TooLarge),
                tar::EntryType::Regular => {
                    left = left.checked_sub(entry.size()).ok_or(Unreadable::TooLarge)?;
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    files.insert(path, content);
                }
                _ => return Err(Unreadable::Kind(path)),
            }
        }
        Ok(Self(files))
    }

    /// Writes the files into a fresh folder.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        for (path, content) in &self.0 {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(path, content)?;
        }
        Ok(())
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

/// A path of an archive, with slashes and without `.`; nothing that leads elsewhere.
fn inside(path: &Path) -> Result<String, Unreadable> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| Unreadable::Path(path.display().to_string()))?),
            Component::CurDir => {}
            _ => return Err(Unreadable::Path(path.display().to_string())),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn archive(path: &str, kind: tar::EntryType, size: usize) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        // The builder itself refuses paths that lead elsewhere.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, vec![0; size].as_slice()).expect("in memory");
        tar.into_inner().and_then(GzEncoder::finish).expect("in memory")
    }

    #[test]
    fn files_and_folders_are_read_and_nothing_else() {
        let unpack = |path, kind, size| Folder::unpack(&archive(path, kind, size));
        let read = unpack("./backend/index.ts", tar::EntryType::Regular, 3).expect("a file");
        assert_eq!(read.0, BTreeMap::from([("backend/index.ts".to_owned(), vec![0; 3])]));
        for path in ["../x", "/etc/x", "a/../../x"] {
            assert!(matches!(unpack(path, tar::EntryType::Regular, 1), Err(Unreadable::Path(_))), "{path}");
        }
        for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Fifo] {
            assert!(matches!(unpack("x", kind, 0), Err(Unreadable::Kind(_))), "{kind:?}");
        }
        assert!(matches!(Folder::unpack(b"no archive"), Err(Unreadable::Format(_))));
    }

    #[test]
    fn an_archive_that_unpacks_into_too_much_is_refused() {
        let bomb = archive("x", tar::EntryType::Regular, 129 * 1024 * 1024);
        assert!(bomb.len() < 1024 * 1024);
        assert!(matches!(Folder::unpack(&bomb), Err(Unreadable::TooLarge)));
    }
}
