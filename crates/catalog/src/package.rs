//! An integration with its files: compiled in, or unpacked from an archive.

use std::{collections::BTreeMap, io};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use weft_model::manifest::Content;

use crate::Folder;

/// Files beside the manifest that go with a backend.
const BESIDE: [&str; 3] = ["package.json", "bun.lock", "package-lock.json"];

/// One integration.
#[derive(Debug)]
pub struct Package {
    pub document: Value,
    pub content: Content,
    files: Folder,
}

impl Package {
    /// The integration in a folder; `None` where that holds no manifest that can be read.
    pub fn of(files: Folder) -> Option<Self> {
        let document: Value = serde_json::from_str(files.text("manifest.json")?).ok()?;
        let content = Content::from_stored(document.clone()).ok()?;
        Some(Self { document, content, files })
    }

    /// The archive of its backend, laid out as `weft deploy` does it; `None` where the recipes make do without.
    pub fn archive(&self) -> io::Result<Option<Vec<u8>>> {
        let backend: BTreeMap<_, _> = self
            .files
            .below("backend", "")
            .map(|(path, content)| (path.trim_start_matches("backend/").to_owned(), content))
            .collect();
        if backend.is_empty() {
            return Ok(None);
        }
        let icon = self.content.icon.as_deref().map(|icon| icon.trim_start_matches("./"));
        let beside =
            BESIDE.into_iter().chain(icon).filter_map(|name| Some((name.to_owned(), self.files.0.get(name)?.as_slice())));
        pack(beside.filter(|(name, _)| !backend.contains_key(name)).chain(backend.clone())).map(Some)
    }

    /// The archive of all its files, but its tests: what an index names and `weft deploy` takes.
    pub fn whole(&self) -> io::Result<Vec<u8>> {
        let files = self.files.0.iter().filter(|(path, _)| !path.starts_with("test/"));
        pack(files.map(|(path, content)| (path.clone(), content.as_slice())))
    }
}

/// The same files give the same archive.
fn pack<'a>(files: impl Iterator<Item = (String, &'a [u8])>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content)?;
    }
    archive.into_inner()?.finish()
}
